"""What people pass as `y`, and what it must be read as."""

import warnings
from decimal import Decimal
from enum import Enum, IntEnum

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

from skgliclass.estimators.labels import LabelSet
from skgliclass.estimators.targets import multi_label_targets, single_label_targets

NAN = float("nan")


class Topic(str, Enum):
    SPORT = "sport"
    TRAVEL = "travel"


class Plain(Enum):
    SPORT = "sport"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


def labels(*values, **texts):
    return LabelSet.from_labels(texts or list(values), sort=False)


def numbered(n=2):
    return LabelSet.from_labels({i: f"topic {i}" for i in range(n)}, sort=False)


def silent(read, y, label_set=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(y, label_set, **options)


def single(y, label_set=None, **options):
    """Give the classes and the class of each text."""
    targets = silent(single_label_targets, y, label_set, **options)
    assert (targets.matrix.sum(axis=1) == 1).all()
    classes = targets.label_set.classes.tolist()
    return classes, [classes[j] for j in targets.matrix.argmax(axis=1)]


def many(y, label_set=None, **options):
    """Give the classes and the matrix."""
    targets = silent(multi_label_targets, y, label_set, **options)
    return targets.label_set.classes.tolist(), targets.matrix.tolist()


def assert_matrix(found, expected):
    np.testing.assert_array_equal(found[1], np.asarray(expected, dtype=np.float32))


# One class a text.


@pytest.mark.parametrize(
    ("y", "values"),
    [
        ([Topic.TRAVEL, Topic.SPORT], ["travel", "sport"]),
        (np.array([Topic.TRAVEL, Topic.SPORT], dtype=object), ["travel", "sport"]),
        (pd.Series([Topic.TRAVEL, Topic.SPORT], dtype=object), ["travel", "sport"]),
        ([Level.HIGH, Level.LOW], [2, 1]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.Series([2, 1], dtype="Int64"), [2, 1]),
        (pd.Series(["b", "a"], dtype="string"), ["b", "a"]),
        (pd.Series(["b", "a"], dtype="category"), ["b", "a"]),
        (pd.Series([2, 1], dtype="category"), [2, 1]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (pd.Index(["b", "a"]), ["b", "a"]),
        (pd.Series(["b", "a"], index=pd.MultiIndex.from_tuples([(1, 2), (3, 4)])), ["b", "a"]),
        ({"x": "b", "y": "a"}.values(), ["b", "a"]),
        (range(2), [0, 1]),
        (["a\0", "a"], ["a\0", "a"]),
        (["cafe\u0301", "café"], ["cafe\u0301", "café"]),
        (["None", "nan"], ["None", "nan"]),
        ([1, 1.0, 2], [1, 1, 2]),
        (np.array([True, False]), [True, False]),
    ],
)
def test_classes_are_as_they_were_written(y, values):
    classes, found = single(y)
    assert found == values
    assert [isinstance(value, bool) for value in found] == [isinstance(v, bool) for v in values]
    assert classes == sorted(set(values))


@pytest.mark.parametrize(
    "make",
    [
        lambda pa: pd.Series([True, False], dtype="bool[pyarrow]"),
        lambda pa: pa.array([True, False]),
        lambda pa: pa.chunked_array([[True], [False]]),
    ],
)
@pytest.mark.needs("pyarrow")
def test_arrow_keeps_truth_values(make):
    import pyarrow

    found = single(make(pyarrow))[1]
    assert found == [True, False]
    assert [type(value) for value in found] == [bool, bool]


@pytest.mark.needs("polars")
def test_polars_keeps_values():
    import polars

    assert single(polars.Series(["b", "a"]))[1] == ["b", "a"]
    assert single(polars.Series([True, False]))[1] == [True, False]
    assert many(polars.Series([["a"], [], ["b", "a"]]))[1] == [[1, 0], [0, 0], [1, 1]]
    soft = polars.Series([{"a": 1.0, "b": None}, {"a": 0.5, "b": 0.5}])
    assert_matrix(many(soft), [[1, NAN], [0.5, 0.5]])
    assert_matrix(many(polars.DataFrame({"a": [True, None], "b": [1, 0]})), [[1, 1], [NAN, 0]])


@pytest.mark.needs("datasets")
def test_columns_of_a_dataset():
    from datasets import Dataset

    data = Dataset.from_dict({"label": ["b", "a"], "labels": [["a"], ["b", "a"]]})
    assert single(data["label"])[1] == ["b", "a"]
    assert many(data["labels"])[1] == [[1, 0], [1, 1]]
    with pytest.raises(TypeError, match="Choose one column"):
        single(data)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            [True, False],
            r"^The classes are truth values, .*'False' and 'True', .*labels=\{False: 'world news', "
            r"True: 'sport'\}\.$",
        ),
        (pd.Series([True, False], dtype="boolean"), "truth values"),
        ([0, 1, 2], r"^The classes are numbers, .*labels=\{0: 'world news', 1: 'sport'\}\.$"),
        ([Level.LOW, Level.HIGH], "classes are numbers"),
    ],
)
def test_classes_without_words_warn(y, message):
    with pytest.warns(UserWarning, match=message):
        single_label_targets(y, None)


