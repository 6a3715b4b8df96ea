"""Turn every form of `y` into a label set and one 0/1 (or soft) matrix.

The network sees only that matrix, so that binary, multi-class and multi-label problems share one
path; this module alone knows what the forms mean in which people keep their labels.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import compress
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from ..exceptions import warn
from ..prompts.checks import in_short, listed
from .containers import Frame, cells_in, is_missing, open_container
from .labels import LabelSet, as_class_array, kind_of_class, plain_class

# What numbers may mean, in the example of a warning.
_MEANINGS = ("world news", "sport")


@dataclass(frozen=True, eq=False)
class Targets:
    """What a fit learns: the label set and, for each text and class, how far it holds.

    Attributes
    ----------
    label_set : LabelSet
        The classes and their label texts.
    matrix : ndarray of shape (n_samples, n_classes), float32
        1 where the class is true, 0 where it is not; values between are soft targets, and NaN says
        that nobody knows.
    """

    label_set: LabelSet
    matrix: NDArray[np.float32]


# Rows that say nothing.


class NameOfSome(str):
    """What to call a column of which some rows were left out.

    Parameters
    ----------
    name : str
        As of the whole column.
    places : sequence of int
        Where in it the rows are that are left.
    """

    places: Sequence[int]

    def __new__(cls, name: str, places: Sequence[int]) -> NameOfSome:
        """Give a string that knows the places."""
        made = super().__new__(cls, name)
        made.places = places
        return made


def row_name(name: str, i: int) -> str:
    """Name a row as the user counts them."""
    return f"{name}[{name.places[i] if isinstance(name, NameOfSome) else i}]"


def name_of_left(name: str, is_left: NDArray[np.bool_]) -> str:
    """Name a column of which some rows are left, of which others may have been left out before."""
    if is_left.all():
        return name
    places = name.places if isinstance(name, NameOfSome) else range(len(is_left))
    return NameOfSome(name, list(compress(places, is_left.tolist())))


def missing_rows(y: Any, known: Collection[Any], *, multi_label: bool) -> NDArray[np.bool_]:
    """Tell which rows of `y` are None, NaN or -1, where that is none of the known classes.

    Parameters
    ----------
    y : array-like
        As the user passed it.
    known : collection
        The classes, and what stands for none of them.
    multi_label : bool
        Whether a text may have any number of classes, so that a row of a table, or a list in
        place of one, is missing where nothing in it is annotated, or all of it is -1.
    """
    cells = _cells_of(y, multi_label=multi_label)
    if isinstance(cells, np.ndarray) and cells.ndim != 1:
        return _missing_in_table(cells, known, multi_label=multi_label)
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "USb":
        return np.zeros(len(cells), dtype=np.bool_)
    says_nothing = _annotates_nothing if multi_label else _says_nothing
    return np.asarray([says_nothing(cell, known) for cell in cells], dtype=np.bool_)


def rows_left(y: Any, is_left: NDArray[np.bool_], known: Collection[Any]) -> Any:
    """Give some rows of `y`, in which NaN stood beside them."""
    rows = open_container(y, "y")
    if isinstance(rows, Frame):
        return pd.DataFrame(rows.cells[is_left], columns=rows.columns)
    left = [row for row, stays in zip(rows, is_left, strict=True) if stays]
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        return rows[is_left]
    # Missing values make floats of integers.
    are_integers = all(_is_real(row) and float(row).is_integer() for row in left)
    if are_integers and not any(_is_real(value) for value in known):
        return [int(row) for row in left]
    return left


def _is_real(value: Any) -> bool:
    return isinstance(value, float | np.floating)


def _cells_of(y: Any, *, multi_label: bool) -> Any:
    cells = cells_in(y, "y")
    if isinstance(cells, np.ndarray) and cells.shape[1:] == (1,) and not multi_label:
        return cells.ravel()
    if isinstance(cells, list) and not multi_label:
        return [cell[0] if _is_list(cell) and len(cell) == 1 else cell for cell in cells]
    return cells


def _missing_in_table(
    cells: NDArray[Any], known: Collection[Any], *, multi_label: bool
) -> NDArray[np.bool_]:
    # Of what is refused for its shape, no row is left out: the shape to name is that of all rows.
    if not multi_label or cells.ndim != 2 or cells.shape[1] == 0:
        return np.zeros(len(cells) if cells.ndim else 0, dtype=np.bool_)
    if cells.dtype.kind == "O":
        rows = [_annotates_nothing(row, known) for row in cells.tolist()]
        return np.asarray(rows, dtype=np.bool_)
    missing = np.asarray(pd.isna(cells).all(axis=1))
    if cells.dtype.kind in "if" and -1 not in known:
        missing |= (cells == -1).all(axis=1)
    return missing


def _annotates_nothing(row: Any, known: Collection[Any]) -> bool:
    if not _is_list(row):
        return _says_nothing(row, known)
    # Not one of them here and the other there: -1 beside other values is a mistake.
    is_marked = -1 not in known and all(map(_is_minus_one, row))
    return len(row) > 0 and (is_marked or all(map(is_missing, row)))


def _says_nothing(cell: Any, known: Collection[Any]) -> bool:
    return bool((_is_minus_one(cell) and -1 not in known) or is_missing(cell))


def _is_minus_one(cell: Any) -> bool:
    return is_number(cell) and bool(cell == -1)


# One class a text.


def single_label_targets(
    y: Any,
    label_set: LabelSet | None,
    *,
    name: str = "y",
    unseen: bool = False,
    other: Any = None,
) -> Targets:
    """Read a vector with one class a text.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The class of each text.
    label_set : LabelSet or None
        What the classifier's `labels` parameter means; None takes the classes from `y`.
    name : str, default="y"
        What to call `y` in an error.
    unseen : bool, default=False
        Whether `y` may hold classes that the label set lacks, which come after its own.
    other : Any, default=None
        What stands in `y` for none of the classes.

    Returns
    -------
    Targets
        One 1 a row, none where `y` is `other`.

    Raises
    ------
    ValueError, TypeError
        If a class is missing or unknown, integers could be read in two ways, or a text has more
        than one class.
    """
    _check_not_none(y, name)
    vector = _class_vector(_as_column(y, name), name)
    _check_scikit_learn_knows(vector, name)
    _warn_of_collapsing_members(y, vector, name)
    has_class = np.ones(len(vector), dtype=np.bool_)
    if other is not None:
        _check_not_encoded(vector, label_set, other, name)
        has_class = np.asarray([value != other for value in vector.tolist()])
        if label_set is None and not has_class.any():
            raise ValueError(f"{name} is other={other!r} for all texts, so that it has no classes.")
    of_classes, name = vector[has_class], name_of_left(name, has_class)
    label_set = _single_label_set(of_classes, label_set, name, unseen)
    positions = _positions(of_classes, label_set, name)
    matrix = np.zeros((len(vector), len(label_set)), dtype=np.float32)
    matrix[np.flatnonzero(has_class), positions] = 1
    return Targets(label_set, matrix)


def check_other(other: Any, label_set: LabelSet) -> None:
    """Refuse what cannot stand for none of the classes.

    Raises
    ------
    ValueError
        If it is one of the classes, or missing.
    TypeError
        If it is of another type than these.
    """
    classes = label_set.classes.tolist()
    if other in classes:
        raise ValueError(
            f"other={other!r} is one of the classes; it stands for none of them. Give another "
            "value, or leave it out of labels and y."
        )
    if not isinstance(other, str) and pd.isna(other):
        raise ValueError(f"other={other!r} is a missing value; give one that y can hold.")
    if kind_of_class(other) is not kind_of_class(classes[0]):
        raise TypeError(
            f"other={other!r} is {in_short(other)}, but the classes are of another type, such as "
            f"{in_short(classes[0])}; scikit-learn cannot sort predictions of both."
        )


def _check_not_encoded(y: NDArray[Any], label_set: LabelSet | None, other: Any, name: str) -> None:
    """Refuse integers that a meta-estimator put in place of classes, `other` among them."""
    if y.dtype.kind not in "iu":
        return
    if label_set is None:
        is_known = is_number(other)
    else:
        is_known = {*label_set.classes.tolist(), other}.issuperset(y.tolist())
    if not is_known:
        raise ValueError(
            f"{name} holds integers in place of classes, as scikit-learn's meta-estimators hand "
            f"them on, and other={other!r} cannot be told among them. Set other=None in the "
            "classifier that the meta-estimator is given, and leave texts of no class out of its "
            f"{name}; or fit the classifier by itself."
        )


def _as_column(y: Any, name: str) -> NDArray[Any] | list[Any]:
    """Read a vector, or a table of one column with a warning as scikit-learn gives it."""
    rows = open_container(y, name)
    if isinstance(rows, Frame):
        rows = rows.cells
    if isinstance(rows, list):
        if not rows or not all(_is_list(row) for row in rows):
            return rows
        lengths = {len(row) for row in rows}
        if lengths != {1}:
            if isinstance(name, NameOfSome):
                # All rows, those that were left out among them, have no shape.
                i = next(i for i, row in enumerate(rows) if len(row) != 1)
                raise ValueError(_not_one_class_in(row_name(name, i), rows[i]))
            raise ValueError(_not_one_class(name, (len(rows), *lengths), lengths))
        rows = [row[0] for row in rows]
    elif rows.ndim == 1:
        return rows
    elif rows.ndim != 2 or rows.shape[1] != 1:
        raise ValueError(_not_one_class(name, rows.shape, {*rows.shape[1:2]}))
    else:
        rows = rows[:, 0]
    warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape "
        "of y to (n_samples,), for example using ravel().",
        DataConversionWarning,
    )
    return rows


def _not_one_class(name: str, shape: tuple[int, ...], lengths: set[int]) -> str:
    if not shape:
        return f"{name} is a single value; it must hold a class for each text."
    if lengths == {0}:
        return f"{name} holds no classes: each of its {shape[0]} rows is empty."
    if len(lengths) > 1:
        return (
            f"{name} holds lists of {min(lengths)} to {max(lengths)} classes, but "
            "GLiClassClassifier learns one class a text. For label sets use "
            "GLiClassMultiLabelClassifier."
        )
    return (
        f"{name} should be a 1d array, got an array of shape {shape} instead: GLiClassClassifier "
        f"learns one class a text. Of one-hot rows write {name}.idxmax(axis=1) for a frame, or "
        f"np.asarray(classes)[{name}.argmax(axis=1)] for an array; for several classes a text, "
        "or soft targets, use GLiClassMultiLabelClassifier."
    )


def _not_one_class_in(where: str, row: Any) -> str:
    return (
        f"{where} is {in_short(row)}, but GLiClassClassifier learns one class a text. For label "
        "sets and soft targets use GLiClassMultiLabelClassifier."
    )


def _class_vector(rows: NDArray[Any] | list[Any], name: str) -> NDArray[Any]:
    """Put the classes of texts in an array, each as it was written."""
    if len(rows) == 0:
        raise ValueError(f"Found array with 0 sample(s): {name} is empty.")
    _check_none_missing(rows, name)
    if isinstance(rows, np.ndarray) and rows.dtype.kind not in "OS":
        return rows
    values: list[Any] = list(rows)
    if any(isinstance(values[i], Enum | bytes) for i in first_of_types(values)):
        values = [plain_class(value, row_name(name, i)) for i, value in enumerate(values)]
    for i in first_of_types(values):
        if not pd.api.types.is_scalar(values[i]):
            raise ValueError(_not_one_class_in(row_name(name, i), values[i]))
    _check_one_kind([(row_name(name, i), values[i]) for i in first_of_types(values)], name)
    return as_class_array(values)


def first_of_types(values: Sequence[Any]) -> list[int]:
    """Give where each type occurs first: what holds for a type need not be asked of every value."""
    types = list(map(type, values))
    return [types.index(kind) for kind in dict.fromkeys(types)]


def _check_scikit_learn_knows(vector: NDArray[Any], name: str) -> None:
    if vector.dtype == object and not isinstance(vector[0], str):
        raise ValueError(
            f"{row_name(name, 0)} is {in_short(vector[0])}, which scikit-learn takes for no class. "
            f"Use strings: [str(value) for value in {name}]."
        )
    _check_no_quantities(vector, name)
    # Of many classes with few rows each scikit-learn warns that they may be a quantity: no name is.
    if vector.dtype.kind not in "OU":
        check_classification_targets(vector)


def _check_no_quantities(vector: NDArray[Any], name: str) -> None:
    """Refuse numbers with fractions, which measure something."""
    if vector.dtype.kind != "f":
        return
    has_fraction = np.flatnonzero(np.isfinite(vector) & (vector != np.round(vector)))
    if len(has_fraction):
        i = int(has_fraction[0])
        raise ValueError(
            f"Unknown label type: continuous. {row_name(name, i)} is {vector[i]}, a quantity and "
            f"no class. Divide it into classes, for instance with pandas.cut({name}, 3, "
            f"labels=['low', 'middle', 'high']), or use strings: [str(value) for value in {name}]."
        )


def _check_one_kind(values: Sequence[tuple[str, Any]], name: str) -> None:
    """Refuse classes of several types: 1 and "1" would look alike, True and 1 be the same."""
    (first_place, first), *others = values
    for place, value in others:
        if kind_of_class(value) is not kind_of_class(first):
            raise TypeError(
                f"{name} mixes classes of different types: {first_place} is {in_short(first)}, "
                f"{place} is {in_short(value)}. Use classes of one type, for instance strings."
            )


def _check_have_words(values: Sequence[tuple[str, Any]]) -> None:
    for place, value in values:
        if isinstance(value, str) and not value.strip():
            raise ValueError(
                f"{place} is {value!r}, so the model has nothing to read for this class. Drop such "
                f"rows, or say what the class means: labels={{{value!r}: 'no topic', ...}}."
            )


def _warn_of_collapsing_members(y: Any, vector: NDArray[Any], name: str) -> None:
    """Say where scikit-learn, which calls np.asarray, will read other classes than are here."""
    if isinstance(y, list | tuple) and any(isinstance(value, Enum) for value in y):
        seen = np.asarray(y).ravel()
        if seen.dtype.kind == "U" and seen.tolist() != vector.tolist():
            warn(
                f"{name} is a list of members of an enumeration, whose values are used here; "
                f"scikit-learn's metrics and splits read {str(seen[0])!r} for {str(vector[0])!r}. "
                f"Give them the values, too: [member.value for member in {name}]."
            )


def _check_none_missing(rows: NDArray[Any] | list[Any], name: str) -> None:
    array = rows if isinstance(rows, np.ndarray) else as_object_array(rows)
    missing = pd.isna(array)
    if missing.any():
        i = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"{row_name(name, i)} is missing ({array[i]!r}); every row needs a class. Drop such "
            "rows. fit alone learns from their texts, with labels=[...] and "
            'trainable="auto" or "labels".'
        )
    for i, value in enumerate(array.tolist() if array.dtype.kind in "fO" else ()):
        if isinstance(value, float) and np.isinf(value):
            raise ValueError(f"{row_name(name, i)} is infinite (inf); a class must be a value.")


def _single_label_set(
    y: NDArray[Any], label_set: LabelSet | None, name: str, unseen: bool
) -> LabelSet:
    if label_set is None:
        label_set = _label_set_of_vector(y, name)
        _warn_of_numbers(label_set.classes.tolist(), "The classes")
        return label_set
    if unseen:
        return _with_unseen(label_set, y.tolist(), name)
    known = set(label_set.classes.tolist())
    if y.dtype.kind in "iu" and not known.issuperset(y.tolist()):
        return _read_as_positions(y, label_set, name)
    return label_set


def _label_set_of_vector(y: NDArray[Any], name: str) -> LabelSet:
    if y.dtype.kind not in "UO":
        return LabelSet.from_target(y)
    values = y.tolist()
    # Sorting all texts' classes would take far longer than finding the few that there are.
    classes = list(dict.fromkeys(values))
    _check_have_words([(row_name(name, values.index(value)), value) for value in classes])
    return LabelSet.from_target(as_class_array(classes))


def _with_unseen(label_set: LabelSet, classes: Sequence[Any], name: str) -> LabelSet:
    """Add classes that were not seen, but none of a type that no prediction can have."""
    first = label_set.classes.tolist()[0]
    for value in classes:
        # Truth values and numbers are compared with each other, 1 with True.
        alike = is_number(value) and is_number(first)
        if not alike and kind_of_class(value) is not kind_of_class(first):
            raise TypeError(
                f"{name} has the class {in_short(value)}, but the classes are of another type, "
                f"such as {in_short(first)}."
            )
    return label_set.extended(classes)


def _warn_of_numbers(classes: Sequence[Any], which: str) -> None:
    """Warn of classes whose label texts say nothing about the texts."""
    if classes and all(isinstance(value, bool | int | float) for value in classes):
        kind = "truth values" if isinstance(classes[0], bool) else "numbers"
        first, *others = map(str, classes[:2])
        shown = " and ".join(map(repr, (first, *others)))
        example = dict(zip(classes, _MEANINGS, strict=False))
        warn(
            f"{which} are {kind}, so the model reads label texts such as {shown}, which say "
            f"nothing about the texts. Give their meaning with labels={example!r}."
        )


def _read_as_positions(y: NDArray[Any], label_set: LabelSet, name: str) -> LabelSet:
    """Undo the encoding by which scikit-learn's meta-estimators replace classes by 0..n-1."""
    if label_set.reordered:
        raise ValueError(
            f"{name} holds integers while labels holds other classes that are not sorted, so an "
            "integer may mean the position in labels as given or in the sorted classes. Either "
            f"sort labels (labels={label_set.classes.tolist()[:4]!r}...), or name the integers "
            "with a dict (labels={0: 'first label', ...})."
        )
    outside = (y < 0) | (y >= len(label_set))
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{row_name(name, i)} is {y[i]}, which is neither one of the labels nor a position "
            f"among the {len(label_set)} sorted labels."
        )
    if len(np.unique(y)) < len(label_set):
        warn(
            f"{name} holds the integers {np.unique(y).tolist()[:8]}, which are read as positions "
            f"in the {len(label_set)} sorted labels, but not all of them occur. If they mean "
            "something else, such as one class against the rest, name them with a dict: "
            "labels={0: 'anything else', 1: 'sport'}."
        )
    # The integers become the classes: who encoded y decodes the predictions, too.
    return LabelSet(np.arange(len(label_set)), label_set.texts)


