"""What fits into a prompt: texts, the examples shown with them, and the chunks of long texts.

Prediction and training ask the same question, how much of a text and which of its examples find
room beside the labels, and this is the one place that answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .composer import Prompt, PromptComposer
from .examples import ExampleEncoder
from .long_texts import LongTexts
from .tokens import NO_TOKENS, TokenIds, count_tokens


# Prediction tokenises a text when it is asked for it; training looks up what it tokenised before
# the first epoch. Both are packed by the same code, so that they read the same prompts.
class TextSource(Protocol):
    """Gives the tokens of texts, with the task description in them or without it."""

    def __len__(self) -> int:
        """Count the texts."""
        ...

    def encode(
        self, rows: NDArray[np.intp], *, apart: bool = False, after_examples: bool = False
    ) -> list[TokenIds]:
        """Give the tokens of some texts; see :meth:`PromptComposer.encode_texts`."""
        ...

    def task(self, row: int) -> TokenIds:
        """Give the tokens of a text's task description where it stands apart."""
        ...


class TextStrings:
    """Texts that are tokenised when they are asked for.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    texts : sequence of str
        The texts.
    task_description : str
        What the prompt of each of them holds.
    task : ndarray of int
        The same as tokens that stand apart from the text.
    """

    def __init__(
        self, composer: PromptComposer, texts: Sequence[str], task_description: str, task: TokenIds
    ) -> None:
        self._composer = composer
        self._texts = texts
        self._task_description = task_description
        self._task = task

    def __len__(self) -> int:
        return len(self._texts)

    def encode(
        self, rows: NDArray[np.intp], *, apart: bool = False, after_examples: bool = False
    ) -> list[TokenIds]:
        """Tokenise some of the texts."""
        return self._composer.encode_texts(
            [self._texts[i] for i in rows.tolist()],
            self._task_description,
            apart=apart,
            after_examples=after_examples,
        )

    def task(self, row: int) -> TokenIds:
        """Give the task description's tokens, the same for all texts."""
        return self._task


@dataclass(frozen=True, eq=False)
class PackedTexts:
    """Texts and examples that were fitted beside labels.

    Attributes
    ----------
    composer : PromptComposer
        Of the model's prompts.
    ids : list of ndarray of int
        The tokens of each text, all of them.
    tasks : list of ndarray of int
        Those of each task description, where they stand apart from the text.
    examples : list of ndarray of int
        Those of the examples that each prompt shows.
    apart : ndarray of shape (n_texts,), bool
        Whether the task description stands apart from the text.
    available : ndarray of shape (n_texts,)
        How many of a text's tokens one prompt has room for.
    examples_dropped : ndarray of shape (n_texts,), bool
        Whether there was no room for all examples of a text.
    examples_follow_text : bool
        Whether examples are a part of the text.
    """

    composer: PromptComposer
    ids: list[TokenIds]
    tasks: list[TokenIds]
    examples: list[TokenIds]
    apart: NDArray[np.bool_]
    available: NDArray[np.int64]
    examples_dropped: NDArray[np.bool_]
    examples_follow_text: bool

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The tokens of each text."""
        return count_tokens(self.ids)

    @property
    def example_lengths(self) -> NDArray[np.int64]:
        """The tokens of each prompt's examples."""
        return count_tokens(self.examples)

    def prompt(
        self, row: int, labels: Sequence[TokenIds], start: int = 0, stop: int | None = None
    ) -> Prompt:
        """Compose a prompt with a part of a text.

        Parameters
        ----------
        row : int
            Which text.
        labels : sequence of ndarray of int
            What the prompt holds for the labels.
        start, stop : int
            Which of the text's tokens; by default those that there is room for, from the first on.
        """
        text = self.ids[row][start : self.available[row] if stop is None else stop]
        task = self.tasks[row] if self.apart[row] else NO_TOKENS
        examples = self.examples[row]
        if self.examples_follow_text and len(examples):
            # As the first checkpoints that were shown examples read them: one string.
            return self.composer.compose(labels, np.concatenate([text, examples]), task)
        return self.composer.compose(labels, text, task, examples)


