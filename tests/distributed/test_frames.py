"""`classify_frame` on frames of pandas, which is what every engine does with a part of a table."""

import sys
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from toy import toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.distributed import classify_frame

TEXTS = ["The match was lost.", "He sang all night.", "A goal, and a song about it."]
LABELS = ["sport", "music"]
single = GLiClassClassifier(labels=LABELS)
several = GLiClassMultiLabelClassifier(labels=LABELS)


class FirstLetter(ClassifierMixin, BaseEstimator):
    """Knows its classes without fitting, and takes whatever text has one of them first."""

    def __init__(self, classes=("a", "b")):
        self.classes = classes

    @property
    def classes_(self):
        return np.array(self.classes)

    def predict(self, texts):
        assert texts, "is not to be asked for nothing"
        return self.classes_[["ab".index(text[0]) for text in texts]]

    def predict_proba(self, texts):
        return np.eye(2)[["ab".index(text[0]) for text in texts]]


def frame_of(texts=TEXTS, **others):
    return pd.DataFrame({"n": np.arange(len(texts)), "text": texts}, **others)


# What is added.


def test_classes_are_those_of_predict():
    result = classify_frame(single, frame_of(), "text")
    assert list(result.columns) == ["n", "text", "predicted"]
    assert result["predicted"].tolist() == single.predict(TEXTS).tolist()
    assert result["predicted"].dtype == pd.Series(single.predict(TEXTS).tolist()).dtype


def test_probabilities_are_columns_by_the_names_of_the_classes():
    result = classify_frame(single, frame_of(), "text", output="proba")
    assert list(result.columns) == ["n", "text", "music", "sport"]
    np.testing.assert_array_equal(result[["music", "sport"]], single.predict_proba(TEXTS))
    assert set(result.dtypes[["music", "sport"]]) == {np.dtype("float32")}


@pytest.mark.needs("pyarrow")
def test_any_number_of_classes_is_a_list_of_them():
    result = classify_frame(several, frame_of(), "text")
    assert list(map(list, result["predicted"])) == several.predict_labels(TEXTS)
    assert str(result["predicted"].dtype) == "list<item: string>[pyarrow]"


def test_probabilities_of_any_number_of_classes_are_columns_too():
    result = classify_frame(several, frame_of(), "text", output="proba")
    # In the order given, which those of any number of classes have.
    np.testing.assert_array_equal(result[LABELS], several.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("classes", "kind"), [((7, 9), "int64"), ((False, True), "bool"), ((0.5, 1.5), "float64")]
)
def test_classes_keep_their_type(classes, kind):
    result = classify_frame(FirstLetter(classes), frame_of(["b", "a"]), "text")
    assert result["predicted"].tolist() == [classes[1], classes[0]]
    assert result["predicted"].dtype == kind


@pytest.mark.parametrize("output", ["predict", "proba"])
@pytest.mark.parametrize(
    ("estimator", "missing"),
    [(FirstLetter(), "raise"), (FirstLetter((7, 9)), "raise"), (FirstLetter((7, 9)), "null")],
)
def test_no_row_has_the_columns_and_types_of_many(estimator, missing, output):
    frame = frame_of(["a", "b"])
    options = {"output": output, "missing": missing}
    full = classify_frame(estimator, frame, "text", **options)
    empty = classify_frame(estimator, frame[:0], "text", **options)
    pd.testing.assert_series_equal(full.dtypes, empty.dtypes)
    assert len(empty) == 0


@pytest.mark.needs("pyarrow")
def test_lists_have_their_type_without_rows_and_without_classes():
    estimator = GLiClassMultiLabelClassifier(labels={1: "sport", 2: "music"}, threshold=1.0)
    kind = "list<item: int64>[pyarrow]"
    for frame in (frame_of(), frame_of()[:0], frame_of([None, None])):
        result = classify_frame(estimator, frame, "text", missing="null")
        assert str(result["predicted"].dtype) == kind
    assert result["predicted"].isna().all()


# Which estimators.


@pytest.fixture(scope="module")
def counted():
    """Pipelines of scikit-learn that read texts: one class a text, and any number."""
    return (
        make_pipeline(CountVectorizer(), LogisticRegression()).fit(*toy()),
        make_pipeline(CountVectorizer(), OneVsRestClassifier(LogisticRegression())).fit(
            *toy_indicator()
        ),
    )


def test_a_pipeline_around_a_zero_shot_classifier_predicts():
    piped = make_pipeline(single)
    expected = single.predict(TEXTS).tolist()
    with warnings.catch_warnings():
        # scikit-learn's, of a pipeline that was not fitted.
        warnings.simplefilter("ignore", FutureWarning)
        assert classify_frame(piped, frame_of(), "text")["predicted"].tolist() == expected