def test_a_list_of_members_warns_of_what_scikit_learn_reads():
    with pytest.warns(UserWarning, match=r"metrics and splits read .*member.value for member"):
        single_label_targets([Topic.SPORT, Topic.TRAVEL], None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single_label_targets(np.array([Topic.SPORT, Topic.TRAVEL], dtype=object), None)
        # numpy reads other strings here, but not of members.
        single_label_targets(["a\0", "a"], None)


def test_a_column_is_a_vector_with_a_warning():
    for y in (pd.DataFrame({"label": ["b", "a"]}), [["b"], ["a"]], np.array([["b"], ["a"]])):
        with pytest.warns(DataConversionWarning, match="column-vector"):
            targets = single_label_targets(y, None)
        assert targets.matrix.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, "1"], r"mixes classes of different types: y\[0\] is 1 \(int\), y\[1\] is '1'"),
        ([True, 1], "mixes classes of different types"),
        (["a", True], "mixes classes of different types"),
        ([Decimal(1), pd.Timestamp(0)], "mixes classes of different types"),
        ([Plain.SPORT], r"y\[0\] is .*member of the enumeration Plain.*member.value for member"),
        ([b"a", b"b"], r"y\[0\] is b'a'.*Decode"),
        (["a", NAN], r"y\[1\] is missing"),
        (["a", pd.NA], r"y\[1\] is missing"),
        (pd.Series([True, None], dtype="boolean"), r"y\[1\] is missing"),
        (pd.Series(["a", None], dtype="category"), r"y\[1\] is missing"),
        (np.ma.masked_array(["a", "b"], [False, True]), r"y\[1\] is missing"),
        ([float("inf"), 1.0], r"y\[0\] is infinite"),
        (["a", " "], r"y\[1\] is ' ', so the model has nothing to read"),
        (["a", "\u200b"], r"^classes\[1\] has an empty label text"),
        (np.eye(3), r"one-hot rows.*argmax\(axis=1\).*GLiClassMultiLabelClassifier"),
        (pd.DataFrame(np.eye(2), columns=["a", "b"]), r"idxmax\(axis=1\)"),
        (sparse.csr_array(np.eye(3)), "one-hot rows"),
        ([[0.2, 0.8], [1, 0]], "soft targets, use GLiClassMultiLabelClassifier"),
        ([[]] * 3, "each of its 3 rows is empty"),
        ([["a"], ["b", "c"]], "lists of 1 to 2 classes.*GLiClassMultiLabelClassifier"),
        ([{"a": 1.0}], "soft targets use GLiClassMultiLabelClassifier"),
        ([{"a"}, {"b"}], r"y\[0\] is .*GLiClassMultiLabelClassifier"),
        ({"a": 1}, r"y is a dict.*list\(y.values\(\)\)"),
        ({"a", "b"}, "no order"),
        ((value for value in "ab"), r"generator.*Write list\(y\)"),
        ("ab", "single string"),
        (pd.MultiIndex.from_tuples([("a", 1)]), "get_level_values"),
        ([Decimal(1), Decimal(2)], r"y\[0\] is Decimal.*\[str\(value\) for value in y\]"),
        ([10**30, 1], "no class"),
        (np.rec.array([("a", 1)]), "structured array"),
        (bytearray(b"ab"), "single string"),
        ([], "empty"),
        (np.array("a"), "single value"),
        (5, "must be a list"),
    ],
)
def test_what_is_no_class_a_text_says_what_the_user_did(y, message):
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        single(y)


def test_integers_beside_labels_that_are_digits_are_positions():
    assert single([0, 1], labels("0", "1")) == ([0, 1], [0, 1])


