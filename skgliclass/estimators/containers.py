"""Open the containers that people keep data in; what their rows mean is for others to read."""

from __future__ import annotations

from collections import UserString
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from dataclasses import dataclass
from enum import EnumMeta
from typing import Any

import narwhals.stable.v2 as nw
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

_ENGINES = {"dask": "Dask", "pyspark": "Spark", "pyspark_connect": "Spark", "ray": "Ray"}


def open_container(y: Any, name: str) -> Opened:
    """Give what a container of targets holds: a frame, an array, or a list of rows.

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
    opened = open_ordered(y, name)
    if opened is None:
        hint = f" Choose one column, or write list({name})." if isinstance(y, Iterable) else ""
        raise TypeError(f"{name} must be a list, array, Series or frame, got {in_short(y)}.{hint}")
    return opened


def open_ordered(values: Any, name: str) -> Opened | None:
    """Give what any container with an order holds.

    Parameters
    ----------
    values : object
        What the user passed.
    name : str
        What to call it in an error.

    Returns
    -------
    Frame, ndarray, list or None
        Values are as the user wrote them, missing ones as None, NaN or NA. None where this is no
        container, or one without an order.

    Raises
    ------
    TypeError
        If it can only be read once, or is not in memory.
    ValueError
        If the columns of a frame cannot be told apart.
    """
    if isinstance(values, np.ma.MaskedArray):
        return _masked_as_missing(values)
    if isinstance(values, np.ndarray):
        if values.dtype.names is not None:
            raise TypeError(
                f"{name} is a structured array. Choose one of its fields, "
                f"{name}[{values.dtype.names[0]!r}], or write pandas.DataFrame({name})."
            )
        return _known_strings(np.asarray(values))
    if isinstance(values, pd.MultiIndex):
        raise TypeError(
            f"{name} is a MultiIndex, whose rows are tuples. Choose one level: "
            f"{name}.get_level_values(0)."
        )
    if isinstance(values, pd.Index | pd.api.extensions.ExtensionArray):
        values = pd.Series(values)
    if isinstance(values, pd.DataFrame):
        _check_pandas_columns(values, name)
    table = nw.from_native(values, allow_series=True, pass_through=True)
    if table is values and _is_other_table(values):
        table = nw.from_arrow(values, backend="pyarrow")
    if isinstance(table, nw.LazyFrame):
        raise TypeError(_not_in_memory(name, table.implementation.name.lower()))
    if isinstance(table, nw.DataFrame):
        return Frame(list(table.columns), _known_strings(table.to_numpy()))
    if isinstance(table, nw.Series):
        return _opened_series(table)
    return _opened_other(values, name)


def _is_other_table(values: Any) -> bool:
    """Tell tables that narwhals takes for nothing, but Arrow's interface can hand over."""
    return hasattr(values, "__arrow_c_stream__") and hasattr(values, "num_columns")


def values_in(container: Any, name: str, *, of: str, each: str = "...") -> list[Any]:
    """Give the values of a container that has one for each of something, in their order.

    Parameters
    ----------
    container : object
        What the user passed: a list, array, Series, one-column frame, view of a dict, enumeration.
    name : str
        What to call it in an error.
    of : str
        What it is to hold, in the plural.
    each : str, default="..."
        How one of them is written, in an error.

    Returns
    -------
    list
        Values are Python's own where the container has them so.

    Raises
    ------
    TypeError
        If it is a single value, has no order, or can only be read once.
    ValueError
        If it has several columns.
    """
    # By far the most frequent, and the fastest.
    if isinstance(container, list | tuple):
        return plain_rows(container)
    if isinstance(container, str | bytes | bytearray | memoryview | UserString):
        raise TypeError(
            f"{name} is the single string {container!r}; it must be a list of {of}. "
            f"Write {_parts_of(name, container)}."
        )
    if isinstance(container, Set) and not isinstance(container, KeysView | ItemsView):
        raise TypeError(
            f"{name} must be a list of {of}, got {type(container).__name__}, which has no order. "
            f"Write {name}=[{each}]."
        )
    # Iterating over the class of an enumeration gives its members.
    opened = list(container) if isinstance(container, EnumMeta) else open_ordered(container, name)
    if isinstance(opened, Frame):
        check_one_column(opened, name, of)
        opened = opened.cells[:, 0]
    if isinstance(opened, np.ndarray):
        if opened.ndim == 0:
            raise TypeError(
                f"{name} is the single value {opened.tolist()!r} in an array without dimensions; "
                f"it must be a list of {of}. Write {name}=[{each}]."
            )
        return list(opened) if opened.dtype.kind in "mM" else list(opened.tolist())
    if opened is None:
        raise TypeError(
            f"{name} must be a list of {of}, got {type(container).__name__}. Write {name}=[{each}]."
        )
    return opened


