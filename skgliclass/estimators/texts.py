"""Read a column of texts from any container that people keep one in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd

from ..prompts.checks import check_unicode, listed


def as_texts(X: Any, *, name: str = "X") -> list[str]:
    """Turn a column of texts into a list of strings.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,) or (n_samples, 1)
        The texts. Series and frames may be of pandas, polars or any library that narwhals knows.
    name : str, default="X"
        What to call `X` in an error.

    Returns
    -------
    list of str of length n_samples
        The same texts in the same order; the caller's container is not modified.

    Raises
    ------
    TypeError
        If `X` is a single string or no column of texts, or a row is not a string.
    ValueError
        If a row is missing (None, NaN, NA) or no valid Unicode, there is more than one column, or
        there are no rows.
    """
    rows = _rows(X, name)
    if not rows:
        raise ValueError(
            f"Found array with 0 sample(s) while a minimum of 1 is required: {name} holds no text."
        )
    for i, row in enumerate(rows):
        if not isinstance(row, str):
            _raise_bad_row(row, i, name)
        # ASCII holds no surrogates; for most texts the question ends here.
        if not row.isascii():
            check_unicode(row, f"{name}[{i}]")
    return rows


def row_index(X: Any) -> pd.Index | None:
    """Give the index that the caller's rows carry, or None where they carry none."""
    return X.index if isinstance(X, pd.Series | pd.DataFrame) else None


def _rows(X: Any, name: str) -> list[Any]:
    if isinstance(X, str | bytes):
        raise TypeError(
            f"{name} is a single string; it must be a list of texts. Write {name}=[text]."
        )
    if isinstance(X, list | tuple):
        return _unwrap_single_cells(X, name)
    if isinstance(X, np.ndarray):
        return _array_rows(X, name)
    column = nw.from_native(X, allow_series=True, pass_through=True)
    if isinstance(column, nw.LazyFrame):
        column = column.collect()
    if isinstance(column, nw.DataFrame):
        _check_one_column(column.columns, name)
        column = column.get_column(column.columns[0])
    if isinstance(column, nw.Series):
        return column.to_list()
    if hasattr(X, "__array__") and not hasattr(X, "tocsr"):
        return _array_rows(np.asarray(X, dtype=object), name)
    raise TypeError(
        f"{name} must be a list, array, Series or one-column frame of texts, "
        f"got {type(X).__name__}." + (" Write list(...)." if hasattr(X, "__iter__") else "")
    )


def _unwrap_single_cells(X: Sequence[Any], name: str) -> list[Any]:
    """Accept ``[["a"], ["b"]]`` as the (2, 1) column that an array of it would be."""
    if not X or isinstance(X[0], str) or not isinstance(X[0], list | tuple | np.ndarray):
        return list(X)
    for i, row in enumerate(X):
        if isinstance(row, str) or np.ndim(row) != 1 or len(row) != 1:
            raise ValueError(
                f"{name} must be a column of texts, one text a row; {name}[{i}] is {row!r}. "
                "Choose one column."
            )
    return [row[0] for row in X]


def _array_rows(X: np.ndarray, name: str) -> list[Any]:
    if X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.ndim != 1:
        raise ValueError(
            f"{name} must be a column of texts of shape (n_samples,) or (n_samples, 1), "
            f"got an array of shape {X.shape}. Choose one column."
        )
    rows: list[Any] = X.tolist()
    return rows


def _check_one_column(columns: Sequence[str], name: str) -> None:
    if len(columns) != 1:
        raise ValueError(
            f"{name} must be one column of texts, got a frame with {len(columns)} columns "
            f"({listed(columns, 10)}). Choose one, for instance {name}[{columns[0]!r}]."
            if len(columns)
            else f"{name} must be one column of texts, got a frame without columns."
        )


def _raise_bad_row(row: Any, i: int, name: str) -> None:
    if row is None or (pd.api.types.is_scalar(row) and pd.isna(row)):
        raise ValueError(
            f"{name}[{i}] is missing ({row!r}, NaN or None); every row must be a text. "
            "Drop such rows or fill them, for instance with fillna('')."
        )
    raise TypeError(
        f"{name}[{i}] is {row!r} ({type(row).__name__}), not a text. "
        + ("Decode it first." if isinstance(row, bytes) else "Convert it with str(), or drop it.")
    )