def test_any_classifier_of_texts_predicts(counted):
    texts, y = toy()
    result = classify_frame(counted[0], frame_of(texts), "text")
    assert result["predicted"].tolist() == y.tolist()


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("wrapped", [lambda found: found, FrozenEstimator])
def test_what_gives_a_matrix_of_classes_gives_lists(counted, wrapped):
    texts, y = toy_indicator()
    result = classify_frame(wrapped(counted[1]), frame_of(texts), "text")
    assert list(map(list, result["predicted"])) == [np.flatnonzero(row).tolist() for row in y]


def test_a_search_predicts_with_what_it_found(counted):
    texts, y = toy()
    search = GridSearchCV(counted[0], {"logisticregression__C": [1.0, 10.0]}, cv=2).fit(texts, y)
    assert classify_frame(search, frame_of(texts), "text")["predicted"].tolist() == y.tolist()


@pytest.mark.parametrize(
    ("estimator", "output", "error", "message"),
    [
        (GLiClassClassifier(), "predict", NotFittedError, "GLiClassClassifier.*labels="),
        (GLiClassClassifier, "predict", TypeError, "the class GLiClassClassifier"),
        (LinearSVC(), "predict", NotFittedError, r"LinearSVC\(\).*no classes_"),
        (LinearSVC().fit([[0], [1]], [0, 1]), "proba", TypeError, "predict_proba.*LinearSVC"),
        (LinearRegression().fit([[0], [1]], [0, 1]), "predict", NotFittedError, "classes_"),
        (CountVectorizer(), "predict", TypeError, "asks for predict.*CountVectorizer"),
        (FirstLetter(((1, "a"), (2, "b"))), "predict", TypeError, "several targets"),
        (FirstLetter((1j, 2j)), "predict", TypeError, "class is 1j"),
    ],
)
def test_what_does_not_predict_classes_is_refused(estimator, output, error, message):
    with pytest.raises(error, match=message):
        classify_frame(estimator, frame_of(), "text", output=output)


def test_several_targets_are_refused():
    found = MultiOutputClassifier(LogisticRegression()).fit([[0], [1]], [[0, 1], [1, 0]])
    with pytest.raises(TypeError, match="several targets"):
        classify_frame(found, frame_of(), "text")


def test_a_matrix_from_what_was_thought_to_give_one_class_is_refused():
    texts, y = toy_indicator()
    forest = make_pipeline(CountVectorizer(), RandomForestClassifier(n_estimators=2))
    with pytest.raises(TypeError, match="several targets"):
        classify_frame(forest.fit(texts, y), frame_of(texts), "text")


def test_classes_of_two_types_fit_in_no_column():
    mixed = FirstLetter()
    mixed.classes = np.array(["a", 1], dtype=object)
    with pytest.raises(TypeError, match=r"A class is 1 \(int\)"):
        classify_frame(mixed, frame_of(), "text")


def test_two_classes_with_columns_of_one_name_are_refused():
    alike = FirstLetter((1.0, 1.0))
    with pytest.raises(ValueError, match=r"same name, '1\.0'"):
        classify_frame(alike, frame_of(), "text", output="proba")


# Rows and columns.


@pytest.mark.parametrize(
    "index",
    [
        [5, 5, 5],
        [None, "a", "a"],
        pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 2)], names=["x", "y"]),
        pd.date_range("2026-01-01", periods=3),
        pd.CategoricalIndex(["u", "v", "u"]),
    ],
    ids=["duplicates", "missing", "two levels", "dates", "categories"],
)
def test_the_index_stays(index):
    frame = frame_of(["a", "b", "a"], index=index)
    before = frame.copy()
    result = classify_frame(FirstLetter(), frame, "text")
    pd.testing.assert_frame_equal(result[["n", "text"]], before)
    pd.testing.assert_frame_equal(frame, before)
    assert result["predicted"].tolist() == ["a", "b", "a"]


@pytest.mark.parametrize("kind", ["category", "string", object])
def test_texts_of_any_type_of_column_are_read(kind):
    frame = frame_of(["a", "b", None]).astype({"text": kind})
    result = classify_frame(FirstLetter(), frame, "text", missing="null")
    assert result["predicted"].isna().tolist() == [False, False, True]
    assert result["predicted"].tolist()[:2] == ["a", "b"]
    assert result["text"].dtype == frame["text"].dtype


@pytest.mark.parametrize("name", [0, 1.5, ("a", "b"), pd.Timestamp("2026-01-01")], ids=str)
def test_names_of_columns_need_not_be_strings(name):
    frame = pd.DataFrame({name: ["b"], 7: [1]})
    frame.columns.name = "columns"
    result = classify_frame(FirstLetter(), frame, name)
    assert list(result.columns) == [name, 7, "predicted"]
    assert result.columns.name == "columns"
    assert result["predicted"].tolist() == ["b"]


