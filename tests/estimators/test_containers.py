"""Texts, labels and examples in every container that people keep them in."""

import array
import collections
import types
from enum import Enum, IntEnum

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from toy import polars

from skgliclass.estimators.containers import open_container
from skgliclass.estimators.examples import read_examples
from skgliclass.estimators.labels import LabelSet
from skgliclass.estimators.texts import as_texts

TEXTS = ["One day I will see the world!", "", "naïve façade 你好"]
NAMES = ["travel", "sport"]


class Topic(str, Enum):
    TRAVEL = "travel"
    SPORT = "sport"


class Level(IntEnum):
    HIGH = 2
    LOW = 1


class Plain(Enum):
    SPORT = "sport"


class ArrayLike:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values)


class RowsOneByOne(collections.abc.Sequence):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        if not isinstance(i, int):
            raise TypeError("rows one by one")
        return self.values[i]


def of_engine(module):
    """Give what looks like a collection of an engine."""
    return type("Collection", (), {"__module__": module})()


class Lazy:
    """Looks like a collection of something that builds graphs as Dask does."""

    def __dask_graph__(self):
        return {}


def pyarrow():
    return pytest.importorskip("pyarrow")


def datasets():
    found = pytest.importorskip("datasets")
    # Without the library the folder of tests by its name is found.
    return found if hasattr(found, "Dataset") else pytest.skip("needs datasets")


def dataset_column(values):
    return datasets().Dataset.from_dict({"column": list(values)})["column"]


COLUMNS = {
    "UserList": collections.UserList,
    "deque": collections.deque,
    "values of a dict": lambda v: dict(enumerate(v)).values(),
    "keys of a dict": lambda v: dict.fromkeys(v).keys(),
    "array-like": ArrayLike,
    "sequence": RowsOneByOne,
    "masked array": lambda v: np.ma.array(v),
    "pandas array": lambda v: pd.array(v, dtype="string"),
    "pandas Categorical": pd.Categorical,
    "pandas Index": pd.Index,
    "arrow-backed Series": lambda v: pd.Series(v, dtype=pd.ArrowDtype(pyarrow().string())),
    "pandas DataFrame": lambda v: pd.DataFrame({0: v}),
    "polars Categorical": lambda v: polars().Series(v, dtype=polars().Categorical),
    "polars DataFrame": lambda v: polars().DataFrame({"column": v}),
    "pyarrow Array": lambda v: pyarrow().array(v),
    "pyarrow dictionary": lambda v: pyarrow().array(v).dictionary_encode(),
    "pyarrow ChunkedArray": lambda v: pyarrow().chunked_array([v[:1], v[1:]]),
    "pyarrow Table": lambda v: pyarrow().table({"column": v}),
    "pyarrow RecordBatch": lambda v: pyarrow().record_batch({"column": v}),
    "column of datasets": dataset_column,
}
if hasattr(np.dtypes, "StringDType"):
    COLUMNS["numpy strings"] = lambda v: np.array(v, dtype=np.dtypes.StringDType())


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_any_column_of_strings_holds_texts_and_labels(make):
    rows = as_texts(make(TEXTS))
    assert rows == TEXTS
    assert type(rows) is list
    label_set = LabelSet.from_labels(make(NAMES), sort=False)
    assert label_set.classes.tolist() == NAMES
    assert label_set.texts == tuple(NAMES)
    nested = LabelSet.from_labels({"topic": make(NAMES), "mood": {"good": "joy"}}, sort=False)
    assert nested.classes.tolist() == ["topic.travel", "topic.sport", "mood.good"]
    (example,) = read_examples([("a text", make(NAMES))], label_set)
    assert example.labels == tuple(NAMES)


