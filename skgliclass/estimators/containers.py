"""Open the containers that people keep `y` in; what their rows mean is for others to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ..prompts.checks import in_short, listed


@dataclass(frozen=True, eq=False)
class Frame:
    """A table with named columns.

    Attributes
    ----------
    columns : list of length n_columns
        The names, each of which occurs once.
    cells : ndarray of shape (n_rows, n_columns)
        Missing ones are None, NaN or NA.
    """

    columns: list[Any]
    cells: NDArray[Any]


Opened = Frame | NDArray[Any] | list[Any]


def open_container(y: Any, name: str) -> Opened:
    """Give what a container holds: a frame, an array, or a list of rows.

    Parameters
    ----------
    y : sequence, array, sparse matrix, Series or frame
        What the user passed; Series and frames of any library that narwhals knows.
    name : str
        What to call it in an error.

    Returns
    -------
    Frame, ndarray or list
        Values are as the user wrote them, missing ones as None, NaN or NA.

    Raises
    ------
    TypeError
        If the rows have no order, or can only be read once.
    ValueError
        If the columns of a frame cannot be told apart.
    """
    # Before dicts, one of which a sparse matrix may be.
    if sparse.issparse(y):
        return np.asarray(sparse.csr_array(y).toarray())
    _check_rows_have_an_order(y, name)
    if isinstance(y, np.ma.MaskedArray):
        return _masked_as_missing(y)
    if isinstance(y, np.ndarray):
        if y.dtype.names is not None:
            raise TypeError(
                f"{name} is a structured array. Choose one of its fields, "
                f"{name}[{y.dtype.names[0]!r}], or write pandas.DataFrame({name})."
            )
        return _known_strings(np.asarray(y))
    if isinstance(y, pd.Index | pd.api.extensions.ExtensionArray):
        y = pd.Series(y)
    if isinstance(y, pd.DataFrame):
        _check_pandas_columns(y, name)
    table = nw.from_native(y, allow_series=True, pass_through=True)
    if isinstance(table, nw.LazyFrame):
        table = table.collect()
    if isinstance(table, nw.DataFrame):
        return Frame(list(table.columns), _known_strings(table.to_numpy()))
    if isinstance(table, nw.Series):
        return _opened_series(table)
    return _opened_other(y, name)


def _check_rows_have_an_order(y: Any, name: str) -> None:
    if isinstance(y, str | bytes | bytearray | memoryview):
        raise TypeError(
            f"{name} is a single string, {in_short(y)}; it must hold something for each text. "
            f"Write {name}=[...]."
        )
    if isinstance(y, Mapping):
        raise TypeError(
            f"{name} is a dict, but its rows belong to those of X by their order. Write "
            f"list({name}.values()) in the order of X, or pandas.DataFrame({name}) where its keys "
            "are the labels."
        )
    if isinstance(y, Set) and not isinstance(y, KeysView):
        raise TypeError(
            f"{name} is a set, which has no order, but its rows belong to those of X by theirs. "
            "Write a list in the order of X."
        )
    if isinstance(y, pd.MultiIndex):
        raise TypeError(
            f"{name} is a MultiIndex, whose rows are tuples. Choose one level: "
            f"{name}.get_level_values(0)."
        )


def _check_pandas_columns(y: pd.DataFrame, name: str) -> None:
    if y.columns.nlevels > 1:
        raise ValueError(
            f"The columns of {name} are a MultiIndex, but each label is one name. Join the levels: "
            f"{name}.columns = ['.'.join(map(str, names)) for names in {name}.columns]."
        )
    if not y.columns.is_unique:
        repeated = list(dict.fromkeys(y.columns[y.columns.duplicated()]))
        raise ValueError(
            f"{name} has several columns of the name {listed(repeated)}, so that nobody can tell "
            "which one is meant. Drop or rename them: "
            f"{name} = {name}.loc[:, ~{name}.columns.duplicated()]."
        )


def _masked_as_missing(y: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    cells = np.asarray(y.data).astype(object)
    cells[np.ma.getmaskarray(y)] = None
    return cells


def _known_strings(array: NDArray[Any]) -> NDArray[Any]:
    # numpy's own strings of any length are newer than much that reads arrays.
    return array.astype(object) if array.dtype.kind == "T" else array


def _opened_series(series: nw.Series[Any]) -> NDArray[Any] | list[Any]:
    array = series.to_numpy()
    # As they are where numpy holds such values; other values would change on their way into it.
    if array.ndim == 1 and array.dtype.kind in "biufmM" and not series.is_null().any():
        return np.asarray(array)
    return list(series.to_list())


def _opened_other(y: Any, name: str) -> NDArray[Any] | list[Any]:
    if hasattr(y, "to_pylist"):
        return list(y.to_pylist())
    if hasattr(y, "__array__"):
        return _known_strings(np.asarray(y))
    if isinstance(y, Sequence | KeysView | ValuesView):
        return list(y)
    if isinstance(y, Iterator):
        raise TypeError(
            f"{name} is a generator or another iterator ({type(y).__name__}), which can be read "
            f"only once. Write list({name})."
        )
    hint = f" Choose one column, or write list({name})." if isinstance(y, Iterable) else ""
    raise TypeError(f"{name} must be a list, array, Series or frame, got {in_short(y)}.{hint}")
