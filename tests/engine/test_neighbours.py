"""The search, against all comparisons by hand."""

import numpy as np
import pytest

from skgliclass.engine import neighbours
from skgliclass.engine.neighbours import nearest, of_length_one, unit_vectors
from skgliclass.engine.shortlist import choose_labels, spread

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("window", [1, 25, 1 << 24])
def test_the_nearest_come_first(k, window, monkeypatch):
    monkeypatch.setattr(neighbours, "_WINDOW_SIMILARITIES", window)
    vectors = unit_vectors(RNG.normal(size=(10, 4)).astype(np.float32))
    queries = RNG.normal(size=(7, 4)).astype(np.float32)
    found = nearest(queries, vectors, k)
    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("k", [2, 4])
def test_equal_ones_keep_their_order(k):
    vectors = np.array([[0, 1], [1, 0], [1, 0], [-1, 0]], dtype=np.float32)
    query = np.array([[2, 0]], dtype=np.float32)
    assert nearest(query, vectors, k).tolist() == [[1, 2, 0, 3][:k]]


def test_nothing_is_near_to_no_query():
    assert nearest(np.zeros((0, 2), np.float32), np.eye(2, dtype=np.float32), 1).shape == (0, 1)
    assert nearest(np.ones((2, 2), np.float32), np.zeros((0, 2), np.float32), 0).shape == (2, 0)


def test_vectors_are_scaled_in_their_own_precision_and_zeros_stay():
    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0], [1e-20, 0.0]])
    scaled = of_length_one(vectors)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, 0], [1, 0], [1e-8, 0]])
    transposed = unit_vectors(vectors.astype(np.float32).T.copy().T)
    assert transposed.dtype == np.float32
    assert transposed.flags.c_contiguous
    np.testing.assert_allclose(transposed, scaled, rtol=1e-5)


# Shortlists.


def test_labels_are_chosen_by_their_cosine_in_the_order_of_the_label_set():
    labels = np.array([[0, 9], [1, 0], [5, 5], [-1, 0]], dtype=np.float32)
    texts = np.array([[3, 0], [0, 1]], dtype=np.float32)
    assert choose_labels(texts, labels, 2).tolist() == [[1, 2], [0, 2]]
    assert choose_labels(texts, labels, 4).tolist() == [[0, 1, 2, 3]] * 2


def test_labels_that_were_not_read_lie_below_those_that_were():
    logits = np.array([[2.0, 1.0], [-3.0, 4.0]], dtype=np.float32)
    wide = spread(logits, np.array([[0, 2], [3, 1]]), 4)
    assert wide.dtype == np.float32
    assert wide.tolist() == [[2, -10, 1, -10], [-13, 4, -13, -3]]
