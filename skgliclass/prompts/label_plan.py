"""Which labels go into which prompt: passes, orders, and label sets of single rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .composer import PromptComposer
from .tokens import NO_TOKENS, TokenIds, count_tokens


@dataclass(frozen=True, eq=False)
class LabelPart:
    """The labels that one prompt holds.

    Attributes
    ----------
    columns : ndarray of int
        Their positions in the row's label set, in the order of the prompt.
    labels : ndarray of int
        Their positions in the plan's `label_texts`.
    ids : ndarray of int
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
    task : ndarray of int
        The ids of a task description that stands apart from the text.
    alike : list of tuple of str
        Labels of one set for which the prompt holds the same.
    """

    label_texts: tuple[str, ...]
    set_sizes: NDArray[np.int64]
    parts: list[LabelPart]
    offsets: NDArray[np.int64]
    rooms: NDArray[np.int64]
    n_orders: NDArray[np.int64]
    task: TokenIds
    alike: list[tuple[str, ...]]

    @property
    def is_shared(self) -> bool:
        """Whether all texts have the same labels."""
        return len(self.set_sizes) == 1

    @property
    def part_lengths(self) -> NDArray[np.int64]:
        """How many tokens the labels of each part have."""
        return count_tokens([part.ids for part in self.parts])

    @property
    def smallest_rooms(self) -> NDArray[np.int64]:
        """What the fullest prompt of each set leaves, of shape (n_sets, 2)."""
        # Every set has a part, an empty one too; for one without, reduceat would give the next
        # set's.
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
    # Sets of single rows share most labels; each is tokenised once. A set would have no order.
    label_texts = tuple(dict.fromkeys(itertools.chain.from_iterable(label_sets)))
    position = {label: i for i, label in enumerate(label_texts)}
    label_ids = composer.encode_labels(label_texts)
    task = composer.encode_task_apart(task_description)
    _check_task_fits(composer, task)
    parts: list[LabelPart] = []
    offsets, n_orders = [0], []
    for labels in label_sets:
        positions = np.asarray([position[label] for label in labels], dtype=np.intp)
        # Seeded anew for each set: its orders must not depend on the sets of other rows.
        orders = label_orders(len(labels), n_permutations, seed)
        ids = [label_ids[k] for k in positions]
        for i, order in enumerate(orders):
            parts += _parts_of_order(composer, labels, positions, ids, order, i, len(task))
        offsets.append(len(parts))
        n_orders.append(len(orders))
    return LabelPlan(
        label_texts,
        np.asarray(list(map(len, label_sets)), dtype=np.int64),
        parts,
        np.asarray(offsets, dtype=np.int64),
        prompt_rooms(composer, count_tokens([part.ids for part in parts]), len(task)),
        np.asarray(n_orders, dtype=np.int64),
        task,
        alike_labels(label_texts, label_ids, label_sets) if composer.spells_labels else [],
    )


def alike_labels(
    label_texts: Sequence[str],
    label_ids: Sequence[TokenIds],
    label_sets: Sequence[Sequence[str]],
) -> list[tuple[str, ...]]:
    """Find labels of one set that are the same to a model.

    Parameters
    ----------
    label_texts : sequence of str of length n_labels
        The distinct label texts of all sets.
    label_ids : sequence of ndarray of int of length n_labels
        What the model reads for each.
    label_sets : sequence of sequence of str
        The label sets.

    Returns
    -------
    list of tuple of str
        Each with labels that differ, but only in what the tokenizer does not keep.
    """
    by_ids: dict[bytes, int] = {}
    kinds = [by_ids.setdefault(ids.tobytes(), len(by_ids)) for ids in label_ids]
    if len(by_ids) == len(kinds):
        return []
    kind_of = dict(zip(label_texts, kinds, strict=True))
    # A dict, as many sets hold the same labels.
    alike: dict[tuple[str, ...], None] = {}
    for labels in label_sets:
        members: dict[int, list[str]] = {}
        for label in labels:
            if label in kind_of:
                members.setdefault(kind_of[label], []).append(label)
        alike.update({tuple(names): None for names in members.values() if len(names) > 1})
    return list(alike)


def _parts_of_order(
    composer: PromptComposer,
    labels: Sequence[str],
    positions: NDArray[np.intp],
    ids: Sequence[TokenIds],
    order: NDArray[np.intp],
    rank: int,
    n_task_tokens: int,
) -> Iterator[LabelPart]:
    """Divide a label set that is shown in one of its orders."""
    in_order = [ids[k] for k in order]
    texts = [labels[k] for k in order]
    for share in split_labels(composer, in_order, texts, n_task_tokens):
        columns = order[share.start : share.stop]
        # Texts are embedded with an empty label set, and nothing cannot be joined with nothing.
        joined = np.concatenate([NO_TOKENS, *in_order[share.start : share.stop]])
        yield LabelPart(columns, positions[columns], joined, rank)


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


def split_labels(
    composer: PromptComposer,
    label_ids: Sequence[TokenIds],
    label_texts: Sequence[str],
    n_task_tokens: int = 0,
) -> list[range]:
    """Divide a label set over as many passes as its length needs.

    The division depends on the labels alone, never on a text, and its parts are of similar length.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    label_ids : sequence of ndarray of int
        What the prompt holds for each label.
    label_texts : sequence of str
        The label texts, for the error.
    n_task_tokens : int, default=0
        The tokens of a task description that stands apart from the text.

    Returns
    -------
    list of range
        The positions of the labels of each pass, in order.

    Raises
    ------
    ValueError
        If a label alone is longer than the room for labels.
    """
    room = composer.label_room(n_task_tokens)
    lengths = [len(ids) for ids in label_ids]
    for text, length in zip(label_texts, lengths, strict=True):
        if length > room:
            raise ValueError(
                # Without the marker, which the user did not write.
                f"The label {_shorten(text)!r} has {length - 1} tokens; at most {room - 1} fit "
                f"in a prompt of max_length={composer.max_length}. Shorten the label text, or "
                "raise max_length if the model allows it."
            )
    # Filling one prompt after the other, in the order given, needs the fewest of them.
    n_passes = len(_greedy_split(lengths, room))
    if n_passes == 1:
        return [range(len(lengths))]
    return _balanced_split(lengths, room, n_passes)


def _greedy_split(lengths: Sequence[int], room: int) -> list[range]:
    parts, start, used = [], 0, 0
    for i, length in enumerate(lengths):
        if used + length > room:
            parts.append(range(start, i))
            start, used = i, 0
        used += length
    return [*parts, range(start, len(lengths))]


def _balanced_split(lengths: Sequence[int], room: int, n_parts: int) -> list[range]:
    """Lower the room as far as the number of parts allows, so that the last is not a remnant."""
    # A smaller room never needs fewer parts, so that the smallest one can be found by halving.
    low, high = max(max(lengths), sum(lengths) // n_parts), room
    while low < high:
        middle = (low + high) // 2
        if len(_greedy_split(lengths, middle)) <= n_parts:
            high = middle
        else:
            low = middle + 1
    return _greedy_split(lengths, high)


def _shorten(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def prompt_rooms(
    composer: PromptComposer,
    n_label_tokens: NDArray[np.int64],
    n_task_tokens: int | NDArray[np.int64],
) -> NDArray[np.int64]:
    """Count the tokens that labels leave for a text and its examples.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    n_label_tokens : ndarray of shape (n_prompts,)
        The tokens of the labels that each prompt holds.
    n_task_tokens : int or ndarray of shape (n_prompts,)
        Those of a task description that stands apart from the text.

    Returns
    -------
    ndarray of shape (n_prompts, 2)
        With the task description among the text's tokens, or apart from them.
    """
    # Both, since only packing knows for which texts the task description has to stand apart.
    rooms = composer.text_room(n_label_tokens), composer.text_room(n_label_tokens, n_task_tokens)
    return np.stack(rooms, axis=1).astype(np.int64)


def _check_task_fits(composer: PromptComposer, task: TokenIds) -> None:
    room = composer.label_room()
    # At least one token must be left for a label. Without a task description (no tokens) nothing is
    # refused here, however short the prompt: then it is a label that does not fit.
    if len(task) >= max(room, 1):
        raise ValueError(
            f"task_description has {len(task)} tokens; fewer than {room} fit in a prompt of "
            f"max_length={composer.max_length} together with labels and text. Shorten it, or "
            "raise max_length if the model allows it."
        )
