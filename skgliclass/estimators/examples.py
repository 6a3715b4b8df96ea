"""Read the `examples` parameter: labelled texts that every prompt shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from ..prompts.checks import in_short, listed
from ..prompts.examples import PromptExample
from .containers import Frame, open_ordered, values_in
from .labels import LabelSet, kind_of_class, plain_class

_LABEL_KEYS = ("labels", "true_labels", "label")
"""What the labels of an example may be called: here, in the training format, and in a table."""


def read_examples(examples: Any, label_set: LabelSet) -> tuple[PromptExample, ...]:
    """Read the `examples` parameter of an estimator.

    Parameters
    ----------
    examples : list of (text, class), (text, list of classes) or dict, or a frame, or None
        A dict has the keys ``"text"`` and ``"labels"`` or, as in the training format,
        ``"true_labels"``; so are the columns of a frame.
    label_set : LabelSet
        What classes there are, and what the model reads for them.

    Returns
    -------
    tuple of PromptExample

    Raises
    ------
    ValueError, TypeError
        If an example has no text, an unknown class or another form; the message names it.
    """
    if examples is None:
        return ()
    text_of = label_set.text_of_class
    entries = enumerate(_entries(examples))
    return tuple(_read_example(i, entry, text_of) for i, entry in entries)


def _entries(examples: Any) -> list[Any]:
    if isinstance(examples, Mapping):
        raise TypeError(
            "examples must be a list of (text, class) pairs; for one example write "
            "examples=[{'text': ..., 'labels': ...}], for a dict of texts to classes "
            "examples=list(examples.items())."
        )
    # Of a frame by its columns, and not by the one column that other values may be in.
    if not isinstance(examples, list | tuple | str):
        # A data set of Hugging Face, which gives its rows as dicts.
        if hasattr(examples, "column_names") and hasattr(examples, "to_list"):
            return list(examples.to_list())
        opened = None if isinstance(examples, Set) else open_ordered(examples, "examples")
        if isinstance(opened, Frame):
            return [dict(zip(opened.columns, row, strict=True)) for row in opened.cells.tolist()]
    return values_in(
        examples, "examples", of="labelled texts", each="(text, class), (text, [class, class])"
    )


def _read_example(i: int, entry: Any, text_of: dict[Any, str]) -> PromptExample:
    text_key, labels_key = _keys_of(i, entry)
    where = f"examples[{i}][{labels_key!r}]"
    try:
        labels = _label_texts(i, entry[labels_key], text_of, where)
        return PromptExample(entry[text_key], labels)
    except (TypeError, ValueError) as error:
        prefix = "" if str(error).startswith("examples[") else f"examples[{i}]: "
        raise type(error)(f"{prefix}{error}") from error


def _keys_of(i: int, entry: Any) -> tuple[Any, Any]:
    """Tell where an example has its text, and where its labels."""
    if isinstance(entry, Mapping):
        return "text", _labels_key(i, entry)
    if isinstance(entry, str) or not isinstance(entry, Sequence | np.ndarray) or len(entry) != 2:
        raise TypeError(
            f"examples[{i}] is {in_short(entry)}; an example is a (text, class) or "
            "(text, [classes]) pair, or a dict with the keys 'text' and 'labels'."
        )
    return 0, 1


def _labels_key(i: int, entry: Mapping[Any, Any]) -> str:
    named = [key for key in _LABEL_KEYS if key in entry]
    if len(named) > 1:
        raise ValueError(
            f"examples[{i}] has {' and '.join(map(repr, named))}; which of them holds its labels? "
            "Leave one out."
        )
    missing = [] if named else ["labels"]
    missing += [] if "text" in entry else ["text"]
    if missing:
        raise ValueError(
            f"examples[{i}] has no {' and no '.join(map(repr, missing))}; an example is a dict "
            "with the keys 'text' and 'labels' (or 'true_labels'), or a (text, class) pair."
        )
    return named[0]


def _label_texts(i: int, labels: Any, text_of: dict[Any, str], where: str) -> list[str]:
    """Give the label texts of an example's labels."""
    if isinstance(labels, Mapping):
        # As in the training format: a score between 0 and 1 for each.
        labels = [value for value, score in labels.items() if score > 0.5]
    is_set = isinstance(labels, Set)
    if is_set:
        values = list(labels)
    elif isinstance(labels, str) or not _holds_several(labels):
        values = [labels]
    else:
        values = values_in(labels, where, of="classes")
    texts = [_label_text(i, value, text_of) for value in values]
    # Sets have no order, so that each process would show another prompt.
    return [text for text in text_of.values() if text in texts] if is_set else texts


def _holds_several(labels: Any) -> bool:
    # A table can be read, but not iterated over.
    is_container = isinstance(labels, Iterable) or any(
        hasattr(labels, name) for name in ("__array__", "__arrow_c_stream__", "collect")
    )
    return is_container and not pd.api.types.is_scalar(labels)


def _label_text(i: int, value: Any, text_of: dict[Any, str]) -> str:
    value = plain_class(value, f"examples[{i}]: a label")
    value = value.item() if isinstance(value, np.generic) else value
    unknown = ValueError(
        f"examples[{i}] has the unknown class {value!r}; the classes are {listed(list(text_of))}."
    )
    try:
        text = text_of[value]
    except (KeyError, TypeError):
        raise unknown from None
    # A truth value equals a number, but is none.
    if isinstance(value, bool) and not any(kind_of_class(other) is bool for other in text_of):
        raise unknown
    return text
