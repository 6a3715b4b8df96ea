"""Where each piece goes in the prompts of each architecture: the registry of this layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .composer import Prompt, PromptComposer
from .tokens import LABEL_MARKER, MARKERS, NO_TOKENS, TEXT_MARKER, PieceTokenizer, TokenIds


class UniEncoderComposer(PromptComposer):
    """Labels and text in one sequence: ``L<<SEP>>PTE`` or ``TL<<SEP>>PE``."""

    @property
    def glues_task(self) -> bool:
        """With the labels first, the task description directly precedes the text."""
        return self.prompt_first

    @property
    def text_follows_marker(self) -> bool:
        """With the labels first, their ``<<SEP>>`` precedes the text."""
        return self.prompt_first

    def compose(
        self,
        labels: Sequence[TokenIds],
        text: TokenIds,
        task: TokenIds = NO_TOKENS,
        examples: TokenIds = NO_TOKENS,
    ) -> Prompt:
        """Put one prompt together."""
        if self.prompt_first:
            return {"input_ids": self._framed(*labels, self._text_marker, task, text, examples)}
        return {"input_ids": self._framed(text, *labels, self._text_marker, task, examples)}

    def rules(self) -> dict[str, Any]:
        """Describe the layout for other programs."""
        first = self.prompt_first
        return {
            "order": ["labels", "separator", "text"]
            if first
            else ["text", "labels", "separator", "task"],
            "label_id": self.label_id,
            "separator_id": self.text_id,
            "task_joiner": self.task_joiner if first else None,
            "text_after_marker": first,
        }


class EncoderDecoderComposer(PromptComposer):
    """Two sequences, one for each half of the backbone: ``TE`` and ``L<<SEP>>P``."""

    @property
    def overhead(self) -> int:
        """The tokens around both sequences."""
        # Only one of the two sequences has the `<<SEP>>` that the frame counts.
        return 2 * self.frame_length - 1

    def text_room(self, n_label_tokens: Any, n_task_tokens: Any = 0) -> Any:
        """Count the tokens that fit in the text's sequence, whatever the labels."""
        # Nothing is subtracted, but arrays have to stay arrays.
        return self.max_length - self.frame_length + 1 + 0 * (n_label_tokens + n_task_tokens)

    def label_room(self, n_task_tokens: Any = 0) -> Any:
        """Count the tokens that labels may take: all of their sequence."""
        return self.max_length - self.frame_length - n_task_tokens

    def compose(
        self,
        labels: Sequence[TokenIds],
        text: TokenIds,
        task: TokenIds = NO_TOKENS,
        examples: TokenIds = NO_TOKENS,
    ) -> Prompt:
        """Put both sequences together."""
        return {
            "input_ids": self._framed(text, examples),
            "class_input_ids": self._framed(*labels, self._text_marker, task),
        }


class FusedComposer(PromptComposer):
    """Markers whose vectors come from a label encoder: ``P <<LABEL>>..<<SEP>>TE``, or T first."""

    spells_labels: ClassVar[bool] = False

    @property
    def glues_task(self) -> bool:
        """With the text first, the task description follows it directly."""
        return not self.prompt_first

    @property
    def task_follows_text(self) -> bool:
        """With the text first, the task description is at its end."""
        return not self.prompt_first

    @property
    def text_follows_marker(self) -> bool:
        """With the labels first, their ``<<SEP>>`` precedes the text."""
        return self.prompt_first

    def glue(self, text: str, task_description: str) -> str:
        """Append the task description and the space that ends it."""
        # The reference ends a fused prompt's task description with a space, and puts none before
        # it.
        return f"{text}{task_description} "

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give a marker for each label; what it says is encoded apart."""
        return [self._label_marker] * len(label_texts)

    def encode_task_apart(self, task_description: str) -> TokenIds:
        """Give the ids of the task description and the space that ends it."""
        if not task_description:
            return NO_TOKENS
        return self.tokenizer.encode([f"{task_description} "], after_marker=False)[0]

    def compose(
        self,
        labels: Sequence[TokenIds],
        text: TokenIds,
        task: TokenIds = NO_TOKENS,
        examples: TokenIds = NO_TOKENS,
    ) -> Prompt:
        """Put one prompt together."""
        if self.prompt_first:
            return {"input_ids": self._framed(task, *labels, self._text_marker, text, examples)}
        return {"input_ids": self._framed(text, task, *labels, self._text_marker, examples)}


class DecoderComposer(PromptComposer):
    """The labels last, so that they see the text: ``PET<<SEP>>l1<<LABEL>>l2<<LABEL>><<SEP>>``."""

    @property
    def glues_task(self) -> bool:
        """Without examples, the text follows the task description directly."""
        return True

    @property
    def examples_follow_task(self) -> bool:
        """Examples come before the text."""
        return True

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give the ids of each label, its marker last."""
        pieces = self.tokenizer.encode(label_texts, after_marker=True)
        return [self._joined(ids, self._label_marker) for ids in pieces]

    @property
    def frame_length(self) -> int:
        """The two ``<<SEP>>``."""
        return 2

    def compose(
        self,
        labels: Sequence[TokenIds],
        text: TokenIds,
        task: TokenIds = NO_TOKENS,
        examples: TokenIds = NO_TOKENS,
    ) -> Prompt:
        """Put one prompt together; nothing is put around it."""
        end = self._text_marker
        # No [CLS] or [SEP]: the reference has these prompts tokenised without special tokens.
        return {"input_ids": [task, examples, text, end, *labels, end]}


