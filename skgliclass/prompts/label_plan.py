"""Which labels go into which prompt: passes, orders, and label sets of single rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .composer import PromptComposer
from .tokens import TokenIds


@dataclass(frozen=True, eq=False)
class LabelPart:
    """The labels that one prompt holds.

    Attributes
    ----------
    columns : ndarray of int
        Their positions in the row's label set, in the order of the prompt.
    labels : ndarray of int
        Their positions in the plan's `label_texts`.
    ids : list of int
        What the prompt holds for them.
    order : int
        Which of the orders of the label set this belongs to.
    """

    columns: NDArray[np.intp]
    labels: NDArray[np.intp]
    ids: TokenIds
    order: int


@dataclass(frozen=True, eq=False)
class LabelPlan:
    """How label sets are divided over prompts.

    Attributes
    ----------
    label_texts : tuple of str
        The distinct label texts of all sets.
    set_sizes : ndarray of shape (n_sets,)
        How many labels each set has.
    parts : list of LabelPart
        The parts of all sets, set by set.
    offsets : ndarray of shape (n_sets + 1,)
        Where each set's parts begin.
    rooms : ndarray of shape (n_parts, 2)
        The tokens left for text and examples, with the task description among the text's tokens
        (first column) or apart from them.
    n_orders : ndarray of shape (n_sets,)
        In how many orders each set is shown.
    task : list of int
        The ids of a task description that stands apart from the text.
    """

    label_texts: tuple[str, ...]
    set_sizes: NDArray[np.int64]
    parts: list[LabelPart]
    offsets: NDArray[np.int64]
    rooms: NDArray[np.int64]
    n_orders: NDArray[np.int64]
    task: TokenIds

    @property
    def part_lengths(self) -> NDArray[np.int64]:
        """How many tokens the labels of each part have."""
        return np.asarray([len(part.ids) for part in self.parts], dtype=np.int64)

    @property
    def smallest_rooms(self) -> NDArray[np.int64]:
        """What the fullest prompt of each set leaves, of shape (n_sets, 2)."""
        smallest: NDArray[np.int64] = np.minimum.reduceat(self.rooms, self.offsets[:-1], axis=0)
        return smallest


def plan_labels(
    composer: PromptComposer,
    label_sets: Sequence[Sequence[str]],
    task_description: str = "",
    *,
    n_permutations: int = 1,
    seed: int = 0,
) -> LabelPlan:
    """Divide label sets over prompts.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    label_sets : sequence of sequence of str
        The label sets.
    task_description : str, default=""
        What every prompt holds besides.
    n_permutations : int, default=1
        In how many orders each set is shown: as given, and in random ones; in all there are if
        these are no more.
    seed : int, default=0
        Of the random orders, which depend on the size of a set besides.

    Returns
    -------
    LabelPlan

    Raises
    ------
    ValueError
        If a label or the task description does not fit in a prompt.
    """
    position: dict[str, int] = {}
    for label in itertools.chain.from_iterable(label_sets):
        position.setdefault(label, len(position))
    label_texts = tuple(position)
    label_ids = composer.encode_labels(label_texts)
    task = composer.encode_task_apart(task_description)
    _check_task_fits(composer, task)
    parts: list[LabelPart] = []
    offsets, n_orders = [0], []
    for labels in label_sets:
        positions = np.asarray([position[label] for label in labels], dtype=np.intp)
        orders = label_orders(len(labels), n_permutations, seed)
        for i, order in enumerate(orders):
            ids = [label_ids[k] for k in positions[order]]
            texts = [labels[k] for k in order]
            for share in composer.split_labels(ids, texts, len(task)):
                columns = order[share.start : share.stop]
                flat = [token for k in share for token in ids[k]]
                parts.append(LabelPart(columns, positions[columns], flat, i))
        offsets.append(len(parts))
        n_orders.append(len(orders))
    return LabelPlan(
        label_texts,
        np.asarray([len(labels) for labels in label_sets], dtype=np.int64),
        parts,
        np.asarray(offsets, dtype=np.int64),
        _rooms(composer, parts, task),
        np.asarray(n_orders, dtype=np.int64),
        task,
    )


def label_orders(n_labels: int, n_orders: int, seed: int) -> list[NDArray[np.intp]]:
    """Give the orders in which a label set is shown: first as given, then seeded random ones.

    Where the label set has no more orders than asked for, these are all of them, so that the
    order given does not matter any more.
    """
    if n_orders == 1:
        return [np.arange(n_labels)]
    # Factorials of large sets are no use; eight labels already have 40,320 orders.
    if n_labels <= 8 and math.factorial(n_labels) <= n_orders:
        return [np.asarray(o, dtype=np.intp) for o in itertools.permutations(range(n_labels))]
    rng = np.random.default_rng(seed)
    return [np.arange(n_labels), *(rng.permutation(n_labels) for _ in range(n_orders - 1))]


def _rooms(
    composer: PromptComposer, parts: Sequence[LabelPart], task: TokenIds
) -> NDArray[np.int64]:
    rooms = (
        (composer.text_budget([part.ids]), composer.text_budget([part.ids], len(task)))
        for part in parts
    )
    return np.asarray(list(rooms), dtype=np.int64)


def _check_task_fits(composer: PromptComposer, task: TokenIds) -> None:
    room = composer.label_room()
    if len(task) >= max(room, 1):
        raise ValueError(
            f"task_description has {len(task)} tokens; fewer than {room} fit in a prompt of "
            f"max_length={composer.max_length} together with labels and text. Shorten it, or "
            "raise max_length if the model allows it."
        )
