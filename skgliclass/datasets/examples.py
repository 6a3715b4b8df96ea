"""One row of training data, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..estimators.texts import check_unicode

FIELDS = ("text", "all_labels", "true_labels", "prompt", "examples", "weight")
"""The fields of a row that mean something here."""


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
        _check_text("text", self.text)
        if not self.text.strip():
            raise ValueError("text is empty, so that the example shows nothing.")
        object.__setattr__(self, "labels", _label_names("labels", self.labels))
        if self.other_labels is not None:
            others = _label_names("other_labels", self.other_labels)
            object.__setattr__(self, "other_labels", others)


@dataclass(frozen=True)
class Example:
    """One row of training data: a text and how far each label of its own label set holds.

    Parameters
    ----------
    text : str
        What is classified.
    all_labels : sequence of str
        The labels to choose from, which may differ from row to row.
    true_labels : sequence of str, or mapping of str to float
        Those of them that hold; or, as soft targets between 0 and 1, how far each holds, where a
        label that is left out has 0.
    prompt : str, optional
        The task description of this row.
    examples : sequence of PromptExample, default=()
        What the prompt shows besides.
    weight : float, default=1.0
        How much the row counts in training.
    extra : mapping of str to Any
        Other fields of the row, which are kept but not used.

    Raises
    ------
    ValueError
        If a field is at fault; the message begins with its name.
    """

    text: str
    all_labels: Sequence[str]
    true_labels: Sequence[str] | Mapping[str, float]
    prompt: str | None = None
    examples: Sequence[PromptExample] = ()
    weight: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("text", self.text)
        if self.prompt is not None:
            _check_text("prompt", self.prompt)
        _check_number("weight", self.weight, math.inf)
        labels = _label_names("all_labels", self.all_labels)
        if not labels:
            raise ValueError("all_labels is empty; a row needs the labels to choose from.")
        object.__setattr__(self, "all_labels", labels)
        object.__setattr__(self, "true_labels", _true_labels(self.true_labels, labels))
        object.__setattr__(self, "examples", tuple(self.examples))
        taken = next((name for name in self.extra if name in FIELDS), None)
        if taken is not None:
            raise ValueError(f"extra holds {taken!r}, which is a field of its own.")

    @property
    def targets(self) -> tuple[float, ...]:
        """How far each label holds, in the order of `all_labels`."""
        if isinstance(self.true_labels, Mapping):
            return tuple(float(self.true_labels.get(name, 0.0)) for name in self.all_labels)
        true = set(self.true_labels)
        return tuple(float(name in true) for name in self.all_labels)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}; it must be a text.")
    check_unicode(value, name)


def _check_number(name: str, value: Any, highest: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and 0 <= value <= highest):
        wanted = "of at least 0" if highest == math.inf else f"between 0 and {highest:g}"
        raise ValueError(f"{name} is {shown(value)}; it must be a finite number {wanted}.")


def _label_names(name: str, labels: Any) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ValueError(f"{name} is {shown(labels)}; it must be a list of labels.")
    for i, label in enumerate(labels):
        _check_text(f"{name}[{i}]", label)
        if not label.strip():
            raise ValueError(f"{name}[{i}] is empty, so the model has nothing to read for it.")
    if len(set(labels)) != len(labels):
        repeated = next(label for i, label in enumerate(labels) if label in labels[:i])
        raise ValueError(f"{name} repeats the label {repeated!r}.")
    return tuple(labels)


def _true_labels(
    true_labels: Any, all_labels: tuple[str, ...]
) -> tuple[str, ...] | dict[str, float]:
    names = _label_names("true_labels", _keys_of(true_labels))
    known = set(all_labels)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        choice = ", ".join(map(repr, all_labels[:8])) + (", ..." if len(all_labels) > 8 else "")
        raise ValueError(
            f"true_labels names {unknown!r}, which is not among all_labels ({choice})."
        )
    if not isinstance(true_labels, Mapping):
        return names
    for name, score in true_labels.items():
        _check_number(f"true_labels[{name!r}]", score, 1)
    return dict(true_labels)


def _keys_of(labels: Any) -> Any:
    return list(labels) if isinstance(labels, Mapping) else labels


def shown(value: Any) -> str:
    """Show a value in an error, shortened, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
