"""Training examples as token ids and numbers, and the batches made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .inference import Engine
from .prompts import TokenIds

_WINDOW = 4096


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Many token sequences in one flat array."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, chunks: Iterator[Sequence[TokenIds]]) -> TokenTable:
        """Pack sequences that come in chunks, so that few are held as lists at a time."""
        flat: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        for chunk in chunks:
            flat.extend(np.asarray(ids, dtype=np.int32) for ids in chunk)
            lengths.extend(map(len, chunk))
            flat = [np.concatenate(flat)] if flat else []
        ids = flat[0] if flat else np.empty(0, dtype=np.int32)
        return cls(ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> TokenIds:
        ids: TokenIds = self.ids[self.offsets[i] : self.offsets[i + 1]].tolist()
        return ids

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each sequence."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Which labels each text has, and how far each holds.

    Attributes
    ----------
    targets : ndarray of shape (n_pairs,), float32
        One number between 0 and 1 for each text-label pair, row by row.
    labels : ndarray of shape (n_pairs,), int32, or None
        The label of each pair; None where every row has all labels in order.
    offsets : ndarray of shape (n_rows + 1,)
        Where each row's pairs begin.
    """

    targets: NDArray[np.float32]
    labels: NDArray[np.int32] | None
    offsets: NDArray[np.int64]

    @classmethod
    def shared(cls, matrix: NDArray[np.float32]) -> LabelledRows:
        """Every row has the same labels: the columns of a matrix."""
        n_rows, n_labels = matrix.shape
        return cls(matrix.reshape(-1), None, np.arange(n_rows + 1, dtype=np.int64) * n_labels)

    @classmethod
    def ragged(
        cls, labels: Sequence[Sequence[int]], targets: Sequence[Sequence[float]]
    ) -> LabelledRows:
        """Every row has labels of its own."""
        lengths = [len(row) for row in labels]
        return cls(
            np.fromiter((t for row in targets for t in row), dtype=np.float32, count=sum(lengths)),
            np.fromiter((k for row in labels for k in row), dtype=np.int32, count=sum(lengths)),
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        )

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Give the labels of one row and their targets."""
        part = slice(self.offsets[i], self.offsets[i + 1])
        targets = self.targets[part]
        if self.labels is None:
            return np.arange(len(targets), dtype=np.int32), targets
        return self.labels[part], targets

    @property
    def n_labels(self) -> NDArray[np.int64]:
        """How many labels each row has."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Everything that a training reads, tokenised once.

    Attributes
    ----------
    texts : TokenTable of length n_texts
        The texts' tokens, without special tokens.
    labels : TokenTable of length n_labels
        The label texts' tokens; for a uni-encoder with their markers.
    rows : LabelledRows of length n_texts
        Each text's labels and targets.
    weights : ndarray of shape (n_texts,), float32
        Each text's weight in the loss.
    label_weights : ndarray of shape (n_labels,), float32, or None
        Each label's weight in the loss.
    """

    texts: TokenTable
    labels: TokenTable
    rows: LabelledRows
    weights: NDArray[np.float32]
    label_weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.texts)


def make_training_set(
    engine: Engine,
    texts: Sequence[str],
    label_texts: Sequence[str],
    rows: LabelledRows,
    *,
    weights: NDArray[np.float32] | None = None,
    label_weights: NDArray[np.float32] | None = None,
    task_description: str = "",
) -> TrainingSet:
    """Tokenise texts and labels for a model.

    Parameters
    ----------
    engine : Engine
        Of the model that will be trained.
    texts : sequence of str of length n_texts
        What to learn from.
    label_texts : sequence of str of length n_labels
        The distinct label texts.
    rows : LabelledRows
        Each text's labels, as positions in `label_texts`, and targets.
    weights, label_weights : ndarray, optional
        The weights of texts and of labels in the loss; by default all 1.
    task_description : str, default=""
        A sentence put before the text.

    Returns
    -------
    TrainingSet
    """
    chunks = (
        engine.text_ids(texts[i : i + _WINDOW], task_description)
        for i in range(0, len(texts), _WINDOW)
    )
    if weights is None:
        weights = np.ones(len(texts), dtype=np.float32)
    return TrainingSet(
        TokenTable.of(chunks),
        TokenTable.of(iter([engine.label_ids(label_texts)])),
        rows,
        np.asarray(weights, dtype=np.float32),
        label_weights,
    )


def batches(n_rows: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Deal the rows of one epoch in random order; the last batch may be smaller."""
    order = rng.permutation(n_rows)
    for start in range(0, n_rows, batch_size):
        yield order[start : start + batch_size]


def choose_labels(
    labels: NDArray[np.int32],
    targets: NDArray[np.float32],
    lengths: NDArray[np.int64],
    room: int,
    rng: np.random.Generator,
    shuffle: bool,
) -> NDArray[np.intp]:
    """Order a row's labels at random and keep as many as fit, the true ones first.

    Parameters
    ----------
    labels, targets : ndarray of shape (n,)
        The row's labels and how far each holds.
    lengths : ndarray of shape (n_labels,)
        The tokens of every label.
    room : int
        How many tokens of labels fit in a prompt beside the text.
    rng : Generator
        The source of randomness.
    shuffle : bool
        Whether to shuffle, so that a class is not learnt by its position.

    Returns
    -------
    ndarray of int
        Positions in `labels`.
    """
    order = rng.permutation(len(labels)) if shuffle else np.arange(len(labels))
    own = lengths[labels]
    if int(own.sum()) <= room:
        return order
    true_first = order[np.argsort(-targets[order], kind="stable")]
    kept = true_first[np.cumsum(own[true_first]) <= room]
    return rng.permutation(kept) if shuffle else np.sort(kept)
