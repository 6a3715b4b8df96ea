"""`classify_frame` in real workers of Dask."""

import threading
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from toy import LABELS, toy
from watched import (
    Watched,
    check_a_killed_worker_loses_nothing,
    check_a_search_runs_in_workers,
    in_workers,
    loads_by_process,
    rows,
    thread_counts,
)

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.distributed import classify_frame
from skgliclass.distributed.shipped import _places

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("dask", "distributed", "pyarrow"),
    # Of Dask and what it uses.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def client():
    from dask.distributed import Client, LocalCluster

    with pytest.MonkeyPatch.context() as monkeypatch:
        in_workers(monkeypatch)
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client


@pytest.fixture
def dd():
    import dask.dataframe

    return dask.dataframe


def with_empty_partitions(dd, frame):
    """Give a frame of Dask whose first, last and one other partition have no rows."""
    parts = [frame[:0], frame[:5], frame[5:5], frame[5:], frame[:0]]
    return dd.from_map(lambda part: part, parts, meta=frame[:0])


@pytest.mark.parametrize("missing", ["raise", "null"])
@pytest.mark.parametrize(
    ("cls", "output", "labels"),
    [
        (GLiClassClassifier, "predict", LABELS),
        (GLiClassClassifier, "proba", LABELS),
        (GLiClassClassifier, "predict", dict(enumerate(LABELS))),
        (GLiClassMultiLabelClassifier, "predict", LABELS),
        (GLiClassMultiLabelClassifier, "predict", dict(enumerate(LABELS))),
        (GLiClassMultiLabelClassifier, "proba", LABELS),
    ],
)
def test_results_are_those_of_pandas(client, dd, model, cls, output, labels, missing):
    clf, frame = cls(model=model, labels=labels), rows(12)
    frame.index = [3, 3, 3, 1, 1, 8, 8, 8, 8, 2, 2, 0]
    if missing == "null":
        frame.loc[1, "text"] = None
    options = {"output": output, "missing": missing}
    lazy = classify_frame(clf, with_empty_partitions(dd, frame), "text", **options)
    expected = classify_frame(clf, frame, "text", **options)
    computed = lazy.compute()
    added = list(expected.columns[2:])
    pd.testing.assert_frame_equal(computed[added], expected[added], atol=1e-5)
    assert computed["text"].isna().sum() == frame["text"].isna().sum()
    pd.testing.assert_series_equal(lazy.dtypes, computed.dtypes)
    assert lazy.npartitions == 5
    for part in lazy.partitions:
        pd.testing.assert_series_equal(part.compute().dtypes, lazy.dtypes)


def test_divisions_stay(client, dd, model):
    clf, frame = GLiClassClassifier(model=model, labels=LABELS), dd.from_pandas(rows(9), 3)
    assert classify_frame(clf, frame, "text").divisions == frame.divisions
    unknown = frame.clear_divisions()
    assert not classify_frame(clf, unknown, "text").known_divisions
    assert not classify_frame(clf, frame, "text", clear_divisions=True).known_divisions


def test_categories_and_names_that_are_no_strings_stay(client, dd, model):
    frame = pd.DataFrame({0: pd.Categorical(["a day", None]), 1: pd.Categorical(["u", None])})
    clf = GLiClassClassifier(model=model, labels=LABELS)
    found = classify_frame(clf, dd.from_pandas(frame, npartitions=2), 0, missing="null").compute()
    assert list(found.columns) == [0, 1, "predicted"]
    assert found[1].tolist() == ["u", pytest.approx(np.nan, nan_ok=True)]
    assert found["predicted"].isna().tolist() == [False, True]


def test_a_killed_worker_loses_no_row(client, dd, model, tmp_path):
    def classify(clf, frame):
        return classify_frame(clf, dd.from_pandas(frame, npartitions=12), "text").compute()

    check_a_killed_worker_loses_nothing(classify, model, tmp_path)


def test_a_process_loads_a_classifier_once_for_all_tables(client, dd, model, tmp_path):
    clf = Watched.taking_notes(model, tmp_path)
    for _ in range(2):
        classify_frame(clf, dd.from_pandas(rows(40), npartitions=10), "text").compute()
    assert set(loads_by_process(tmp_path).values()) == {1}
    assert thread_counts(tmp_path) == {"1"}