def test_names_of_columns_may_be_categories():
    frame = frame_of(["b"])
    frame.columns = pd.CategoricalIndex(frame.columns)
    result = classify_frame(FirstLetter(), frame, "text")
    assert list(result.columns) == ["n", "text", "predicted"]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["n", "texts"], {}, "no column of the name text_column='text'; it has 'n', 'texts'"),
        (["text", "text"], {}, "several columns of the name text_column='text'"),
        (["predicted", "text"], {}, "a column 'predicted' already"),
        (["a", "text"], {"output": "proba"}, "a column 'a' already"),
        ([("n", "x"), ("text", "y")], {}, "MultiIndex"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_refused(columns, options, message):
    frame = frame_of(["a"])
    frame.columns = pd.Index(columns)
    with pytest.raises(ValueError, match=message):
        classify_frame(FirstLetter(), frame, "text", **options)


def test_a_number_is_no_other_name_than_its_digits():
    frame = pd.DataFrame({7: [1], "text": ["a"]})
    with pytest.raises(ValueError, match="a column '7' already"):
        classify_frame(FirstLetter((7, 9)), frame, "text", output="proba")


# Rows without a text.


def test_a_missing_text_is_named_by_its_index():
    frame = frame_of(["a", None, "b"], index=["x", "y", "z"])
    with pytest.raises(ValueError, match=r"'text' at index 'y' is missing.*missing=\"null\""):
        classify_frame(FirstLetter(), frame, "text")


@pytest.mark.parametrize(
    ("output", "classes"), [("predict", "ab"), ("predict", (7, 9)), ("proba", "ab")]
)
def test_nothing_is_predicted_for_a_missing_text(output, classes):
    frame = frame_of([None, "b", None])
    estimator = FirstLetter(tuple(classes))
    result = classify_frame(estimator, frame, "text", output=output, missing="null")
    added = result.drop(columns=["n", "text"])
    assert added.isna().all(axis=1).tolist() == [True, False, True]
    assert added.iloc[1].tolist() == ([0, 1] if output == "proba" else [classes[1]])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (5, TypeError, r"'text' at index 1 is 5 \(int\), not a text"),
        (["b"], TypeError, r"'text' at index 1 is \['b'\]"),
        ("b\ud800", ValueError, "'text' at index 1 is not valid Unicode"),
    ],
)
@pytest.mark.parametrize("missing", ["raise", "null"])
def test_what_is_no_text_is_named_by_its_index(text, error, message, missing):
    frame = frame_of(pd.Series(["a", text], dtype=object))
    with pytest.raises(error, match=message):
        classify_frame(FirstLetter(), frame, "text", missing=missing)


# What is no frame.


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"text": TEXTS}, "a dict of builtins; it must be a DataFrame of pandas, Dask or Spark"),
        (TEXTS, "a list of builtins"),
        (pd.Series(TEXTS), r"a Series of pandas.*Write frame\.to_frame\(\)"),
    ],
    ids=["dict", "list", "Series"],
)
def test_what_is_no_frame_is_refused(frame, message):
    with pytest.raises(TypeError, match=message):
        classify_frame(single, frame, "text")


@pytest.mark.needs("polars")
def test_a_frame_of_another_library_is_asked_for():
    import polars as pl

    with pytest.raises(TypeError, match=r"a DataFrame of polars.*Write frame\.to_pandas\(\)"):
        classify_frame(single, pl.DataFrame({"text": TEXTS}), "text")


def test_a_frame_of_pandas_on_spark_is_asked_for_its_own():
    cls = type("DataFrame", (), {"__module__": "pyspark.pandas.frame", "to_spark": None})
    with pytest.raises(TypeError, match=r"of pyspark\.pandas.*Write frame\.to_spark\(\)"):
        classify_frame(single, cls(), "text")


def test_frames_that_inherit_from_one_of_an_engine_are_of_it(monkeypatch):
    """By its module, so that what is not used is not imported."""
    used = []
    cls = type("DataFrame", (), {"__module__": "dask.dataframe.somewhere"})
    roads = sys.modules["skgliclass.distributed.frames"]._ROADS
    monkeypatch.setitem(roads, ("dask.dataframe", "DataFrame"), lambda *args: used.append(args))
    classify_frame(single, type("Geographic", (cls,), {})(), "text", n=1)
    assert used[0][-1] == {"n": 1}
    with pytest.raises(TypeError, match="DataFrame of dask_expr"):
        classify_frame(single, type("DataFrame", (), {"__module__": "dask_expr"})(), "text")


def test_spark_without_arrow_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    frame = type("DataFrame", (types.SimpleNamespace,), {"__module__": "pyspark.sql.x"})()
    with pytest.raises(ImportError, match=r"Spark needs pyarrow.*\.\[spark\]"):
        classify_frame(single, frame, "text")


def test_lists_without_arrow_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"lists needs pyarrow.*\.\[parquet\]"):
        classify_frame(several, frame_of(), "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"output": "labels"}, "output is 'labels'"), ({"missing": None}, "missing is None")],
)
def test_what_may_be_asked_for_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        classify_frame(single, frame_of(), "text", **options)


def test_pandas_takes_no_options():
    with pytest.raises(TypeError, match="no options, got batch_size"):
        classify_frame(single, frame_of(), "text", batch_size=3)
