"""What a backbone that does not change gives for each row, computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class FeatureStore:
    """Keeps the features of rows that were computed in batches, and puts new batches together.

    Parameters
    ----------
    batches : iterable of (ndarray of int, features)
        The rows of a batch and what the model's ``features`` gave for them: a dataclass of
        tensors whose first axis is the batch, or of such dataclasses.
    """

    def __init__(self, batches: Iterable[tuple[NDArray[np.intp], Any]]) -> None:
        self._rows: dict[int, Any] = {}
        for rows, features in batches:
            self._rows.update((int(row), _row(features, k)) for k, row in enumerate(rows))

    def take(self, rows: NDArray[np.intp]) -> Any:
        """Give the features of some rows as one batch, padded with zeros."""
        return _stack([self._rows[int(row)] for row in rows])


def _row(features: Any, k: int) -> Any:
    if isinstance(features, Tensor):
        return features[k].clone()
    if is_dataclass(features) and not isinstance(features, type):
        parts = {f.name: _row(getattr(features, f.name), k) for f in fields(features)}
        return replace(features, **parts)
    return features


def _stack(rows: Sequence[Any]) -> Any:
    first = rows[0]
    if isinstance(first, Tensor):
        return _stack_tensors(rows)
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: _stack([getattr(row, f.name) for row in rows]) for f in fields(first)}
        return replace(first, **parts)
    # What is neither is a number of columns, of which the batch needs the largest.
    return None if first is None else max(rows)


def _stack_tensors(rows: Sequence[Tensor]) -> Tensor:
    if len({row.shape for row in rows}) == 1:
        return torch.stack(list(rows))
    shape = [max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True)]
    batch = rows[0].new_zeros(len(rows), *shape)
    for i, row in enumerate(rows):
        batch[i][tuple(slice(size) for size in row.shape)] = row
    return batch
