"""Read a column of texts from any container that people keep one in."""

from __future__ import annotations

from collections import UserString
from collections.abc import KeysView, Mapping, Sequence, Set
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ..prompts.checks import check_unicode, in_short, listed
from .containers import Frame, is_missing, open_ordered, plain_rows


def as_texts(X: Any, *, name: str = "X") -> list[str]:
    """Turn a column of texts into a list of strings.

    Parameters
    ----------
    X : sequence, ndarray, Series or one-column frame of shape (n_samples,) or (n_samples, 1)
        The texts. Series and frames may be of pandas, polars, pyarrow or any library that narwhals
        knows; columns of ``datasets`` and other sequences, and what numpy can read, will do, too.
    name : str, default="X"
        What to call `X` in an error.

    Returns
    -------
    list of str of length n_samples
        The same texts in the same order; the caller's container is not modified.

    Raises
    ------
    TypeError
        If `X` is a single string or no column of texts, can only be read once or is not in memory,
        or a row is not a string.
    ValueError
        If a row is missing (None, NaN, NA) or no valid Unicode, there is more than one column, a
        matrix of numbers, or no row.
    """
    rows = _rows(X, name)
    if not rows:
        raise ValueError(
            f"Found array with 0 sample(s) while a minimum of 1 is required: {name} holds no text."
        )
    for i, row in enumerate(rows):
        if not isinstance(row, str):
            raise_bad_row(row, f"{name}[{i}]", name)
        # ASCII holds no surrogates; for most texts the question ends here.
        if not row.isascii():
            check_unicode(row, f"{name}[{i}]")
    return rows


def row_index(X: Any) -> pd.Index | None:
    """Give the index that the caller's rows carry, or None where they carry none."""
    return X.index if isinstance(X, pd.Series | pd.DataFrame) else None


def _rows(X: Any, name: str) -> list[Any]:
    if isinstance(X, list | tuple):
        return _unwrap_single_cells(X, name)
    _check_is_no_single_text(X, name)
    if sparse.issparse(X):
        raise TypeError(_matrix_of_numbers(f"a sparse matrix of shape {X.shape}", name))
    if isinstance(X, pd.DataFrame):
        # By position, as what names are is of no matter here.
        is_numeric = all(map(pd.api.types.is_numeric_dtype, X.dtypes))
        _check_one_column(list(X.columns), name, X.shape if is_numeric else None)
        X = X.iloc[:, 0]
    opened = None if isinstance(X, Mapping) else open_ordered(X, name)
    if isinstance(opened, Frame):
        is_numeric = opened.cells.dtype.kind in "biufc"
        _check_one_column(opened.columns, name, opened.cells.shape if is_numeric else None)
        opened = opened.cells[:, 0]
    if isinstance(opened, np.ndarray):
        return _array_rows(opened, name)
    if opened is None:
        raise TypeError(_no_column(X, name))
    return _unwrap_single_cells(opened, name)


def _check_is_no_single_text(X: Any, name: str) -> None:
    if isinstance(X, str | UserString):
        raise TypeError(
            f"{name} is a single string; it must be a list of texts. Write {name}=[text]."
        )
    if isinstance(X, bytes | bytearray | memoryview):
        raise TypeError(
            f"{name} is a single string of bytes, {in_short(X)}; it must be a list of texts. Write "
            f"{name}=[{name}.decode()]."
        )
    if isinstance(X, np.ndarray) and X.ndim == 0:
        raise ValueError(
            f"{name} is a single value, {in_short(X.tolist())}, in an array of shape (); it must "
            f"be a list of texts. Write {name}={name}.reshape(1)."
        )


def _no_column(X: Any, name: str) -> str:
    got = f"{name} must be a list, array, Series or one-column frame of texts, got "
    got += type(X).__name__
    # Datasets of Hugging Face, which may have dicts of splits around them.
    columns = getattr(X, "column_names", None)
    if isinstance(columns, dict) or (isinstance(X, Mapping) and columns is not None):
        return f"{got}. Choose a split and a column of it."
    if columns:
        return f"{got} with the columns {listed(list(columns))}. Choose one, list({name}[...])."
    if isinstance(X, Mapping):
        return (
            f"{got}. Write list({name}.values()) if its values are the texts, or choose the one "
            "that holds them."
        )
    if isinstance(X, Set) and not isinstance(X, KeysView):
        return f"{got}, which has no order to give predictions in. Write sorted({name})."
    return got + (f". Write list({name})." if hasattr(X, "__iter__") else ".")


