"""Texts with their labels that a prompt shows besides the text to classify."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import check_text, label_names, listed
from .composer import PromptComposer
from .tokens import EXAMPLE_MARKER, NO_TOKENS, TokenIds, as_token_ids

EXAMPLE_FORMATS = ("marker", "tags")
"""How examples are written: with ``<<EXAMPLE>>``, or with the tags of the first RAC checkpoints."""

# Two or more brackets: were only two taken from `<<<EXAMPLE>>>`, the outer ones would make a tag of
# what is left.
_TAGS = re.compile(r"<{2,}(/?(?:EXAMPLE|TRUE_LABEL|FALSE_LABEL))>{2,}")


@dataclass(frozen=True)
class PromptExample:
    """A text with its labels that the prompt of another text shows.

    Parameters
    ----------
    text : str
        The text.
    labels : sequence of str
        The texts of the labels that it has.
    other_labels : sequence of str, optional
        The texts of labels that it does not have, which only the format ``"tags"`` shows; by
        default the rest of the label set.

    Raises
    ------
    ValueError
        If the text is missing or empty, or the labels are no list of texts; the message begins
        with the name of the field.
    """

    text: str
    labels: Sequence[str]
    other_labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_text("text", self.text)
        if not self.text.strip():
            raise ValueError("text is empty, so that the example shows nothing.")
        # A tuple, so that examples can be hashed: equal ones are kept and encoded once.
        object.__setattr__(self, "labels", label_names("labels", self.labels))
        if self.other_labels is not None:
            others = label_names("other_labels", self.other_labels)
            object.__setattr__(self, "other_labels", others)


class ExampleEncoder:
    r"""Turns examples into the tokens that a prompt shows.

    Parameters
    ----------
    composer : PromptComposer
        Of the model's prompts.
    example_format : {"marker", "tags"}
        ``"marker"`` is ``<<EXAMPLE>>text \nLabels:\n a, b`` for each example and one ``<<SEP>>``
        after the last. ``"tags"`` appends ``<<EXAMPLE>> text <<TRUE_LABEL>> a <<FALSE_LABEL>> c
        <</EXAMPLE>>`` to the text itself, the labels in the order of the label set.

    Attributes
    ----------
    follows_text : bool
        Whether examples are a part of the text.
    closing : ndarray of int
        What ends the last example.

    Raises
    ------
    ValueError
        If the model's prompts have no place for examples.
    """

    def __init__(self, composer: PromptComposer, example_format: str) -> None:
        if example_format not in EXAMPLE_FORMATS:
            raise ValueError(
                f"example_format={example_format!r} is unknown; choose from "
                f"{', '.join(EXAMPLE_FORMATS)}."
            )
        self._tokenizer = composer.tokenizer
        self._marker = composer.tokenizer.marker_id(EXAMPLE_MARKER)
        self.follows_text = example_format == "tags"
        self.closing = NO_TOKENS if self.follows_text else as_token_ids([composer.text_id])
        if not self.follows_text and not composer.has_place_for_examples:
            raise ValueError(
                "Labelled texts in the prompt (examples=, n_retrieved=): this bi-encoder's input "
                "has no place for them, since its backbone has no vectors for markers. Set "
                'example_format="tags", which makes them a part of the text, or use another model.'
            )
        if not self.follows_text and self._marker is None:
            raise ValueError(
                "Labelled texts in the prompt (examples=, n_retrieved=): the model's tokenizer has "
                f"no {EXAMPLE_MARKER}, so the model was not made for them. "
                'example_format="tags" writes them without it.'
            )

    def prepare(self, texts: Sequence[str], examples: Sequence[Sequence[Any]]) -> Sequence[str]:
        """Give texts so that those with examples of their own cannot pass for examples.

        Parameters
        ----------
        texts : sequence of str of length n_texts
            The texts.
        examples : sequence of length n_texts of sequences
            What is shown with each. A text without any is as it would be alone.
        """
        if not self.follows_text:
            return texts
        # Tags are no special tokens, so that the tokenizer does not keep them out of a text.
        pairs = zip(texts, examples, strict=True)
        return [without_tags(text) if len(shown) else text for text, shown in pairs]

    def encode(
        self, examples: Sequence[PromptExample], label_texts: Sequence[str]
    ) -> list[TokenIds]:
        """Give the ids of each example, all but :attr:`closing`.

        Parameters
        ----------
        examples : sequence of PromptExample
            What to show.
        label_texts : sequence of str
            The label set of the text that they are shown with.

        Returns
        -------
        list of ndarray of int
        """
        if not examples:
            return []
        if not self.follows_text:
            pieces = [f"{e.text} \nLabels:\n {', '.join(e.labels)}" for e in examples]
            return self._with_marker(pieces)
        pieces = [_tagged(example, label_texts) for example in examples]
        if self._marker is None:
            # To a tokenizer without the marker its spelling is text, as it is in the reference.
            written = [f" {EXAMPLE_MARKER}{piece}" for piece in pieces]
            return self._tokenizer.encode(written, after_marker=False)
        # The reference joins text and examples with a space, which a marker keeps from merging with
        # what follows; some tokenizers give no token for it.
        (space,) = self._tokenizer.encode([" "], after_marker=False)
        return [np.concatenate([space, ids]) for ids in self._with_marker(pieces)]

    def _with_marker(self, pieces: Sequence[str]) -> list[TokenIds]:
        assert self._marker is not None
        marker = as_token_ids([self._marker])
        pieces_ids = self._tokenizer.encode(pieces, after_marker=True)
        return [np.concatenate([marker, ids]) for ids in pieces_ids]


def can_show_examples(composer: PromptComposer) -> bool:
    """Tell whether a model's prompts have a place for examples, and its tokenizer their marker."""
    has_marker = composer.tokenizer.marker_id(EXAMPLE_MARKER) is not None
    return has_marker and composer.has_place_for_examples


