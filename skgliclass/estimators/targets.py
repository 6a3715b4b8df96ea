"""Turn every form of `y` into a label set and one 0/1 (or soft) matrix.

The network sees only that matrix, so that binary, multi-class and multi-label problems share one
path; this module alone knows in which forms people keep their labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from ..exceptions import warn
from ..prompts.checks import listed
from .labels import LabelSet, as_class_array


@dataclass(frozen=True, eq=False)
class Targets:
    """What a fit learns: the label set and, for each text and class, how far it holds.

    Attributes
    ----------
    label_set : LabelSet
        The classes and their label texts.
    matrix : ndarray of shape (n_samples, n_classes), float32
        1 where the class is true, 0 where it is not; values between are soft targets.
    """

    label_set: LabelSet
    matrix: NDArray[np.float32]


def single_label_targets(y: Any, label_set: LabelSet | None, *, name: str = "y") -> Targets:
    """Read a vector with one class a text.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The class of each text.
    label_set : LabelSet or None
        What the classifier's `labels` parameter means; None takes the classes from `y`.
    name : str, default="y"
        What to call `y` in an error.

    Returns
    -------
    Targets
        One 1 a row.

    Raises
    ------
    ValueError
        If a class is missing or unknown, or integers could be read in two ways.
    """
    _check_not_none(y)
    vector = _as_vector(y)
    # Before scikit-learn's own check, whose message names no row.
    _check_none_missing(vector, name)
    check_classification_targets(vector)
    label_set = _single_label_set(vector, label_set, name)
    positions = _positions(vector, label_set, name)
    matrix = np.zeros((len(vector), len(label_set)), dtype=np.float32)
    matrix[np.arange(len(vector)), positions] = 1
    return Targets(label_set, matrix)


def multi_label_targets(y: Any, label_set: LabelSet | None, *, name: str = "y") -> Targets:
    """Read the labels of texts that may have any number of them.

    Parameters
    ----------
    y : indicator array, sparse matrix, frame whose columns are the classes, or list of label sets
        For each text, which classes hold. Numbers between 0 and 1 are soft targets.
    label_set : LabelSet or None
        What the classifier's `labels` parameter means; None takes the classes from `y`.
    name : str, default="y"
        What to call `y` in an error.

    Returns
    -------
    Targets

    Raises
    ------
    ValueError
        If shapes, columns or values do not fit; the row is named.
    """
    _check_not_none(y)
    if sparse.issparse(y):
        return _matrix_targets(sparse.csr_array(y).toarray(), label_set, name)
    frame = nw.from_native(y, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        return _frame_targets(frame, label_set, name)
    rows = list(y) if isinstance(y, list | tuple | pd.Series) or _is_object_vector(y) else y
    if isinstance(rows, list) and not _is_numeric_table(rows):
        return _label_set_targets(rows, label_set, name)
    return _matrix_targets(np.asarray(rows), label_set, name)


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
        If a class is unknown, or integers could be read in two ways.
    """
    if not multi_label:
        label_set = _single_label_set(np.asarray(classes), label_set, "classes")
    _positions(classes, label_set, "classes")


def _as_vector(y: Any) -> NDArray[Any]:
    """Read a vector or a column; scikit-learn's own warning of a column would point in here."""
    # It refuses what is neither; that it warns of a column is off by default.
    vector: NDArray[Any] = column_or_1d(y)
    if np.asarray(y).ndim == 2:
        warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape "
            "of y to (n_samples,), for example using ravel().",
            DataConversionWarning,
        )
    return vector


def _single_label_set(y: NDArray[Any], label_set: LabelSet | None, name: str) -> LabelSet:
    if label_set is None:
        if y.dtype.kind in "iuf":
            warn(
                "The classes are numbers, so the model reads label texts such as '0' and '1', "
                "which say nothing about the texts. Give their meaning with "
                "labels={0: 'world news', 1: 'sport'}."
            )
        return LabelSet.from_target(y)
    if y.dtype.kind in "iu" and not np.isin(y, label_set.classes).all():
        return _read_as_positions(y, label_set, name)
    return label_set


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
            f"{name}[{i}] is {y[i]}, which is neither one of the labels nor a position among the "
            f"{len(label_set)} sorted labels."
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


def _positions(values: Iterable[Any], label_set: LabelSet, name: str) -> list[int]:
    index = {value: i for i, value in enumerate(label_set.classes.tolist())}
    positions = []
    for i, value in enumerate(values):
        # As tolist gave the classes: a datetime64 is not found by the datetime that stands for it.
        value = value.item() if isinstance(value, np.generic) else value
        if value not in index:
            raise ValueError(_unknown_class(f"{name}[{i}]", value, label_set))
        positions.append(index[value])
    return positions


def _unknown_class(where: str, value: Any, label_set: LabelSet) -> str:
    labels = listed(label_set.classes.tolist())
    return f"{where} has the unknown class {value!r}; the labels are {labels}."


