"""The file of a saved classifier: what it has to hold, and what is wrong with one that does not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import warn
from .labels import LabelSet, sorted_order
from .values import array_of, from_json, shortened

FORMAT = 3
KINDS = ("GLiClassClassifier", "GLiClassMultiLabelClassifier")


@dataclass(frozen=True)
class _Field:
    """One entry of the file.

    Attributes
    ----------
    is_right : callable
        Tells whether a value can stand there.
    description : str
        What can.
    """

    is_right: Callable[[Any], bool]
    description: str


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and isfinite(value)


def _is_probability(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_temperature(value: Any) -> bool:
    # As it is used: a number that single precision rounds to zero divides logits by zero.
    return _is_number(value) and bool(0 < np.float32(value) < np.inf)


_FIELDS: dict[str, _Field] = {
    "skgliclass_version": _Field(lambda v: isinstance(v, str), "a string"),
    "estimator": _Field(lambda v: v in KINDS, f"one of {', '.join(KINDS)}"),
    "classes": _Field(
        lambda v: v is None or (isinstance(v, list) and bool(v)), "a list of classes, or null"
    ),
    "classes_dtype": _Field(lambda v: v is None or isinstance(v, str), "a type of numpy, or null"),
    "label_texts": _Field(
        lambda v: v is None or (isinstance(v, list) and all(isinstance(t, str) for t in v)),
        "a list of strings, or null",
    ),
    "labels": _Field(
        lambda v: v is None or isinstance(v, list | dict), "a list or object, or null"
    ),
    "temperature": _Field(_is_temperature, "a number above 0"),
    "thresholds": _Field(
        lambda v: v is None or (isinstance(v, list) and all(map(_is_probability, v))),
        "a list of numbers between 0 and 1, or null",
    ),
    "min_probability": _Field(
        lambda v: v is None or _is_probability(v), "a number between 0 and 1, or null"
    ),
    "keeps_examples": _Field(lambda v: isinstance(v, bool), "true or false"),
    "keeps_votes": _Field(lambda v: isinstance(v, bool), "true or false"),
    "vote_share": _Field(
        lambda v: v is None or _is_probability(v), "a number between 0 and 1, or null"
    ),
    "keeps_change": _Field(lambda v: isinstance(v, bool), "true or false"),
    "keeps_rows": _Field(lambda v: isinstance(v, bool), "true or false"),
    "digests": _Field(
        lambda v: isinstance(v, dict) and all(isinstance(d, str) for d in v.values()),
        "an object of strings",
    ),
    "is_tuned": _Field(lambda v: isinstance(v, bool), "true or false"),
    "parameters": _Field(lambda v: isinstance(v, dict), "an object"),
}


def checked_content(content: Any, path: Path) -> dict[str, Any]:
    """Check the file of a saved classifier.

    Parameters
    ----------
    content : Any
        The file as JSON gives it.
    path : Path
        Where it is, for errors.

    Returns
    -------
    dict of str to Any
        The same, of the format of this version.

    Raises
    ------
    ValueError
        If a later version wrote it, or something in it is missing or cannot be; the message
        names the file and the field.
    """
    if not isinstance(content, dict):
        raise _error(path, f"the file holds {shortened(content)}, but has to hold an object")
    _check_format(content, path)
    if content["format"] == 1:
        content = _from_first_format(content)
    if content["format"] < 3:
        # Nothing could be learnt without touching the model.
        content = {**content, "keeps_change": False, "keeps_rows": False}
    # Of files that were written before, or elsewhere, nobody noted them.
    is_tuned = not content.get("keeps_rows", False)
    later = {"digests": {}, "keeps_votes": False, "vote_share": None, "is_tuned": is_tuned}
    content = {**later, **content}
    for name, field in _FIELDS.items():
        if name not in content:
            raise _error(path, f"{name} is missing; it has to be {field.description}")
        if not field.is_right(content[name]):
            raise wrong_field(path, name, content[name], field.description)
    _check_counts(content, path)
    unknown = sorted(content.keys() - _FIELDS.keys() - {"format"})
    if unknown:
        warn(
            f"{path}: this version of skgliclass knows nothing of {shortened(unknown)}, which "
            f"skgliclass {shortened(content['skgliclass_version'])} wrote; it is left out."
        )
    return content


def label_set_of(content: Mapping[str, Any], path: Path) -> LabelSet | None:
    """Give the classes of a checked file; None where it has none.

    Raises
    ------
    ValueError
        If they are no label set, or other classes than its labels mean.
    """
    if content["classes"] is None:
        return None
    is_sorted = content["estimator"] == KINDS[0]
    try:
        values = [from_json(value) for value in content["classes"]]
        classes = array_of(values, content["classes_dtype"] or "O")
        label_set = LabelSet(classes, tuple(content["label_texts"]))
        # It refuses what is repeated, empty or no class at all.
        again = LabelSet.from_labels(label_set.as_labels(), sort=False)
        if len(again) != len(label_set):
            raise ValueError("a class is repeated")
        if is_sorted and any(a > b for a, b in pairwise(sorted_order(classes))):
            raise ValueError("they are not sorted")
    except (TypeError, ValueError, OverflowError) as error:
        what = shortened(content["classes"])
        raise _error(path, f"classes={what} and label_texts are no label set: {error}") from error
    _check_labels(content, label_set, is_sorted, path)
    return label_set


def parameters_of(content: Mapping[str, Any], known: Collection[str], path: Path) -> dict[str, Any]:
    """Give the parameters of a checked file, by name; those of a later version are left out.

    Raises
    ------
    ValueError
        If a value stands for nothing.

    Warns
    -----
    UserWarning
        If there are any of a later version.
    """
    written = content["parameters"]
    unknown = sorted(written.keys() - set(known))
    if unknown:
        warn(
            f"{path}: this version of skgliclass has no parameter {shortened(unknown)}, which "
            f"skgliclass {shortened(content['skgliclass_version'])} wrote; it is left out. "
            "Update skgliclass to use it."
        )
    return {
        name: _decoded(value, f"parameters.{name}", path)
        for name, value in written.items()
        if name in known
    }


def labels_of(content: Mapping[str, Any], path: Path) -> Any:
    """Give the `labels` parameter of a checked file."""
    return _decoded(content["labels"], "labels", path)


@contextmanager
def errors_naming_file(path: Path | None) -> Iterator[None]:
    """Say of errors about parameters that a file holds them."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: parameters: {error}") from error