class TextComposer(PromptComposer):
    """No labels, for models that encode them apart: ``P TE``.

    The reference has no place for examples here; models that know the markers have one.
    """

    spells_labels: ClassVar[bool] = False

    task_joiner: ClassVar[str] = " "

    @property
    def glues_task(self) -> bool:
        """A space is all that stands between task description and text."""
        return True

    @property
    def has_place_for_examples(self) -> bool:
        """Most bi-encoders have never seen a marker."""
        return self.reads_markers

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give nothing for each label: the prompt does not hold them."""
        return [NO_TOKENS] * len(label_texts)

    @property
    def frame_length(self) -> int:
        """The tokens that the tokenizer puts around a text."""
        return len(self.tokenizer.prefix) + len(self.tokenizer.suffix)

    def compose(
        self,
        labels: Sequence[TokenIds],
        text: TokenIds,
        task: TokenIds = NO_TOKENS,
        examples: TokenIds = NO_TOKENS,
    ) -> Prompt:
        """Put the sequence of one text together."""
        return {"input_ids": self._framed(task, text, examples)}

    def rules(self) -> dict[str, Any]:
        """Describe the layout for other programs."""
        return {"order": ["text"], "task_joiner": self.task_joiner}


LAYOUTS: dict[str, type[PromptComposer]] = {
    "uni-encoder": UniEncoderComposer,
    "bi-encoder": TextComposer,
    "bi-encoder-fused": FusedComposer,
    "encoder-decoder": EncoderDecoderComposer,
    "encoder-decoder-cls": EncoderDecoderComposer,
    "decoder-kv": DecoderComposer,
}
"""What arranges the prompts of each architecture."""


def make_composer(
    architecture: str,
    tokenizer: PieceTokenizer,
    max_length: int,
    *,
    prompt_first: bool,
    vocabulary_size: int,
    label_id: int,
    text_id: int,
) -> PromptComposer:
    """Give what arranges the prompts of a model.

    Parameters
    ----------
    architecture : str
        How labels and text meet, one of :data:`LAYOUTS`.
    tokenizer : PieceTokenizer
        Of the texts.
    max_length : int
        The longest sequence in tokens.
    prompt_first : bool
        Whether the labels come before the text.
    vocabulary_size : int
        How many words the backbone has vectors for. Published bi-encoders have a tokenizer with
        markers, but a backbone without.
    label_id, text_id : int
        The ids of ``<<LABEL>>`` and ``<<SEP>>`` where the tokenizer has none.
    """
    ids = {marker: tokenizer.marker_id(marker) for marker in MARKERS}
    in_tokenizer = ids[LABEL_MARKER], ids[TEXT_MARKER]
    return LAYOUTS[architecture](
        tokenizer,
        label_id=label_id if in_tokenizer[0] is None else in_tokenizer[0],
        text_id=text_id if in_tokenizer[1] is None else in_tokenizer[1],
        prompt_first=prompt_first,
        max_length=max_length,
        reads_markers=all(i is not None and i < vocabulary_size for i in ids.values()),
    )
