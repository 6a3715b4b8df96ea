"""The label set: class values and the texts that stand for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..prompts.checks import check_unicode, first_repeated, in_short
from .containers import values_in

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

    def as_labels(self) -> list[Any] | dict[Any, str]:
        """Give a `labels` parameter that stands for this label set."""
        texts = self.text_of_class
        # As a user would write it, and not each name twice.
        return list(texts) if list(map(str, texts)) == list(self.texts) else texts

    @property
    def text_of_class(self) -> dict[Any, str]:
        """The label text of each class, in their order."""
        return dict(zip(self.classes.tolist(), self.texts, strict=True))

    @classmethod
    def from_labels(cls, labels: Any, *, sort: bool, name: str = "labels") -> LabelSet:
        """Read the `labels` parameter of a classifier.

        Parameters
        ----------
        labels : sequence of classes, dict of class to label text, or nested dict
            A sequence shows each class to the model as ``str(class)``; it may be an array, a
            Series, a column, a view of a dict or an enumeration whose members are strings or
            numbers. A dict whose values are strings names the label text of each class. A dict
            with lists or dicts in it is a hierarchy: its leaves are the classes, under dotted
            names. The model reads these, but for a leaf that stands for a string it reads that.
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
            If `labels` is a single string, has no order, can only be read once or is of another
            unsupported type, or a class is neither a string nor a number nor a truth value.
        """
        pairs = _class_text_pairs(labels, name)
        _check_pairs(pairs, named=isinstance(labels, Mapping), name=name)
        classes = as_class_array([value for value, _ in pairs])
        order = sorted_order(classes) if sort else np.arange(len(pairs))
        # A label text moves with its class.
        texts = tuple(pairs[i][1] for i in order)
        return cls(classes[order], texts, bool((np.diff(order) < 0).any()))

    @classmethod
    def from_target(cls, y: NDArray[Any]) -> LabelSet:
        """Take the classes from a target vector `y`: each distinct value, shown as ``str``."""
        return cls.from_labels(np.unique(y), sort=False, name="classes")

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
    if array is not None and array.dtype.kind == "f" and all(map(_is_integer, values)):
        # Of these some are beyond what numpy's usual integers hold.
        array = np.asarray(values, dtype=np.uint64) if min(values) >= 0 else None
    # numpy drops a NUL at the end of a string and rounds integers beside floats.
    if array is None or array.ndim != 1 or (kinds <= {str, float} and array.tolist() != [*values]):
        array = np.empty(len(values), dtype=object)
        # Assigned: np.asarray would make a table of tuples that have one length.
        array[:] = list(values)
    return array


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer)


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


def plain_labels(labels: Mapping[Any, Any], prefix: str = "labels") -> dict[Any, Any]:
    """Give a dict of labels with dicts, lists and plain values alone in it.

    Parameters
    ----------
    labels : mapping
        Of class to label text, or a hierarchy, as the user wrote it.
    prefix : str, default="labels"
        How the caller calls it, for an error.

    Raises
    ------
    TypeError
        If something in it is no label, label text or container of labels.
    """
    plain: dict[Any, Any] = {}
    if {*map(type, labels), *map(type, labels.values())} <= {str}:
        # Nothing to do; every prediction reads the labels.
        return dict(labels)
    for key, value in labels.items():
        where = f"{prefix}[{key!r}]"
        plain[plain_class(key, f"a key of {prefix}")] = _plain_branch(value, where)
    return plain


def _plain_branch(value: Any, where: str) -> Any:
    if isinstance(value, str):
        # Not a member of an enumeration or a string of numpy's, which are shown otherwise.
        return str(plain_class(value, where))
    if isinstance(value, Mapping):
        return plain_labels(value, where)
    if pd.api.types.is_scalar(value):
        raise TypeError(
            f"{where} is {value!r} ({type(value).__name__}); it must be the text that the model "
            "reads for the label, or a list or dict of labels."
        )
    return plain_values(value, where)


def plain_values(values: Any, name: str) -> list[Any]:
    """Give the classes in a container, in their order, as plain values.

    Raises
    ------
    TypeError
        If it is no container with an order, or holds a member of an enumeration without values.
    ValueError
        If it has several columns.
    """
    classes = values_in(values, name, of="labels", each="'first label', 'second label'")
    if not any(issubclass(kind, Enum | bytes) for kind in set(map(type, classes))):
        return classes
    return [plain_class(value, f"{name}[{i}]") for i, value in enumerate(classes)]


def _class_text_pairs(labels: Any, name: str) -> list[tuple[Any, str]]:
    if not isinstance(labels, Mapping):
        return [(value, str(value)) for value in plain_values(labels, name)]
    labels = plain_labels(labels)
    if all(isinstance(value, str) for value in labels.values()):
        return list(labels.items())
    leaves = flatten_hierarchy(labels)
    twice = first_repeated([*_branch_names(labels, ""), *leaves])
    if twice is not None:
        raise ValueError(
            f"labels: the hierarchy has two branches, or a branch and a leaf, with the dotted name "
            f"{twice!r}; names with a dot in them may be taken for a way through branches. Use "
            "others."
        )
    return list(leaves.items())


def _branch_names(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, branch in tree.items():
        path = _join(prefix, name)
        if not isinstance(branch, str):
            yield path
        if isinstance(branch, Mapping):
            yield from _branch_names(branch, path)


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
    if isinstance(branch, Mapping):
        leaves = list(flatten_hierarchy(branch, path).items())
    else:
        names = [_join(path, leaf) for leaf in branch]
        leaves = [(name, name) for name in names]
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
        if not isinstance(value, str):
            _check_is_class(value, place, name)
        for part in (text, value):
            if isinstance(part, str):
                check_unicode(part, place)
        if not _can_be_seen(text):
            raise ValueError(
                f"{place} has an empty label text, {text!r}, so the model has nothing to read "
                "for it. Name the label, for instance with a dict: labels={class: 'what it means'}."
            )
        if value in seen_classes:
            first = next(other for other in seen_classes if other == value)
            raise ValueError(_repeated(value, place, seen_classes[value], first))
        if text in seen_texts:
            raise ValueError(
                f"{place} and {seen_texts[text]} have the same label text {text!r}, so that the "
                "model could not tell them apart. Give each class a text of its own."
            )
        seen_classes[value] = place
        seen_texts[text] = place


def _can_be_seen(text: str) -> bool:
    """Tell whether a text holds more than spaces and characters without width."""
    # The first of them answers for nearly all texts.
    return (text.isprintable() and bool(text.strip())) or any(
        character.isprintable() and not character.isspace() for character in text
    )


def _repeated(value: Any, place: str, other_place: str, other: Any) -> str:
    if kind_of_class(value) is kind_of_class(other):
        return f"{place} repeats {other_place}: {value!r}."
    return (
        f"{place} is {value!r}, which equals {other_place}, {other!r}. Use classes of one type, "
        "for instance strings."
    )


def _check_is_class(value: Any, place: str, name: str) -> None:
    # isna of a list is an array, and of a scalar alone a yes or no.
    if pd.api.types.is_scalar(value) and pd.isna(value):
        raise ValueError(f"{place} is missing ({value!r}); a class must be a value.")
    if isinstance(value, float | np.floating) and np.isinf(value):
        raise ValueError(f"{place} is infinite ({value!r}); a class must be a value.")
    if kind_of_class(value) not in (bool, float):
        # numpy, which scikit-learn puts classes in, would make something else of many of these.
        raise TypeError(
            f"{place} is {in_short(value)}; a class must be a string or a number. Use strings: "
            f"[str(value) for value in {name}]."
        )


def sorted_order(classes: NDArray[Any]) -> NDArray[np.intp]:
    """Give the positions of classes in the order of :func:`numpy.unique`."""
    try:
        return np.argsort(classes)
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
    # A length of time is an integer to numpy.
    if isinstance(value, np.timedelta64):
        return type(value)
    if isinstance(value, int | float | np.integer | np.floating):
        return float
    return type(value)
