"""The columns that predictions become: their names and types, known before any text is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..exceptions import missing_extra
from ..prompts.checks import first_repeated, in_short

PREDICTED = "predicted"
"""What the column of classes is called."""

Values = list[Any] | NDArray[np.float32]
"""A class, or a list of classes, a row; or a row of probabilities a row."""


@dataclass(frozen=True)
class Results:
    """What is added to a table.

    Attributes
    ----------
    output : {"predict", "proba"}
        Classes, or their probabilities.
    classes : tuple
        The classes, as the estimator has them.
    kind : type
        Theirs: str, bool, int or float.
    several : bool
        Whether a text has any number of classes.
    nullable : bool
        Whether rows may have no text, and so no result.
    """

    output: str
    classes: tuple[Any, ...]
    kind: type
    several: bool
    nullable: bool

    @classmethod
    def of(cls, estimator: Any, output: str, *, nullable: bool) -> Results:
        """Find out what an estimator will give, without a text and without its weights.

        Raises
        ------
        NotFittedError
            If it knows no classes.
        TypeError
            If it does not predict so, or its classes fit into no column.
        """
        if isinstance(estimator, type):
            raise TypeError(f"estimator is the class {estimator.__name__}, not one made of it.")
        method = method_of(output)
        if not hasattr(estimator, method):
            raise TypeError(
                f'output="{output}" asks for {method}, which {in_short(estimator)} does not have.'
            )
        classes = _classes_of(estimator)
        several = _chooses_several(estimator)
        results = cls(output, classes, _kind_of(classes), several, nullable)
        if results.is_list:
            check_pyarrow("A column of label lists", "parquet")
        repeated = first_repeated(results.names)
        if repeated is not None:
            raise ValueError(f"Two classes would have a column of the same name, {repeated!r}.")
        return results

    @property
    def is_list(self) -> bool:
        """Whether a cell is a list of classes."""
        return self.several and self.output == "predict"

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [PREDICTED] if self.output == "predict" else list(map(str, self.classes))

    def read(self, predicted: Any, is_text: NDArray[np.bool_]) -> Values:
        """Give what an estimator predicted for the texts, with nothing where there is none.

        Parameters
        ----------
        predicted : array of shape (n_texts,) or (n_texts, n_classes), or None
            What ``predict`` or ``predict_proba`` gave; None where there is no text at all.
        is_text : ndarray of shape (n_rows,)
            Which rows have a text.

        Returns
        -------
        list of length n_rows, or ndarray of shape (n_rows, n_classes)
            Missing are None, or NaN.
        """
        if sparse.issparse(predicted):
            predicted = predicted.toarray()
        if self.output == "proba":
            proba = np.full((len(is_text), len(self.classes)), np.nan, dtype=np.float32)
            if predicted is not None:
                proba[is_text] = predicted
            return proba
        values = np.full(len(is_text), None, dtype=object)
        # One by one: numpy would make a matrix of lists of the same length.
        for i, value in zip(np.flatnonzero(is_text), self._cells(predicted), strict=True):
            values[i] = value
        return list(values)

    def _cells(self, predicted: Any) -> list[Any]:
        if predicted is None:
            return []
        rows = np.asarray(predicted)
        if rows.ndim != 1 + self.several:
            raise TypeError(
                f"predict gave an array of shape {rows.shape}, not one class a text. Any number of "
                "classes a text is known of GLiClassMultiLabelClassifier and OneVsRestClassifier."
            )
        if not self.several:
            return list(rows.tolist())
        return [[self.classes[k] for k in np.flatnonzero(row)] for row in rows]

    def as_pandas(self, values: Values, index: pd.Index) -> pd.DataFrame:
        """Give the columns as a frame of pandas."""
        if self.output == "proba":
            return pd.DataFrame(values, index=index, columns=self.names)
        cells = pd.array(values, dtype=self._pandas_type())
        return pd.DataFrame({PREDICTED: cells}, index=index)

    def _pandas_type(self) -> Any:
        if self.is_list:
            return pd.ArrowDtype(self.arrow_type())
        if self.kind is str:
            # Since pandas 3 a type of its own, before that object.
            return pd.Series([""]).dtype
        if self.kind is float:
            return "float64"
        names = {int: "Int64", bool: "boolean"} if self.nullable else {int: "int64", bool: "bool"}
        return names[self.kind]

    def as_arrow(self, values: Values) -> list[Any]:
        """Give the columns as arrays of Arrow."""
        import pyarrow as pa

        if isinstance(values, np.ndarray):
            return [
                pa.array(column, self.arrow_type(), from_pandas=True)
                for column in np.ascontiguousarray(values.T)
            ]
        return [pa.array(values, self.arrow_type())]

    def arrow_type(self) -> Any:
        """Give the type of each column in Arrow."""
        import pyarrow as pa

        if self.output == "proba":
            return pa.float32()
        value = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        return pa.list_(value[self.kind]) if self.several else value[self.kind]


def method_of(output: str) -> str:
    """Give the method of an estimator that makes an output."""
    return {"predict": "predict", "proba": "predict_proba"}[output]


def check_pyarrow(what: str, extra: str) -> None:
    """Refuse to go on without pyarrow, with an error that names the extra."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(missing_extra(what, "pyarrow", extra)) from error


def _classes_of(estimator: Any) -> tuple[Any, ...]:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise NotFittedError(
            f"{in_short(estimator)} has no classes_. Fit it first, or give it labels=; the columns "
            "of the result are made of them."
        )
    values: Sequence[Any] = np.asarray(classes, dtype=object).tolist()
    if any(isinstance(value, list | np.ndarray) for value in values):
        raise TypeError(f"{in_short(estimator)} predicts several targets; predict one at a time.")
    return tuple(value.item() if isinstance(value, np.generic) else value for value in values)


def _kind_of(classes: Sequence[Any]) -> type:
    # A truth value is an integer, too, so that it is asked for before.
    for kind in (str, bool, int, float):
        if all(isinstance(value, kind) for value in classes):
            return kind
    other = next((value for value in classes if type(value) is not type(classes[0])), classes[0])
    raise TypeError(
        f"A class is {in_short(other)}. Columns of tables hold one type: classes must be all "
        "strings, all whole numbers, all numbers or all truth values."
    )


def _chooses_several(estimator: Any) -> bool:
    """Tell whether an estimator gives any number of classes a text."""
    while True:
        if isinstance(estimator, GLiClassMultiLabelClassifier):
            return True
        if hasattr(estimator, "multilabel_"):
            return bool(estimator.multilabel_)
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return False
