"""What labelled rows and the labels of a classifier have to do with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..datasets.examples import Example
from ..estimators.targets import is_number
from ..prompts.checks import listed
from .errors import CommandError


def names_in(examples: Iterable[Example]) -> set[str]:
    """Give every label that some row offers."""
    return {label for row in examples for label in row.all_labels}


def named_as_classes(examples: Sequence[Example], classes: Sequence[Any]) -> list[Example]:
    """Give rows of a table whose labels are named as classes are that they stand for.

    A cell holds true, 1.0 or a name without the blanks at its ends where a classifier has the
    classes True, 1 and " name".

    Parameters
    ----------
    examples : sequence of Example
        The rows.
    classes : sequence
        The values of the classes, of which each is named by its text.
    """
    key = _number_in if all(map(is_number, classes)) else str.strip
    names = [str(value) for value in classes]
    keys = [key(name) for name in names]
    class_of = {k: name for k, name in zip(keys, names, strict=True) if keys.count(k) == 1}
    others = names_in(examples).difference(names)
    renamed = {label: class_of[key(label)] for label in others if key(label) in class_of}
    return [_renamed(row, renamed) for row in examples] if renamed else list(examples)


def _number_in(text: str) -> float | str:
    try:
        return float({"true": "1", "false": "0"}.get(text.lower(), text))
    except ValueError:
        return text


def _renamed(row: Example, names: Mapping[str, str]) -> Example:
    def named(labels: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(names.get(label, label) for label in labels))

    true = row.true_labels
    if isinstance(true, Mapping):
        true = {names.get(label, label): score for label, score in true.items()}
    else:
        true = named(true)
    return replace(row, all_labels=named(row.all_labels), true_labels=true)


def offer(examples: Sequence[Example], labels: Sequence[str]) -> list[Example]:
    """Give rows that offer these labels, among which theirs are."""
    return [replace(row, all_labels=labels) for row in examples]


def check_known(
    examples: Sequence[Example], known: Sequence[str], *, name: str, whose: str
) -> None:
    """Refuse a table with labels that a classifier cannot give.

    Raises
    ------
    CommandError
        It names the first row with such a label.
    """
    for number, row in enumerate(examples, 1):
        unknown = next((label for label in row.true_labels if label not in known), None)
        if unknown is not None:
            raise CommandError(
                f"{name}: row {number} has the label {unknown!r}, which is none of {whose}: "
                f"{listed(known, 20)}. Rows with label sets of their own go into a file in the "
                "GLiClass training format"
            )


def without_other(examples: Sequence[Example], other: str | None, *, name: str) -> list[Example]:
    """Take what stands for no class from the labels of rows; it leaves a row without a true one.

    Raises
    ------
    CommandError
        If a row has nothing else to choose from.
    """
    if other is None or other not in names_in(examples):
        return list(examples)
    rows = []
    for number, row in enumerate(examples, 1):
        labels = [label for label in row.all_labels if label != other]
        if not labels:
            raise CommandError(
                f"{name}: row {number} has no label but {other!r}, which is no class"
            )
        is_soft = not isinstance(row.true_labels, tuple)
        if is_soft and other in row.true_labels:
            raise CommandError(
                f"{name}: row {number} has a score for {other!r}, which is no class (see --other)"
            )
        true = (
            row.true_labels if is_soft else [label for label in row.true_labels if label != other]
        )
        rows.append(replace(row, all_labels=labels, true_labels=true))
    return rows
