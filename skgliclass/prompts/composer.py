"""The one place that knows where each piece of a prompt goes.

A uni-encoder reads ``<<LABEL>>travel<<LABEL>>dreams<<SEP>>One day I will see the world!``. The
pieces between the markers come from users, so a prompt is put together from token ids, never from
strings: whatever characters a text or a label holds, it cannot add a marker.

In the layouts below L are the labels with their markers, P is the task description, T the text and
E the examples. Where P and T touch without a marker between them they are tokenised as one string,
since some tokenizers merge across the boundary and checkpoints were trained so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .tokens import (
    EXAMPLE_MARKER,
    LABEL_MARKER,
    MARKERS,
    TEXT_MARKER,
    PieceTokenizer,
    TokenIds,
)

__all__ = [
    "EXAMPLE_MARKER",
    "LABEL_MARKER",
    "MARKERS",
    "TEXT_MARKER",
    "PieceTokenizer",
    "Prompt",
    "PromptComposer",
    "TokenIds",
]

Prompt = dict[str, TokenIds]
"""The token sequences of one prompt by the names of the model's arguments."""


@dataclass(frozen=True)
class PromptComposer:
    """Arranges the pieces of a uni-encoder's prompt: ``L<<SEP>>PTE`` or ``TL<<SEP>>PE``.

    Parameters
    ----------
    tokenizer : PieceTokenizer
        Supplies the ids around a whole sequence.
    label_id, text_id : int
        The ids of ``<<LABEL>>`` and ``<<SEP>>``.
    prompt_first : bool
        Whether the labels come before the text, as the checkpoint was trained.
    max_length : int
        The longest sequence in tokens.
    """

    tokenizer: PieceTokenizer
    label_id: int
    text_id: int
    prompt_first: bool
    max_length: int

    # Where the task description goes.

    @property
    def glues_task(self) -> bool:
        """Whether text and task description touch, so that they are tokenised as one."""
        return self.prompt_first

    @staticmethod
    def puts_task_before_text(prompt_first: bool) -> bool:
        """Tell whether the task description directly precedes the text, as if it began it."""
        return prompt_first

    @property
    def task_follows_text(self) -> bool:
        """Whether the task description is glued to the text's end, where cutting would reach it."""
        return False

    @property
    def examples_follow_task(self) -> bool:
        """Whether examples come between the task description and the text."""
        return False

    @property
    def has_place_for_examples(self) -> bool:
        """Whether the format has a place for examples with markers."""
        return True

    def _glued(self, text: str, task_description: str) -> str:
        return task_description + text

    def _text_follows_marker(self) -> bool:
        return self.prompt_first

    # Pieces.

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give what the prompt holds for each label: its ids with its marker."""
        pieces = self.tokenizer.encode(label_texts, after_marker=True)
        return [[self.label_id, *ids] for ids in pieces]

    def encode_texts(
        self,
        texts: Sequence[str],
        task_description: str = "",
        *,
        apart: bool = False,
        after_examples: bool = False,
    ) -> list[TokenIds]:
        """Give the ids of each text, with the task description where the two touch.

        Parameters
        ----------
        texts : sequence of str
            The texts.
        task_description : str, default=""
            The task description.
        apart : bool, default=False
            Whether to leave the task description out: it stands apart, with ids of its own.
        after_examples : bool, default=False
            Whether examples are shown where :attr:`examples_follow_task`.

        Returns
        -------
        list of list of int
        """
        touches = bool(task_description) and self.glues_task
        if touches and not apart:
            texts = [self._glued(text, task_description) for text in texts]
        after_marker = after_examples or (self._text_follows_marker() and not (touches and apart))
        return self.tokenizer.encode(texts, after_marker=after_marker)

    def encode_task(self, task_description: str) -> TokenIds:
        """Give the ids of the task description, or none where the texts' ids hold it."""
        return [] if self.glues_task else self.encode_task_apart(task_description)

    def encode_task_apart(self, task_description: str) -> TokenIds:
        """Give the ids of a task description that does not touch the text."""
        if not task_description:
            return []
        # Without a text marker before it, it begins the sequence or goes on after a text.
        after_marker = not self.glues_task or self._text_follows_marker()
        return self.tokenizer.encode([task_description], after_marker=after_marker)[0]

    # Lengths.

    def frame_length(self) -> int:
        """Count the tokens that the sequence with the labels has besides labels, task and text."""
        return len(self.tokenizer.prefix) + len(self.tokenizer.suffix) + 1

    def overhead(self) -> int:
        """Count the tokens of a whole prompt besides labels, task, text and examples."""
        return self.frame_length()

    def text_budget(self, label_ids: Iterable[TokenIds], task_length: int = 0) -> int:
        """Count the tokens that the labels leave for the text."""
        return self.max_length - self.frame_length() - sum(map(len, label_ids)) - task_length

    def label_room(self, task_length: int = 0) -> int:
        """Count the tokens that labels may take: a quarter of the prompt is kept for the text."""
        return self.max_length - self.frame_length() - task_length - self.max_length // 4

    def split_labels(
        self, label_ids: Sequence[TokenIds], label_texts: Sequence[str], task_length: int = 0
    ) -> list[range]:
        """Divide a label set over as many passes as its length needs.

        The division depends on the labels alone, never on a text, and its parts are of similar
        length.

        Parameters
        ----------
        label_ids : sequence of list of int
            The ids of each label with its marker.
        label_texts : sequence of str
            The label texts, for the error.
        task_length : int, default=0
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
        room = self.label_room(task_length)
        lengths = [len(ids) for ids in label_ids]
        for text, length in zip(label_texts, lengths, strict=True):
            if length > room:
                raise ValueError(
                    f"The label {_shorten(text)!r} has {length - 1} tokens; at most {room - 1} fit "
                    f"in a prompt of max_length={self.max_length}. Shorten the label text, or "
                    "raise max_length if the model allows it."
                )
        n_passes = len(_greedy_split(lengths, room))
        if n_passes == 1:
            return [range(len(lengths))]
        return _balanced_split(lengths, room, n_passes)

    # The whole.

    def compose(
        self,
        label_ids: Iterable[TokenIds],
        text_ids: TokenIds,
        task: Sequence[int] = (),
        examples: Sequence[int] = (),
    ) -> Prompt:
        """Put one prompt together.

        Parameters
        ----------
        label_ids : iterable of list of int
            The labels with their markers.
        text_ids : list of int
            The text; it must fit in :meth:`text_budget`.
        task : list of int, optional
            A task description that stands apart from the text.
        examples : list of int, optional
            The examples with their markers and the ``<<SEP>>`` that ends them.

        Returns
        -------
        dict of str to list of int
            The sequences by the names of the model's arguments.
        """
        labels = [token for ids in label_ids for token in ids]
        middle = (
            [*labels, self.text_id, *task, *text_ids, *examples]
            if self.prompt_first
            else [*text_ids, *labels, self.text_id, *task, *examples]
        )
        return {"input_ids": self._framed(middle)}

    def _framed(self, ids: TokenIds) -> TokenIds:
        return [*self.tokenizer.prefix, *ids, *self.tokenizer.suffix]


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
