"""Refuse what no prompt can hold, with an error that says what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def check_unicode(text: str, where: str) -> None:
    """Refuse a text that holds half of a surrogate pair, as no tokenizer reads it.

    Parameters
    ----------
    text : str
        What to check.
    where : str
        How the caller calls it, for the error.

    Raises
    ------
    ValueError
        If the text cannot be encoded.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} is not valid Unicode: its character {error.start} is the lone surrogate "
            f"{text[error.start]!r}. Read the data in the encoding that it has, or replace such "
            "characters: text.encode('utf-8', 'replace').decode()."
        ) from error


def check_text(name: str, value: Any) -> None:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {in_short(value)}; it must be a text.")
    check_unicode(value, name)


def label_names(name: str, labels: Any) -> tuple[str, ...]:
    """Give a list of label texts as a tuple; refuse what is none."""
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ValueError(f"{name} is {in_short(labels)}; it must be a list of labels.")
    for i, label in enumerate(labels):
        check_text(f"{name}[{i}]", label)
        if not label.strip():
            raise ValueError(f"{name}[{i}] is empty, so the model has nothing to read for it.")
    if len(set(labels)) != len(labels):
        # Quadratic, but only on the way to the error.
        repeated = next(label for i, label in enumerate(labels) if label in labels[:i])
        raise ValueError(f"{name} repeats the label {repeated!r}.")
    return tuple(labels)


def in_short(value: Any) -> str:
    """Show a value in an error, shortened, with its type."""
    # On one line, as frames and arrays have several.
    text = repr(value).replace("\n", " ")
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def listed(values: Sequence[Any], n_most: int = 8) -> str:
    """Name values in an error, but only the first of many."""
    return ", ".join(map(repr, values[:n_most])) + (", ..." if len(values) > n_most else "")


def first_repeated(names: Sequence[str]) -> str | None:
    """Give the first name that comes again; None where each comes once."""
    counts = Counter(names)
    return next((name for name in names if counts[name] > 1), None)