# Any number of classes a text.


def multi_label_targets(
    y: Any, label_set: LabelSet | None, *, name: str = "y", unseen: bool = False
) -> Targets:
    """Read the labels of texts that may have any number of them.

    Parameters
    ----------
    y : indicator array, sparse matrix, frame whose columns are the classes, or list of rows
        For each text, which classes hold: 0 and 1, or soft targets between, in the columns of a
        table, where NaN says that nobody knows; or a set of classes; or a dict of class to soft
        target, where a class that is left out has 0.
    label_set : LabelSet or None
        What the classifier's `labels` parameter means; None takes the classes from `y`.
    name : str, default="y"
        What to call `y` in an error.
    unseen : bool, default=False
        Whether label sets may hold classes that the label set lacks, which come after its own.

    Returns
    -------
    Targets

    Raises
    ------
    ValueError, TypeError
        If shapes, columns or values do not fit; the row is named.
    """
    _check_not_none(y, name)
    rows = open_container(y, name)
    if isinstance(rows, Frame):
        return _frame_targets(rows, label_set, name)
    if isinstance(rows, np.ndarray) and _holds_rows(rows):
        rows = rows.tolist()
    if isinstance(rows, list):
        rows = [_as_list(row) for row in rows]
        if not _are_indicator_rows(rows, label_set, name):
            return _label_set_targets(rows, label_set, name, unseen)
        cells = np.empty((len(rows), len(rows[0])), dtype=object)
        cells[:] = rows
        rows = cells
    return _matrix_targets(rows, label_set, name)