def pack_texts(
    composer: PromptComposer,
    source: TextSource,
    rooms: NDArray[np.int64],
    *,
    examples: Sequence[Sequence[TokenIds]] | None = None,
    encoder: ExampleEncoder | None = None,
    chunks: bool = False,
) -> PackedTexts:
    """Choose what of each text's examples is shown, and where its task description stands.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    source : TextSource of length n_texts
        The texts.
    rooms : ndarray of shape (n_texts, 2)
        The tokens that the labels leave for a text and its examples, with the task description
        among the text's tokens (first column) or apart from them.
    examples : sequence of sequence of ndarray of int, optional
        The tokens of each text's examples, the most important first. As many whole ones are shown
        as the text leaves room for; a text that is cut into chunks leaves them half of each prompt.
    encoder : ExampleEncoder, optional
        What made these tokens.
    chunks : bool, default=False
        Whether a text that does not fit is cut into chunks, each with the task description.

    Returns
    -------
    PackedTexts
    """
    # First every text as if it fitted, since most do: only the others are tokenised once more.
    packer = _Packer(composer, source, rooms)
    tasks = [source.task(i) for i in range(len(source))]
    if examples is not None and encoder is not None:
        packer.choose_examples(examples, encoder, chunks)
    # In front of a text of which only the end is cut off, a task description stays glued to it, as
    # the checkpoint was trained. This comes after the examples, as they take room from the text.
    if composer.glues_task and (chunks or composer.task_follows_text):
        # What is cut off at the end, or repeated with each chunk, must not be a part of the text.
        too_long = (packer.lengths > packer.available()) & (count_tokens(tasks) > 0)
        packer.set_apart(np.flatnonzero(too_long & ~packer.apart))
    return PackedTexts(
        composer,
        packer.ids,
        tasks,
        packer.examples,
        packer.apart,
        packer.available(),
        packer.dropped,
        encoder is not None and encoder.follows_text,
    )


def text_forms(
    composer: PromptComposer, *, has_task: bool, encoder: ExampleEncoder | None
) -> list[tuple[bool, bool]]:
    """Tell in which forms :func:`pack_texts` may ask for texts that are not cut into chunks.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    has_task : bool
        Whether a text has a task description.
    encoder : ExampleEncoder, optional
        What makes the examples, where there are any.

    Returns
    -------
    list of (bool, bool)
        The values of `apart` and `after_examples`.
    """
    # Training has tokens in these forms only, so that this has to name whatever `_Packer.set_apart`
    # may ask for where texts are not cut into chunks.
    forms = [(False, False)]
    tagged = encoder is not None and encoder.follows_text
    if composer.task_follows_text and (has_task or tagged):
        forms.append((True, False))
    if encoder is not None and _examples_part(composer, encoder):
        forms.append((True, True))
    return forms


def _examples_part(composer: PromptComposer, encoder: ExampleEncoder) -> bool:
    """Tell whether examples stand between the task description and the text."""
    return composer.examples_follow_task and not encoder.follows_text


