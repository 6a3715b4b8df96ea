"""What to do where memory does not suffice for a batch: less at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..modeling.memory import is_out_of_memory


class Memory:
    """Remembers for which batches memory did not suffice, so that not every one fails first."""

    def __init__(self) -> None:
        self._too_many = float("inf")

    def allows(self, lengths: NDArray[np.int64]) -> bool:
        """Tell whether a batch may be tried.

        Parameters
        ----------
        lengths : ndarray of shape (n_rows,)
            The tokens of each row.
        """
        return len(lengths) == 1 or _n_padded(lengths) < self._too_many

    def note(self, error: BaseException, lengths: NDArray[np.int64]) -> None:
        """Note that a batch failed, which then has to be halved.

        Raises
        ------
        MemoryError
            If memory does not suffice for one row; the message names `max_length`.
        BaseException
            The error itself, if it says something else.
        """
        if not is_out_of_memory(error):
            raise error
        if len(lengths) == 1:
            raise too_long(int(lengths[0])) from error
        self._too_many = min(self._too_many, _n_padded(lengths))


def too_long(n_tokens: int) -> MemoryError:
    """Make the error for one row, of which less cannot be run."""
    return MemoryError(
        f"Memory does not suffice for a single prompt of {n_tokens} tokens. Set max_length to "
        "less, or choose a smaller model or another device."
    )


def in_halves(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Divide a batch that was too much, and give back what torch keeps of it for later."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    half = len(rows) // 2
    return [rows[:half], rows[half:]]


def _n_padded(lengths: NDArray[np.int64]) -> int:
    return len(lengths) * int(lengths.max())
