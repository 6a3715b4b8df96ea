"""The bookkeeping of a window: one item for each prompt, whatever text or label set it is of.

A text is scored in one prompt, or in several: because its labels fill more than one, because they
are shown in more than one order, or because the text is cut into chunks. All these items are sorted
into micro-batches together; afterwards the orders are averaged and the chunks pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..prompts.composer import Prompt, PromptComposer
from ..prompts.label_plan import LabelPart, LabelPlan
from ..prompts.long_texts import LongTexts
from ..prompts.packing import Cells, PackedTexts, cut_into_cells
from .neighbours import unit_vectors


@dataclass(frozen=True, eq=False)
class Results:
    """What the model gave for the items of a window, by cell.

    Attributes
    ----------
    scores : ndarray of shape (n_orders, n_cells, n_columns), float32
        The logits.
    vectors : ndarray of shape (n_cells, width), float32, or None
        The sum of the vectors of a cell's items.
    """

    scores: NDArray[np.float32]
    vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Work:
    """Everything that a window of texts needs to be scored.

    Attributes
    ----------
    plan : LabelPlan
        Which labels go into which prompt.
    set_of_row : ndarray of shape (n_rows,)
        Each text's label set.
    texts : PackedTexts of length n_rows
        The texts, fitted beside the fullest part of their label set.
    cells : Cells
        The parts of texts that are scored.
    cell, part : ndarray of shape (n_items,)
        Each item's cell and the part of the plan whose labels it holds.
    lengths : ndarray of shape (n_items,)
        The tokens of each item's prompt.
    stops : ndarray of shape (n_items,)
        Where each item's text ends: a part with few labels leaves room for more of it.
    long_texts : LongTexts
        How the chunks of a text are pooled.
    """

    plan: LabelPlan
    set_of_row: NDArray[np.intp]
    texts: PackedTexts
    cells: Cells
    cell: NDArray[np.intp]
    part: NDArray[np.intp]
    lengths: NDArray[np.int64]
    stops: NDArray[np.int64]
    long_texts: LongTexts

    # What goes in.

    def prompts(self, items: NDArray[np.intp]) -> list[Prompt]:
        """Compose the prompts of some items."""
        return [self._prompt(item) for item in items.tolist()]

    def parts(self, items: NDArray[np.intp]) -> list[LabelPart]:
        """Give the labels of some items."""
        return [self.plan.parts[k] for k in self.part[items].tolist()]

    def _prompt(self, item: int) -> Prompt:
        cell = self.cell[item]
        labels = [self.plan.parts[self.part[item]].ids]
        start, stop = int(self.cells.start[cell]), int(self.stops[item])
        return self.texts.prompt(int(self.cells.row[cell]), labels, start, stop)

    # How far it is, and what was left out.

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """The share of its text that each item is."""
        rows = self.cells.row[self.cell]
        return np.asarray(1 / np.bincount(rows)[rows])

    @property
    def cut(self) -> NDArray[np.bool_]:
        """Whether the end of each row's text is not read."""
        # Chunks reach to the end of every text, whatever is available for one of them.
        if self.long_texts.chunks:
            return np.zeros(len(self.texts.ids), dtype=np.bool_)
        return np.asarray(self.texts.lengths > self.texts.available)

    # What comes out.

    def empty_results(self, width: int | None = None) -> Results:
        """Make room for the logits and, where they have a width, the vectors of texts."""
        shape = int(self.plan.n_orders.max()), len(self.cells), int(self.plan.set_sizes.max())
        # Zeros, as `combine` adds up all orders, and a small label set has fewer of them than
        # others.
        scores = np.zeros(shape, dtype=np.float32)
        if width is None:
            return Results(scores)
        return Results(scores, np.zeros((len(self.cells), width), dtype=np.float32))

    def put(
        self,
        results: Results,
        items: NDArray[np.intp],
        logits: NDArray[np.float32],
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Put what the model gave for some items in its place."""
        if results.vectors is not None and vectors is not None:
            # Summed, as a text of many passes would take much room for a vector of each.
            np.add.at(results.vectors, self.cell[items], vectors)
        scores = results.scores
        of_part = self.part[items]
        # Part by part, as a micro-batch is as wide as its fullest part: an item's columns beyond
        # those of its own part mean nothing.
        for k in np.unique(of_part):
            chosen = np.flatnonzero(of_part == k)
            part = self.plan.parts[k]
            cells, of_labels = self.cell[items[chosen]], logits[chosen, : len(part.columns)]
            if part.order == 0:
                # As given: the columns of a part are neighbours, which is much faster to write.
                start = int(part.columns[0])
                scores[0, cells, start : start + len(part.columns)] = of_labels
            else:
                # The first index gives a view, so that this writes to `scores` and not to a copy.
                scores[part.order][np.ix_(cells, part.columns)] = of_labels

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
            # By float32 numbers: divided by integers the logits would be float64.
            by_cell = scores.sum(axis=0) / n_orders[:, None].astype(np.float32)
        by_row = self._pool(by_cell)
        if len(self.plan.set_sizes) > 1:
            sizes = self.plan.set_sizes[self.set_of_row]
            by_row[np.arange(by_row.shape[1]) >= sizes[:, None]] = -np.inf
        return by_row

    def combine_vectors(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make one vector of a text of those of its prompts.

        It is the mean over the passes that many labels or several orders take, and over the chunks
        of a long text by the tokens that each adds, scaled to length one.

        Returns
        -------
        ndarray of shape (n_rows, width)
        """
        n_items = np.bincount(self.cell, minlength=len(sums)).astype(np.float32)
        by_cell: NDArray[np.float32] = sums / n_items[:, None]
        first = self.cells.first
        if len(first) < len(by_cell):
            by_cell = np.add.reduceat(by_cell * self.cells.added.astype(np.float32)[:, None], first)
        return unit_vectors(by_cell)

    def _pool(self, by_cell: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pool values of shape (n_cells, n_columns) over the chunks of each text."""
        first = self.cells.first
        if len(first) == len(by_cell):
            return by_cell
        if self.long_texts.pooling == "max":
            # Right only because every row has a cell: for none, reduceat would give the next row's
            # value.
            largest: NDArray[np.float32] = np.maximum.reduceat(by_cell, first)
            return largest
        weights = self.cells.added.astype(np.float32)[:, None]
        mean: NDArray[np.float32] = np.add.reduceat(by_cell * weights, first)
        mean /= np.add.reduceat(weights, first)
        return mean


def list_items(
    composer: PromptComposer,
    plan: LabelPlan,
    set_of_row: NDArray[np.intp],
    texts: PackedTexts,
    long_texts: LongTexts,
) -> Work:
    """List the prompts that texts need: every part of their label sets with every chunk.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    plan : LabelPlan
        Of the label sets.
    set_of_row : ndarray of shape (n_rows,)
        Each text's label set.
    texts : PackedTexts of length n_rows
        Fitted beside the fullest part of each label set.
    long_texts : LongTexts
        What happens to a text that does not fit.
    """
    cells = cut_into_cells(texts, long_texts)
    set_of_cell = set_of_row[cells.row]
    n_parts = np.diff(plan.offsets)[set_of_cell]
    cell = np.repeat(np.arange(len(cells)), n_parts)
    # An item's rank among those of its cell tells which of the label set's parts it holds.
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    part = plan.offsets[:-1][set_of_cell][cell] + rank
    row = cells.row[cell]
    beside = texts.example_lengths[row]
    # Texts were fitted beside the fullest part. A part with fewer labels shows more of a text that
    # is truncated; a chunk ends where it ends, for all parts alike.
    room = plan.rooms[part, texts.apart[row].astype(int)] - beside
    stops = np.minimum(cells.stop[cell], cells.start[cell] + room)
    # Where the task description is glued to the text its tokens are counted with the text's.
    n_task = texts.apart[row] * len(plan.task)
    n_text = stops - cells.start[cell]
    lengths = composer.overhead + plan.part_lengths[part] + n_text + beside + n_task
    return Work(plan, set_of_row, texts, cells, cell, part, lengths, stops, long_texts)
