"""`classify_frame` in real workers of Spark."""

import shutil
import sys

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from toy import LABELS, toy
from watched import (
    Watched,
    check_a_killed_worker_loses_nothing,
    in_workers,
    loads_by_process,
    rows,
    thread_counts,
)

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.distributed import classify_frame

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("pyspark", "pyarrow"),
    pytest.mark.skipif(shutil.which("java") is None, reason="needs Java"),
    # Of Spark and what it uses.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as monkeypatch:
        in_workers(monkeypatch)
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            # Two workers, and four tries of a task: one fails with the process that is killed.
            SparkSession.builder.master("local[2,4]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .getOrCreate()
        )
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


def table(spark, texts, n_partitions=2):
    """Give a table with what would not survive a way through pandas beside the texts."""
    values = [(2**60 + i if i % 2 else None, {"a": [i]}, text) for i, text in enumerate(texts)]
    kinds = "id long, nested struct<a: array<int>>, text string"
    return spark.createDataFrame(values, kinds).repartition(n_partitions)


TEXTS = toy(9)[0]


@pytest.fixture(scope="module")
def frame(spark):
    """A table with a row without a text, in parts of which some have no row, and its rows."""
    found = table(spark, [*TEXTS, None], 16).cache()
    return found, found.collect()


@pytest.mark.parametrize(
    ("cls", "output", "labels", "kind"),
    [
        (GLiClassClassifier, "predict", LABELS, "string"),
        (GLiClassClassifier, "proba", LABELS, "float"),
        (GLiClassClassifier, "predict", dict(enumerate(LABELS)), "bigint"),
        (GLiClassMultiLabelClassifier, "predict", LABELS, "array<string>"),
        (GLiClassMultiLabelClassifier, "predict", dict(enumerate(LABELS)), "array<bigint>"),
        (GLiClassMultiLabelClassifier, "proba", LABELS, "float"),
    ],
)
def test_results_are_those_of_a_plain_predict(frame, model, cls, output, labels, kind):
    clf, (table, rows) = cls(model=model, labels=labels), frame
    lazy = classify_frame(clf, table, "text", output=output, missing="null")
    added = LABELS if output == "proba" else ["predicted"]
    assert lazy.dtypes == [*table.dtypes, *((name, kind) for name in added)]
    found = {row.text: row for row in lazy.collect()}
    # The other columns exactly as they were.
    assert {row.text: row[:3] for row in rows} == {text: row[:3] for text, row in found.items()}
    for text in TEXTS:
        cells = [found[text][name] for name in added]
        if output == "proba":
            np.testing.assert_allclose(cells, clf.predict_proba([text])[0], atol=1e-5)
        elif cls is GLiClassClassifier:
            assert cells == clf.predict([text]).tolist()
        else:
            assert cells == clf.predict_labels([text])
    assert [found[None][name] for name in added] == [None] * len(added)


def test_a_killed_worker_loses_no_row(spark, model, tmp_path):
    def classify(clf, frame):
        table = spark.createDataFrame(list(zip(*map(frame.get, ["id", "text"]), strict=True)))
        table = table.toDF("id", "text").repartition(12)
        found = [row.asDict() for row in classify_frame(clf, table, "text").collect()]
        return type(frame)(found)

    check_a_killed_worker_loses_nothing(classify, model, tmp_path)


def test_a_process_loads_a_classifier_once_for_all_tables(spark, model, tmp_path):
    clf = Watched.taking_notes(model, tmp_path)
    for _ in range(2):
        classify_frame(clf, table(spark, rows(40)["text"], 6), "text").collect()
    assert set(loads_by_process(tmp_path).values()) == {1}
    assert thread_counts(tmp_path) == {"1"}


def test_a_table_without_rows_has_the_columns(spark, model):
    clf = GLiClassMultiLabelClassifier(model=model, labels=LABELS)
    found = classify_frame(clf, table(spark, []), "text")
    assert found.collect() == []
    assert found.dtypes[-1] == ("predicted", "array<string>")


def test_functions_of_a_script_may_be_steps(spark, model):
    clf = GLiClassClassifier(model=model, labels=LABELS).fit(*toy())
    piped = make_pipeline(FunctionTransformer(lambda texts: list(reversed(texts))), clf)
    piped.fit(*toy())
    found = classify_frame(piped, table(spark, TEXTS[:1]), "text").collect()
    assert [row.predicted for row in found] == clf.predict(TEXTS[:1]).tolist()


def test_names_of_columns_may_be_written_in_any_case(spark, model):
    clf, frame = GLiClassClassifier(model=model, labels=LABELS), table(spark, TEXTS[:2])
    found = classify_frame(clf, frame, "TEXT")
    assert found.columns == ["id", "nested", "text", "predicted"]
    assert found.count() == 2
    taken = frame.withColumnRenamed("id", "PREDICTED")
    with pytest.raises(ValueError, match="a column 'predicted' already"):
        classify_frame(clf, taken, "text")
    both = GLiClassClassifier(model=model, labels={"IT": "computers", "it": "the pronoun"})
    with pytest.raises(ValueError, match="a column 'it' already"):
        classify_frame(both, frame, "text", output="proba")
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        assert classify_frame(clf, taken, "text").columns[-1] == "predicted"
        assert classify_frame(both, frame, "text", output="proba").columns[-2:] == ["IT", "it"]
        with pytest.raises(ValueError, match="no column of the name text_column='TEXT'"):
            classify_frame(clf, frame, "TEXT")
    finally:
        spark.conf.unset("spark.sql.caseSensitive")


def test_names_of_classes_may_have_dots(spark, model):
    clf = GLiClassClassifier(model=model, labels={"topic": ["sport", "music"]})
    found = classify_frame(clf, table(spark, TEXTS[:1]), "text", output="proba")
    assert found.columns[-2:] == ["topic.music", "topic.sport"]
    (row,) = found.select("`topic.music`").collect()
    np.testing.assert_allclose(row[0], clf.predict_proba(TEXTS[:1])[0, 0], atol=1e-5)


def test_a_column_that_holds_no_strings_is_refused_at_once(spark, model):
    clf = GLiClassClassifier(model=model, labels=LABELS)
    with pytest.raises(TypeError, match="text_column='id' holds bigint, not strings"):
        classify_frame(clf, table(spark, TEXTS), "id")


def test_a_missing_text_is_named_by_its_row(spark, model):
    clf = GLiClassClassifier(model=model, labels=LABELS)
    frame = spark.createDataFrame([(5, "a day"), (6, None)], "id long, text string")
    with pytest.raises(Exception, match="'text' of the row with id=6 is missing"):
        classify_frame(clf, frame, "text").collect()


@pytest.mark.parametrize("choose", [lambda frame: frame, lambda frame: frame["text"]])
def test_predict_names_the_function(spark, choose):
    X = choose(table(spark, TEXTS))
    with pytest.raises(TypeError, match=r"X is a collection of Spark.*distributed\.classify_frame"):
        GLiClassClassifier(labels=LABELS).predict(X)
