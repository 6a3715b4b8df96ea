"""What was learnt without touching the model: a change of the logits by the text's vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LogitChange:
    """What is added to logits: ``x @ vectors.T + biases``, `x` the text's vector of length one.

    It belongs to label texts, so that it serves every label set in which some of them are; a label
    that is not among them keeps its logit.

    Attributes
    ----------
    texts : tuple of str of length n_labels
        The label texts.
    vectors : ndarray of shape (n_labels, width), float32
        In units of logits.
    biases : ndarray of shape (n_labels,), float32
    """

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    biases: NDArray[np.float32]

    @classmethod
    def nothing(cls, width: int) -> LogitChange:
        """Give the change that no label has a part in."""
        return cls((), np.zeros((0, width), np.float32), np.zeros(0, np.float32))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}

    def worded(self, word: Callable[[str], str]) -> LogitChange:
        """Give the same for label texts as a template puts them."""
        return replace(self, texts=tuple(map(word, self.texts)))

    def times(self, share: float) -> LogitChange:
        """Give a part of it."""
        part = np.float32(share)
        return replace(self, vectors=part * self.vectors, biases=part * self.biases)

    def of_texts(self, texts: Sequence[str]) -> LogitChange:
        """Give the same for other label texts, in their order."""
        rows, (vectors, biases) = self._rows(texts), self._padded()
        return LogitChange(tuple(texts), vectors[rows], biases[rows])

    def add(
        self,
        logits: NDArray[np.float32],
        x: NDArray[np.float32],
        label_sets: Sequence[Sequence[str]],
        set_of_row: NDArray[np.intp],
    ) -> NDArray[np.float32]:
        """Add the change to the logits of rows.

        Parameters
        ----------
        logits : ndarray of shape (n_rows, n_columns)
            Each row's first columns are its own labels.
        x : ndarray of shape (n_rows, width)
            The rows' vectors, of length one.
        label_sets : sequence of sequence of str
            The label texts of each label set.
        set_of_row : ndarray of shape (n_rows,)
            Each row's label set.

        Returns
        -------
        ndarray of shape (n_rows, n_columns), float32
        """
        vectors, biases = self._padded()
        if len(label_sets) == 1:
            rows = self._rows(label_sets[0])
            shared: NDArray[np.float32] = logits + x @ vectors[rows].T + biases[rows]
            return shared
        columns = np.full((len(label_sets), logits.shape[1]), -1, dtype=np.intp)
        for places, texts in zip(columns, label_sets, strict=True):
            places[: len(texts)] = self._rows(texts)
        by_label = x @ vectors.T + biases
        changed: NDArray[np.float32] = logits + np.take_along_axis(
            by_label, columns[set_of_row] % by_label.shape[1], axis=1
        )
        return changed

    def _rows(self, texts: Sequence[str]) -> list[int]:
        """Give where label texts stand, the last row for those that are not among them."""
        return [self._positions.get(text, -1) for text in texts]

    def _padded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give vectors and biases with a row of zeros at the end, for labels that have none."""
        return np.pad(self.vectors, [(0, 1), (0, 0)]), np.pad(self.biases, (0, 1))
