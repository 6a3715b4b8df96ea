"""What labelled rows and the labels of a classifier have to do with each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..datasets.examples import Example
from ..estimators.targets import is_number
from ..prompts.checks import check_text, listed
from .errors import CommandError


@dataclass(frozen=True)
class UnlabelledExample(Example):
    """A text whose labels nobody knows; those that it may have are of no importance."""

    all_labels: Sequence[str] = ()
    true_labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_text("text", self.text)


@dataclass(frozen=True)
class PartlyKnownExample(Example):
    """A text that offers more labels than anybody annotated; nobody knows of the others.

    Attributes
    ----------
    annotated : collection of str
        Those of `all_labels` that somebody annotated.
    """

    annotated: Collection[str] = ()

    @property
    def targets(self) -> tuple[float, ...]:
        """How far each label holds, in the order of `all_labels`; NaN where nobody knows."""
        pairs = zip(self.all_labels, super().targets, strict=True)
        return tuple(target if name in self.annotated else math.nan for name, target in pairs)


def is_labelled(row: Example) -> bool:
    """Tell whether anybody knows the labels of a row."""
    return not isinstance(row, UnlabelledExample)


def names_in(examples: Iterable[Example]) -> set[str]:
    """Give every label that some row offers."""
    return {label for row in examples for label in row.all_labels}


def named_as_classes(examples: Iterable[Example], classes: Sequence[Any]) -> Iterator[Example]:
    """Give rows of a table whose labels are named as classes are that they stand for.

    A cell holds true, 1.0 or a name without the blanks at its ends where a classifier has the
    classes True, 1 and " name".

    Parameters
    ----------
    examples : iterable of Example
        The rows.
    classes : sequence
        The values of the classes, of which each is named by its text.
    """
    name_of = class_names(classes)
    labels: Sequence[str] = ()
    renamed: dict[str, str] = {}
    for row in examples:
        # Most rows of a table share their labels.
        if row.all_labels is not labels:
            labels = row.all_labels
            renamed = {label: name_of(label) for label in labels if name_of(label) != label}
        yield _renamed(row, renamed) if renamed else row


def class_names(classes: Sequence[Any]) -> Callable[[str], str]:
    """Give what names a label as the class that it stands for, if it stands for one."""
    key = _number_in if all(map(is_number, classes)) else str.strip
    names = [str(value) for value in classes]
    keys = [key(name) for name in names]
    counts = Counter(keys)
    class_of = {k: name for k, name in zip(keys, names, strict=True) if counts[k] == 1}
    # What is a class by its own name stands for no other one.
    known = {name: name for name in names}
    return lambda label: known.get(label) or class_of.get(key(label), label)


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


def offer(examples: Iterable[Example], labels: Sequence[str]) -> Iterator[Example]:
    """Give rows that offer these labels, among which theirs are."""
    offered = tuple(labels)
    return (replace(row, all_labels=offered) if is_labelled(row) else row for row in examples)


def offer_beside(examples: Iterable[Example], labels: Sequence[str]) -> Iterator[Example]:
    """Give rows that offer these labels; of those that they did not offer nobody knows."""
    offered = tuple(labels)
    return (_beside(row, offered) if is_labelled(row) else row for row in examples)


def _beside(row: Example, offered: Sequence[str]) -> Example:
    if set(row.all_labels).issuperset(offered):
        return replace(row, all_labels=offered)
    values = {f.name: getattr(row, f.name) for f in fields(Example)}
    return PartlyKnownExample(
        **{**values, "all_labels": offered}, annotated=frozenset(row.all_labels)
    )


def of_known(
    examples: Iterable[Example], known: Sequence[str], *, name: str, whose: str
) -> Iterator[Example]:
    """Give the rows of a table, as long as a classifier can give their labels.

    Raises
    ------
    CommandError
        It names the first row with a label that it cannot give.
    """
    names = set(known)
    for number, row in enumerate(examples, 1):
        unknown = next((label for label in row.true_labels if label not in names), None)
        if unknown is not None:
            raise CommandError(
                f"{name}: row {number} has the label {unknown!r}, which is none of {whose}: "
                f"{listed(known, 20)}. Rows with label sets of their own go into a file in the "
                "GLiClass training format"
            )
        yield row


def without_other(
    examples: Iterable[Example], other: str | None, *, name: str
) -> Iterator[Example]:
    """Take what stands for no class from the labels of rows; it leaves a row without a true one.

    Raises
    ------
    CommandError
        If a row has nothing else to choose from.
    """
    for number, row in enumerate(examples, 1):
        if other is None or other not in row.all_labels:
            yield row
            continue
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
        yield replace(row, all_labels=labels, true_labels=true)