def _holds_rows(array: NDArray[Any]) -> bool:
    """Tell an array of label sets from one of numbers."""
    if array.dtype.kind in "US":
        return array.ndim == 2
    if array.dtype.kind != "O":
        return False
    return array.ndim == 1 or (
        array.ndim == 2 and array.size > 0 and all(isinstance(v, str) for v in array.flat)
    )


def _as_list(row: Any) -> Any:
    """Give a row that can be read more than once, with the values that Python has for numpy's."""
    if isinstance(row, list) and not any(issubclass(t, np.generic) for t in set(map(type, row))):
        return row
    if isinstance(row, np.ndarray):
        return row.tolist()
    if isinstance(row, str | bytes | Mapping | set | frozenset) or not isinstance(row, Iterable):
        return row
    return [value.item() if isinstance(value, np.generic) else value for value in row]


def _are_indicator_rows(rows: Sequence[Any], label_set: LabelSet | None, name: str) -> bool:
    """Tell lists of 0 and 1, or soft targets, from lists of classes that are numbers.

    By the classes, where they are known: only numbers among these can be members of label sets.
    """
    if not all(isinstance(row, list) for row in rows):
        return False
    cells = [value for row in rows for value in row]
    lengths = {len(row) for row in rows}
    if not cells or not all(_is_number_or_missing(cells[i]) for i in first_of_types(cells)):
        return False
    are_classes = _are_like_classes(cells, label_set)
    are_targets = (
        len(lengths) == 1
        and (label_set is None or lengths == {len(label_set)})
        # As a set, of which numbers that stand for classes have few members.
        and all(pd.isna(value) or 0 <= value <= 1 for value in {*cells})
    )
    are_known = are_classes and (label_set is None or {*cells} <= {*label_set.classes.tolist()})
    # Nobody writes a class twice in a label set.
    are_sets = are_known and all(len({*row}) == len(row) for row in rows)
    if are_targets and are_sets:
        raise ValueError(
            f"{name} holds lists of 0 and 1 that may be the rows of an indicator or the classes "
            f"of label sets. Write np.array({name}) for an indicator with a column for each label, "
            f"or [set(row) for row in {name}] for label sets."
        )
    if not are_classes and len(lengths) > 1:
        raise ValueError(
            f"{name} holds rows of {min(lengths)} to {max(lengths)} numbers. In an indicator every "
            "row has one for each label; in label sets numbers have to be among the labels, as "
            "with labels={0: 'world news', 1: 'sport'}."
        )
    return are_targets or not are_classes


