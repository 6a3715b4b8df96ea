"""What goes through the model: one item for each prompt, whatever text or label set it is of.

A text is scored in one prompt, or in several: because its labels fill more than one, because they
are shown in more than one order, or because the text is cut into chunks. All these items are sorted
into micro-batches together; afterwards the orders are averaged and the chunks pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..prompts.composer import Prompt, PromptComposer
from ..prompts.examples import ExampleEncoder
from ..prompts.label_plan import LabelPlan
from ..prompts.long_texts import LongTexts
from ..prompts.tokens import TokenIds


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
        before = np.concatenate([self.start[:1], self.stop[:-1]])
        before[self.first] = self.start[self.first]
        return np.maximum(self.stop - before, 1)

    @property
    def first(self) -> NDArray[np.intp]:
        """Where each row's cells begin."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))


@dataclass(frozen=True, eq=False)
class Work:
    """Everything that a window of texts needs to be scored.

    Attributes
    ----------
    cells : Cells
        The parts of texts.
    cell, part : ndarray of shape (n_items,)
        Each item's cell and the part of the plan whose labels it holds.
    lengths : ndarray of shape (n_items,)
        The tokens of each item's prompt.
    progress : ndarray of shape (n_items,)
        The share of its text that each item is.
    cut : ndarray of shape (n_rows,), bool
        Whether a text's end is not read.
    dropped : ndarray of shape (n_rows,), bool
        Whether not all of a text's examples are shown.
    """

    composer: PromptComposer
    plan: LabelPlan
    set_of_row: NDArray[np.intp]
    texts: _Texts
    cells: Cells
    cell: NDArray[np.intp]
    part: NDArray[np.intp]
    lengths: NDArray[np.int64]
    stops: NDArray[np.int64]
    progress: NDArray[np.float64]
    cut: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    pooling: str

    def compose(self, items: NDArray[np.intp]) -> list[Prompt]:
        """Put the prompts of some items together."""
        return [self._prompt(i) for i in items.tolist()]

    def _prompt(self, item: int) -> Prompt:
        cell = self.cell[item]
        row = int(self.cells.row[cell])
        text = self.texts.ids[row][self.cells.start[cell] : self.stops[item]]
        task = self.plan.task if self.texts.apart[row] else []
        labels = [self.plan.parts[self.part[item]].ids]
        examples = self.texts.examples[row] if self.texts.examples else []
        if examples and self.texts.examples_follow_text:
            return self.composer.compose(labels, [*text, *examples], task)
        return self.composer.compose(labels, text, task, examples)

    def empty_scores(self) -> NDArray[np.float32]:
        """Make room for the logits: of shape (n_orders, n_cells, n_columns)."""
        shape = int(self.plan.n_orders.max()), len(self.cells), int(self.plan.set_sizes.max())
        return np.zeros(shape, dtype=np.float32)

    def put(
        self, scores: NDArray[np.float32], items: NDArray[np.intp], logits: NDArray[np.float32]
    ) -> None:
        """Put the logits of some items in their places."""
        of_part = self.part[items]
        for k in np.unique(of_part):
            chosen = np.flatnonzero(of_part == k)
            part = self.plan.parts[k]
            cells, own = self.cell[items[chosen]], logits[chosen, : len(part.columns)]
            if part.order == 0:
                # As given: the columns of a part are neighbours.
                start = int(part.columns[0])
                scores[0, cells, start : start + len(part.columns)] = own
            else:
                scores[part.order][np.ix_(cells, part.columns)] = own

    def combine(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average over orders, then pool over chunks.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
            With minus infinity in the columns that a row's label set does not have.
        """
        if len(scores) == 1:
            by_cell = scores[0]
        else:
            n_orders = self.plan.n_orders[self.set_of_row[self.cells.row]]
            by_cell = scores.sum(axis=0) / n_orders[:, None].astype(np.float32)
        by_row = self.pool(by_cell, self.pooling)
        sizes = self.plan.set_sizes[self.set_of_row]
        if len(self.plan.set_sizes) > 1:
            by_row[np.arange(by_row.shape[1]) >= sizes[:, None]] = -np.inf
        return by_row

    def pool(self, by_cell: NDArray[np.float32], pooling: str) -> NDArray[np.float32]:
        """Pool values of shape (n_cells, n_columns) over the chunks of each text."""
        first = self.cells.first
        if len(first) == len(by_cell):
            return by_cell
        if pooling == "max":
            largest: NDArray[np.float32] = np.maximum.reduceat(by_cell, first)
            return largest
        weights = self.cells.added.astype(np.float32)[:, None]
        mean: NDArray[np.float32] = np.add.reduceat(by_cell * weights, first)
        mean /= np.add.reduceat(weights, first)
        return mean


def plan_work(
    composer: PromptComposer,
    plan: LabelPlan,
    texts: Sequence[str],
    set_of_row: NDArray[np.intp],
    task_description: str = "",
    *,
    examples: Sequence[Sequence[TokenIds]] | None = None,
    encoder: ExampleEncoder | None = None,
    long_texts: LongTexts | None = None,
) -> Work:
    """Tokenise texts, fit them and their examples beside the labels, and list the items.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    plan : LabelPlan
        Of the label sets.
    texts : sequence of str of length n_rows
        What to score.
    set_of_row : ndarray of shape (n_rows,)
        Each text's label set.
    task_description : str, default=""
        The task description that `plan` was made with.
    examples : sequence of sequence of list of int, optional
        The ids of each text's examples, the most important first. As many are shown as the text
        leaves room for; a text that is cut into chunks leaves them half of each prompt.
    encoder : ExampleEncoder, optional
        What made the ids.
    long_texts : LongTexts, optional
        What happens to a text that does not fit; by default its beginning is read.

    Returns
    -------
    Work
    """
    long_texts = long_texts or LongTexts()
    fitted = _Texts(
        composer, plan.smallest_rooms[set_of_row], texts, task_description, examples, encoder
    )
    fitted.fit(long_texts)
    available = fitted.available()
    cut = fitted.lengths > available
    cells = _cut_into_chunks(fitted.lengths, available, long_texts)
    return _list_items(composer, plan, set_of_row, fitted, cells, cut, long_texts)


class _Texts:
    """The tokens of texts and of the examples shown with them."""

    def __init__(
        self,
        composer: PromptComposer,
        rooms: NDArray[np.int64],
        texts: Sequence[str],
        task_description: str,
        examples: Sequence[Sequence[TokenIds]] | None,
        encoder: ExampleEncoder | None,
    ) -> None:
        self._composer = composer
        self._rooms = rooms
        self._strings = texts
        self._task = task_description
        self._given = examples
        self._closing = [] if encoder is None else encoder.closing
        self.examples_follow_text = encoder is not None and encoder.follows_text
        self.examples: list[TokenIds] | None = None
        n = len(texts)
        self.ids: list[TokenIds] = []
        self.apart = np.full(n, not composer.glues_task)
        self.dropped = np.zeros(n, dtype=np.bool_)
        self.lengths = np.zeros(n, dtype=np.int64)
        self.example_lengths = np.zeros(n, dtype=np.int64)

    def fit(self, long_texts: LongTexts) -> None:
        """Tokenise, choose the examples, and tokenise again where that changes the text."""
        self.ids = self._composer.encode_texts(self._strings, self._task)
        self._measure()
        if self._given is not None:
            self._fit_examples(long_texts)
        if self._task and self._composer.glues_task:
            follows = self._composer.task_follows_text
            if long_texts.chunks or follows:
                too_long = self.lengths > self.available()
                self._set_apart(np.flatnonzero(too_long & ~self.apart))

    def available(self) -> NDArray[np.int64]:
        """Count the tokens that each text may have in one prompt."""
        own: NDArray[np.int64] = self._rooms[np.arange(len(self.apart)), self.apart.astype(int)]
        return own - self.example_lengths

    def _fit_examples(self, long_texts: LongTexts) -> None:
        assert self._given is not None
        shown_with = np.asarray([bool(given) for given in self._given], dtype=np.bool_)
        divides = self._composer.examples_follow_task and not self.examples_follow_text
        if divides or (self._composer.task_follows_text and self.examples_follow_text):
            self._set_apart(np.flatnonzero(shown_with), after_examples=divides)
        rooms = self.available()
        self.examples = [[] for _ in self._given]
        for i in np.flatnonzero(shown_with).tolist():
            share = rooms[i] - self.lengths[i]
            if share < 0 and long_texts.chunks:
                share = self._rooms[i, 1] // 2
            chosen = _fitting(self._given[i], int(share) - len(self._closing))
            self.dropped[i] = len(chosen) < len(self._given[i])
            if chosen:
                self.examples[i] = [*(t for ids in chosen for t in ids), *self._closing]
                self.example_lengths[i] = len(self.examples[i])
        bare = shown_with & (self.example_lengths == 0)
        if divides and bare.any():
            self._set_apart(np.flatnonzero(bare), apart=not self._composer.glues_task)

    def _set_apart(
        self, rows: NDArray[np.intp], *, apart: bool = True, after_examples: bool = False
    ) -> None:
        """Tokenise some texts again, without their task description or with it."""
        if not len(rows):
            return
        ids = self._composer.encode_texts(
            [self._strings[i] for i in rows],
            self._task,
            apart=apart,
            after_examples=after_examples,
        )
        for i, own in zip(rows.tolist(), ids, strict=True):
            self.ids[i] = own
        self.apart[rows] = apart
        self._measure()

    def _measure(self) -> None:
        self.lengths = np.fromiter(map(len, self.ids), dtype=np.int64, count=len(self.ids))


def _fitting(examples: Sequence[TokenIds], room: int) -> Sequence[TokenIds]:
    """Take examples from the start while whole ones fit."""
    used = np.cumsum([len(ids) for ids in examples])
    return examples[: int(np.searchsorted(used, room, side="right"))]


def _cut_into_chunks(
    lengths: NDArray[np.int64], available: NDArray[np.int64], long_texts: LongTexts
) -> Cells:
    rows = np.arange(len(lengths))
    if not long_texts.chunks:
        return Cells(rows, np.zeros_like(lengths), lengths)
    step = np.maximum(available - np.minimum(long_texts.overlap, available // 2), 1)
    n_chunks = 1 + np.maximum(0, -(-(lengths - available) // step))
    row = np.repeat(rows, n_chunks)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(n_chunks) - n_chunks, n_chunks)
    # The last chunk is as long as the others: it begins earlier instead of being a remnant.
    latest = np.maximum(lengths - available, 0)
    start = np.minimum(rank * step[row], latest[row])
    return Cells(row, start, np.minimum(start + available[row], lengths[row]))


def _list_items(
    composer: PromptComposer,
    plan: LabelPlan,
    set_of_row: NDArray[np.intp],
    texts: _Texts,
    cells: Cells,
    cut: NDArray[np.bool_],
    long_texts: LongTexts,
) -> Work:
    first = plan.offsets[:-1][set_of_row[cells.row]]
    n_parts = np.diff(plan.offsets)[set_of_row[cells.row]]
    cell = np.repeat(np.arange(len(cells)), n_parts)
    before = np.cumsum(n_parts) - n_parts
    part = first[cell] + np.arange(len(cell)) - before[cell]
    row = cells.row[cell]
    beside = texts.example_lengths[row]
    room = plan.rooms[part, texts.apart[row].astype(int)] - beside
    stops = np.minimum(cells.stop[cell], cells.start[cell] + room)
    lengths = composer.overhead() + plan.part_lengths[part] + stops - cells.start[cell] + beside
    lengths += texts.apart[row] * len(plan.task)
    return Work(
        composer,
        plan,
        set_of_row,
        texts,
        cells,
        cell,
        part,
        lengths,
        stops,
        1 / np.bincount(row, minlength=len(texts.ids))[row],
        cut & (not long_texts.chunks),
        texts.dropped,
        long_texts.pooling,
    )
