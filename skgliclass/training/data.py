"""Training examples as token ids and numbers, and the batches made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..engine.engine import Engine
from ..prompts.examples import ExampleEncoder, PromptExample
from ..prompts.tokens import TokenIds

_WINDOW = 4096


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Many token sequences in one flat array."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, chunks: Iterator[Sequence[TokenIds]]) -> TokenTable:
        """Pack sequences that come in chunks, so that few are held as lists at a time."""
        flat = [np.empty(0, dtype=np.int32)]
        lengths: list[int] = []
        for chunk in chunks:
            lengths.extend(map(len, chunk))
            ids = (token for ids in chunk for token in ids)
            flat.append(np.fromiter(ids, dtype=np.int32))
        return cls(np.concatenate(flat), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

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
class ExampleTable:
    """The examples that each row's prompt may show, the most important first.

    Attributes
    ----------
    tokens : TokenTable of length n_examples
        Row by row.
    offsets : ndarray of shape (n_rows + 1,)
        Where each row's examples begin.
    closing : list of int
        What ends the last example.
    follow_text : bool
        Whether examples are a part of the text.
    """

    tokens: TokenTable
    offsets: NDArray[np.int64]
    closing: TokenIds
    follow_text: bool

    def count(self, i: int) -> int:
        """Count the examples of a row."""
        return int(self.offsets[i + 1] - self.offsets[i])

    def fitting(self, i: int, room: int, n_most: int | None = None) -> TokenIds:
        """Give the first examples of a row, as many whole ones as fit in `room` tokens."""
        n_most = self.count(i) if n_most is None else n_most
        ids: TokenIds = []
        for k in range(self.offsets[i], self.offsets[i] + n_most):
            example = self.tokens[k]
            if len(ids) + len(example) + len(self.closing) > room:
                break
            ids.extend(example)
        return [*ids, *self.closing] if ids else []


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Everything that a training reads, tokenised once.

    Attributes
    ----------
    texts : TokenTable of length n_texts
        The texts' tokens, without special tokens.
    labels : TokenTable of length n_labels
        The label texts' tokens; where the prompt holds them, with their markers.
    rows : LabelledRows of length n_texts
        Each text's labels and targets.
    weights : ndarray of shape (n_texts,), float32
        Each text's weight in the loss.
    label_weights : ndarray of shape (n_labels,), float32, or None
        Each label's weight in the loss.
    task : list of int
        The task description's tokens, where the texts' do not hold it.
    examples : ExampleTable or None
        What the prompts show besides.
    multi_label : ndarray of shape (n_texts,), bool, or None
        Whether a text's labels hold independently, where that differs from text to text.
    """

    texts: TokenTable
    labels: TokenTable
    rows: LabelledRows
    weights: NDArray[np.float32]
    label_weights: NDArray[np.float32] | None = None
    task: TokenIds = field(default_factory=list)
    examples: ExampleTable | None = None
    multi_label: NDArray[np.bool_] | None = None

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
    examples: Sequence[Sequence[PromptExample]] | None = None,
    example_format: str = "marker",
    multi_label: NDArray[np.bool_] | None = None,
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
    examples : sequence of sequence of PromptExample, of length n_texts, optional
        What each text's prompt may show, the most important first.
    example_format : {"marker", "tags"}, default="marker"
        How examples are written.
    multi_label : ndarray of shape (n_texts,), bool, optional
        Whether a text's labels hold independently, where that differs from text to text.

    Returns
    -------
    TrainingSet
    """
    composer = engine.composer()
    table, apart = None, False
    if examples is not None:
        encoder = ExampleEncoder(composer, example_format)
        table = _example_table(encoder, examples, label_texts, rows)
        apart = composer.examples_follow_task and not encoder.follows_text
    encoded = (
        composer.encode_texts(
            texts[i : i + _WINDOW], task_description, apart=apart, after_examples=apart
        )
        for i in range(0, len(texts), _WINDOW)
    )
    task = composer.encode_task_apart if apart else composer.encode_task
    if weights is None:
        weights = np.ones(len(texts), dtype=np.float32)
    return TrainingSet(
        TokenTable.of(encoded),
        TokenTable.of(iter([engine.label_ids(label_texts)])),
        rows,
        np.asarray(weights, dtype=np.float32),
        label_weights,
        task(task_description),
        table,
        multi_label,
    )


def _example_table(
    encoder: ExampleEncoder,
    examples: Sequence[Sequence[PromptExample]],
    label_texts: Sequence[str],
    rows: LabelledRows,
) -> ExampleTable:
    encoded = (
        encoder.encode(own, [label_texts[k] for k in rows.row(i)[0]])
        for i, own in enumerate(examples)
    )
    counts = [len(own) for own in examples]
    return ExampleTable(
        TokenTable.of(encoded),
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        encoder.closing,
        encoder.follows_text,
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