def _are_like_classes(cells: Sequence[Any], label_set: LabelSet | None) -> bool:
    kinds = {type(value) for value in cells}
    if label_set is None:
        return kinds == {int}
    # Of tolist: numpy's own types are as good as Python's.
    return kinds <= {type(value) for value in label_set.classes.tolist()}


def _is_number_or_missing(value: Any) -> bool:
    return value is None or (
        pd.api.types.is_scalar(value) and (pd.isna(value) or isinstance(value, Number))
    )


def _frame_targets(frame: Frame, label_set: LabelSet | None, name: str) -> Targets:
    columns = [plain_class(column, f"the column {column!r} of {name}") for column in frame.columns]
    if label_set is None:
        if not columns:
            raise ValueError(_no_columns(name))
        label_set = LabelSet.from_labels(columns, sort=False, name=f"{name}.columns")
        _warn_of_numbers(columns, f"The columns of {name}")
    wanted = label_set.classes.tolist()
    _check_columns(columns, wanted, name)
    return _matrix_targets(frame.cells, label_set, name)


def _check_columns(columns: list[Any], wanted: list[Any], name: str) -> None:
    if columns == wanted:
        return
    missing = [value for value in wanted if value not in columns]
    unknown = [column for column in columns if column not in wanted]
    if not missing and not unknown:
        # They could be put in order here, but not where scikit-learn's scorers compare them with
        # predictions.
        raise ValueError(
            f"The columns of {name} are in another order than the labels: {listed(columns)} "
            f"against {listed(wanted)}. scikit-learn's metrics compare columns by their place, so "
            f"reorder {name}[list(labels)], or give labels in the order of the columns."
        )
    unnamed = columns == list(range(len(wanted)))
    raise ValueError(
        f"The columns of {name} must be the labels"
        + (f"; missing: {missing[:8]}" if missing else "")
        + (f"; not among the labels: {unknown[:8]}" if unknown else "")
        + "."
        + (
            f" If they are in the order of the labels, name them: {name}.columns = list(labels)."
            if unnamed
            else ""
        )
    )


