"""What pictures are made of: scores of texts, from any classifier, and what is true of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..estimators.base import BaseGLiClass
from ..estimators.containers import Frame, cells_in, open_container
from ..estimators.labels import LabelSet, as_class_array
from ..estimators.targets import multi_label_targets, single_label_targets
from ..estimators.texts import as_texts

RESPONSES = ("predict_proba", "decision_function")


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """The scores of texts for classes.

    Attributes
    ----------
    values : ndarray of shape (n_texts, n_classes)
        Probabilities, or what they are made of.
    classes : list of length n_classes
    chosen : ndarray of shape (n_texts, n_classes), bool, or None
        Which classes are predicted, where that is known.
    """

    values: NDArray[np.floating[Any]]
    classes: list[Any]
    chosen: NDArray[np.bool_] | None = None


def score_texts(estimator: Any, X: Any, response_method: str = "predict_proba") -> ScoredTexts:
    """Score texts with any classifier, reading them once.

    Raises
    ------
    ValueError, TypeError
        If it has no such method, or no classes.
    """
    if response_method not in RESPONSES:
        raise ValueError(
            f"response_method={response_method!r} is unknown; choose from {', '.join(RESPONSES)}."
        )
    if isinstance(estimator, BaseGLiClass):
        scores = estimator._scores(as_texts(X), chooses=True)
        wants_logits = response_method == "decision_function"
        values = scores.each(lambda of: of.logits if wants_logits else of.probabilities)
        # A transformer chooses nothing.
        chosen = scores.each(lambda of: of.chosen()) if hasattr(estimator, "predict") else None
        return ScoredTexts(values, estimator.classes_.tolist(), chosen)
    if not hasattr(estimator, response_method):
        raise TypeError(
            f"{type(estimator).__name__} has no {response_method}, of which the picture is made. "
            "Give a fitted classifier that has it."
        )
    values = as_table(getattr(estimator, response_method)(X), response_method)
    classes = getattr(estimator, "classes_", None)
    # Of several outputs scikit-learn keeps the classes of each, 0 and 1.
    known = [] if classes is None or isinstance(classes, list) else np.asarray(classes).tolist()
    if values.shape[1] == 1 and len(known) == 2:
        return ScoredTexts(values, known[1:])
    return ScoredTexts(
        values, known if len(known) == values.shape[1] else [*range(values.shape[1])]
    )


def as_table(values: Any, name: str) -> NDArray[np.floating[Any]]:
    """Read scores in scikit-learn's forms: a matrix, a vector for two classes, or one a label.

    Raises
    ------
    ValueError
        If they are of another shape, or a value is none.
    """
    if isinstance(values, list) and values and np.ndim(values[0]) == 2:
        values = np.column_stack([np.asarray(of_label)[:, -1] for of_label in values])
    table = np.asarray(values)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must hold numbers, a row for each text and a column for each class, got an "
            f"array of shape {table.shape} with {table.dtype}."
        )
    is_bad = np.isnan(table).any(axis=1)
    if is_bad.any():
        raise ValueError(f"{name}[{int(is_bad.argmax())}] has NaN. Leave such rows out.")
    return table.astype(np.result_type(table.dtype, np.float32))


@dataclass(frozen=True, eq=False)
class JudgedTexts:
    """Probabilities of texts for classes beside what is true.

    Attributes
    ----------
    probabilities : ndarray of shape (n_texts, n_classes)
    truth : ndarray of shape (n_texts, n_classes), float32
        1 where the class is true, 0 where it is not; NaN says that nobody knows.
    classes : list of length n_classes
    multi_label : bool
        Whether a text may have any number of classes.
    """

    probabilities: NDArray[np.floating[Any]]
    truth: NDArray[np.float32]
    classes: list[Any]
    multi_label: bool

    @classmethod
    def of(cls, y_true: Any, y_prob: Any, classes: Sequence[Any] | None = None) -> JudgedTexts:
        """Read what scikit-learn's metrics would be given.

        Parameters
        ----------
        y_true : array-like
            A class for each text; or where a text may have any number of them an indicator matrix,
            or a list of lists of classes.
        y_prob : array-like or DataFrame of shape (n_texts, n_classes), or (n_texts,)
            The probabilities; a vector is that of the second of two classes.
        classes : sequence, optional
            Of the columns; by default the columns of a frame, or the sorted classes of `y_true`.

        Raises
        ------
        ValueError, TypeError
            If the shapes do not go together, or a value is no probability.
        """
        if classes is None and isinstance(y_prob, pd.DataFrame):
            classes = y_prob.columns.tolist()
        table = as_table(y_prob, "y_prob")
        multi_label = holds_several(y_true, table.shape[1])
        is_of_two = classes is None or len(classes) == 2
        if not multi_label and table.shape[1] == 1 and is_of_two:
            table = np.column_stack([1 - table, table])
        _check_probabilities(table)
        known = _classes_of(y_true, classes, table.shape[1], multi_label)
        truth = read_truth(y_true, known, multi_label)
        if len(truth) != len(table):
            raise ValueError(
                f"y_true has {len(truth)} rows, but y_prob has {len(table)}; give one for each "
                "text in both."
            )
        return cls(table, truth, known, multi_label)


def read_truth(y: Any, classes: Sequence[Any], multi_label: bool) -> NDArray[np.float32]:
    """Read what is true of texts, in the columns of the classes.

    A class that is not among them is no column, so that a text that has it has none.
    """
    if not multi_label:
        cells = cells_in(y, "y_true")
        values = cells.ravel().tolist() if isinstance(cells, np.ndarray) else list(cells)
        column = {value: j for j, value in enumerate(classes)}
        if all(isinstance(value, Hashable) and value in column for value in values):
            # As it stands: of few texts of many classes scikit-learn warns that these may be
            # measurements.
            columns = np.asarray([column[value] for value in values], dtype=np.intp)
            return np.eye(len(classes), dtype=np.float32)[columns]
    label_set = LabelSet(as_class_array(list(classes)), tuple(map(str, classes)))
    read = multi_label_targets if multi_label else single_label_targets
    return read(y, label_set, name="y_true", unseen=True).matrix[:, : len(classes)]


def holds_several(y: Any, n_columns: int) -> bool:
    """Tell by its form whether `y` may name any number of classes for a text."""
    cells = cells_in(y, "y_true")
    if not isinstance(cells, list) and np.ndim(cells) == 2:
        # A column beside one column of probabilities is of a label that is true or not.
        return bool(cells.shape[1] > 1 or n_columns == 1)
    return any(
        isinstance(row, Sequence | Set | Mapping | np.ndarray)
        for row in cells
        if row is not None and not isinstance(row, str | bytes)
    )


def _check_probabilities(table: NDArray[np.floating[Any]]) -> None:
    is_bad = ((table < 0) | (table > 1 + 1e-6)).any(axis=1)
    if is_bad.any():
        row = int(is_bad.argmax())
        raise ValueError(
            f"y_prob[{row}] is {np.round(table[row], 3).tolist()!s:.80}, which are no "
            "probabilities. Give what predict_proba gives."
        )


def _classes_of(
    y_true: Any, classes: Sequence[Any] | None, n_columns: int, multi_label: bool
) -> list[Any]:
    if classes is None and multi_label:
        rows = open_container(y_true, "y_true")
        classes = rows.columns if isinstance(rows, Frame) else range(n_columns)
    elif classes is None:
        classes = np.unique(np.asarray(y_true)).tolist()
    known = np.asarray(classes).tolist() if isinstance(classes, np.ndarray) else list(classes)
    if len(known) != n_columns:
        raise ValueError(
            f"y_prob has {n_columns} columns, but there are {len(known)} classes. Give "
            "labels=..., the class of each column, such as clf.classes_."
        )
    return known
