"""What becomes of the logits of a window's prompts, against averages by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from skgliclass.engine.work import Results, Work
from skgliclass.prompts.label_plan import LabelPart
from skgliclass.prompts.long_texts import LongTexts
from skgliclass.prompts.packing import Cells

# Two label sets: the first in two orders and, as given, in two parts; the second has one label.
PARTS = [
    LabelPart(np.array([0, 1]), np.array([0, 1]), np.array([7, 8]), 0),
    LabelPart(np.array([2]), np.array([2]), np.array([9]), 0),
    LabelPart(np.array([2, 0, 1]), np.array([2, 0, 1]), np.array([9, 7, 8]), 1),
    LabelPart(np.array([0]), np.array([3]), np.array([6]), 0),
]
# The first text is cut into two chunks, of which the second adds 2 tokens to the 6 of the first.
CELLS = Cells(np.array([0, 0, 1]), np.array([0, 2, 0]), np.array([6, 8, 3]))
CELL = np.array([0, 0, 0, 1, 1, 1, 2])
PART = np.array([0, 1, 2, 0, 1, 2, 3])
LOGITS = np.array(
    [[1, 2, 0], [3, 99, 0], [5, 3, 4], [7, 0, 0], [-1, 99, 0], [3, 1, 2], [4, 99, 99]],
    dtype=np.float32,
)
# By cell and label, the mean over both orders.
OF_CELLS = np.array([[2, 3, 4], [4, 1, 1]], dtype=np.float32)


def work_of(pooling="max", mode="chunk", lengths=(8, 3), available=(6, 6)):
    plan = SimpleNamespace(parts=PARTS, n_orders=np.array([2, 1]), set_sizes=np.array([3, 1]))
    texts = SimpleNamespace(
        ids=[None, None], lengths=np.asarray(lengths), available=np.asarray(available)
    )
    nothing = np.zeros(len(CELL), dtype=np.int64)
    long_texts = LongTexts(mode, 4, pooling)
    sets = np.array([0, 1])
    return Work(plan, sets, texts, CELLS, CELL, PART, nothing, nothing, long_texts)


@pytest.mark.parametrize("batches", [[range(7)], [[6, 2, 0], [5], [4, 3, 1]]], ids=["one", "three"])
@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("max", OF_CELLS.max(axis=0)), ("mean", (OF_CELLS[0] * 6 + OF_CELLS[1] * 2) / 8)],
)
def test_orders_are_averaged_and_chunks_pooled(pooling, expected, batches):
    work = work_of(pooling)
    results = work.empty_results()
    assert results.vectors is None
    assert results.scores.shape == (2, 3, 3)
    for items in map(list, batches):
        work.put(results, np.asarray(items), LOGITS[items])
    found = work.combine(results.scores)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert found[1].tolist() == [4, -np.inf, -np.inf]


def test_the_vector_of_a_text_is_the_mean_of_its_prompts_by_what_they_add():
    work = work_of()
    vectors = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    results = work.empty_results(4)
    assert isinstance(results, Results)
    for items in ([0, 2, 6], [1, 3, 4, 5]):
        work.put(results, np.asarray(items), LOGITS[items], vectors[items])
    first = vectors[:3].mean(axis=0) * 6 + vectors[3:6].mean(axis=0) * 2
    expected = np.stack([first / np.linalg.norm(first), vectors[6] / np.linalg.norm(vectors[6])])
    np.testing.assert_allclose(work.combine_vectors(results.vectors), expected, rtol=1e-5)


def test_items_count_by_their_share_of_a_text():
    np.testing.assert_allclose(work_of().shares, [1 / 6] * 6 + [1])


def test_only_texts_that_are_truncated_are_cut():
    assert work_of().cut.tolist() == [False, False]
    assert work_of(mode="truncate").cut.tolist() == [True, False]
    assert work_of(mode="truncate", available=(8, 2)).cut.tolist() == [False, True]
