"""Which texts to label next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .calibration import as_probabilities

Array = NDArray[np.floating[Any]]

_MOST_TEXTS = 20_000


def choose_rows(
    texts: Sequence[str],
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
    What teaches nothing comes last: blank texts, and copies of texts with a label or of others.

    Parameters
    ----------
    texts : sequence of str of length n_texts
        The texts.
    x : ndarray of shape (n_texts, dimension)
        Their vectors, of length one.
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
    random = check_random_state(random_state)
    if labelled is None:
        labelled = np.zeros(len(texts), dtype=np.bool_)
    free = np.flatnonzero(~labelled)
    teaching, n_copies = _that_teach(texts, labelled)
    seen, n_seen = np.arange(len(teaching)), max(_MOST_TEXTS, 4 * n_rows)
    if len(seen) > n_seen:
        seen = np.sort(random.choice(seen, n_seen, replace=False))
    rows = teaching[seen]
    # Of texts that are read alike, one label tells all.
    vectors, first, place = np.unique(x[rows], axis=0, return_index=True, return_inverse=True)
    if n_rows >= len(vectors):
        return _first_of([rows[first], teaching, free], n_rows)
    unsure = 1 - _margins(as_probabilities(logits[rows], multi_label), multi_label)
    weights = np.maximum(np.bincount(place.ravel(), unsure * n_copies[seen]), 1e-6)
    nearest = _nearest_to_centres(vectors, weights, n_rows, random)
    # Where one is nearest to two centres, others make up for it.
    return _first_of([rows[first[nearest]], rows[first], teaching, free], n_rows)


def _nearest_to_centres(
    vectors: Array, weights: Array, n_centres: int, random: np.random.RandomState
) -> NDArray[np.intp]:
    # Imported here: most who import the package never choose texts, and it takes long.
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    groups = KMeans(n_centres, n_init=1, random_state=random).fit(vectors, sample_weight=weights)
    nearest: NDArray[np.intp] = pairwise_distances_argmin(groups.cluster_centers_, vectors)
    return nearest


def _that_teach(
    texts: Sequence[str], labelled: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give where each text first stands that a label would tell something of, and how often.

    Returns
    -------
    places : ndarray of shape (n_distinct,)
        In ascending order.
    n_copies : ndarray of shape (n_distinct,)
        How many rows without a label have this text.
    """
    known = {texts[i] for i in np.flatnonzero(labelled).tolist()}
    places: dict[str, list[int]] = {}
    for i in np.flatnonzero(~labelled).tolist():
        if texts[i].strip() and texts[i] not in known:
            places.setdefault(texts[i], []).append(i)
    first = [of_text[0] for of_text in places.values()]
    return np.asarray(first, np.intp), np.asarray(list(map(len, places.values())), np.intp)


def _margins(probabilities: NDArray[np.float32], multi_label: bool) -> NDArray[np.float32]:
    if multi_label:
        least: NDArray[np.float32] = np.abs(2 * probabilities - 1).min(axis=1)
        return least
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), dtype=np.float32)
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _first_of(groups: Sequence[NDArray[np.intp]], n_rows: int) -> NDArray[np.intp]:
    """Take rows of the first group, and of those after it while there are not enough, once each."""
    rows = dict.fromkeys(i for group in groups for i in group.tolist())
    return np.sort(np.asarray(list(rows)[:n_rows], dtype=np.intp))
