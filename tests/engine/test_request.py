"""What a caller may ask for, and what is asked only once."""

import numpy as np
import pytest

from skgliclass.datasets import PromptExample
from skgliclass.engine.request import PerRow, Request

TEXTS = ["a", "b", "a", "a", "b"]
A, B = PromptExample("fox", ["x"]), PromptExample("dog", ["y"])
SETS = [["x", "y"], ["y", "x"], ["x", "y"], ["x"], ["y", "x"]]


def test_values_of_rows_are_kept_once():
    values = PerRow.of(["b", "a", "b", "c"])
    assert values.values == ["b", "a", "c"]
    assert values.index.tolist() == [0, 1, 0, 2]
    found, inverse = values.rows(np.array([3, 0, 2, 3]))
    assert [found[i] for i in inverse] == ["c", "b", "b", "c"]
    assert sorted(found) == ["b", "c"]
    shared, inverse = PerRow(["z"]).rows(np.array([1, 5]))
    assert (shared, inverse.tolist()) == (["z"], [0, 0])


def test_labels_and_examples_are_of_all_texts_or_of_each():
    shared = Request.of(TEXTS, ["x", "y"], [A, B])
    assert shared.labels.values == [("x", "y")]
    assert shared.labels.index is None
    assert shared.examples.values == [(A, B)]
    assert shared.n_columns == 2
    shared.check_shared_labels("shortlist=3")
    own = Request.of(TEXTS, SETS, [[A], [], None, [A], [A, B]])
    assert own.labels.values == [("x", "y"), ("y", "x"), ("x",)]
    assert own.labels.index.tolist() == [0, 1, 0, 2, 1]
    assert own.examples.values == [(A,), (), (A, B)]
    assert own.n_columns == 2
    with pytest.raises(ValueError, match=r"^shortlist=3 chooses .* or leave shortlist=3 out"):
        own.check_shared_labels("shortlist=3")
    for nothing in (None, [], [[]] * 5, [None] * 5):
        assert Request.of(TEXTS, ["x"], nothing).examples is None


def test_the_same_text_with_the_same_labels_and_examples_is_scored_once():
    def distinct(request, window):
        rows, inverse = request.distinct(window)
        assert rows[inverse].tolist() == [
            min(r for r in range(window.start, window.stop) if key(request, r) == key(request, i))
            for i in range(window.start, window.stop)
        ]
        return rows.tolist()

    def key(request, row):
        return TEXTS[row], *(p.index[row] for p in request._per_row() if p.index is not None)

    shared = Request.of(TEXTS, ["x", "y"])
    assert distinct(shared, slice(0, 5)) == [0, 1]
    assert distinct(shared, slice(2, 5)) == [2, 4]
    assert distinct(Request.of(TEXTS, SETS), slice(0, 5)) == [0, 1, 3]
    some = [[A], [], [], [A], []]
    assert distinct(Request.of(TEXTS, ["x", "y"], some), slice(0, 5)) == [0, 1, 2]
    assert distinct(Request.of(TEXTS, SETS, some), slice(0, 5)) == [0, 1, 2, 3]


def test_examples_are_encoded_once_for_each_label_set():
    asked = []

    def encode(examples, labels):
        asked.append((examples, labels))
        return [(example.text, labels) for example in examples]

    request = Request.of(TEXTS, SETS, [[A], [A], [A], [A], [A]])
    found = request.examples_of(np.array([4, 0, 2, 1]), encode)
    assert found == [[("fox", tuple(SETS[row]))] for row in (4, 0, 2, 1)]
    assert sorted(asked) == [((A,), ("x", "y")), ((A,), ("y", "x"))]


@pytest.mark.parametrize(
    ("labels", "examples", "error", "message"),
    [
        ("xy", None, TypeError, "label_texts is the single string 'xy'"),
        ([], None, ValueError, "label_texts is empty"),
        ([["x"]] * 3, None, ValueError, "label_texts has 3 label sets for 5 texts"),
        ([["x"], "y", *[["x"]] * 3], None, TypeError, r"label_texts\[1\] is 'y'"),
        ([["x"], ["y", 3], *[["x"]] * 3], None, TypeError, r"label_texts\[1\] is \['y', 3\]"),
        ([["x"], ["y"], [], ["x"], ["x"]], None, ValueError, r"label_texts\[2\] is empty"),
        (["x", "y"], [[A]], ValueError, "examples has 1 entries for 5 texts"),
        (["x", "y"], [A, [B], A, A, A], ValueError, "examples has 5 entries for 5 texts"),
        (["x", "y"], [[A], ["b"], [], [], []], TypeError, r"examples\[1\]\[0\] is 'b' \(str\)"),
        (["x"], [A, B], ValueError, r"examples\[1\] has the label 'y'.*\('x'\)"),
        (SETS, [A, B], ValueError, r"examples\[1\] has the label 'y'.*\('x'\)"),
        (SETS, [[A], [A], [A], [A, B], []], ValueError, r"examples\[3\]\[1\] has the label 'y'"),
    ],
)
def test_what_cannot_be_asked_is_named(labels, examples, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Request.of(TEXTS, labels, examples)
