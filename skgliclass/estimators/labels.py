"""The label set: class values and the texts that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..prompts.checks import check_unicode

SEPARATOR = "."
"""What joins the names on the way from a hierarchy's root to one of its leaves."""


# Not compared field by field: == of two arrays is an array, which is neither true nor false.
@dataclass(frozen=True, eq=False)
class LabelSet:
    """The ordered classes of a problem and what the model reads for each of them.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The class values, as ``predict`` returns them.
    texts : tuple of str of length n_classes
        The label text of each class, in the order of `classes`.
    reordered : bool
        Whether sorting changed the order in which the user gave the labels.
    """

    classes: NDArray[Any]
    texts: tuple[str, ...]
    reordered: bool = False

    def __len__(self) -> int:
        # An empty set is false, so that `if label_set` asks whether there are classes.
        return len(self.texts)

    def same_as(self, other: LabelSet | None) -> bool:
        """Tell whether another label set has the same classes and label texts in the same order."""
        return (
            other is not None
            and self.texts == other.texts
            and self.classes.tolist() == other.classes.tolist()
        )

    def as_labels(self) -> dict[Any, str]:
        """Give a `labels` parameter that stands for this label set."""
        return dict(zip(self.classes.tolist(), self.texts, strict=True))

    @classmethod
    def from_labels(cls, labels: Any, *, sort: bool, name: str = "labels") -> LabelSet:
        """Read the `labels` parameter of a classifier.

        Parameters
        ----------
        labels : sequence of classes, dict of class to label text, or nested dict
            A sequence shows each class to the model as ``str(class)``. A dict whose values are
            strings names the label text of each class. A dict with lists or dicts in it is a
            hierarchy: its leaves are the classes, under dotted names. The model reads these, but
            for a leaf that stands for a string it reads that.
        sort : bool
            Sort the classes as :func:`numpy.unique` does, rather than keep the order given.
        name : str, default="labels"
            What to call `labels` in an error.

        Returns
        -------
        LabelSet

        Raises
        ------
        ValueError
            If there is no label, a label or a label text repeats, is empty or no valid Unicode,
            or a branch of a hierarchy has no leaf.
        TypeError
            If `labels` is a single string or of another unsupported type.
        """
        pairs = _class_text_pairs(labels)
        _check_pairs(pairs, named=isinstance(labels, Mapping), name=name)
        classes = as_class_array([value for value, _ in pairs])
        order = sorted_order(classes) if sort else np.arange(len(pairs))
        # A label text moves with its class.
        texts = tuple(pairs[i][1] for i in order)
        return cls(classes[order], texts, bool((np.diff(order) < 0).any()))

    @classmethod
    def from_target(cls, y: NDArray[Any]) -> LabelSet:
        """Take the classes from a target vector `y`: each distinct value, shown as ``str``."""
        return cls.from_labels(np.unique(y), sort=True, name="classes")

    def extended(self, values: Sequence[Any]) -> LabelSet:
        """Give a label set with those of some classes that are new behind these."""
        known = set(self.classes.tolist())
        new = [value for value in dict.fromkeys(values) if value not in known]
        if not new:
            return self
        classes = as_class_array([*self.classes.tolist(), *new])
        return LabelSet(classes, (*self.texts, *map(str, new)), self.reordered)


