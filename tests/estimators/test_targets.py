import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skgliclass.estimators.labels import LabelSet
from skgliclass.estimators.targets import (
    check_classes,
    check_other,
    first_label_set,
    missing_rows,
    multi_label_targets,
    read_classes,
    rows_left,
    single_label_targets,
    with_new_classes,
)

NAMES = ["travel", "dreams", "sport"]
ORDERED = LabelSet.from_labels(NAMES, sort=False)
SORTED = LabelSet.from_labels(NAMES, sort=True)
MATRIX = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.float32)


def in_order(labels):
    return None if labels is None else LabelSet.from_labels(labels, sort=True)


def test_classes_come_from_y():
    targets = single_label_targets(["b", "a", "b"], None)
    assert targets.label_set.classes.tolist() == ["a", "b"]
    np.testing.assert_array_equal(targets.matrix, [[0, 1], [1, 0], [0, 1]])
    assert targets.matrix.dtype == np.float32


def test_names_are_no_quantity_however_many_there_are():
    # One text of each of many classes: scikit-learn warns that `y` might be a regression target.
    names = [f"category {i:02}" for i in range(30)]
    for y in (names, np.array(names), pd.Series(names)):
        assert len(single_label_targets(y, None).label_set.classes) == 30


def test_given_labels_may_be_more_than_y_has():
    targets = single_label_targets(pd.Series(["sport"]), SORTED)
    assert targets.label_set.classes.tolist() == ["dreams", "sport", "travel"]
    np.testing.assert_array_equal(targets.matrix, [[0, 1, 0]])


def test_integer_classes_of_a_dict_are_themselves():
    targets = single_label_targets([1, 0], in_order({1: "sport", 0: "world news"}))
    assert targets.label_set.texts == ("world news", "sport")
    np.testing.assert_array_equal(targets.matrix, [[0, 1], [1, 0]])


def test_integers_are_positions_in_sorted_labels():
    targets = single_label_targets(np.array([2, 0, 1]), in_order(["a", "b", "c"]))
    assert targets.label_set.classes.tolist() == [0, 1, 2]
    assert targets.label_set.texts == ("a", "b", "c")


def test_integers_that_are_not_all_positions_warn():
    with pytest.warns(UserWarning, match="not all of them occur"):
        targets = single_label_targets(np.array([0, 1]), in_order(["a", "b", "c"]))
    np.testing.assert_array_equal(targets.matrix, [[1, 0, 0], [0, 1, 0]])


def test_integers_beside_unsorted_labels_are_refused_with_both_remedies():
    with pytest.raises(ValueError, match=r"sort labels.*dict"):
        single_label_targets([0, 1], SORTED)


def test_integers_without_labels_warn():
    with pytest.warns(UserWarning, match="labels={0: 'world news'"):
        single_label_targets([0, 1], None)


@pytest.mark.parametrize(
    ("y", "labels", "message"),
    [
        (["a", "x"], ["a", "b"], r"y\[1\] has the unknown class 'x'; the labels are 'a', 'b'"),
        ([0, 7], ["a", "b"], r"y\[1\] is 7"),
        (["a", None], None, r"y\[1\] is missing \(None\).*Drop such rows\. fit alone learns"),
        ([1.0, 0.5], None, r"Unknown label type: continuous\. y\[1\] is 0\.5, .*pandas\.cut"),
        ([0.5, 1.5], None, "continuous"),
    ],
)
def test_bad_single_labels(y, labels, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=message):
            single_label_targets(np.array(y, dtype=object) if None in y else y, in_order(labels))


@pytest.mark.parametrize(
    "y",
    [
        MATRIX,
        MATRIX.astype(bool),
        MATRIX.astype(int).tolist(),
        sparse.csr_matrix(MATRIX),
        sparse.coo_array(MATRIX),
        pd.DataFrame(MATRIX, columns=NAMES),
        [["travel", "sport"], [], ["dreams"]],
        [{"travel", "sport"}, set(), {"dreams"}],
        [("sport", "travel"), (), ("dreams",)],
        pd.Series([["travel", "sport"], [], ["dreams"]]),
        np.array([["travel", "sport"], [], ["dreams"]], dtype=object),
    ],
)
def test_every_form_of_many_labels_gives_the_same_matrix(y):
    targets = multi_label_targets(y, ORDERED)
    assert targets.label_set.classes.tolist() == NAMES
    assert targets.matrix.dtype == np.float32
    np.testing.assert_array_equal(targets.matrix, MATRIX)


def test_a_polars_frame_gives_the_same_matrix():
    polars = pytest.importorskip("polars")
    y = polars.DataFrame({"travel": [1, 0, 0], "dreams": [0, 0, 1], "sport": [1, 0, 0]})
    targets = multi_label_targets(y, ORDERED)
    np.testing.assert_array_equal(targets.matrix, MATRIX)