def wrong_field(path: Path, name: str, value: Any, description: str) -> ValueError:
    """Give the error that says what a field of the file holds and what it has to be."""
    return _error(path, f"{name} is {shortened(value)}; it has to be {description}")


def _decoded(value: Any, name: str, path: Path) -> Any:
    try:
        return from_json(value)
    except ValueError as error:
        raise _error(path, f"{name}: {error}") from error


def _error(path: Path, what: str) -> ValueError:
    return ValueError(f"{path}: {what}. Restore the file, or save the classifier again.")


def _check_format(content: Mapping[str, Any], path: Path) -> None:
    number = content.get("format")
    if type(number) is not int or number < 1:
        raise wrong_field(path, "format", number, f"a number from 1 to {FORMAT}")
    if number > FORMAT:
        version = shortened(content.get("skgliclass_version"))
        raise ValueError(
            f"{path}: format is {shortened(number)}, which skgliclass {version} wrote; this "
            f"version reads formats up to {FORMAT}. Update skgliclass."
        )


def _from_first_format(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the file would be in the format of now, with as much as it says."""
    classes, texts = content.get("classes"), content.get("label_texts")
    labels = content.get("hierarchy")
    if labels is None and isinstance(classes, list) and isinstance(texts, list):
        pairs = [list(pair) for pair in zip(classes, texts, strict=False)]
        labels = {"$type": "dict", "value": pairs}
    later = {"classes_dtype": None, "min_probability": None, "keeps_examples": False}
    kept = {name: value for name, value in content.items() if name != "hierarchy"}
    dtype = None if not isinstance(classes, list) else _common_dtype(classes)
    return {**later, **kept, "classes_dtype": dtype, "labels": labels}


def _common_dtype(classes: list[Any]) -> str | None:
    kinds = {type(value) for value in classes}
    return np.asarray(classes).dtype.str if kinds in ({str}, {int}, {float}, {bool}) else None


def _check_counts(content: Mapping[str, Any], path: Path) -> None:
    classes, texts = content["classes"], content["label_texts"]
    thresholds = content["thresholds"]
    if (classes is None) != (texts is None):
        raise wrong_field(path, "label_texts", texts, "there if classes are, and only then")
    n_classes = len(classes or [])
    if texts is not None and len(texts) != n_classes:
        what = f"{len(texts)} label_texts, but {n_classes} classes"
        raise _error(path, f"there are {what}; each class has to have one")
    if thresholds is not None and content["estimator"] == KINDS[0]:
        raise wrong_field(path, "thresholds", thresholds, f"null for a {KINDS[0]}")
    if thresholds is not None and len(thresholds) != n_classes:
        what = f"{len(thresholds)} thresholds, but {n_classes} classes"
        raise _error(path, f"there are {what}; each class has to have one")


def _check_labels(
    content: Mapping[str, Any], label_set: LabelSet, is_sorted: bool, path: Path
) -> None:
    labels = labels_of(content, path)
    if labels is None:
        return
    try:
        meant = LabelSet.from_labels(labels, sort=is_sorted)
    except (TypeError, ValueError) as error:
        raise _error(path, str(error)) from error
    if not meant.same_as(label_set):
        raise _error(
            path,
            f"labels mean the classes {shortened(meant.classes.tolist())}, read as "
            f"{shortened(meant.texts)}, but classes and label_texts are "
            f"{shortened(label_set.classes.tolist())} and {shortened(label_set.texts)}",
        )
