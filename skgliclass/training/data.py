"""Training examples as token ids and numbers, and the batches made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..engine.change import LogitChange
from ..engine.engine import Engine
from ..prompts.composer import PromptComposer
from ..prompts.examples import ExampleEncoder, PromptExample
from ..prompts.label_plan import prompt_rooms
from ..prompts.packing import text_forms
from ..prompts.tokens import NO_TOKENS, TokenIds, count_tokens

_WINDOW = 4096


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Many token sequences in one flat array."""

    ids: TokenIds
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, chunks: Iterable[Sequence[TokenIds]]) -> TokenTable:
        """Pack sequences that come in chunks, so that few are held apart at a time."""
        # Chunks may be empty, or there may be none: joined with no tokens they stay int32.
        flat: list[TokenIds] = [NO_TOKENS]
        lengths = [np.zeros(1, dtype=np.int64)]
        for chunk in chunks:
            flat.append(np.concatenate([NO_TOKENS, *chunk]))
            lengths.append(count_tokens(chunk))
        return cls(np.concatenate(flat), np.cumsum(np.concatenate(lengths)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> TokenIds:
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each sequence."""
        return np.diff(self.offsets)


# Targets.


class LabelledRows(ABC):
    """Which labels each text has, and how far each holds, in the form in which they came."""

    @staticmethod
    def shared(matrix: NDArray[np.float32]) -> LabelledRows:
        """Every row has the same labels: the columns of a matrix."""
        return SharedLabels(matrix)

    @staticmethod
    def ragged(labels: Sequence[Sequence[int]], targets: Sequence[Sequence[float]]) -> LabelledRows:
        """Every row has labels of its own."""
        counts = [len(row) for row in labels]
        return RaggedLabels(
            np.fromiter((k for row in labels for k in row), dtype=np.int32, count=sum(counts)),
            np.fromiter((t for row in targets for t in row), dtype=np.float32, count=sum(counts)),
            np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        )

    @abstractmethod
    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Give the labels of one row and their targets; neither may be modified.

        A target of NaN says that nobody knows how far the label holds.
        """

    @abstractmethod
    def labels(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Give the distinct labels of some rows, sorted."""

    @abstractmethod
    def dense(
        self, rows: NDArray[np.intp], labels: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Give the targets of some rows for some labels, and which of these each row has."""

    @abstractmethod
    def total(self, of_label: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
        """Give for each row the sum of a number that every label has."""


@dataclass(frozen=True, eq=False)
class SharedLabels(LabelledRows):
    """All rows have the labels 0, 1, ..: the columns of a matrix of shape (n_rows, n_labels)."""

    matrix: NDArray[np.float32]

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Give all labels with a row of the matrix."""
        return np.arange(self.matrix.shape[1], dtype=np.int32), self.matrix[i]

    def labels(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Give all labels."""
        return np.arange(self.matrix.shape[1], dtype=np.int32)

    def dense(
        self, rows: NDArray[np.intp], labels: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Take a part of the matrix."""
        targets = self.matrix[rows]
        # They are sorted and distinct, so that as many as there are columns are all columns.
        if len(labels) < targets.shape[1]:
            targets = targets[:, labels]
        return targets, np.ones(targets.shape, dtype=np.bool_)

    def total(self, of_label: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
        """Give the same sum for each row."""
        return np.full(n_rows, of_label.sum())


@dataclass(frozen=True, eq=False)
class RaggedLabels(LabelledRows):
    """Every row has labels of its own.

    Attributes
    ----------
    label : ndarray of shape (n_pairs,), int32
        The label of each text-label pair, row by row.
    target : ndarray of shape (n_pairs,), float32
        How far it holds, between 0 and 1.
    offsets : ndarray of shape (n_rows + 1,)
        Where each row's pairs begin.
    """

    label: NDArray[np.int32]
    target: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Take a part of the pairs."""
        pairs = slice(self.offsets[i], self.offsets[i + 1])
        return self.label[pairs], self.target[pairs]

    def labels(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Give the distinct labels of some rows."""
        return np.unique(np.concatenate([self.row(i)[0] for i in rows.tolist()]))

    def dense(
        self, rows: NDArray[np.intp], labels: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Put the pairs of some rows in a matrix."""
        targets = np.zeros((len(rows), len(labels)), dtype=np.float32)
        mask = np.zeros(targets.shape, dtype=np.bool_)
        for k, i in enumerate(rows.tolist()):
            label, target = self.row(i)
            # A label that is left out of this step is not found: clipping keeps its place inside,
            # and the comparison then drops it.
            column = np.searchsorted(labels, label).clip(max=len(labels) - 1)
            chosen = labels[column] == label
            targets[k, column[chosen]] = target[chosen]
            mask[k, column[chosen]] = True
        return targets, mask

    def total(self, of_label: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
        """Add up over the pairs of each row."""
        # Differences of a running sum: reduceat would give a row without labels the next row's
        # first number.
        before = np.concatenate([[0], np.cumsum(of_label[self.label])])
        return np.diff(before[self.offsets])


# Texts and examples.


@dataclass(frozen=True, eq=False)
class TextTables:
    """The tokens of texts in every form that their prompts may need.

    Attributes
    ----------
    forms : dict of (bool, bool) to TokenTable
        The texts by the values of `apart` and `after_examples`; see :func:`text_forms`.
    tasks : list of ndarray of int
        The distinct task descriptions, as they are where they stand apart from the text.
    task_of_text : ndarray of shape (n_texts,)
        Which of them each text has.
    rows : ndarray of int
        Which texts are meant.
    """

    forms: dict[tuple[bool, bool], TokenTable]
    tasks: list[TokenIds]
    task_of_text: NDArray[np.intp]
    rows: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        composer: PromptComposer,
        texts: Sequence[str],
        task_descriptions: Sequence[str],
        encoder: ExampleEncoder | None,
    ) -> TextTables:
        """Tokenise texts, each with a task description, which may be empty."""
        names = list(dict.fromkeys(task_descriptions))
        position = {name: i for i, name in enumerate(names)}
        forms = text_forms(composer, has_task=any(names), encoder=encoder)
        return cls(
            {form: _encode_in_windows(composer, texts, task_descriptions, *form) for form in forms},
            [composer.encode_task_apart(name) for name in names],
            np.asarray([position[name] for name in task_descriptions], dtype=np.intp),
            np.arange(len(texts)),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The tokens of each text, with a task description that it touches."""
        return self.forms[False, False].lengths[self.rows]

    @property
    def task_lengths(self) -> NDArray[np.int64]:
        """The tokens of each text's task description, where it stands apart."""
        return count_tokens(self.tasks)[self.task_of_text[self.rows]]

    def take(self, rows: NDArray[np.intp]) -> TextTables:
        """Give some of the texts."""
        return replace(self, rows=self.rows[rows])

    def encode(
        self, rows: NDArray[np.intp], *, apart: bool = False, after_examples: bool = False
    ) -> list[TokenIds]:
        """Give the tokens of some of the texts."""
        table = self.forms[apart, after_examples]
        return [table[i] for i in self.rows[rows].tolist()]

    def task(self, row: int) -> TokenIds:
        """Give the tokens of a text's task description where it stands apart."""
        return self.tasks[self.task_of_text[self.rows[row]]]


def _encode_in_windows(
    composer: PromptComposer,
    texts: Sequence[str],
    tasks: Sequence[str],
    apart: bool,
    after_examples: bool,
) -> TokenTable:
    def encoded(window: slice) -> list[TokenIds]:
        in_window, window_tasks = texts[window], tasks[window]
        rows: list[TokenIds] = [NO_TOKENS] * len(in_window)
        # One call for each task description, of which most training sets have one.
        for task in dict.fromkeys(window_tasks):
            places = [i for i, name in enumerate(window_tasks) if name == task]
            ids = composer.encode_texts(
                [in_window[i] for i in places], task, apart=apart, after_examples=after_examples
            )
            for i, piece in zip(places, ids, strict=True):
                rows[i] = piece
        return rows

    starts = range(0, len(texts), _WINDOW)
    return TokenTable.of(encoded(slice(start, start + _WINDOW)) for start in starts)


@dataclass(frozen=True, eq=False)
class ExampleTable:
    """The examples that each row's prompt may show, the most important first.

    Attributes
    ----------
    tokens : TokenTable of length n_examples
        Row by row.
    offsets : ndarray of shape (n_rows + 1,)
        Where each row's examples begin.
    encoder : ExampleEncoder
        What made the tokens.
    """

    tokens: TokenTable
    offsets: NDArray[np.int64]
    encoder: ExampleEncoder

    @classmethod
    def of(
        cls,
        encoder: ExampleEncoder,
        examples: Sequence[Sequence[PromptExample]],
        label_texts: Sequence[str],
        rows: LabelledRows,
    ) -> ExampleTable:
        """Tokenise the examples of each row, shown with the row's labels."""
        encoded = (
            encoder.encode(of_row, [label_texts[k] for k in rows.row(i)[0]])
            for i, of_row in enumerate(examples)
        )
        counts = [len(of_row) for of_row in examples]
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        return cls(TokenTable.of(encoded), offsets, encoder)

    def count(self, i: int) -> int:
        """Count the examples of a row."""
        return int(self.offsets[i + 1] - self.offsets[i])

    def first(self, i: int, n_most: int) -> list[TokenIds]:
        """Give the most important examples of a row, at most so many."""
        start = int(self.offsets[i])
        return [self.tokens[k] for k in range(start, start + min(n_most, self.count(i)))]


# All of it.


class Windows(Protocol):
    """What a training reads in every epoch, of which one window at a time is in memory."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many texts each window has."""

    def read(self, first: int = 0) -> Iterator[TrainingSet]:
        """Give the windows from one of them on, always the same."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Texts to learn from, tokenised once; by itself a whole training reads one window.

    Attributes
    ----------
    composer : PromptComposer
        Of the model's prompts.
    texts : TextTables of length n_texts
        The texts' tokens, without special tokens.
    labels : TokenTable of length n_labels
        What the prompt holds for each label.
    label_sequences : TokenTable of length n_labels, or None
        What the label encoder reads for each label, where there is one.
    rows : LabelledRows of length n_texts
        Each text's labels and targets.
    weights : ndarray of shape (n_texts,), float32
        Each text's weight in the loss.
    label_weights : ndarray of shape (n_labels,), float32, or None
        Each label's weight in the loss.
    examples : ExampleTable or None
        What the prompts show besides.
    multi_label : ndarray of shape (n_texts,), bool, or None
        Whether a text's labels hold independently, where that differs from text to text.
    change : LogitChange or None
        What is added to the model's logits, of the labels in their order.
    """

    composer: PromptComposer
    texts: TextTables
    labels: TokenTable
    label_sequences: TokenTable | None
    rows: LabelledRows
    weights: NDArray[np.float32]
    label_weights: NDArray[np.float32] | None = None
    examples: ExampleTable | None = None
    multi_label: NDArray[np.bool_] | None = None
    change: LogitChange | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def sizes(self) -> Sequence[int]:
        """How many texts each window has, as in :class:`Windows`."""
        return (len(self),)

    def read(self, first: int = 0) -> Iterator[TrainingSet]:
        """Give the windows from one of them on, as in :class:`Windows`."""
        return iter([self][first:])

    @property
    def n_cut(self) -> int:
        """How many texts do not fit beside their labels, so that only the beginning is read."""
        n_task = self.texts.task_lengths
        # Of labels that fill more than a prompt's share a training step leaves some out.
        n_labels = self.rows.total(self.labels.lengths, len(self))
        n_labels = np.minimum(n_labels, self.composer.label_room(n_task))
        rooms = prompt_rooms(self.composer, n_labels, n_task)
        column = 0 if self.composer.glues_task else 1
        return int((self.texts.lengths > rooms[:, column]).sum())


def make_training_set(
    engine: Engine,
    texts: Sequence[str],
    label_texts: Sequence[str],
    rows: LabelledRows,
    *,
    weights: NDArray[np.float32] | None = None,
    label_weights: NDArray[np.float32] | None = None,
    task_description: str | Sequence[str] = "",
    examples: Sequence[Sequence[PromptExample]] | None = None,
    example_format: str = "marker",
    multi_label: NDArray[np.bool_] | None = None,
    change: LogitChange | None = None,
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
    task_description : str or sequence of str of length n_texts, default=""
        A sentence put in the prompt: one for all texts, or one a text.
    examples : sequence of sequence of PromptExample, of length n_texts, optional
        What each text's prompt may show, the most important first.
    example_format : {"marker", "tags"}, default="marker"
        How examples are written.
    multi_label : ndarray of shape (n_texts,), bool, optional
        Whether a text's labels hold independently, where that differs from text to text.
    change : LogitChange, optional
        What is added to the model's logits.
    """
    composer = engine.composer
    encoder = None if examples is None else ExampleEncoder(composer, example_format)
    tasks: Sequence[str] = task_description
    if isinstance(task_description, str):
        tasks = [task_description] * len(texts)
    table = None
    if encoder is not None and examples is not None:
        table = ExampleTable.of(encoder, examples, label_texts, rows)
        texts = encoder.prepare(texts, examples)
    return TrainingSet(
        composer,
        TextTables.of(composer, texts, tasks, encoder),
        TokenTable.of([composer.encode_labels(label_texts)]),
        _label_sequences(engine, label_texts),
        rows,
        np.ones(len(texts), np.float32) if weights is None else weights.astype(np.float32),
        label_weights,
        table,
        multi_label,
        None if change is None else change.of_texts(label_texts),
    )


def _label_sequences(engine: Engine, label_texts: Sequence[str]) -> TokenTable | None:
    if not engine.loaded.network.has_label_encoder:
        return None
    return TokenTable.of([engine.label_sequences(label_texts)])


def batches(n_rows: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Deal the rows of one epoch in random order; the last batch may be smaller."""
    order = rng.permutation(n_rows)
    for start in range(0, n_rows, batch_size):
        yield order[start : start + batch_size]


def choose_labels(
    targets: NDArray[np.float32],
    lengths: NDArray[np.int64],
    room: int,
    rng: np.random.Generator,
    shuffle: bool,
) -> NDArray[np.intp]:
    """Order a row's labels at random and keep as many as fit, the true ones first.

    Parameters
    ----------
    targets : ndarray of shape (n,)
        How far each of the row's labels holds; NaN where nobody knows.
    lengths : ndarray of shape (n,)
        The tokens that each takes in the prompt.
    room : int
        How many tokens of labels fit in a prompt beside the text.
    rng : Generator
        The source of randomness.
    shuffle : bool
        Whether to shuffle, so that a class is not learnt by its position.

    Returns
    -------
    ndarray of int
        Positions among the row's labels.
    """
    order = rng.permutation(len(targets)) if shuffle else np.arange(len(targets))
    if int(lengths.sum()) <= room:
        return order
    # Stable, so that labels with equal targets stay as they were shuffled: which of the false ones
    # are left out changes from epoch to epoch. What is not annotated, NaN, sorts last.
    true_first = order[np.argsort(-targets[order], kind="stable")]
    fitting = true_first[np.cumsum(lengths[true_first]) <= room]
    return rng.permutation(fitting) if shuffle else np.sort(fitting)