def _matrix_targets(y: NDArray[Any], label_set: LabelSet | None, name: str) -> Targets:
    if y.ndim != 2:
        raise ValueError(
            f"{name} must be an indicator matrix of shape (n_samples, n_classes), a frame whose "
            f"columns are the labels, or a list of label sets; got shape {y.shape}. "
            "For one class a text use GLiClassClassifier."
        )
    if label_set is None:
        label_set = _unnamed_columns(y.shape[1], name)
    if y.shape[1] != len(label_set):
        raise ValueError(f"{name} has {y.shape[1]} columns, but there are {len(label_set)} labels.")
    classes = label_set.classes.tolist()
    matrix = _as_numbers(y, classes, name)
    unlabelled = np.flatnonzero((matrix == -1).all(axis=1))
    if len(unlabelled):
        raise ValueError(_no_label(row_name(name, int(unlabelled[0])), "-1"))
    outside = (matrix < 0) | (matrix > 1)
    if outside.any():
        i, j = (int(k[0]) for k in np.nonzero(outside))
        raise ValueError(_bad_target(row_name(name, i), f"{matrix[i, j]}", classes[j]))
    _check_some_known(matrix, name)
    return Targets(label_set, matrix)


def _unnamed_columns(n_columns: int, name: str) -> LabelSet:
    if n_columns == 0:
        raise ValueError(_no_columns(name))
    warn(
        f"The columns of {name} have no names, so the model reads label texts such as '0' and "
        "'1', which say nothing about the texts. Give their meaning with labels=[...]."
    )
    return LabelSet.from_labels(list(range(n_columns)), sort=False)


