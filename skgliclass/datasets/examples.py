"""One row of training data, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..prompts.checks import check_text, in_short, label_names, listed
from ..prompts.examples import PromptExample

FIELDS = ("text", "all_labels", "true_labels", "prompt", "examples", "weight")
"""The fields of a row that mean something here."""


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
        check_text("text", self.text)
        if self.prompt is not None:
            check_text("prompt", self.prompt)
        _check_number("weight", self.weight, math.inf)
        labels = label_names("all_labels", self.all_labels)
        if not labels:
            raise ValueError("all_labels is empty; a row needs the labels to choose from.")
        object.__setattr__(self, "all_labels", labels)
        object.__setattr__(self, "true_labels", _true_labels(self.true_labels, labels))
        object.__setattr__(self, "examples", tuple(self.examples))
        # It is written beside the fields, one of which it would replace.
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


def _check_number(name: str, value: Any, highest: float) -> None:
    # JSON's true is an int to Python, but no number to who wrote it.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and 0 <= value <= highest):
        wanted = "of at least 0" if highest == math.inf else f"between 0 and {highest:g}"
        raise ValueError(f"{name} is {in_short(value)}; it must be a finite number {wanted}.")


def _true_labels(
    true_labels: Any, all_labels: tuple[str, ...]
) -> tuple[str, ...] | dict[str, float]:
    names = label_names("true_labels", _keys_of(true_labels))
    known = set(all_labels)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ValueError(
            f"true_labels names {unknown!r}, which is not among all_labels ({listed(all_labels)})."
        )
    if not isinstance(true_labels, Mapping):
        return names
    for name, score in true_labels.items():
        _check_number(f"true_labels[{name!r}]", score, 1)
    return dict(true_labels)


def _keys_of(labels: Any) -> Any:
    return list(labels) if isinstance(labels, Mapping) else labels