def test_truth_values_beside_other_labels_name_the_remedy():
    with pytest.raises(ValueError, match=r"labels=\{False: "):
        single([True, False], labels("no", "yes"))


def test_classes_that_were_not_seen_come_after_the_known_ones():
    assert single(["b", "x"], labels("a", "b"), unseen=True) == (["a", "b", "x"], ["b", "x"])
    assert single([0, 3], numbered(), unseen=True) == ([0, 1, 3], [0, 3])
    # A number equals a truth value.
    answers = LabelSet.from_labels({False: "no", True: "yes"}, sort=False)
    assert single([1, 3], answers, unseen=True) == ([False, True, 3], [True, 3])
    assert many([["x"], ["a"]], labels("a"), unseen=True) == (["a", "x"], [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("read", "y", "label_set"),
    [
        (single_label_targets, ["0", "1"], numbered()),
        (single_label_targets, [0, 1], labels("a", "b")),
        (multi_label_targets, [["0"], ["1"]], numbered()),
        (multi_label_targets, [{0}, {1, 2}], labels("a", "b", "c")),
    ],
)
def test_classes_that_no_prediction_can_equal_are_refused(read, y, label_set):
    with pytest.raises(TypeError, match=r"y has the class .* are of another type"):
        read(y, label_set, unseen=True)


# Any number of classes a text.


@pytest.mark.parametrize(
    ("y", "label_set", "matrix"),
    [
        # The labels are strings: numbers tell how far each holds.
        ([[0, 1], [1, 0]], labels("a", "b"), [[0, 1], [1, 0]]),
        ([[True, False], [False, True]], labels("a", "b"), [[1, 0], [0, 1]]),
        # The labels are numbers: rows of another length than theirs are label sets,
        ([[0, 1], [1, 0]], numbered(3), [[1, 1, 0], [1, 1, 0]]),
        ([[0], [1]], numbered(), [[1, 0], [0, 1]]),
        ([[0, 2], [1]], numbered(3), [[1, 0, 1], [0, 1, 0]]),
        ([[np.int64(0), np.int64(2)], [np.int64(1)]], numbered(3), [[1, 0, 1], [0, 1, 0]]),
        ([[1, 2], [2, 1]], LabelSet.from_labels({1: "x", 2: "y"}, sort=False), [[1, 1]] * 2),
        ([{0, 1}, {1}], numbered(), [[1, 1], [0, 1]]),
        # rows in which a number comes twice are not,
        ([[0, 1, 0], [1, 0, 0]], numbered(3), [[0, 1, 0], [1, 0, 0]]),
        ([[0, 0], [1, 0]], numbered(), [[0, 0], [1, 0]]),
        # and neither are an array's rows, or fractions.
        (np.array([[0, 1], [1, 0]]), numbered(), [[0, 1], [1, 0]]),
        ([[0.0, 1.0], [1.0, 0.0]], numbered(), [[0, 1], [1, 0]]),
        ([[0.5, 1], [0, 1]], numbered(), [[0.5, 1], [0, 1]]),
        # Without labels,
        ([[0, 1], [1]], None, [[1, 1], [0, 1]]),
        ([[0, 1, 0], [1, 0, 0]], None, [[0, 1, 0], [1, 0, 0]]),
        ([[7, 3], [3, 9]], None, [[1, 1, 0], [1, 0, 1]]),
    ],
)
def test_lists_of_numbers_are_read_by_the_labels(y, label_set, matrix):
    assert_matrix(many(y, label_set), matrix)


@pytest.mark.parametrize(
    ("y", "label_set"),
    [
        ([[0, 1], [1, 0]], numbered()),
        ([[0, 1], [1, 0]], None),
        ([[0], [1]], None),
        ([(1, 0)], numbered()),
        ([np.array([0, 1]), np.array([1, 0])], numbered()),
    ],
)
def test_lists_of_numbers_with_two_readings_name_both_remedies(y, label_set):
    with pytest.raises(ValueError, match=r"np\.array\(y\).*\[set\(row\) for row in y\]"):
        many(y, label_set)


@pytest.mark.parametrize(
    ("y", "matrix"),
    [
        (np.array([[1, NAN], [0, 1]]), [[1, NAN], [0, 1]]),
        ([[1, NAN], [0, 1]], [[1, NAN], [0, 1]]),
        ([[1, None], [0, 1]], [[1, NAN], [0, 1]]),
        ([[1, pd.NA], [0, 1]], [[1, NAN], [0, 1]]),
        ([[1, 0], [NAN, NAN]], [[1, 0], [NAN, NAN]]),
        (np.array([[1, None], [0, 1]], dtype=object), [[1, NAN], [0, 1]]),
        (sparse.csr_array(np.array([[1, NAN], [0, 1]])), [[1, NAN], [0, 1]]),
        (sparse.dok_array(np.array([[1, NAN], [0, 1]])), [[1, NAN], [0, 1]]),
        (np.matrix([[1, NAN], [0, 1]]), [[1, NAN], [0, 1]]),
        (np.ma.masked_array([[1, 0], [0, 1]], [[0, 1], [0, 0]]), [[1, NAN], [0, 1]]),
        (pd.DataFrame({"a": [1, 0], "b": [NAN, 1]}), [[1, NAN], [0, 1]]),
        (
            pd.DataFrame({"a": [1, 0], "b": pd.array([None, True], dtype="boolean")}),
            [[1, NAN], [0, 1]],
        ),
        (
            pd.DataFrame({"a": [True, False], "b": pd.array([None, 1], dtype="Int64")}),
            [[1, NAN], [0, 1]],
        ),
        ([{"a": 1, "b": None}, {"b": 1}], [[1, NAN], [0, 1]]),
        ([{"a": 0.75}, {}], [[0.75, 0], [0, 0]]),
        ([{"a": 0.75}, ["b"]], [[0.75, 0], [0, 1]]),
        (pd.Series([{"a": True}, {"b": 0.25, "a": 0}]), [[1, 0], [0, 0.25]]),
    ],
)
def test_soft_targets_and_what_nobody_annotated(y, matrix):
    assert_matrix(many(y, labels("a", "b")), matrix)


def test_classes_of_dicts_are_their_keys():
    assert many([{"b": 0.5}, {"a": 0}])[0] == ["a", "b"]


@pytest.mark.parametrize(
    ("y", "classes", "matrix"),
    [
        ([[Topic.SPORT], [Topic.TRAVEL, Topic.SPORT]], ["sport", "travel"], [[1, 0], [1, 1]]),
        (pd.DataFrame({Topic.TRAVEL: [1], Topic.SPORT: [0]}), ["travel", "sport"], [[1, 0]]),
        ([{Topic.SPORT: 0.5}], ["sport"], [[0.5]]),
        (np.array([["a", "b"], ["c", "a"]]), ["a", "b", "c"], [[1, 1, 0], [1, 0, 1]]),
        (pd.Series([np.array(["a"]), np.array([], dtype=object)]), ["a"], [[1], [0]]),
        ([{"a": 1}.keys(), ()], ["a"], [[1], [0]]),
    ],
)
def test_label_sets_in_any_container(y, classes, matrix):
    assert many(y) == (classes, matrix)


def test_label_sets_that_can_be_read_only_once():
    classes, matrix = many([iter(["a"]), iter(["b"])])
    assert classes == ["a", "b"]
    assert matrix == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "make",
    [
        lambda pa: pa.array([["a"], [], ["b", "a"]]),
        lambda pa: pa.chunked_array([[["a"], []], [["b", "a"]]]),
        lambda pa: pd.Series([["a"], [], ["b", "a"]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        lambda pa: pa.table({"a": [1, 0, 1], "b": [0, 0, 1]}),
    ],
)
@pytest.mark.needs("pyarrow")
def test_label_sets_in_arrow(make):
    import pyarrow

    assert many(make(pyarrow)) == (["a", "b"], [[1, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (pd.DataFrame({0: [1, 0], 1: [0, 1]}), "columns of y are numbers.*'0' and '1'"),
        (pd.DataFrame({True: [1, 0], False: [0, 1]}), "truth values"),
        ([[0, 1], [1]], "classes are numbers"),
        (np.eye(2), "no names"),
    ],
)
def test_labels_without_words_warn(y, message):
    with pytest.warns(UserWarning, match=message):
        multi_label_targets(y, None)


@pytest.mark.parametrize("order", [["b", "a"], ["c", "a", "b"], ["a", "c", "b"]])
@pytest.mark.parametrize("name", ["y", "y_val"])
def test_columns_in_another_order_than_the_labels_are_refused(order, name):
    frame = pd.DataFrame(np.eye(len(order)), columns=order)
    with pytest.raises(ValueError, match=rf"another order.*{name}\[list\(labels\)\]"):
        many(frame, labels(*sorted(order)), name=name)
    assert_matrix(many(frame, labels(*order)), np.eye(len(order)))


@pytest.mark.parametrize(
    ("y", "label_set", "message"),
    [
        ([[NAN, NAN]], labels("a", "b"), "nothing but NaN"),
        ([{"a": NAN}], None, "^y holds nothing but NaN"),
        (None, None, "the target y is None"),
        ([[]] * 3, None, "^y names no class: each of its 3 rows is empty"),
        ([["a", None]], None, r"^y\[0\] holds a missing class"),
        ([{"a": 1, None: 1}], None, r"^y\[0\] holds a missing class"),
        ([["a"], None], None, r"y\[1\] is None .*NaN in their rows"),
        ([{"a": 1.5}], None, r"y\[0\] has 1.5 \(float\) for class 'a'"),
        ([{"a": np.complex64(1)}], None, r"y\[0\] has"),
        ([{"a": [1]}], None, r"y\[0\] has \[1\]"),
        ([{"a": "x"}], None, r"y\[0\] has 'x' \(str\)"),
        ([{"z": 1}], labels("a"), "unknown class 'z'"),
        ([["a", 1]], None, r"^y mixes classes of different types: a class of y\[0\] is 'a'"),
        ([["a"], [True]], None, "mixes classes of different types"),
        ([[Plain.SPORT]], None, "member of the enumeration Plain"),
        (pd.DataFrame({Plain.SPORT: [1]}), None, "member of the enumeration Plain"),
        ([["a", ["b"]]], None, r"y\[0\] holds \['b'\]"),
        ([[["b", "c"], 1]], None, r"y\[0\] holds \['b', 'c'\]"),
        ([[""]], None, "nothing to read"),
        ([[b"a"]], None, "Decode"),
        ([[0, 5], [1, 2]], numbered(3), "unknown class 5"),
        ([[0, 2], [1, 0]], labels("a", "b"), r"y\[0\] has 2.0 for class 'b'"),
        ([[0], [1, 0]], labels("a", "b"), "rows of 1 to 2 numbers"),
        ([[0.5], [0.1, 0.2]], None, "rows of 1 to 2 numbers"),
        (
            [["c"]],
            labels("a", "b"),
            r"'b'\. A new class has to be named in labels=, or in classes=",
        ),
        *(
            ([[digit]], labels("a", "b"), r"'b'\. If this is a number, .*\(y\)\.astype\(float\)\.$")
            for digit in ("0", "1", "0.0", "1.0")
        ),
        (pd.DataFrame({"a": [1], "": [0]}), None, r"y.columns\[1\] has an empty label text"),
        ([[1, 0, 0]], labels("a", "b"), "3 columns, but there are 2 labels"),
        (np.array([[-1, 1]]), labels("a", "b"), r"y\[0\] has -1"),
        (np.array([[np.inf, 1]]), labels("a", "b"), r"y\[0\] has inf"),
        ([[10**400, 1]], labels("a", "b"), r"y\[0\] has 10000"),
        (np.array([[1j, 1]]), labels("a", "b"), r"y\[0\] has .* where nobody knows\.$"),
        (np.zeros((2, 0)), None, "no columns"),
        (pd.DataFrame(index=[0, 1]), None, "no columns"),
        (
            pd.DataFrame({"a": ["1", "0"]}),
            None,
            r"y\[0\] has '1' .*\. Convert it to numbers first\.$",
        ),
        (pd.DataFrame({"l": [["a"], ["b"]]}), None, r"pass it alone: y\['l'\]"),
        (pd.DataFrame([[1, 0]], columns=["a", "a"]), None, "several columns of the name 'a'"),
        (
            pd.DataFrame([[1, 0]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")])),
            None,
            "MultiIndex.*Join the levels",
        ),
        (pd.DataFrame(np.eye(2)), labels("a", "b"), r"name them: y.columns = list\(labels\)"),
        (["a", "b"], None, r"y\[0\] is 'a'.*GLiClassClassifier"),
        (np.array(["a", "b"]), None, "GLiClassClassifier"),
        (pd.Series(["a", "b"]), None, r"y\[0\] is 'a'.*GLiClassClassifier"),
        ([1, 0], None, "GLiClassClassifier"),
        ("ab", None, "single string"),
        ({"a": [1, 0]}, None, r"pandas.DataFrame\(y\)"),
        ((row for row in [["a"]]), None, r"Write list\(y\)"),
    ],
)
def test_what_is_no_label_set_says_what_the_user_did(y, label_set, message):
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        many(y, label_set)