def test_frame_columns_are_the_classes_when_none_are_given():
    frame = pd.DataFrame(MATRIX, columns=NAMES)
    assert multi_label_targets(frame, None).label_set.classes.tolist() == NAMES


def test_label_sets_give_sorted_classes_when_none_are_given():
    targets = multi_label_targets([["b"], ["c", "a"]], None)
    assert targets.label_set.classes.tolist() == ["a", "b", "c"]


def test_soft_targets_are_kept():
    soft = MATRIX * 0.7
    np.testing.assert_allclose(multi_label_targets(soft, ORDERED).matrix, soft)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (MATRIX[:, :2], "2 columns, but there are 3 labels"),
        (MATRIX * 2, r"y\[0\] has 2.0 for class 'travel'"),
        (["travel", "sport"], "GLiClassClassifier"),
        (np.array(["travel", "sport"]), "GLiClassClassifier"),
        ([["travel"], ["music"]], r"y\[1\] has the unknown class 'music'"),
        ([["travel"], 3], r"y\[1\] is 3"),
        (pd.DataFrame(MATRIX, columns=["travel", "dreams", "x"]), "missing: .'sport'.*'x'"),
    ],
)
def test_bad_many_labels(y, message):
    with pytest.raises(ValueError, match=message):
        multi_label_targets(y, ORDERED)


# Rows that say nothing.

NAN = float("nan")


@pytest.mark.parametrize(
    ("y", "known", "multi_label", "missing"),
    [
        (["a", None, NAN, pd.NA, -1, -1.0], {"a"}, False, [0, 1, 1, 1, 1, 1]),
        ([1, -1, None], {1, -1}, False, [0, 0, 1]),
        (np.array([1.0, -1.0, NAN]), {1}, False, [0, 1, 1]),
        (np.array(["a", "-1"]), {"a"}, False, [0, 0]),
        (np.array([True, False]), {True}, False, [0, 0]),
        (pd.Series(["a", None]), {"a"}, False, [0, 1]),
        (pd.DataFrame({"label": [1.0, -1.0, NAN]}), {1}, False, [0, 1, 1]),
        (np.array([[1.0], [-1.0], [NAN]]), {1}, True, [0, 1, 1]),
        (np.array([[1.0], [-1.0], [NAN]]), {1, -1}, True, [0, 0, 1]),
        (np.array([[1, 0], [-1, -1], [-1, 0]]), {"a", "b"}, True, [0, 1, 0]),
        (np.array([["a", None], [-1, None], [-1, -1.0]]), {"a"}, True, [0, 0, 1]),
        ([["a"], [-1, -1], [-1, NAN]], {"a"}, True, [0, 1, 0]),
        (np.zeros((2, 0)), {"a"}, True, [0, 0]),
        (np.array([[1, NAN], [NAN, NAN]]), {"a", "b"}, True, [0, 1]),
        (pd.DataFrame({"a": [1, None], "b": [None, None]}), {"a", "b"}, True, [0, 1]),
        ([["a"], None, [], NAN], {"a"}, True, [0, 1, 0, 1]),
        ([["a"], [None], (NAN,), np.array([-1])], {"a"}, False, [0, 1, 1, 1]),
        ([["a"], [None], ["a", NAN]], {"a"}, True, [0, 1, 0]),
        ([[1, 0], [NAN, NAN], [NAN, 1]], {"a", "b"}, True, [0, 1, 0]),
    ],
)
def test_rows_that_say_nothing(y, known, multi_label, missing):
    found = missing_rows(y, known, multi_label=multi_label)
    assert found.dtype == np.bool_
    assert found.tolist() == list(map(bool, missing))


@pytest.mark.parametrize(
    ("y", "known", "left"),
    [
        (["a", None, "b"], {"a"}, ["a", "b"]),
        # Missing values made floats of integers, but not of classes that are floats.
        ([1.0, NAN, 2.0], {1, 2}, [1, 2]),
        (np.array([1.0, NAN, 2.0]), {1, 2}, [1, 2]),
        ([1.0, NAN, 2.0], {1.0, 2.0}, [1.0, 2.0]),
        ([1.5, NAN, 2.0], {1, 2}, [1.5, 2.0]),
        ([1, None, "a"], {1}, [1, "a"]),
        ([["a"], None, []], {"a"}, [["a"], []]),
    ],
)
def test_rows_that_are_left_are_as_they_were(y, known, left):
    found = rows_left(y, np.array([True, False, True]), known)
    assert found == left
    assert list(map(type, found)) == list(map(type, left))


