"""Votes of neighbours beside the scores of labels."""

import numpy as np
import pytest

from skgliclass.engine.neighbours import vote_share, with_votes

PROBABILITIES = np.array([[0.6, 0.4]], dtype=np.float32)
COSINES = np.array([[0.9, 0.2]], dtype=np.float32)


def test_neighbours_that_agree_decide_what_is_close():
    targets = np.array([[[0, 1], [0, 1]]], dtype=np.float32)
    mixed = with_votes(PROBABILITIES, COSINES, targets, 0.5)
    np.testing.assert_allclose(mixed, [[0.3, 0.7]], atol=1e-6)


def test_the_nearer_neighbour_counts_more():
    targets = np.array([[[0, 1], [1, 0]]], dtype=np.float32)
    mixed = with_votes(PROBABILITIES, COSINES, targets, 0.5)
    np.testing.assert_allclose(mixed, [[0.3, 0.7]], atol=1e-5)


def test_neighbours_have_no_vote_on_what_nobody_annotated():
    targets = np.array([[[np.nan, 1], [np.nan, np.nan]]], dtype=np.float32)
    mixed = with_votes(PROBABILITIES, COSINES, targets, 0.5)
    np.testing.assert_allclose(mixed, [[0.6, 0.7]], atol=1e-5)


@pytest.mark.parametrize("more", [(5, 100, 4), (3, 200, 4), (3, 100, 2)])
def test_votes_count_by_how_many_there_are_and_how_many_rows(more):
    assert 0 < vote_share(3, 100, 4) < vote_share(*more) < 0.5