def _no_columns(name: str) -> str:
    return f"{name} has no columns; it needs one for each label."


def _as_numbers(y: NDArray[Any], classes: Sequence[Any], name: str) -> NDArray[np.float32]:
    if y.dtype.kind in "biuf":
        # What is too large becomes infinite, and is refused as that.
        with np.errstate(over="ignore"):
            return y.astype(np.float32)
    if set(map(type, y.ravel().tolist())) <= {bool, int, float, type(None)}:
        # An integer may be too large for a float, and is then named below.
        with suppress(OverflowError):
            return y.astype(np.float32)
    missing = np.asarray(pd.isna(y.astype(object)))
    matrix = np.full(y.shape, np.nan, dtype=np.float32)
    for i, j in zip(*np.nonzero(~missing), strict=True):
        value = y[i, j]
        # Before it is put there: what is too large for a float is an error of its own.
        if not (is_number(value) and 0 <= value <= 1):
            hint = " Convert it to numbers first." if isinstance(value, str) else ""
            if not pd.api.types.is_scalar(value):
                hint = f" If the column holds label sets, pass it alone: {name}[{classes[j]!r}]."
            raise ValueError(_bad_target(row_name(name, i), in_short(value), classes[j]) + hint)
        matrix[i, j] = value
    return matrix


def is_number(value: Any) -> bool:
    """Tell whether a value is a number or a truth value, of Python's or of numpy's."""
    # A length of time is an integer to numpy.
    is_other = isinstance(value, complex | np.complexfloating | np.timedelta64)
    return isinstance(value, Number | np.bool_) and not is_other


def _bad_target(where: str, value: str, label: Any) -> str:
    return (
        f"{where} has {value} for class {label!r}; a target is 0, 1, a soft target between, or NaN "
        "where nobody knows."
    )