def check_types(examples: Iterable[object], where: str) -> None:
    """Refuse what is no example.

    Parameters
    ----------
    examples : iterable
        What the caller gave.
    where : str
        How the caller calls them, for the error.

    Raises
    ------
    TypeError
        If an element is not a :class:`PromptExample`.
    """
    for i, example in enumerate(examples):
        if not isinstance(example, PromptExample):
            raise TypeError(
                f"{where}[{i}] is {example!r} ({type(example).__name__}); an example is a "
                "PromptExample(text, labels)."
            )


def check_labels_known(
    examples: Iterable[PromptExample], label_texts: Sequence[str], where: str
) -> None:
    """Refuse examples with labels that the text they are shown with does not have.

    Parameters
    ----------
    examples : iterable of PromptExample
        What will be shown.
    label_texts : sequence of str
        The label set.
    where : str
        How the caller calls the examples, for the error.

    Raises
    ------
    ValueError
        If an example has an unknown label.
    """
    known = set(label_texts)
    for i, example in enumerate(examples):
        unknown = next((label for label in example.labels if label not in known), None)
        if unknown is not None:
            raise ValueError(
                f"{where}[{i}] has the label {unknown!r}, which is not in the label set "
                f"({listed(label_texts)})."
            )


def without_tags(text: str) -> str:
    """Take the double brackets from tags that a text spells, as these are no special tokens."""
    return _TAGS.sub(r"<\1>", text)


def _tagged(example: PromptExample, label_texts: Sequence[str]) -> str:
    true = set(example.labels)
    others = example.other_labels
    # In the order of the label set: the reference iterates over a set, whose order changes from run
    # to run.
    false = [label for label in (label_texts if others is None else others) if label not in true]
    true_part = " ".join(f"<<TRUE_LABEL>> {without_tags(label)}" for label in example.labels)
    false_part = " ".join(f"<<FALSE_LABEL>> {without_tags(label)}" for label in false)
    return f" {without_tags(example.text)} {true_part} {false_part} <</EXAMPLE>>"
