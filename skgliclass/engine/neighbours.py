"""Nearest neighbours by cosine: the one search that shortlists, retrieval and pre-training use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.floating[Any])

# 64 MiB of similarities at a time, however many queries and vectors there are.
_WINDOW_SIMILARITIES = 1 << 24
_WINDOW_CELLS = 1 << 22
_LAST_DIGITS = 1e-5


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length one, as a search takes them; zeros stay zeros."""
    return np.ascontiguousarray(of_length_one(vectors), dtype=np.float32)


def of_length_one(vectors: NDArray[Number]) -> NDArray[Number]:
    """Scale rows to length one in their own precision; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[Number] = vectors / np.maximum(lengths, 1e-12)
    return scaled


def windows(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Give some rows of a matrix at a time, so that what is made of them takes little memory."""
    step = max(1, _WINDOW_CELLS // n_columns)
    for i in range(0, n_rows, step):
        yield slice(i, i + step)


def same_vectors(x: NDArray[Number]) -> NDArray[np.intp]:
    """Give vectors numbers, the same where only the last digits differ, as those of copies do.

    Passes of different batches differ in those. The numbers do not depend on the order.
    """
    direction = np.cos(np.arange(1, x.shape[1] + 1))
    none = np.zeros(0)
    along = [x[rows].astype(np.float64) @ direction for rows in windows(*x.shape)]
    order = np.argsort(np.concatenate([none, *along]), kind="stable")
    is_new = np.zeros(len(x), dtype=np.bool_)
    for rows in windows(*x.shape):
        steps = np.diff(x[order[rows.start : rows.stop + 1]], axis=0)
        is_new[rows.start + 1 : rows.stop + 1] = (np.abs(steps) > _LAST_DIGITS).any(axis=1)
    numbers = np.empty(len(x), dtype=np.intp)
    numbers[order] = np.cumsum(is_new)
    return numbers


def nearest(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Find the vectors with the highest cosine to each query, comparing with all of them.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, width)
        Of any length, since it does not change which vectors are nearest.
    vectors : ndarray of shape (n_vectors, width)
        Of length one, as :func:`unit_vectors` gives them.
    k : int
        How many to find, at most `n_vectors`.

    Returns
    -------
    ndarray of shape (n_queries, k)
        Positions in `vectors`, the nearest first.
    """
    return nearest_with_cosines(queries, vectors, k)[0]


def nearest_with_cosines(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find what :func:`nearest` does, and the cosines where queries are of length one."""
    positions = np.empty((len(queries), k), dtype=np.intp)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    step = max(1, _WINDOW_SIMILARITIES // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        similarity = queries[part] @ vectors.T
        positions[part] = _largest(similarity, k)
        cosines[part] = np.take_along_axis(similarity, positions[part], axis=1)
    return positions, cosines


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Give the columns of the k largest values of each row, the largest first."""
    if k < values.shape[1]:
        # Sorting the few that are wanted is far cheaper than sorting all.
        columns = np.sort(np.argpartition(-values, k - 1, axis=1)[:, :k], axis=1)
    else:
        columns = np.tile(np.arange(values.shape[1]), (len(values), 1))
    chosen = np.take_along_axis(values, columns, axis=1)
    # Columns are in their order here, so that a stable sort puts equal values in it too.
    order = np.argsort(-chosen, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)