def _no_label(where: str, mark: str) -> str:
    return (
        f"{where} is {mark} for all classes, which says that nobody knows whether they hold. Drop "
        'such rows. fit alone learns from their texts, with labels=[...] and trainable="auto" or '
        '"labels".'
    )


def check_all_known(matrix: NDArray[np.float32], name: str = "y") -> None:
    """Refuse rows of which nobody knows whether any class holds.

    Raises
    ------
    ValueError
        It names the first such row.
    """
    unlabelled = np.flatnonzero(np.isnan(matrix).all(axis=1))
    if len(unlabelled):
        raise ValueError(_no_label(row_name(name, int(unlabelled[0])), "NaN"))


def _check_some_known(matrix: NDArray[np.float32], name: str) -> None:
    if len(matrix) and np.isnan(matrix).all():
        raise ValueError(
            f"{name} holds nothing but NaN, which says that nobody knows whether a class holds; "
            "there is nothing to learn from or to compare with."
        )


def _label_set_targets(
    rows: Sequence[Any], label_set: LabelSet | None, name: str, unseen: bool
) -> Targets:
    # Most classes come again: what was found of one holds for the others.
    checked: dict[tuple[type, Any], Any] = {}
    scores = [_scores_of_row(row, row_name(name, i), checked) for i, row in enumerate(rows)]
    # Not a set of them, since the order in which a set of strings comes changes.
    classes = list(dict.fromkeys(value for row in scores for value in row))
    if label_set is None:
        label_set = _label_set_of_sets(scores, classes, name)
    elif unseen:
        label_set = _with_unseen(label_set, classes, name)
    matrix = np.zeros((len(rows), len(label_set)), dtype=np.float32)
    index = {value: j for j, value in enumerate(label_set.classes.tolist())}
    for i, row in enumerate(scores):
        for value, score in row.items():
            if value not in index:
                raise ValueError(_unknown_class(row_name(name, i), value, label_set))
            matrix[i, index[value]] = score
    _check_some_known(matrix, name)
    return Targets(label_set, matrix)


def _label_set_of_sets(
    scores: Sequence[Mapping[Any, float]], classes: Sequence[Any], name: str
) -> LabelSet:
    if not classes:
        raise ValueError(
            f"{name} names no class: each of its {len(scores)} rows is empty. Give labels=[...]."
        )
    values = [(i, value) for i, row in enumerate(scores) for value in row]
    first = first_of_types([value for _, value in values])
    _check_one_kind(
        [(f"a class of {row_name(name, values[k][0])}", values[k][1]) for k in first], name
    )
    _check_have_words([(f"a class of {name}", value) for value in classes])
    # Sorted, as by scikit-learn's MultiLabelBinarizer: label sets have no order to keep.
    label_set = LabelSet.from_target(as_class_array(classes))
    _warn_of_numbers(label_set.classes.tolist(), "The classes")
    return label_set


def _scores_of_row(row: Any, where: str, checked: dict[tuple[type, Any], Any]) -> dict[Any, float]:
    """Give how far the classes of a label set hold; those that it does not name have 0."""
    if isinstance(row, str | bytes) or not isinstance(row, Iterable):
        hint = "For one class a text use GLiClassClassifier."
        if pd.api.types.is_scalar(row) and pd.isna(row):
            hint = "Drop texts that nobody annotated, or give a table with NaN in their rows."
        raise ValueError(
            f"{where} is {in_short(row)}; in a list of label sets every row is a list or set of "
            f"classes, [] where none holds. {hint}"
        )
    if isinstance(row, Mapping):
        return {_member(v, where, checked): _score(s, v, where) for v, s in row.items()}
    return {_member(value, where, checked): 1.0 for value in row}


def _member(value: Any, where: str, checked: dict[tuple[type, Any], Any]) -> Any:
    """Give a class of a label set as a plain value."""
    if not isinstance(value, Hashable):
        return _checked_member(value, where)
    key = type(value), value
    if key not in checked:
        checked[key] = _checked_member(value, where)
    return checked[key]


def _checked_member(value: Any, where: str) -> Any:
    value = plain_class(value, f"a class of {where}")
    value = value.item() if isinstance(value, np.generic) else value
    if not pd.api.types.is_scalar(value):
        raise ValueError(
            f"{where} holds {in_short(value)}; the classes of a label set are strings, numbers or "
            "other single values."
        )
    if pd.isna(value):
        raise ValueError(
            f"{where} holds a missing class ({value!r}). Leave it out, or give a table with NaN "
            "where nobody knows whether a class holds."
        )
    return value


def _score(score: Any, value: Any, where: str) -> float:
    if pd.api.types.is_scalar(score) and pd.isna(score):
        return np.nan
    if not (is_number(score) and 0 <= score <= 1):
        raise ValueError(_bad_target(where, in_short(score), value))
    return float(score)


# Both.


