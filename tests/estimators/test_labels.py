import numpy as np
import pandas as pd
import pytest

from skgliclass.estimators.labels import LabelSet, as_class_array, flatten_hierarchy


def test_a_list_is_shown_as_str_and_sorted_like_unique():
    label_set = LabelSet.from_labels([10, 2, 33], sort=True)
    np.testing.assert_array_equal(label_set.classes, np.unique([10, 2, 33]))
    assert label_set.texts == ("2", "10", "33")


@pytest.mark.parametrize(
    ("values", "sort", "reordered"),
    [(["b", "a"], True, True), (["a", "b"], True, False), (["b", "a"], False, False)],
)
def test_a_label_set_knows_whether_sorting_changed_it(values, sort, reordered):
    label_set = LabelSet.from_labels(values, sort=sort)
    assert label_set.reordered is reordered
    extended = label_set.extended(["a", "c"])
    assert extended.reordered is reordered
    assert extended.texts == (*label_set.texts, "c")
    assert label_set.extended(["a"]) is label_set


def test_label_sets_are_the_same_by_their_classes_and_texts():
    label_set = LabelSet.from_labels({"a": "x", "b": "y"}, sort=False)
    assert label_set.same_as(LabelSet.from_labels({"a": "x", "b": "y"}, sort=True))
    for other in ({"a": "x", "b": "z"}, {"a": "x", "c": "y"}, {"b": "y", "a": "x"}):
        assert not label_set.same_as(LabelSet.from_labels(other, sort=False))
    assert not label_set.same_as(None)


def test_order_is_kept_without_sorting():
    label_set = LabelSet.from_labels(["travel", "dreams", "sport"], sort=False)
    assert label_set.classes.tolist() == ["travel", "dreams", "sport"]


def test_dict_gives_label_texts_that_move_with_their_classes():
    label_set = LabelSet.from_labels({1: "sport", 0: "world news"}, sort=True)
    assert label_set.classes.tolist() == [0, 1]
    assert label_set.texts == ("world news", "sport")
    assert label_set.classes.dtype.kind == "i"


@pytest.mark.parametrize(
    "labels",
    [("b", "a"), np.array(["b", "a"]), pd.Series(["b", "a"]), pd.Index(["b", "a"])],
)
def test_any_ordered_collection_of_classes(labels):
    assert LabelSet.from_labels(labels, sort=False).texts == ("b", "a")


def test_a_leaf_of_a_hierarchy_has_a_text_of_its_own():
    tree = {"spam": "unwanted mail", "topic": {"sport": "matches", "art": {"music": "songs"}}}
    label_set = LabelSet.from_labels({**tree, "mood": {"now": {"joy": "glad"}}}, sort=False)
    assert label_set.classes.tolist() == ["spam", "topic.sport", "topic.art.music", "mood.now.joy"]
    assert label_set.texts == ("unwanted mail", "matches", "songs", "glad")
    # Strings alone make no hierarchy.
    assert LabelSet.from_labels({"a.b": "x"}, sort=False).as_labels() == {"a.b": "x"}