MATRIX = "holds numbers, but the model reads the texts.*leave out the step.*TfidfVectorizer"


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (bytearray(b"a"), r"single string of bytes.*X=\[X.decode\(\)\]"),
        (collections.UserString("ab"), "single string"),
        (dict.fromkeys("ab"), r"got dict.*list\(X.values\(\)\)"),
        (frozenset("ab"), r"got frozenset, which has no order"),
        (iter("ab"), r"iterator.*Write list\(X\)"),
        (map(str, "ab"), r"iterator \(map\).*Write list\(X\)"),
        (np.ma.array(["a", "b"], mask=[False, True]), r"X\[1\] is missing"),
        (array.array("d", [0.5]), r"X\[0\] is 0.5 \(float\), not a text.*str\(\)"),
        ([["a", "b"], ["c", "d"]], r"X\[0\] is \['a', 'b'\].*join"),
        ([["a"], "b"], r"X\[0\] is \['a'\].*X\[1\] is 'b'"),
        (["a", ["b"]], r"X\[1\] is \['b'\] \(list\).*join"),
        ([{"text": "a"}], r"X\[0\] is .*\(dict\).*row\['text'\] for row in X"),
        (np.array([["a", "b"]]), r"shape \(1, 2\).*X\[:, 0\]"),
        (np.eye(3), r"shape \(3, 3\) that " + MATRIX),
        (sparse.csr_array(np.eye(3)), r"sparse matrix of shape \(3, 3\) that " + MATRIX),
        (sparse.dok_matrix(np.eye(3)), "sparse matrix.*" + MATRIX),
        (np.eye(3).tolist(), MATRIX),
        (pd.DataFrame(np.eye(3)), "frame of shape.*" + MATRIX),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "2 columns.*Choose one"),
        (pd.MultiIndex.from_tuples([("a", "b")]), r"MultiIndex.*X.get_level_values\(0\)"),
        (np.array([("a", 1)], dtype=[("text", "U1"), ("n", int)]), r"X\['text'\]"),
        (Lazy(), r"X is lazy.*X.compute\(\)"),
        (of_engine("dask.dataframe.series"), "collection of Dask.*distributed.classify_frame"),
        (of_engine("pyspark.sql.column"), "collection of Spark.*distributed.classify_frame"),
        (of_engine("ray.data.dataset"), "collection of Ray.*distributed.classify_frame"),
    ],
)
def test_what_is_no_column_of_texts_is_named(X, message):
    with pytest.raises((ValueError, TypeError), match=message):
        as_texts(X)


def test_what_polars_has_not_computed_is_refused_as_texts_and_as_classes():
    lazy = polars().LazyFrame({"column": ["a", "b"]})
    with pytest.raises(TypeError, match=r"X is a LazyFrame of polars.*X\.collect\(\).*map_batches"):
        as_texts(lazy)
    with pytest.raises(TypeError, match=r"y is a LazyFrame of polars.*y\.collect\(\)"):
        open_container(lazy, "y")


def test_a_data_set_is_asked_for_a_column():
    data = datasets().Dataset.from_dict({"text": ["a"], "n": [1]})
    with pytest.raises(TypeError, match=r"got Dataset with the columns 'text', 'n'.*Choose one"):
        as_texts(data)
    with pytest.raises(TypeError, match=r"got DatasetDict\. Choose a split and a column"):
        as_texts(datasets().DatasetDict(train=data))
    with pytest.raises(ValueError, match=r"X\[1\] is missing"):
        as_texts(dataset_column(["a", None]))


# Enumerations as labels.


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (Topic, ["sport", "travel"]),
        (list(Topic), ["sport", "travel"]),
        (np.array(list(Topic), dtype=object), ["sport", "travel"]),
        (pd.Series(list(Topic)), ["sport", "travel"]),
        ({Topic.SPORT: Topic.SPORT, Topic.TRAVEL: "journeys"}, ["sport", "travel"]),
        ({"topic": Topic}, ["topic.sport", "topic.travel"]),
        ({Topic.SPORT: ["ball"], "x": {Topic.TRAVEL: "y"}}, ["sport.ball", "x.travel"]),
        (Level, [1, 2]),
        (np.array(list(Level)), [1, 2]),
    ],
)
def test_members_of_enumerations_are_their_values(labels, classes):
    label_set = LabelSet.from_labels(labels, sort=True)
    assert label_set.classes.tolist() == classes
    assert {type(text) for text in label_set.texts} == {str}
    assert not any("." in text for text in label_set.texts if isinstance(labels, list))


@pytest.mark.parametrize("labels", [Plain, [Plain.SPORT], {Plain.SPORT: "x"}, {"t": Plain}])
def test_an_enumeration_without_strings_is_told_to_give_its_values(labels):
    with pytest.raises(TypeError, match=r"\[member.value for member in Plain\]"):
        LabelSet.from_labels(labels, sort=True)