def _matrix_of_numbers(kind: str, name: str) -> str:
    return (
        f"{name} is {kind} that holds numbers, but the model reads the texts themselves. Pass the "
        "texts, and in a pipeline leave out the step that makes numbers of them, such as "
        "TfidfVectorizer or CountVectorizer."
    )


def _unwrap_single_cells(X: Sequence[Any], name: str) -> list[Any]:
    """Accept ``[["a"], ["b"]]`` as the (2, 1) column that an array of it would be."""
    if not X or isinstance(X[0], str) or not isinstance(X[0], list | tuple | np.ndarray):
        return plain_rows(X)
    for i, row in enumerate(X):
        if not isinstance(row, list | tuple | np.ndarray):
            raise ValueError(
                f"{name}[0] is {in_short(X[0])}, but {name}[{i}] is {in_short(row)}. Write every "
                "row as a text."
            )
        if len(row) and all(isinstance(cell, int | float) for cell in row):
            raise ValueError(_matrix_of_numbers(f"a list of {in_short(row)}", name))
        if np.ndim(row) != 1 or len(row) != 1:
            raise ValueError(
                f"{name} must be a column of texts, one text a row; {name}[{i}] is "
                f"{in_short(row)}. Choose one column, or join what belongs to one text: "
                f"[' '.join(row) for row in {name}]."
            )
    return [row[0] for row in X]


def _array_rows(X: NDArray[Any], name: str) -> list[Any]:
    if X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.ndim != 1:
        if X.dtype.kind in "biufc":
            raise ValueError(_matrix_of_numbers(f"an array of shape {X.shape}", name))
        raise ValueError(
            f"{name} must be a column of texts of shape (n_samples,) or (n_samples, 1), "
            f"got an array of shape {X.shape}. Choose one column"
            + (f", for instance {name}[:, 0]." if X.ndim == 2 and X.shape[1] else ".")
        )
    rows: list[Any] = X.tolist()
    return rows


def _check_one_column(
    columns: Sequence[Any], name: str, shape_of_numbers: tuple[int, ...] | None
) -> None:
    if len(columns) > 1 and shape_of_numbers is not None:
        raise ValueError(_matrix_of_numbers(f"a frame of shape {shape_of_numbers}", name))
    if len(columns) != 1:
        raise ValueError(
            f"{name} must be one column of texts, got a frame with {len(columns)} columns "
            f"({listed(columns, 10)}). Choose one, for instance {name}[{columns[0]!r}]."
            if len(columns)
            else f"{name} must be one column of texts, got a frame without columns."
        )


def raise_bad_row(row: Any, place: str, name: str) -> NoReturn:
    """Refuse a row that is no text.

    Parameters
    ----------
    row : object
        What stands in its place.
    place : str
        How the user knows the row, such as ``"X[3]"``.
    name : str
        What to call the column of texts.

    Raises
    ------
    ValueError
        If the row is missing.
    TypeError
        If it is something else.
    """
    if is_missing(row):
        raise ValueError(
            f"{place} is missing ({row!r}); every row must be a text. "
            "Drop such rows or fill them, for instance with fillna('')."
        )
    raise TypeError(f"{place} is {in_short(row)}, not a text. {_advice(row, name)}")


def _advice(row: Any, name: str) -> str:
    """Say how a row becomes a text."""
    if isinstance(row, bytes | bytearray):
        return "Decode it first."
    if isinstance(row, Mapping):
        return f"Take the text out of each, as in [row['text'] for row in {name}]."
    if isinstance(row, list | tuple | np.ndarray | set | frozenset):
        return f"Choose one of its parts, or join them: ' '.join({name}[i])."
    return "Convert it with str(), or drop it."
