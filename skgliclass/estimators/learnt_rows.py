"""Labelled rows that a fit keeps, to learn further ones with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..engine.change import LogitChange

_MOST_MERGED = 10_000


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
        Where rows with labels begin: what texts without labels changed, and what the model's
        weights were tuned beside.
    biases : ndarray of shape (n_classes,), float32, or None
        The same, where the weights were tuned.
    """

    x: NDArray[np.float32]
    logits: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    moved: NDArray[np.float32]
    biases: NDArray[np.float32] | None = None

    @property
    def first_logits(self) -> NDArray[np.float32]:
        """The logits of shape (n_rows, n_classes) where rows with labels begin."""
        if self.biases is None and not self.moved.any():
            return self.logits
        logits = self.x @ self.moved.T
        logits += self.logits
        logits += self.first_biases
        return logits

    @property
    def first_biases(self) -> NDArray[np.float32]:
        """The biases of shape (n_classes,) where rows with labels begin."""
        return np.zeros(len(self.moved), np.float32) if self.biases is None else self.biases

    @classmethod
    def blank(cls, n_rows: int, n_classes: int, width: int) -> LearntRows:
        """Give rows to be filled in, of weight one."""
        shapes = (n_rows, width), (n_rows, n_classes), (n_rows, n_classes)
        x, logits, targets = (np.zeros(shape, dtype=np.float32) for shape in shapes)
        moved = np.zeros((n_classes, width), dtype=np.float32)
        return cls(x, logits, targets, np.ones(n_rows, dtype=np.float32), moved)

    def beside(self, change: LogitChange | None, texts: Sequence[str]) -> LearntRows:
        """Give the rows where they begin beside what the model's weights were tuned with.

        Parameters
        ----------
        change : LogitChange or None
            What was added to logits then.
        texts : sequence of str
            The label texts of the classes.
        """
        if change is None:
            return replace(self, biases=self.first_biases)
        begin = change.of_texts(texts)
        return replace(self, moved=self.moved + begin.vectors, biases=begin.biases)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> LearntRows:
        """Give some of the rows."""
        names = "x", "logits", "targets", "weights"
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def merged(self) -> LearntRows:
        """Give the rows that tell something, in an order of their own, equal ones as one.

        Of more than 10,000 no copies are looked for, which would be there twice in memory.
        """
        tells = (self.weights > 0) & ~np.isnan(self.targets).all(axis=1)
        rows = self if tells.all() else self.take(tells)
        if not 0 < len(rows.x) <= _MOST_MERGED:
            return rows
        numbers = np.hstack([rows.x, rows.logits, rows.targets])
        as_bytes = np.ascontiguousarray(numbers).view(f"V{numbers.strides[0]}").ravel()
        _, first, copy_of = np.unique(as_bytes, return_index=True, return_inverse=True)
        weights = np.bincount(copy_of, rows.weights, len(first))
        return replace(rows.take(first), weights=weights.astype(np.float32))

    def followed_by(self, later: LearntRows) -> LearntRows:
        """Give these rows and later ones."""
        names = "x", "logits", "targets", "weights"
        return replace(
            self, **{n: np.concatenate([getattr(self, n), getattr(later, n)]) for n in names}
        )

    def for_texts(
        self, texts: Sequence[str], among: Sequence[str], *, multi_label: bool
    ) -> LearntRows:
        """Give the rows for other classes, of which nobody knows whether new ones hold.

        Parameters
        ----------
        texts : sequence of str
            The label texts of the classes that the rows have.
        among : sequence of str
            Those of the classes to come.
        multi_label : bool
            Whether labels hold independently. Where they compete, rows tell nothing of other
            classes than theirs, and those of a class that is gone go with it.
        """
        if tuple(texts) == tuple(among):
            return self
        column = {text: k for k, text in enumerate(texts)}
        new = [k for k, text in enumerate(among) if text in column]
        old = [column[among[k]] for k in new]
        rows = self
        if not multi_label and len(old) < len(texts):
            rows = self.take(np.nansum(self.targets[:, old], axis=1) > 0)
        shape = len(rows.x), len(among)
        logits, targets = np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32)
        logits[:, new], targets[:, new] = rows.logits[:, old], rows.targets[:, old]
        moved = np.zeros((len(among), rows.x.shape[1]), np.float32)
        biases = None if rows.biases is None else np.zeros(len(among), np.float32)
        moved[new] = rows.moved[old]
        if biases is not None:
            biases[new] = rows.first_biases[old]
        return replace(rows, logits=logits, targets=targets, moved=moved, biases=biases)