def test_nothing_is_loaded_where_the_table_is_described(dd, tmp_path):
    clf = Watched.taking_notes("a folder that is not there", tmp_path)
    classify_frame(clf, dd.from_pandas(rows(4), npartitions=2), "text")
    assert not list(tmp_path.iterdir())


def test_lists_and_probabilities_are_written_to_parquet(client, dd, model, tmp_path):
    clf = GLiClassMultiLabelClassifier(model=model, labels=LABELS, threshold=0.4)
    frame = dd.from_pandas(rows(9), npartitions=3)
    for output in ("predict", "proba"):
        path = str(tmp_path / output)
        expected = classify_frame(clf, frame, "text", output=output)
        expected.to_parquet(path)
        read = pd.read_parquet(path, dtype_backend="pyarrow")
        name = expected.columns[2]
        assert list(map(str, read[name])) == list(map(str, expected[name].compute()))


def test_functions_of_a_script_may_be_steps(client, dd, model):
    clf = GLiClassClassifier(model=model, labels=LABELS).fit(*toy())
    upper = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    piped = make_pipeline(upper, clf).fit(*toy())
    frame = rows(9)
    found = classify_frame(piped, dd.from_pandas(frame, npartitions=2), "text").compute()
    assert found["predicted"].tolist() == piped.predict(frame["text"].tolist()).tolist()


def test_a_missing_text_is_named_by_its_index(client, dd, model):
    frame = rows(9).set_index(pd.Index(list("abcdefghi")))
    frame.loc["g", "text"] = None
    clf = GLiClassClassifier(model=model, labels=LABELS)
    with pytest.raises(ValueError, match="'text' at index 'g' is missing"):
        classify_frame(clf, dd.from_pandas(frame, npartitions=3), "text").compute()


def test_columns_are_checked_before_anything_is_computed(dd):
    clf = GLiClassClassifier(labels=LABELS)
    frame = dd.from_pandas(rows(2), npartitions=1)
    with pytest.raises(ValueError, match="no column of the name text_column='texts'"):
        classify_frame(clf, frame, "texts")
    with pytest.raises(ValueError, match="a column 'predicted' already"):
        classify_frame(clf, frame.assign(predicted=1), "text")
    with pytest.raises(TypeError, match="no option batch_size"):
        classify_frame(clf, frame, "text", batch_size=3)
    with pytest.raises(TypeError, match=r"Series of dask.*frame\.to_frame\(\)"):
        classify_frame(clf, frame["text"], "text")


@pytest.mark.parametrize("columns", ["text", ["text"]])
def test_predict_names_the_function(dd, columns):
    X = dd.from_pandas(rows(2), npartitions=1)[columns]
    with pytest.raises(TypeError, match=r"X is a collection of Dask.*distributed\.classify_frame"):
        GLiClassClassifier(labels=LABELS).predict(X)


class Concurrent(ClassifierMixin, BaseEstimator):
    """Notes how many calls run at a time."""

    classes_ = np.array(["a", "b"])
    running, most, lock = 0, 0, threading.Lock()

    def predict(self, texts):
        with Concurrent.lock:
            Concurrent.running += 1
            Concurrent.most = max(Concurrent.most, Concurrent.running)
        time.sleep(0.05)
        with Concurrent.lock:
            Concurrent.running -= 1
        return np.full(len(texts), "a")


@pytest.mark.parametrize(("n_threads", "most"), [(None, 1), ("1", 3), ("2", 1)])
def test_threads_of_one_process_share_the_processors(dd, monkeypatch, n_threads, most):
    """Each call computes on as many threads as torch has, unless that is set to fewer."""
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    if n_threads is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
    _places.cache_clear()
    Concurrent.most = 0
    lazy = classify_frame(Concurrent(), dd.from_pandas(rows(12), npartitions=6), "text")
    lazy.compute(scheduler="threads", num_workers=6)
    _places.cache_clear()
    assert Concurrent.most == most


def test_a_search_runs_in_its_workers(client, model, tmp_path):
    check_a_search_runs_in_workers("dask", model, tmp_path)