def _frame_targets(frame: Any, label_set: LabelSet | None, name: str) -> Targets:
    columns = list(frame.columns)
    if label_set is None:
        label_set = LabelSet.from_labels(columns, sort=False)
    wanted = label_set.classes.tolist()
    if set(wanted) != set(columns):
        missing = [value for value in wanted if value not in columns]
        unknown = [column for column in columns if column not in wanted]
        raise ValueError(
            f"The columns of {name} must be the labels"
            + (f"; missing: {missing[:8]}" if missing else "")
            + (f"; not among the labels: {unknown[:8]}" if unknown else "")
            + "."
        )
    # By position: a frame of pandas may have columns that are no strings.
    array = frame.to_numpy()
    return _matrix_targets(array[:, [columns.index(value) for value in wanted]], label_set, name)


def _matrix_targets(y: NDArray[Any], label_set: LabelSet | None, name: str) -> Targets:
    if y.ndim != 2:
        raise ValueError(
            f"{name} must be an indicator matrix of shape (n_samples, n_classes), a frame whose "
            f"columns are the labels, or a list of label sets; got shape {y.shape}. "
            "For one class a text use GLiClassClassifier."
        )
    if label_set is None:
        warn(
            "The columns of y have no names, so the model reads label texts such as '0' and '1', "
            "which say nothing about the texts. Give their meaning with labels=[...]."
        )
        label_set = LabelSet.from_labels(list(range(y.shape[1])), sort=False)
    if y.shape[1] != len(label_set):
        raise ValueError(f"{name} has {y.shape[1]} columns, but there are {len(label_set)} labels.")
    try:
        matrix = y.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers between 0 and 1 ({error}).") from error
    # Turned round, so that NaN, which compares with nothing, is outside.
    outside = ~((matrix >= 0) & (matrix <= 1))
    if outside.any():
        i, j = (int(k[0]) for k in np.nonzero(outside))
        value = label_set.classes.tolist()[j]
        raise ValueError(
            f"{name}[{i}] has {matrix[i, j]} for class {value!r}; a target is 0, 1, or a soft "
            "target between."
        )
    return Targets(label_set, matrix)


def _label_set_targets(rows: Sequence[Any], label_set: LabelSet | None, name: str) -> Targets:
    for i, row in enumerate(rows):
        if isinstance(row, str | bytes) or not isinstance(row, Iterable):
            raise ValueError(
                f"{name}[{i}] is {row!r}; in a list of label sets every row is a list or set of "
                "classes, [] where none holds. For one class a text use GLiClassClassifier."
            )
    if label_set is None:
        # Sorted, as by scikit-learn's MultiLabelBinarizer: label sets have no order to keep.
        values = {value for row in rows for value in row}
        label_set = LabelSet.from_labels(as_class_array(list(values)), sort=True)
    matrix = np.zeros((len(rows), len(label_set)), dtype=np.float32)
    index = {value: j for j, value in enumerate(label_set.classes.tolist())}
    for i, row in enumerate(rows):
        for value in row:
            if value not in index:
                raise ValueError(_unknown_class(f"{name}[{i}]", value, label_set))
            matrix[i, index[value]] = 1
    return Targets(label_set, matrix)


def _is_object_vector(y: Any) -> bool:
    return isinstance(y, np.ndarray) and y.dtype == object and y.ndim == 1


def _is_numeric_table(rows: Sequence[Any]) -> bool:
    """Tell lists of 0/1 (or soft targets) from lists of classes by what they hold."""
    if not rows or any(isinstance(row, set | frozenset | str) for row in rows):
        return False
    if len({len(row) if hasattr(row, "__len__") else -1 for row in rows}) != 1:
        return False
    try:
        # numpy refuses rows that are ragged further down.
        table = np.asarray(rows)
    except ValueError:
        return False
    return table.ndim == 2 and table.shape[1] > 0 and _all_between_0_and_1(table)


def _all_between_0_and_1(table: NDArray[Any]) -> bool:
    return table.dtype.kind in "biuf" and bool(((table >= 0) & (table <= 1)).all())


def _check_not_none(y: Any) -> None:
    if y is None:
        raise ValueError(
            "Fitting requires y to be passed, but the target y is None. To classify without "
            "fitting, give labels=[...] and call predict."
        )


def _check_none_missing(y: NDArray[Any], name: str) -> None:
    missing = pd.isna(y)
    if missing.any():
        i = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"{name}[{i}] is missing ({y[i]!r}, NaN or None); every row needs a class. Drop "
            "such rows before fitting."
        )
    if y.dtype.kind == "f" and np.isinf(y).any():
        i = int(np.flatnonzero(np.isinf(y))[0])
        raise ValueError(f"{name}[{i}] is infinite (inf); a class must be a value.")