def test_hierarchy_of_any_depth():
    tree = {
        "category": {"electronics": ["phone", "laptop"], "clothing": ["shirt"]},
        "sentiment": ["good", "bad"],
    }
    names = [
        "category.electronics.phone",
        "category.electronics.laptop",
        "category.clothing.shirt",
        "sentiment.good",
        "sentiment.bad",
    ]
    assert flatten_hierarchy(tree) == dict(zip(names, names, strict=True))
    assert LabelSet.from_labels(tree, sort=False).texts == tuple(names)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([], ValueError, "labels is empty"),
        ({}, ValueError, "labels is empty"),
        ("travel", TypeError, r"labels=\['travel', ...\]"),
        ({"a", "b"}, TypeError, "got set"),
        (3, TypeError, r"list of labels, got int\. Write labels=\['first label', 'second label'\]"),
        ({b"a": "x"}, TypeError, "^a key of labels is b'a'"),
        (["a", "b", "a"], ValueError, r"labels\[2\] repeats labels\[0\]: 'a'"),
        ({"a": "news", "b": "news"}, ValueError, r"labels\['b'\] and labels\['a'\].*'news'"),
        ({"a": "news", "b": " "}, ValueError, r"^labels\['b'\] has an empty label text"),
        ({"a": "news", None: "b"}, ValueError, r"^labels\[None\] is missing"),
        ({"topic": {"a": "x", "b": ["c"]}}, TypeError, r"under 'topic': labels\['a'\] is a string"),
        ({"topic": {"a": "x", "b": "x"}}, ValueError, "same label text 'x'"),
        ({"topic": {"a": " ", "b": "x"}}, ValueError, r"labels\['topic.a'\] has an empty label"),
        ({"topic": {"a": None}}, TypeError, r"labels\['topic'\]\['a'\] is None.*must be the text"),
        ({"t": {"a.b": "x", "a": {"b": "y"}}}, ValueError, "two leaves .* 't.a.b'"),
        ({"topic": ["a", "a"]}, ValueError, "two leaves with the dotted name 'topic.a'"),
        ({"a": {"b": ["x"]}, "a.b": ["y"]}, ValueError, "two branches, .* name 'a.b'"),
        ({"a": {"b": {"x": "y"}}, "a.b": "z"}, ValueError, "a branch and a leaf, .* name 'a.b'"),
        ([1, "1"], ValueError, r"same label text '1'"),
        (["a", " "], ValueError, r"labels\[1\] has an empty label text"),
        (["a", "b\ud800"], ValueError, r"^labels\[1\] is not valid Unicode: its character 1 "),
        ({"a": "\ud800"}, ValueError, r"^labels\['a'\] is not valid Unicode"),
        (["a", None], ValueError, r"labels\[1\] is missing"),
        (["a", float("nan")], ValueError, r"labels\[1\] is missing"),
        (["a", ["b"]], TypeError, r"labels\[1\] is .*\[str\(value\) for value in labels\]"),
        (["a", ["b", "c"]], TypeError, r"labels\[1\] is \['b', 'c'\]"),
        (["a", 1], TypeError, "int, str"),
        ({"topic": []}, ValueError, "'topic' of the hierarchy is empty"),
        ({"topic": {"sport": []}}, ValueError, "'topic.sport' of the hierarchy is empty"),
        ({"topic": ["a"], "mood": "good"}, TypeError, r"lists: labels\['mood'\] is a string"),
        ({"topic": {"sport": 3}}, TypeError, r"labels\['topic'\]\['sport'\] is 3 \(int\)"),
        ({"topic": [3]}, TypeError, "non-empty strings, found 3 under 'topic'"),
    ],
)
def test_bad_labels_are_named(labels, error, message):
    with pytest.raises(error, match=message):
        LabelSet.from_labels(labels, sort=True)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2**53 + 1, 2**63], "u"),
        ([0, 2**63], "u"),
        ([2**63, -1], "O"),
        ([2**64, 1], "O"),
        ([2**53 + 1, 0.5], "O"),
        ([1.5, 0.5], "f"),
        ([1, 2], "i"),
        (["a", True], "O"),
        ([True, 2], "O"),
        (["a", 1], "O"),
        (["a\0", "a"], "O"),
    ],
)
def test_classes_are_put_in_an_array_unchanged(values, kind):
    array = as_class_array(values)
    assert array.dtype.kind == kind
    assert array.tolist() == values
    assert list(map(type, array.tolist())) == list(map(type, values))


def test_classes_from_a_target():
    label_set = LabelSet.from_target(np.array(["b", "a", "b"]))
    assert label_set.classes.tolist() == ["a", "b"]


@pytest.mark.parametrize("value", [None, 3, b"x"])
def test_a_label_text_that_is_no_text_is_named(value):
    with pytest.raises(TypeError, match=r"labels\['a'\] is .*must be the text"):
        LabelSet.from_labels({"a": value, "b": "x"}, sort=False)
