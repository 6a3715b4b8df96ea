"""Which texts to label next."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .calibration import as_probabilities

Array = NDArray[np.floating[Any]]

_MOST_TEXTS = 20_000


def choose_rows(
    x: Array,
    logits: Array,
    n_rows: int,
    *,
    multi_label: bool = False,
    labelled: NDArray[np.bool_] | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.intp]:
    """Choose texts that differ from each other and of which the model is unsure.

    They are those nearest to the centres of a k-means in which a text weighs one minus the margin
    between its two likeliest labels, or between the two outcomes of its least certain label.

    Parameters
    ----------
    x : ndarray of shape (n_texts, dimension)
        Text vectors of length one.
    logits : ndarray of shape (n_texts, n_labels)
        What the model says of them.
    n_rows : int
        How many to choose, at most as many as there are texts without labels.
    multi_label : bool, default=False
        Whether labels hold independently.
    labelled : ndarray of shape (n_texts,), bool, optional
        Which have a label already and are not chosen.
    random_state : int, RandomState or None
        Where the k-means starts.

    Returns
    -------
    ndarray of shape (n_rows,)
        Positions in ascending order.
    """
    # Imported here: most who import the package never choose texts, and it takes long.
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    random = check_random_state(random_state)
    free = np.arange(len(x)) if labelled is None else np.flatnonzero(~labelled)
    n_seen = max(_MOST_TEXTS, 4 * n_rows)
    if len(free) > n_seen:
        free = np.sort(random.choice(free, n_seen, replace=False))
    # Of texts that repeat, one label tells all.
    vectors, first, place = np.unique(x[free], axis=0, return_index=True, return_inverse=True)
    if n_rows >= len(vectors):
        return _filled_up(free[first], free, n_rows)
    unsure = 1 - _margins(as_probabilities(logits[free], multi_label), multi_label)
    weights = np.maximum(np.bincount(place.ravel(), unsure), 1e-6)
    groups = KMeans(n_rows, n_init=1, random_state=random).fit(vectors, sample_weight=weights)
    nearest = pairwise_distances_argmin(groups.cluster_centers_, vectors)
    return _filled_up(free[first[nearest]], free, n_rows)


def _margins(probabilities: NDArray[np.float32], multi_label: bool) -> NDArray[np.float32]:
    if multi_label:
        least: NDArray[np.float32] = np.abs(2 * probabilities - 1).min(axis=1)
        return least
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), dtype=np.float32)
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _filled_up(chosen: NDArray[np.intp], free: NDArray[np.intp], n_rows: int) -> NDArray[np.intp]:
    """Take others where one row was chosen twice, so that there are as many as asked for."""
    chosen = np.unique(chosen)
    others = np.setdiff1d(free, chosen)[: max(0, n_rows - len(chosen))]
    return np.sort(np.concatenate([chosen, others]))
