"""How errors show what was found."""

import numpy as np
import pytest

from skgliclass.prompts.checks import check_text, first_repeated, in_short, label_names, listed


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3 (int)"),
        (None, "None (NoneType)"),
        (np.eye(2), "array([[1., 0.],        [0., 1.]]) (ndarray)"),
        # With its quotes a string of 58 characters has 60.
        ("x" * 58, f"'{'x' * 58}' (str)"),
        ("x" * 59, f"'{'x' * 56}... (str)"),
    ],
)
def test_a_value_is_shown_on_one_line_with_its_type(value, shown):
    assert in_short(value) == shown


def test_many_values_are_named_by_the_first():
    assert listed([]) == ""
    assert listed(["a", 2]) == "'a', 2"
    assert listed(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert listed(range(9)) == "0, 1, 2, 3, 4, 5, 6, 7, ..."
    assert listed(range(3), 2) == "0, 1, ..."


def test_the_first_name_that_comes_again():
    assert first_repeated(["a", "b", "c", "b", "a"]) == "a"
    assert first_repeated(["a", "b", "c", "b"]) == "b"
    assert first_repeated(["a", "b"]) is None


def test_label_names_are_a_tuple():
    assert label_names("labels", ["b", "a"]) == ("b", "a")
    assert label_names("labels", ()) == ()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("ab", r"labels is 'ab' \(str\); it must be a list of labels"),
        ({"a"}, r"labels is {'a'} \(set\)"),
        (["a", 1], r"labels\[1\] is 1 \(int\); it must be a text"),
        (["a", " "], r"labels\[1\] is empty"),
        (["a", "b", "c", "b", "a"], "labels repeats the label 'b'"),
        (["a", "b\ud800"], r"labels\[1\] is not valid Unicode: its character 1 "),
    ],
)
def test_what_is_no_list_of_labels_is_named(labels, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        label_names("labels", labels)


def test_what_is_no_text_is_named():
    check_text("text", "")
    with pytest.raises(ValueError, match=r"^text is None \(NoneType\); it must be a text"):
        check_text("text", None)
