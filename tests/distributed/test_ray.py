"""`classify_frame` in real actors of Ray."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from toy import LABELS, toy
from watched import (
    check_a_killed_worker_loses_nothing,
    check_a_search_runs_in_workers,
    in_workers,
)

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.distributed import classify_frame

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("ray", "pyarrow"),
    # Of Ray and what it uses.
    pytest.mark.filterwarnings("ignore"),
]
TEXTS = toy(9)[0]


@pytest.fixture(scope="module")
def ray(home):
    import ray
    import ray.data

    with pytest.MonkeyPatch.context() as monkeypatch:
        in_workers(monkeypatch)
        # Three, of which two are for actors: where they take all, nothing is left to read with.
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        ray.shutdown()


def table(ray, texts):
    """Give a table with what would not survive a way through pandas, and a part without rows."""
    import pyarrow as pa

    ids = [2**60 + i if i % 2 else None for i in range(len(texts))]
    whole = pa.table({"id": ids, "text": pa.array(texts, pa.string())})
    return ray.data.from_arrow([whole[:4], whole[:0], whole[4:]])


@pytest.mark.parametrize(
    ("cls", "output", "labels", "kind"),
    [
        (GLiClassClassifier, "proba", LABELS, "float"),
        (GLiClassClassifier, "predict", dict(enumerate(LABELS)), "int64"),
        (GLiClassMultiLabelClassifier, "predict", LABELS, "list<item: string>"),
    ],
)
def test_results_are_those_of_a_plain_predict(ray, model, cls, output, labels, kind):
    clf, frame = cls(model=model, labels=labels), table(ray, [*TEXTS, None])
    lazy = classify_frame(clf, frame, "text", output=output, missing="null").materialize()
    added = LABELS if output == "proba" else ["predicted"]
    assert lazy.schema().names == ["id", "text", *added]
    assert list(map(str, lazy.schema().types))[2:] == [kind] * len(added)
    found = {row["text"]: row for row in lazy.take_all()}
    assert {text: row["id"] for text, row in found.items()} == {
        row["text"]: row["id"] for row in frame.take_all()
    }
    for text in TEXTS:
        cells = [found[text][name] for name in added]
        if output == "proba":
            np.testing.assert_allclose(cells, clf.predict_proba([text])[0], atol=1e-5)
        elif cls is GLiClassClassifier:
            assert cells == clf.predict([text]).tolist()
        else:
            assert list(map(list, cells)) == clf.predict_labels([text])
    assert all(pd.isna(found[None][name]) for name in added)


def test_a_killed_worker_loses_no_row(ray, model, tmp_path):
    def classify(clf, frame):
        parts = np.array_split(np.arange(len(frame)), 12)
        table = ray.data.from_pandas([frame.iloc[part] for part in parts])
        # Small batches: a part of the table a call.
        return classify_frame(clf, table, "text", batch_size=250).to_pandas()

    check_a_killed_worker_loses_nothing(classify, model, tmp_path)


def test_functions_of_a_script_may_be_steps(ray, model):
    clf = GLiClassClassifier(model=model, labels=LABELS).fit(*toy())
    piped = make_pipeline(FunctionTransformer(lambda texts: list(texts)), clf).fit(*toy())
    found = classify_frame(piped, table(ray, TEXTS), "text").take_all()
    found = {row["text"]: row["predicted"] for row in found}
    assert [found[text] for text in TEXTS] == clf.predict(TEXTS).tolist()


def test_columns_are_checked_before_anything_is_computed_where_they_are_known(ray):
    clf, frame = GLiClassClassifier(labels=LABELS), table(ray, TEXTS)
    with pytest.raises(ValueError, match="no column of the name text_column='texts'"):
        classify_frame(clf, frame, "texts")
    renamed = frame.map_batches(lambda rows: {"predicted": rows["id"], "text": rows["text"]})
    lazy = classify_frame(clf, renamed, "text")
    with pytest.raises(Exception, match="a column 'predicted' already"):
        lazy.materialize()


def test_a_missing_text_is_named_by_its_row(ray, model):
    clf = GLiClassClassifier(model=model, labels=LABELS)
    with pytest.raises(Exception, match="'text' of the row with id=None is missing"):
        classify_frame(clf, table(ray, ["a day", "a fox", None]), "text").materialize()


def test_predict_names_the_function(ray):
    with pytest.raises(TypeError, match=r"X is a collection of Ray.*distributed\.classify_frame"):
        GLiClassClassifier(labels=LABELS).predict(table(ray, TEXTS))


def test_a_search_runs_in_its_workers(ray, model, tmp_path):
    from ray.util.joblib import register_ray

    register_ray()
    check_a_search_runs_in_workers("ray", model, tmp_path)
