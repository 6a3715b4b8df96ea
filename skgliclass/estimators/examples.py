"""Read the `examples` parameter: labelled texts that every prompt shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..prompts.checks import listed
from ..prompts.examples import PromptExample
from .labels import LabelSet


def read_examples(examples: Any, label_set: LabelSet) -> tuple[PromptExample, ...]:
    """Read the `examples` parameter of an estimator.

    Parameters
    ----------
    examples : list of (text, class), (text, list of classes) or dict, or None
        A dict has the keys ``"text"`` and ``"labels"``.
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
    if isinstance(examples, Mapping):
        raise TypeError(
            "examples must be a list of (text, class) pairs; for one example write "
            "examples=[{'text': ..., 'labels': ...}]."
        )
    text_of = dict(zip(label_set.classes.tolist(), label_set.texts, strict=True))
    return tuple(_read_example(i, entry, text_of) for i, entry in enumerate(examples))


def _read_example(i: int, entry: Any, text_of: dict[Any, str]) -> PromptExample:
    text, labels = _text_and_labels(i, entry)
    if isinstance(labels, str) or not isinstance(labels, list | tuple | set | np.ndarray):
        labels = [labels]
    try:
        return PromptExample(text, [_label_text(i, value, text_of) for value in labels])
    except (TypeError, ValueError) as error:
        where = "" if str(error).startswith("examples[") else f"examples[{i}]: "
        raise type(error)(f"{where}{error}") from error


def _text_and_labels(i: int, entry: Any) -> tuple[Any, Any]:
    if isinstance(entry, Mapping):
        missing = {"text", "labels"} - entry.keys()
        if missing:
            raise ValueError(
                f"examples[{i}] has no {' and no '.join(map(repr, sorted(missing)))}; an example "
                "is a dict with the keys 'text' and 'labels', or a (text, class) pair."
            )
        return entry["text"], entry["labels"]
    if isinstance(entry, str) or not isinstance(entry, Sequence | np.ndarray) or len(entry) != 2:
        raise TypeError(
            f"examples[{i}] is {entry!r}; an example is a (text, class) or (text, [classes]) "
            "pair, or a dict with the keys 'text' and 'labels'."
        )
    return entry[0], entry[1]


def _label_text(i: int, value: Any, text_of: dict[Any, str]) -> str:
    # As tolist gave the classes: a datetime64 is not found by the datetime that stands for it.
    value = value.item() if isinstance(value, np.generic) else value
    try:
        return text_of[value]
    except (KeyError, TypeError):
        raise ValueError(
            f"examples[{i}] has the unknown class {value!r}; the classes are "
            f"{listed(list(text_of))}."
        ) from None