# Classes that would not stay what they are.


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("travel, sport", r"single string.*labels=\['travel', 'sport'\]"),
        (b"ab", r"single string b'ab'.*decode\(\)"),
        (np.array("ab"), "array without dimensions"),
        (iter("ab"), r"iterator.*Write list\(labels\)"),
        ({"topic": (name for name in "ab")}, r"list\(labels\['topic'\]\)"),
        ({"topic": {"a", "b"}}, r"labels\['topic'\] .*no order"),
        ({"a": 1}.items(), r"labels\[0\] is \('a', 1\)"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"2 columns.*labels\['a'\]"),
        (["1", 1], "same label text '1'"),
        (["a", "\u200b"], r"labels\[1\] has an empty label text"),
        (["a", "\0\n"], r"labels\[1\] has an empty label text"),
        ([1, True], r"labels\[1\] is True, which equals labels\[0\], 1"),
        ([0.0, 1, 1.0], r"labels\[2\] repeats labels\[1\]"),
        ([b"a", b"b"], r"labels\[0\] is b'a' \(bytes\).*Decode"),
        ([("a", "b"), ("c", "d")], r"labels\[0\] is \('a', 'b'\)"),
        ([pd.Timestamp("2020-01-01")], r"labels\[0\] is Timestamp.*\[str\(value\) for value in"),
        (np.array(["2020-01-01"], dtype="datetime64[ns]"), r"labels\[0\] is .*datetime64"),
        (np.array([1, 2], dtype="timedelta64[s]"), r"labels\[0\] is .*timedelta64"),
        ([1j], r"labels\[0\] is 1j \(complex\)"),
        ([1.0, float("inf")], r"labels\[1\] is infinite"),
        (pd.array(["a", None], dtype="string"), r"labels\[1\] is missing"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        LabelSet.from_labels(labels, sort=True)


def test_strings_that_numpy_would_cut_stay_distinct():
    label_set = LabelSet.from_labels(["a", "a\0"], sort=True)
    assert label_set.classes.tolist() == ["a", "a\0"]


def test_labels_to_be_stored_name_each_class_once():
    assert LabelSet.from_labels(NAMES, sort=True).as_labels() == ["sport", "travel"]
    assert LabelSet.from_labels({1: "1", 2: "b"}, sort=True).as_labels() == {1: "1", 2: "b"}
    assert LabelSet.from_labels([2, 1], sort=True).as_labels() == [1, 2]


def test_other_mappings_are_dicts_of_label_texts():
    for labels in (types.MappingProxyType({"a": "x"}), collections.UserDict({"a": "x"})):
        assert LabelSet.from_labels(labels, sort=True).text_of_class == {"a": "x"}


# Examples.


@pytest.mark.parametrize(
    ("examples", "labels"),
    [
        (np.array([["a text", "sport"]]), ["sport"]),
        (pd.Series([("a text", "sport")]), ["sport"]),
        ({"a text": "sport"}.items(), ["sport"]),
        ([("a text", Topic.SPORT)], ["sport"]),
        ([{"text": "a text", "true_labels": ["sport"], "all_labels": NAMES}], ["sport"]),
        ([{"text": "a text", "true_labels": {"sport": 0.9, "travel": 0.2}}], ["sport"]),
        ([collections.UserDict(text="a text", labels="sport")], ["sport"]),
        (pd.DataFrame({"text": ["a text"], "label": ["sport"]}), ["sport"]),
        (pd.DataFrame({"text": ["a text"], "labels": [NAMES]}), NAMES),
        # In the order of the labels, as a set has another in each process.
        ([("a text", {"sport", "travel"})], NAMES),
        ([("a text", frozenset(["sport"]))], ["sport"]),
        ([("a text", [])], []),
    ],
)
def test_examples_come_in_any_form(examples, labels):
    label_set = LabelSet.from_labels(NAMES, sort=False)
    (example,) = read_examples(examples, label_set)
    assert (example.text, list(example.labels)) == ("a text", labels)


def test_examples_come_from_other_libraries():
    label_set = LabelSet.from_labels(NAMES, sort=False)
    rows = {"text": ["a text"], "labels": [["sport"]]}
    for frame in (
        polars().DataFrame(rows),
        pyarrow().table(rows),
        datasets().Dataset.from_dict(rows),
        datasets().Dataset.from_dict({"example": [("a text", "sport")]})["example"],
    ):
        (example,) = read_examples(frame, label_set)
        assert (example.text, example.labels) == ("a text", ("sport",))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ((pair for pair in [("a", "sport")]), r"iterator.*list\(examples\)"),
        ([("a", (name for name in ["sport"]))], r"list\(examples\[0\]\[1\]\)"),
        ({("a", "sport")}, "no order"),
        ({"a": "sport"}, r"list\(examples.items\(\)\)"),
        ("a", "single string"),
        ([{"text": "a"}], r"examples\[0\] has no 'labels'.*'true_labels'"),
        ([{"text": "a", "labels": "sport", "true_labels": []}], "'labels' and 'true_labels'"),
        (pd.DataFrame({"body": ["a"], "labels": ["sport"]}), r"examples\[0\] has no 'text'"),
        ([("a", True)], "unknown class True"),
        ([("a", {"sport", "cooking"})], "unknown class 'cooking'"),
    ],
)
def test_what_is_no_example_is_named(examples, message):
    with pytest.raises((ValueError, TypeError), match=message):
        read_examples(examples, LabelSet.from_labels(NAMES, sort=False))


def test_a_truth_value_is_no_number_of_a_class():
    label_set = LabelSet.from_labels({0: "other", 1: "sport"}, sort=True)
    with pytest.raises(ValueError, match="unknown class True"):
        read_examples([("a", True)], label_set)
