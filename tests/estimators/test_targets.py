import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skgliclass.estimators.labels import LabelSet
from skgliclass.estimators.targets import multi_label_targets, single_label_targets

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
        (["a", None], None, r"y\[1\] is missing"),
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