def flatten_hierarchy(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Give the dotted names of a hierarchy's leaves, depth first, and what the model reads.

    Parameters
    ----------
    tree : mapping of name to a label text, to a list of names, or to another such mapping
        The hierarchy, of any depth.
    prefix : str, default=""
        The dotted name of the branch that `tree` stands for.

    Returns
    -------
    dict of str to str
        For ``{"topic": {"sport": "matches and athletes", "places": ["travel"]}}``:
        ``{"topic.sport": "matches and athletes", "topic.places.travel": "topic.places.travel"}``.

    Raises
    ------
    ValueError
        If a branch has no leaf, or two leaves have one dotted name.
    TypeError
        If a name is no string, or what it stands for could be read in two ways or in none.
    """
    texts: dict[str, str] = {}
    _check_unmixed(tree, prefix)
    for name, branch in tree.items():
        path = _join(prefix, name)
        for leaf, text in _leaves(branch, path):
            if leaf in texts:
                raise ValueError(
                    f"labels: the hierarchy has two leaves with the dotted name {leaf!r}; every "
                    "class needs a name of its own."
                )
            texts[leaf] = text
    return texts


def as_class_array(values: Sequence[Any]) -> NDArray[Any]:
    """Put class values in an array without changing them, as mixing types in one would."""
    # One value of each type tells, and there are few types.
    kinds = {kind_of_class(value) for value in {type(value): value for value in values}.values()}
    array = np.asarray(values) if len(kinds) == 1 else None
    # numpy drops a NUL at the end of a string and rounds integers beside floats.
    if array is None or array.ndim != 1 or (kinds <= {str, float} and array.tolist() != [*values]):
        array = np.empty(len(values), dtype=object)
        # Assigned: np.asarray would make a table of tuples that have one length.
        array[:] = list(values)
    return array


def plain_class(value: Any, where: str) -> Any:
    """Give the value of an enumeration's member that is a string or a number, and others as is.

    Parameters
    ----------
    value : object
        A class as the user wrote it.
    where : str
        How the caller calls it, for the error.

    Raises
    ------
    TypeError
        If it is a member of another enumeration, or bytes.
    """
    # str() of a member is its name, and numpy makes strings of members by str().
    if isinstance(value, Enum):
        if isinstance(value, str | int | float):
            return value.value
        kind = type(value).__name__
        raise TypeError(
            f"{where} is {value!r}, a member of the enumeration {kind}, which is no string or "
            f"number itself. Use the values, [member.value for member in {kind}], or write "
            f"class {kind}(str, Enum)."
        )
    if isinstance(value, bytes):
        raise TypeError(f"{where} is {value!r} (bytes), not a string. Decode it first.")
    return value


def _class_text_pairs(labels: Any) -> list[tuple[Any, str]]:
    if isinstance(labels, Mapping):
        return _pairs_of_mapping(labels)
    if isinstance(labels, str | bytes):
        raise TypeError(
            f"labels is the single string {labels!r}; it must be a list of labels. "
            f"Write labels=[{labels!r}, ...]."
        )
    # The order of a set of strings is another in every process, and with it the prompt.
    if isinstance(labels, set | frozenset) or not isinstance(labels, Iterable):
        raise TypeError(
            f"labels must be a list of classes or a dict, got {type(labels).__name__}. "
            "An ordered collection is needed; write labels=[...]."
        )
    values = labels.tolist() if isinstance(labels, np.ndarray | pd.Series | pd.Index) else labels
    return [(value, str(value)) for value in values]


def _pairs_of_mapping(labels: Mapping[Any, Any]) -> list[tuple[Any, str]]:
    for name, value in labels.items():
        if value is None or isinstance(value, bytes) or not isinstance(value, Iterable):
            raise TypeError(
                f"labels[{name!r}] is {value!r} ({type(value).__name__}); it must be the text that "
                "the model reads for the label, or a list or dict of labels."
            )
    if all(isinstance(value, str) for value in labels.values()):
        return list(labels.items())
    return list(flatten_hierarchy(labels).items())


def _check_unmixed(tree: Mapping[str, Any], prefix: str) -> None:
    """Refuse a string beside lists, where it may be a label text or a list of one name."""
    is_list = [not isinstance(value, str | Mapping) for value in tree.values()]
    text = next((name for name, value in tree.items() if isinstance(value, str)), None)
    if text is not None and any(is_list):
        where = f" under {prefix!r}" if prefix else ""
        raise TypeError(
            f"labels mixes label texts and lists{where}: labels[{text!r}] is a string, "
            f"{tree[text]!r}, while others are lists. If it is the only label in the branch, write "
            f"[{tree[text]!r}]; if it is what the model reads for the leaf {text!r}, write the "
            "lists as dicts of label to label text."
        )


def _leaves(branch: Any, path: str) -> list[tuple[str, str]]:
    """Give the dotted names and texts of the leaves that a name in a hierarchy stands for."""
    if isinstance(branch, str):
        return [(path, branch)]
    if isinstance(branch, bytes) or not isinstance(branch, Iterable):
        raise TypeError(
            f"labels: {path!r} in the hierarchy must stand for a list or a dict of labels, or for "
            f"the text that the model reads for it, got {type(branch).__name__} ({branch!r})."
        )
    if isinstance(branch, Mapping):
        leaves = list(flatten_hierarchy(branch, path).items())
    else:
        names = [_join(path, leaf) for leaf in branch]
        leaves = list(zip(names, names, strict=True))
    if not leaves:
        raise ValueError(
            f"labels: the branch {path!r} of the hierarchy is empty. Give it at least one "
            "label, or leave the branch out."
        )
    return leaves


def _join(prefix: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise TypeError(
            f"labels: the names in a hierarchy must be non-empty strings, found {name!r}"
            + (f" under {prefix!r}." if prefix else ".")
        )
    return f"{prefix}{SEPARATOR}{name}" if prefix else name


def _check_pairs(pairs: Sequence[tuple[Any, str]], *, named: bool, name: str) -> None:
    """Refuse what is no label set; a dict's labels are called by their keys."""
    if not pairs:
        raise ValueError("labels is empty; give at least one label, or labels=None before a fit.")
    seen_classes: dict[Any, str] = {}
    seen_texts: dict[str, str] = {}
    for i, (value, text) in enumerate(pairs):
        place = f"{name}[{(value if named else i)!r}]"
        # isna of a list is an array, and of a scalar alone a yes or no.
        if not isinstance(value, str) and pd.api.types.is_scalar(value) and pd.isna(value):
            raise ValueError(f"{place} is missing ({value!r}); a class must be a value.")
        if not isinstance(value, str) and not pd.api.types.is_scalar(value):
            raise TypeError(
                f"{place} is {value!r} ({type(value).__name__}); a class must be a string, "
                "a number or another single value."
            )
        for part in (text, value):
            if isinstance(part, str):
                check_unicode(part, place)
        if not text.strip():
            raise ValueError(
                f"{place} has an empty label text, so the model has nothing to read for it. "
                "Name the label, for instance with a dict: labels={class: 'what it means'}."
            )
        _check_new(value, place, seen_classes, "{place} repeats {other}: {value!r}.")
        _check_new(
            text,
            place,
            seen_texts,
            "{place} and {other} have the same label text {value!r}, so that the model "
            "could not tell them apart. Give each class a text of its own.",
        )


def _check_new(value: Any, place: str, seen: dict[Any, str], message: str) -> None:
    if value in seen:
        raise ValueError(message.format(place=place, other=seen[value], value=value))
    seen[value] = place


def sorted_order(classes: NDArray[Any]) -> NDArray[np.intp]:
    """Give the positions of classes in the order of :func:`numpy.unique`."""
    try:
        return np.argsort(classes, kind="stable")
    except TypeError as error:
        kinds = sorted({type(value).__name__ for value in classes})
        raise TypeError(
            f"labels mixes classes that cannot be sorted together ({', '.join(kinds)}). "
            "Use classes of one type, for instance strings."
        ) from error


def kind_of_class(value: Any) -> type:
    """Group the types that numpy may put in one array without changing a value's meaning."""
    if isinstance(value, str):
        return str
    # A bool is an int to Python, but beside numbers np.asarray would make a 1 of True.
    if isinstance(value, bool | np.bool_):
        return bool
    if isinstance(value, int | float | np.number):
        return float
    return type(value)