def first_label_set(classes: NDArray[Any], *, multi_label: bool) -> LabelSet:
    """Make a label set of the classes that the first call of ``partial_fit`` names.

    Parameters
    ----------
    classes : ndarray
        What it was given, as :func:`read_classes` gives it.
    multi_label : bool
        Whether classes stay in the order given, which the columns of `y` follow, or are sorted.

    Raises
    ------
    ValueError, TypeError
        If they are no classes.
    """
    # Of one class a text scikit-learn takes np.unique of them.
    names = classes if multi_label else as_class_array(list(dict.fromkeys(classes.tolist())))
    label_set = LabelSet.from_labels(names, sort=not multi_label, name="classes")
    _warn_of_numbers(label_set.classes.tolist(), "The classes")
    return label_set


def check_classes(classes: Sequence[Any], label_set: LabelSet, *, multi_label: bool) -> None:
    """Refuse classes that are not among the labels, as a `y` with them would be.

    Parameters
    ----------
    classes : sequence
        What ``partial_fit`` was given.
    label_set : LabelSet
        What the classifier's `labels` parameter means.
    multi_label : bool
        Whether a text may have any number of classes.

    Raises
    ------
    ValueError
        If a class is unknown, integers could be read in two ways, or the columns of a `y` could.
    """
    vector = read_classes(classes)
    if not multi_label:
        label_set = _single_label_set(vector, label_set, "classes", False)
    positions = _positions(vector, label_set, "classes")
    if multi_label and len(positions) == len(label_set) and positions != sorted(positions):
        raise ValueError(
            f"classes={listed(vector.tolist())} are in another order than labels, "
            f"{listed(label_set.classes.tolist())}, so that the columns of y may mean the one or "
            "the other. Give them in one order, or leave classes out."
        )


def with_new_classes(classes: NDArray[Any], label_set: LabelSet, *, multi_label: bool) -> LabelSet:
    """Add classes that a call of ``partial_fit`` names and those before it did not.

    Parameters
    ----------
    classes : ndarray
        What it was given, as :func:`read_classes` gives it.
    label_set : LabelSet
        The classes of the calls before.
    multi_label : bool
        Whether classes stay in the order given, which the columns of `y` follow, or are sorted.

    Raises
    ------
    ValueError, TypeError
        If a class of the calls before is missing, or a new one is of another type.
    """
    named = classes.tolist()
    missing = [value for value in label_set.classes.tolist() if value not in named]
    if missing:
        raise ValueError(
            f"classes={named!r} is not the same as on the last call to partial_fit: "
            f"{listed(missing)} is missing. Name all classes again; those that are new are added."
        )
    texts = _with_unseen(label_set, named, "classes").text_of_class
    if len(texts) == len(label_set) and not multi_label:
        return label_set
    # The columns of `y` follow the order that is named with it.
    in_order = {value: texts[value] for value in named}
    return LabelSet.from_labels(in_order, sort=not multi_label, name="classes")


def read_classes(classes: Any) -> NDArray[Any]:
    """Read the `classes` of ``partial_fit``, in the order given."""
    return _class_vector(_as_column(classes, "classes"), "classes")


def as_object_array(values: Sequence[Any]) -> NDArray[Any]:
    """Put values in an array that does not look into them."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _positions(values: NDArray[Any], label_set: LabelSet, name: str) -> list[int]:
    index = {value: i for i, value in enumerate(label_set.classes.tolist())}
    # As tolist gave the classes: a datetime64 is not found by the datetime that stands for it.
    positions = [index.get(value, -1) for value in values.tolist()]
    if -1 in positions:
        i = positions.index(-1)
        raise ValueError(
            _unknown_class(row_name(name, i), values[i : i + 1].tolist()[0], label_set)
        )
    return positions


def _unknown_class(where: str, value: Any, label_set: LabelSet) -> str:
    labels = listed(label_set.classes.tolist())
    hint = ""
    if isinstance(value, bool):
        hint = " Name truth values with a dict: labels={False: 'anything else', True: 'sport'}."
    if value in ("0", "1", "0.0", "1.0"):
        hint = " If this is a number, convert it first: np.asarray(y).astype(float)."
    if not hint:
        hint = " A new class has to be named in labels=, or in classes= of partial_fit."
    return f"{where} has the unknown class {value!r}; the labels are {labels}.{hint}"


def _is_list(row: Any) -> bool:
    return isinstance(row, list | tuple | np.ndarray)


def _check_not_none(y: Any, name: str) -> None:
    if y is None:
        raise ValueError(
            f"Fitting requires y to be passed, but the target {name} is None. To classify without "
            "fitting, give labels=[...] and call predict; with labels=[...] and "
            'trainable="auto" or "labels", fit learns from texts without labels.'
        )
