"""The prompts of the architectures other than the uni-encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .composer import Prompt, PromptComposer
from .tokens import LABEL_MARKER, MARKERS, TEXT_MARKER, PieceTokenizer, TokenIds

if TYPE_CHECKING:
    from ..modeling.config import GLiClassConfig


class EncoderDecoderComposer(PromptComposer):
    """Two sequences, one for each half of the backbone: ``TE`` and ``L<<SEP>>P``."""

    @staticmethod
    def puts_task_before_text(prompt_first: bool) -> bool:
        """Tell that the task description is in the other sequence."""
        return False

    @property
    def glues_task(self) -> bool:
        """The task description is not in the text's sequence."""
        return False

    def _text_follows_marker(self) -> bool:
        return False

    def overhead(self) -> int:
        """Count the tokens around both sequences."""
        return 2 * self.frame_length() - 1

    def text_budget(self, label_ids: Iterable[TokenIds], task_length: int = 0) -> int:
        """Count the tokens that fit in the text's sequence, whatever the labels."""
        return self.max_length - self.frame_length() + 1

    def label_room(self, task_length: int = 0) -> int:
        """Count the tokens that labels may take: all of their sequence."""
        return self.max_length - self.frame_length() - task_length

    def compose(
        self,
        label_ids: Iterable[TokenIds],
        text_ids: TokenIds,
        task: Sequence[int] = (),
        examples: Sequence[int] = (),
    ) -> Prompt:
        """Put both sequences together."""
        labels = [token for ids in label_ids for token in ids]
        return {
            "input_ids": self._framed([*text_ids, *examples]),
            "class_input_ids": self._framed([*labels, self.text_id, *task]),
        }


class FusedComposer(PromptComposer):
    """Markers whose vectors come from a label encoder: ``P <<LABEL>>..<<SEP>>TE``, or T first."""

    @staticmethod
    def puts_task_before_text(prompt_first: bool) -> bool:
        """Tell that labels come between, or the task description last."""
        return False

    @property
    def glues_task(self) -> bool:
        """With the text first, the task description follows it directly."""
        return not self.prompt_first

    @property
    def task_follows_text(self) -> bool:
        """With the text first, the task description is at its end."""
        return not self.prompt_first

    def _glued(self, text: str, task_description: str) -> str:
        return f"{text}{task_description} "

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give a marker for each label; what it says is encoded apart."""
        return [[self.label_id] for _ in label_texts]

    def encode_task_apart(self, task_description: str) -> TokenIds:
        """Give the ids of the task description and the space that ends it."""
        if not task_description:
            return []
        return self.tokenizer.encode([f"{task_description} "], after_marker=False)[0]

    def compose(
        self,
        label_ids: Iterable[TokenIds],
        text_ids: TokenIds,
        task: Sequence[int] = (),
        examples: Sequence[int] = (),
    ) -> Prompt:
        """Put one prompt together."""
        labels = [token for ids in label_ids for token in ids]
        middle = (
            [*task, *labels, self.text_id, *text_ids, *examples]
            if self.prompt_first
            else [*text_ids, *task, *labels, self.text_id, *examples]
        )
        return {"input_ids": self._framed(middle)}


class DecoderComposer(PromptComposer):
    """The labels last, so that they see the text: ``PET<<SEP>>l1<<LABEL>>l2<<LABEL>><<SEP>>``."""

    @staticmethod
    def puts_task_before_text(prompt_first: bool) -> bool:
        """Tell that the text follows the task description."""
        return True

    @property
    def glues_task(self) -> bool:
        """Without examples, the text follows the task description directly."""
        return True

    @property
    def examples_follow_task(self) -> bool:
        """Examples come before the text."""
        return True

    def _text_follows_marker(self) -> bool:
        return False

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give the ids of each label, its marker last."""
        pieces = self.tokenizer.encode(label_texts, after_marker=True)
        return [[*ids, self.label_id] for ids in pieces]

    def frame_length(self) -> int:
        """Count the two ``<<SEP>>``."""
        return 2

    def compose(
        self,
        label_ids: Iterable[TokenIds],
        text_ids: TokenIds,
        task: Sequence[int] = (),
        examples: Sequence[int] = (),
    ) -> Prompt:
        """Put one prompt together; nothing is put around it."""
        labels = [token for ids in label_ids for token in ids]
        ids = [*task, *examples, *text_ids, self.text_id, *labels, self.text_id]
        return {"input_ids": ids}


@dataclass(frozen=True)
class TextComposer(PromptComposer):
    """No labels, for models that encode them apart: ``P TE``.

    The reference has no place for examples here.

    Parameters
    ----------
    reads_markers : bool, default=False
        Whether the backbone has vectors for the markers, so that it can be shown examples.
    """

    reads_markers: bool = False

    @staticmethod
    def puts_task_before_text(prompt_first: bool) -> bool:
        """Tell that the text follows the task description."""
        return True

    @property
    def glues_task(self) -> bool:
        """A space is all that stands between task description and text."""
        return True

    @property
    def has_place_for_examples(self) -> bool:
        """Most bi-encoders have never seen a marker."""
        return self.reads_markers

    def _glued(self, text: str, task_description: str) -> str:
        return f"{task_description} {text}"

    def _text_follows_marker(self) -> bool:
        return False

    def encode_labels(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give nothing for each label: the prompt does not hold them."""
        return [[] for _ in label_texts]

    def frame_length(self) -> int:
        """Count the tokens that the tokenizer puts around a text."""
        return len(self.tokenizer.prefix) + len(self.tokenizer.suffix)

    def compose(
        self,
        label_ids: Iterable[TokenIds],
        text_ids: TokenIds,
        task: Sequence[int] = (),
        examples: Sequence[int] = (),
    ) -> Prompt:
        """Put the sequence of one text together."""
        return {"input_ids": self._framed([*task, *text_ids, *examples])}


_COMPOSERS: dict[str, type[PromptComposer]] = {
    "uni-encoder": PromptComposer,
    "bi-encoder": TextComposer,
    "bi-encoder-fused": FusedComposer,
    "encoder-decoder": EncoderDecoderComposer,
    "encoder-decoder-cls": EncoderDecoderComposer,
    "decoder-kv": DecoderComposer,
}


def task_precedes_text(architecture: str, *, prompt_first: bool) -> bool:
    """Tell whether an architecture's prompts have the task description directly before the text.

    Parameters
    ----------
    architecture : str
        One of the supported ones.
    prompt_first : bool
        Whether labels come before the text.
    """
    return _COMPOSERS[architecture].puts_task_before_text(prompt_first)


def make_composer(
    config: GLiClassConfig, tokenizer: PieceTokenizer, max_length: int
) -> PromptComposer:
    """Give what arranges the prompts of a model.

    Parameters
    ----------
    config : GLiClassConfig
        The model's configuration.
    tokenizer : PieceTokenizer
        Of the texts.
    max_length : int
        The longest sequence in tokens.
    """
    found = {marker: tokenizer.marker_id(marker) for marker in MARKERS}
    label_id, text_id = found[LABEL_MARKER], found[TEXT_MARKER]
    more: dict[str, Any] = {}
    if config.architecture_type == "bi-encoder":
        # Published ones have a tokenizer with markers, but a backbone without.
        n_words = config.encoder_config.vocab_size
        more["reads_markers"] = all(i is not None and i < n_words for i in found.values())
    return _COMPOSERS[config.architecture_type](
        tokenizer,
        label_id=config.class_token_index if label_id is None else label_id,
        text_id=config.text_token_index if text_id is None else text_id,
        prompt_first=config.prompt_first,
        max_length=max_length,
        **more,
    )