def test_rows_of_a_table_that_are_left_are_a_table():
    is_left = np.array([True, False, True])
    np.testing.assert_array_equal(rows_left(MATRIX, is_left, NAMES), MATRIX[[0, 2]])
    frame = pd.DataFrame(MATRIX, columns=NAMES)
    found = rows_left(frame, is_left, NAMES)
    assert list(found.columns) == NAMES
    np.testing.assert_array_equal(found.to_numpy(dtype=float), MATRIX[[0, 2]])


# What stands for no class.


@pytest.mark.parametrize(
    ("y", "known", "other"),
    [([0, 1], NAMES, "none"), ([0, 1], None, "none"), ([0, 5], {0: "a", 1: "b"}, -1)],
)
def test_integers_in_place_of_classes_hide_the_other_one(y, known, other):
    with pytest.raises(ValueError, match=rf"^target holds integers .* other={other!r} cannot"):
        single_label_targets(y, in_order(known), other=other, name="target")


def test_texts_of_no_class_have_a_row_of_zeros():
    targets = single_label_targets(["b", "-", "a", "-"], None, other="-")
    assert targets.label_set.classes.tolist() == ["a", "b"]
    assert targets.matrix.tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]
    numbered = in_order({0: "a", 1: "b"})
    assert single_label_targets([1, -1], numbered, other=-1).matrix.tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match=r"^target is other='-' for all texts"):
        single_label_targets(["-", "-"], None, other="-", name="target")
    empty = single_label_targets(["-", "-"], SORTED, other="-")
    np.testing.assert_array_equal(empty.matrix, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ("sport", ValueError, "other='sport' is one of the classes"),
        (NAN, ValueError, "other=nan is a missing value"),
        (None, ValueError, "other=None is a missing value"),
        (3, TypeError, r"other=3 is 3 \(int\), but the classes are of another type, such as 'dre"),
    ],
)
def test_what_cannot_stand_for_no_class_is_refused(other, error, message):
    check_other("none of them", SORTED)
    with pytest.raises(error, match=f"^{message}"):
        check_other(other, SORTED)


# The classes of partial_fit.


def test_the_first_call_sorts_classes_or_keeps_the_order_of_columns():
    classes = np.array(["b", "a"])
    assert first_label_set(classes, multi_label=True).classes.tolist() == ["b", "a"]
    assert first_label_set(np.array(["b", "a", "b"]), multi_label=False).texts == ("a", "b")
    with pytest.raises(ValueError, match=r"^classes\[2\] repeats classes\[0\]"):
        first_label_set(np.array(["b", "a", "b"]), multi_label=True)
    with pytest.warns(UserWarning, match=r"^The classes are numbers"):
        first_label_set(np.array([0, 1]), multi_label=False)


def test_new_classes_are_added_with_texts_of_their_own():
    label_set = in_order({"a": "first", "b": "second"})

    def added(names, multi_label):
        return with_new_classes(read_classes(names), label_set, multi_label=multi_label)

    assert added(["b", "a"], False) is label_set
    assert added(["b", "c", "a"], False).texts == ("first", "second", "c")
    in_their_order = added(["b", "c", "a"], True)
    assert in_their_order.classes.tolist() == ["b", "c", "a"]
    assert in_their_order.texts == ("second", "c", "first")
    assert added(["b", "a"], True).classes.tolist() == ["b", "a"]
    with pytest.raises(
        ValueError, match=r"^classes=\['a', 'c'\] is not the same .* 'b' is missing"
    ):
        added(["a", "c"], False)
    with pytest.raises(TypeError, match=r"^classes has the class 3 \(int\)"):
        with_new_classes(np.array(["a", "b", 3], dtype=object), label_set, multi_label=False)
    with pytest.raises(ValueError, match=r"^classes\['c'\] .* same label text 'c'"):
        with_new_classes(read_classes(["x", "c"]), in_order({"x": "c"}), multi_label=False)


def test_classes_are_checked_as_a_y_with_them_would_be():
    check_classes(["sport"], SORTED, multi_label=False)
    check_classes(["travel", "dreams"], ORDERED, multi_label=True)
    check_classes(["dreams", "travel"], ORDERED, multi_label=True)
    check_classes(NAMES, ORDERED, multi_label=True)
    for multi_label in (False, True):
        with pytest.raises(ValueError, match=r"^classes\[1\] has the unknown class 'x'"):
            check_classes(["sport", "x"], ORDERED, multi_label=multi_label)
    check_classes(NAMES[::-1], ORDERED, multi_label=False)
    with pytest.raises(ValueError, match=r"^classes='sport', 'dreams', 'travel' are in another"):
        check_classes(NAMES[::-1], ORDERED, multi_label=True)