def cells_in(y: Any, name: str) -> NDArray[Any] | list[Any]:
    """Give the rows of a container, those of a table as a matrix."""
    opened = open_container(y, name)
    return opened.cells if isinstance(opened, Frame) else opened


def plain_rows(rows: Sequence[Any]) -> list[Any]:
    """Give rows as a list, of Python's own values where they are pyarrow's.

    As they are where somebody iterated over a column, as scikit-learn does to divide it.
    """
    if rows and hasattr(rows[0], "as_py"):
        return [row.as_py() if hasattr(row, "as_py") else row for row in rows]
    return list(rows)


def is_missing(value: Any) -> bool:
    """Tell whether a cell holds None, NaN or NA."""
    # Of what is no list pandas tells whether it is one of its own kinds of them.
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _parts_of(name: str, single: Any) -> str:
    """Say how a list is written that somebody may have meant by one string."""
    if isinstance(single, str):
        parts = [part.strip() for part in single.replace("\n", ",").split(",")]
        if len(parts) > 1 and all(parts):
            return f"{name}=[{listed(parts, 4)}]"
    if isinstance(single, bytes | bytearray | memoryview):
        return f"{name}=[{bytes(single)!r}.decode(), ...]"
    return f"{name}=[{single!r}, ...]"


def check_one_column(frame: Frame, name: str, of: str) -> None:
    """Refuse a frame with several columns, or none, where one list of values is asked for."""
    if len(frame.columns) != 1:
        raise ValueError(
            f"{name} must be a list of {of}, got a frame with {len(frame.columns)} columns "
            f"({listed(frame.columns)})."
            + (f" Choose one, {name}[{frame.columns[0]!r}]." if frame.columns else "")
        )


def _not_in_memory(name: str, kind: str) -> str:
    if kind == "polars":
        return (
            f"{name} is a LazyFrame of polars, whose rows are not in memory. Write {name}.collect()"
            f", or, where they do not fit, predict for batches of rows: {name}.with_columns("
            'pl.col("text").map_batches(lambda texts: pl.Series(clf.predict(texts)), '
            "return_dtype=pl.String))."
        )
    if kind in _ENGINES:
        return (
            f"{name} is a collection of {_ENGINES[kind]}, whose rows are not in memory. To predict "
            "for a whole frame of it, in its own workers: "
            "skgliclass.distributed.classify_frame(clf, frame, text_column). What fits into "
            "memory, compute first."
        )
    return (
        f"{name} is lazy ({kind}): its rows are not in memory, and may come in another order each "
        f"time. Compute it first, for instance by {name}.compute() or {name}.collect(), part by "
        "part where it does not fit."
    )


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


def _opened_other(values: Any, name: str) -> NDArray[Any] | list[Any] | None:
    library = type(values).__module__.partition(".")[0]
    if hasattr(values, "__dask_graph__") or library in _ENGINES:
        raise TypeError(_not_in_memory(name, library))
    if hasattr(values, "to_pylist"):
        return list(values.to_pylist())
    if hasattr(values, "__array__"):
        return _known_strings(np.asarray(values))
    if isinstance(values, str | bytes | bytearray | memoryview | UserString):
        return None
    if isinstance(values, Sequence):
        return _rows_of_sequence(values)
    if isinstance(values, KeysView | ValuesView | ItemsView):
        return list(values)
    if isinstance(values, Iterator):
        raise TypeError(
            f"{name} is a generator or another iterator ({type(values).__name__}), which can be "
            f"read only once. Write list({name}), or list(...) where it is made."
        )
    return None


def _rows_of_sequence(values: Sequence[Any]) -> list[Any]:
    # A column of datasets gives its rows one by one, a thousand times slower than in one slice.
    if type(values).__module__.startswith("datasets."):
        return list(values[:])
    return list(values)
