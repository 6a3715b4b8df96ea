"""The one place that knows where each piece of a prompt goes.

A uni-encoder reads ``<<LABEL>>travel<<LABEL>>dreams<<SEP>>One day I will see the world!``. The
pieces between the markers come from users, so a prompt is put together from token ids, never from
strings: whatever characters a text or a label holds, it cannot add a marker.

In the layouts L are the labels with their markers, P is the task description, T the text and E the
examples. Where P and T touch without a marker between them they are tokenised as one string, since
some tokenizers merge across the boundary and checkpoints were trained so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .tokens import NO_TOKENS, PieceTokenizer, TokenIds

Prompt = dict[str, list[TokenIds]]
"""The sequences of one prompt by the names of the model's arguments, each as pieces in order.

They are joined only where a whole micro-batch becomes one array: a list of its own for each prompt
would copy every token once more.
"""


@dataclass(frozen=True)
class PromptComposer:
    """Arranges the pieces of a prompt; a subclass for each layout.

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
    reads_markers : bool, default=True
        Whether the backbone has vectors for the markers, so that it can be shown examples.
    """

    # What stands between task description and text where they touch.
    task_joiner: ClassVar[str] = ""
    # Whether the prompt holds what labels say, and not only where they are.
    spells_labels: ClassVar[bool] = True

    tokenizer: PieceTokenizer
    label_id: int
    text_id: int
    prompt_first: bool
    max_length: int
    reads_markers: bool = True

    # Where the task description and the examples go.

    @property
    def glues_task(self) -> bool:
        """Whether text and task description touch, so that they are tokenised as one."""
        return False

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

    @property
    def text_follows_marker(self) -> bool:
        """Whether a marker directly precedes the text, or what is glued before it."""
        return False

    def glue(self, text: str, task_description: str) -> str:
        """Join a task description and the text that it touches."""
        return f"{task_description}{self.task_joiner}{text}"

    def separated(self, task_description: str) -> str:
        """Give a task description with a space at its end where it would run into the text."""
        touches = self.glues_task and not self.task_follows_text and not self.task_joiner
        return f"{task_description} " if task_description and touches else task_description

    # Pieces.

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give what the prompt holds for each label: its ids with its marker."""
        pieces = self.tokenizer.encode(label_texts, after_marker=True)
        return [self._joined(self._label_marker, ids) for ids in pieces]

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
            Whether examples are put between task description and text.

        Returns
        -------
        list of ndarray of int
        """
        touches = bool(task_description) and self.glues_task
        if touches and not apart:
            texts = [self.glue(text, task_description) for text in texts]
        # With the task description taken out, the text no longer follows the marker but its tokens;
        # examples end with a marker of their own.
        after_marker = after_examples or (self.text_follows_marker and not (touches and apart))
        return self.tokenizer.encode(texts, after_marker=after_marker)

    def encode_task_apart(self, task_description: str) -> TokenIds:
        """Give the ids of a task description that does not touch the text."""
        if not task_description:
            return NO_TOKENS
        # Without a text marker before it, it begins the sequence or goes on after a text.
        after_marker = not self.glues_task or self.text_follows_marker
        return self.tokenizer.encode([task_description], after_marker=after_marker)[0]

    # Lengths.

    @property
    def frame_length(self) -> int:
        """The tokens that the sequence with the labels has besides labels, task and text."""
        # One more for the `<<SEP>>` that ends the labels.
        return len(self.tokenizer.prefix) + len(self.tokenizer.suffix) + 1

    @property
    def overhead(self) -> int:
        """The tokens of a whole prompt besides labels, task, text and examples."""
        return self.frame_length

    def text_room(self, n_label_tokens: Any, n_task_tokens: Any = 0) -> Any:
        """Count the tokens that labels and task leave for the text; works on arrays too."""
        return self.max_length - self.frame_length - n_label_tokens - n_task_tokens

    def label_room(self, n_task_tokens: Any = 0) -> Any:
        """Count the tokens that labels may take: a quarter of the prompt is kept for the text."""
        # A fixed share instead of what a text leaves over: labels must be divided in the same way
        # for every text, or a row's scores would depend on how long its text is.
        return self.max_length - self.frame_length - n_task_tokens - self.max_length // 4

    # The whole.

    def compose(
        self,
        labels: Sequence[TokenIds],
        text: TokenIds,
        task: TokenIds = NO_TOKENS,
        examples: TokenIds = NO_TOKENS,
    ) -> Prompt:
        """Put one prompt together.

        Parameters
        ----------
        labels : sequence of ndarray of int
            The labels with their markers, in as many pieces as the caller has.
        text : ndarray of int
            The text; it must fit in :meth:`text_room`.
        task : ndarray of int, optional
            A task description that stands apart from the text.
        examples : ndarray of int, optional
            The examples with their markers and the ``<<SEP>>`` that ends them.

        Returns
        -------
        dict of str to list of ndarray of int
            The sequences by the names of the model's arguments, as pieces in order.
        """
        raise NotImplementedError

    def rules(self) -> dict[str, Any]:
        """Give, in terms of JSON, what another program needs to compose prompts alike.

        Raises
        ------
        NotImplementedError
            If the layout has no description.
        """
        raise NotImplementedError(f"{type(self).__name__} has no description for other programs.")

    def _framed(self, *pieces: TokenIds) -> list[TokenIds]:
        return [self.tokenizer.prefix, *pieces, self.tokenizer.suffix]

    @staticmethod
    def _joined(*pieces: TokenIds) -> TokenIds:
        return np.concatenate(pieces)

    @cached_property
    def _label_marker(self) -> TokenIds:
        return np.asarray([self.label_id], dtype=np.int32)

    @cached_property
    def _text_marker(self) -> TokenIds:
        return np.asarray([self.text_id], dtype=np.int32)
