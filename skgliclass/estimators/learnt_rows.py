"""Labelled rows that a fit keeps, to learn further ones with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LearntRows:
    """Labelled rows as vectors, which further rows are learnt with.

    Attributes
    ----------
    x : ndarray of shape (n_rows, width), float32
        The vectors of the texts, of length one.
    logits : ndarray of shape (n_rows, n_classes), float32
        What the model says of them.
    targets : ndarray of shape (n_rows, n_classes), float32
        How far each class holds; NaN where nobody knows.
    weights : ndarray of shape (n_rows,), float32
        How much each row counts.
    moved : ndarray of shape (n_classes, width), float32
        What texts without labels changed, which is where rows with labels begin.
    """

    x: NDArray[np.float32]
    logits: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    moved: NDArray[np.float32]

    @classmethod
    def blank(cls, n_rows: int, n_classes: int, width: int) -> LearntRows:
        """Give rows to be filled in, of weight one."""
        shapes = (n_rows, width), (n_rows, n_classes), (n_rows, n_classes)
        x, logits, targets = (np.zeros(shape, dtype=np.float32) for shape in shapes)
        moved = np.zeros((n_classes, width), dtype=np.float32)
        return cls(x, logits, targets, np.ones(n_rows, dtype=np.float32), moved)

    def followed_by(self, later: LearntRows) -> LearntRows:
        """Give these rows and later ones."""
        names = "x", "logits", "targets", "weights"
        return replace(
            self, **{n: np.concatenate([getattr(self, n), getattr(later, n)]) for n in names}
        )

    def for_texts(self, texts: Sequence[str], among: Sequence[str]) -> LearntRows:
        """Give the rows for more classes, of which nobody knows whether they hold.

        Parameters
        ----------
        texts : sequence of str
            The label texts of the classes that the rows have.
        among : sequence of str
            Those of all classes.
        """
        if tuple(texts) == tuple(among):
            return self
        columns = [list(among).index(text) for text in texts]
        shape = len(self.x), len(among)
        logits, targets = np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32)
        logits[:, columns], targets[:, columns] = self.logits, self.targets
        moved = np.zeros((len(among), self.x.shape[1]), np.float32)
        moved[columns] = self.moved
        return replace(self, logits=logits, targets=targets, moved=moved)