class _Packer:
    """The state of one packing."""

    def __init__(
        self, composer: PromptComposer, source: TextSource, rooms: NDArray[np.int64]
    ) -> None:
        n_texts = len(source)
        self._composer = composer
        self._source = source
        self._rooms = rooms
        self.ids = source.encode(np.arange(n_texts))
        self.lengths = count_tokens(self.ids)
        # Whether the second column of `rooms` holds: the task description's tokens are among those
        # of `lengths` or not, and must be counted once.
        self.apart = np.full(n_texts, not composer.glues_task)
        self.examples = [NO_TOKENS] * n_texts
        self.example_lengths = np.zeros(n_texts, dtype=np.int64)
        self.dropped = np.zeros(n_texts, dtype=np.bool_)

    def available(self) -> NDArray[np.int64]:
        """Count the tokens that each text may have in one prompt."""
        room: NDArray[np.int64] = self._rooms[np.arange(len(self.apart)), self.apart.astype(int)]
        return room - self.example_lengths

    def choose_examples(
        self, examples: Sequence[Sequence[TokenIds]], encoder: ExampleEncoder, chunks: bool
    ) -> None:
        """Show as many whole examples as each text leaves room for."""
        has_examples = np.asarray([len(of_text) > 0 for of_text in examples], dtype=np.bool_)
        between = _examples_part(self._composer, encoder)
        parts = between or (self._composer.task_follows_text and encoder.follows_text)
        if parts:
            # Examples come between the task description and the text, which then do not touch.
            self.set_apart(np.flatnonzero(has_examples), after_examples=between)
        rooms = self.available()
        for i in np.flatnonzero(has_examples).tolist():
            # The text has the first claim. Where it has to be truncated anyway this is negative,
            # and no example is shown.
            room = int(rooms[i] - self.lengths[i])
            if room < 0 and chunks:
                # A text that is cut into chunks fills each prompt, so that none would ever be
                # shown. The second column, as beside chunks the task always stands apart.
                room = int(self._rooms[i, 1]) // 2
            chosen = _first_that_fit(examples[i], room - len(encoder.closing))
            self.dropped[i] = len(chosen) < len(examples[i])
            if chosen:
                self.examples[i] = np.concatenate([*chosen, encoder.closing])
                self.example_lengths[i] = len(self.examples[i])
        bare = has_examples & (self.example_lengths == 0)
        if parts and bare.any():
            # With nothing between them after all, they touch as in every other prompt.
            self.set_apart(np.flatnonzero(bare), apart=not self._composer.glues_task)

    def set_apart(
        self, rows: NDArray[np.intp], *, apart: bool = True, after_examples: bool = False
    ) -> None:
        """Take some texts without their task description, or with it."""
        if not len(rows):
            return
        ids = self._source.encode(rows, apart=apart, after_examples=after_examples)
        for i, of_text in zip(rows.tolist(), ids, strict=True):
            self.ids[i] = of_text
        self.apart[rows] = apart
        self.lengths[rows] = count_tokens(ids)


def _first_that_fit(examples: Sequence[TokenIds], room: int) -> Sequence[TokenIds]:
    """Take examples from the start while whole ones fit."""
    used = np.cumsum(count_tokens(examples))
    # The right side: examples that fill the room to its last token fit.
    return examples[: int(np.searchsorted(used, room, side="right"))]


# Chunks.


@dataclass(frozen=True, eq=False)
class Cells:
    """The parts of texts that are scored: whole texts, or the chunks of long ones, row by row."""

    row: NDArray[np.intp]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def added(self) -> NDArray[np.int64]:
        """How many tokens each cell reads that none before it did, but at least one."""
        # Chunks overlap, and the last of a text by more than the others, so that the stop of the
        # one before counts and not the overlap that was asked for.
        before = np.concatenate([self.start[:1], self.stop[:-1]])
        before[self.first] = self.start[self.first]
        # The one cell of an empty text reads nothing; without a weight its mean would be 0 / 0.
        return np.maximum(self.stop - before, 1)

    @property
    def first(self) -> NDArray[np.intp]:
        """Where each row's cells begin."""
        # Cells lie row by row, and rows are numbered from 0.
        return np.flatnonzero(np.diff(self.row, prepend=-1))


def cut_into_cells(packed: PackedTexts, long_texts: LongTexts) -> Cells:
    """Give each text one cell, or as many overlapping ones as its length needs.

    Parameters
    ----------
    packed : PackedTexts
        The texts with the room for each.
    long_texts : LongTexts
        Whether and how long texts are cut into chunks.
    """
    lengths, available = packed.lengths, packed.available
    rows = np.arange(len(lengths))
    if not long_texts.chunks:
        # The whole text even where it does not fit: how much of it is read depends on the labels of
        # each of its prompts, and is cut there.
        return Cells(rows, np.zeros_like(lengths), lengths)
    # At least one token on, so that a prompt with hardly any room still comes to the text's end.
    step = np.maximum(available - np.minimum(long_texts.overlap, available // 2), 1)
    n_chunks = 1 + np.maximum(0, -(-(lengths - available) // step))
    row = np.repeat(rows, n_chunks)
    # A chunk's rank in its text: its place among all chunks less that of the text's first.
    rank = np.arange(len(row)) - np.repeat(np.cumsum(n_chunks) - n_chunks, n_chunks)
    # The last chunk is as long as the others: it begins earlier instead of being a remnant.
    latest = np.maximum(lengths - available, 0)
    start = np.minimum(rank * step[row], latest[row])
    return Cells(row, start, np.minimum(start + available[row], lengths[row]))
