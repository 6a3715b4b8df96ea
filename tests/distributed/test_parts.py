"""What every engine does with an estimator and a part of a table, without an engine."""

import os
import pickle
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from skgliclass.distributed import shipped as shipping
from skgliclass.distributed.job import Job
from skgliclass.distributed.results import Results
from skgliclass.distributed.shipped import Shipped


class Counted(ClassifierMixin, BaseEstimator):
    """Takes a text's length for its class, and counts how often it is unpickled."""

    n_loads = 0

    def __init__(self, classes=(1, 2)):
        self.classes = classes

    @property
    def classes_(self):
        return np.array(self.classes)

    def __setstate__(self, state):
        super().__setstate__(state)
        Counted.n_loads += 1

    def predict(self, texts):
        return np.array([self.classes[len(text) - 1] for text in texts])

    def predict_proba(self, texts):
        return np.eye(2)[[len(text) - 1 for text in texts]]


@pytest.fixture(autouse=True)
def nothing_loaded():
    shipping._loaded.clear()
    Counted.n_loads = 0
    yield
    shipping._loaded.clear()


def test_copies_are_loaded_once_from_any_number_of_threads():
    whole = pickle.dumps(Shipped(Counted(), pickle.dumps))
    copies = [pickle.loads(whole) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda copy: copy.call("predict", ["a"]).tolist(), copies))
    assert found == [[1]] * 8
    assert Counted.n_loads == 1


def test_the_last_few_stay_loaded():
    first, second, third = (Shipped(Counted((i, 9)), pickle.dumps) for i in range(3))
    for one in (first, second, first, third, first):
        one.call("predict", ["a"])
    assert Counted.n_loads == 3
    second.call("predict", ["a"])
    assert Counted.n_loads == 4


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("3", "3")])
def test_a_process_of_an_engine_computes_on_one_thread_unless_it_is_told(
    monkeypatch, before, after
):
    # As it was, at the end.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    one = Shipped(Counted(), pickle.dumps)
    one.call("predict", ["a"])
    assert os.environ["OMP_NUM_THREADS"] == "2"
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    monkeypatch.setattr(shipping, "_PROCESS", "another")
    one.call("predict", ["a"])
    assert os.environ["OMP_NUM_THREADS"] == after


PAGES = """
import pickle, resource, sys
import numpy as np
from skgliclass.distributed import shipped

class Busy:
    def predict(self, texts):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(200):
            np.ones(250_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

one = shipped.Shipped(Busy(), pickle.dumps)
shipped._PROCESS = "another"
print(one.call("predict", []))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_memory_is_kept_between_micro_batches_where_dask_would_give_it_back():
    """200 arrays of 2 MB are 100,000 pages; a few arrays' pages do for all."""
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", PAGES]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(made.stdout) < 10_000


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize(
    ("output", "added"),
    [("predict", {"predicted": [1, None, 2]}), ("proba", {"1": [1, None, 0], "2": [0, None, 1]})],
)
def test_columns_of_arrow_stay_and_get_others_behind_them(output, added):
    import pyarrow as pa

    job = Job("text", Results.of(Counted(), output, nullable=True))
    whole = pa.table({"id": [2**60 + 1, None, 3], "text": ["a", None, "bb"]})
    for rows in (whole, whole.to_batches()[0]):
        found = job.on_arrow(rows, Shipped(Counted(), pickle.dumps).call)
        assert type(found) is type(rows)
        assert found.to_pydict() == {**whole.to_pydict(), **added}
        empty = job.on_arrow(rows.slice(3), lambda *args: pytest.fail("asked for nothing"))
        assert empty.schema == found.schema


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize(
    ("columns", "place"),
    [
        ({"text": ["a", None]}, "'text' is missing"),
        (
            {"a": [1, 2], "text": ["a", None], "b": ["x", "y" * 90]},
            r"of the row with a=2, b='y{36}\.\.\. is",
        ),
    ],
)
def test_a_row_without_an_index_is_named_by_its_other_columns(columns, place):
    import pyarrow as pa

    job = Job("text", Results.of(Counted(), "predict", nullable=False))
    with pytest.raises(ValueError, match=place):
        job.on_arrow(pa.table(columns), lambda *args: None)
