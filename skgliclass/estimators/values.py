"""Values of parameters as JSON, from which they come back with their types."""

from __future__ import annotations

import json
import reprlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_TYPE, _VALUE = "$type", "value"
# A few bytes of a file must not ask for gigabytes.
_MOST_BYTES = 1 << 26


class _Kind(NamedTuple):
    """How values of one type are written, by values that JSON has or that have a kind, and read."""

    type: type
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def as_json(value: Any, name: str) -> Any:
    """Give what JSON can hold for the value of a parameter.

    Parameters
    ----------
    value : Any
        The value.
    name : str
        What the user calls it.

    Returns
    -------
    Any
        For :func:`from_json`: itself, where JSON has its type.

    Raises
    ------
    TypeError
        If it would not come back as it is.
    """
    try:
        written = _written(value)
        # What comes back decides, and not what is known of a type: none is lost in silence.
        if same_value(from_json(json.loads(json.dumps(written))), value):
            return written
        reason = "it would not come back from a file as it is"
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        reason = str(error)
    raise TypeError(
        f"{name}={shortened(value)} ({type(value).__name__}) cannot be saved: {reason}. "
        "Use numbers, strings, dates, or lists, tuples, sets, dicts, arrays and pandas objects of "
        "these."
    )


def from_json(written: Any) -> Any:
    """Give the value for which :func:`as_json` gave this.

    Raises
    ------
    ValueError
        If it gave something else.
    """
    if isinstance(written, list):
        return [from_json(part) for part in written]
    if not isinstance(written, dict):
        return written
    if _TYPE not in written:
        return {key: from_json(value) for key, value in written.items()}
    name = written[_TYPE]
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None or written.keys() != {_TYPE, _VALUE}:
        raise ValueError(f"{shortened(written)} stands for no value that this version knows")
    try:
        return kind.read(from_json(written[_VALUE]))
    except Exception as error:
        # Whatever a constructor says to what a file holds: it is the file's fault.
        raise ValueError(f"{shortened(written[_VALUE])} is no {name} ({error})") from error


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two values are equal in all their parts and the types of these."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return same_value(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, set | frozenset):
        return a == b and same_value(sorted(a, key=repr), sorted(b, key=repr))
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape) and same_value(
            a.tolist(), b.tolist()
        )
    if isinstance(a, pd.Series | pd.Index):
        return bool(a.dtype == b.dtype) and same_value(_parts(a), _parts(b))
    if isinstance(a, np.random.RandomState):
        return same_value(a.get_state(legacy=False), b.get_state(legacy=False))
    # By its repr too: 0.0 is not -0.0, and NaN is not equal to itself.
    return repr(a) == repr(b)


def shortened(value: Any) -> str:
    """Show a value in an error, on one line of bounded length."""
    try:
        text = reprlib.repr(value)
    except ValueError:
        # Python writes no number of thousands of digits.
        text = "..."
    return text if len(text) <= 80 else f"{text[:77]}..."


# Writing.


def _written(value: Any) -> Any:
    plain = value is None or type(value) in (bool, int, str)
    if plain or (type(value) is float and np.isfinite(value)):
        return value
    if type(value) is list:
        return [_written(part) for part in value]
    if type(value) is dict and _TYPE not in value and all(type(key) is str for key in value):
        return {key: _written(part) for key, part in value.items()}
    name = "numpy scalar" if isinstance(value, np.generic) else _NAMES.get(type(value))
    if name is None:
        raise TypeError(f"{shortened(value)} is of the type {type(value).__name__}")
    return {_TYPE: name, _VALUE: _written(_KINDS[name].write(value))}


def _parts(values: pd.Series[Any] | pd.Index[Any]) -> list[Any]:
    index = values.index if isinstance(values, pd.Series) else None
    return [list(values), str(values.dtype), values.name, index]


def _array_parts(array: NDArray[Any] | np.generic) -> list[Any]:
    array = np.asarray(array)
    too_precise = (
        array.dtype.kind in "fc" and array.dtype.itemsize > (8, 16)[array.dtype.kind == "c"]
    )
    if array.dtype.kind not in "biufcSUMmO" or too_precise:
        raise TypeError(f"an array of {array.dtype} has no plain values")
    # Dates are numbers of their units.
    plain = array.view(np.int64) if array.dtype.kind in "Mm" else array
    return [array.dtype.str, list(array.shape), plain.ravel().tolist()]


# Reading.


def array_of(values: list[Any], code: str) -> NDArray[Any]:
    """Put values in an array of one dimension.

    Parameters
    ----------
    values : list
        They are not changed by it.
    code : str
        The array's type, as numpy writes it.

    Raises
    ------
    ValueError, TypeError
        If they do not fit in it.
    """
    dtype = np.dtype(str(code))
    # Before 2.1 numpy gave a negative size to texts of a billion characters.
    if not 0 <= len(values) * dtype.itemsize <= _MOST_BYTES:
        raise ValueError(f"an array of {len(values)} values of {dtype} is too large")
    array = np.empty(len(values), dtype=dtype)
    for i, value in enumerate(values):
        # One by one: an object array would make a table of lists of one length.
        array[i] = value
    if not same_value(listed(array), values):
        raise ValueError(f"{shortened(values)} are no values of {dtype}")
    return array


def listed(array: NDArray[Any]) -> list[Any]:
    """Give the values of an array of one dimension, which of dates keep their units."""
    return list(array) if array.dtype.kind in "mM" else array.tolist()


def _array(parts: list[Any]) -> NDArray[Any]:
    code, shape, values = parts
    dtype = np.dtype(str(code))
    of_numbers = "<i8" if dtype.kind in "Mm" else code
    return array_of(values, of_numbers).view(dtype).reshape(shape)


def _scalar(parts: list[Any]) -> Any:
    return _array(parts)[()]


def _series(parts: list[Any]) -> pd.Series[Any]:
    values, dtype, name, index = parts
    return pd.Series(values, index=index, dtype=dtype, name=name)


def _index(parts: list[Any]) -> pd.Index[Any]:
    values, dtype, name, _ = parts
    return pd.Index(values, dtype=dtype, name=name)


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState()
    generator.set_state(state)
    return generator


def _timestamp(parts: list[Any]) -> pd.Timestamp:
    text, zone, unit = parts
    return pd.Timestamp(text).as_unit(unit).tz_localize(zone)


_KINDS: dict[str, _Kind] = {
    # Infinity and NaN are not in JSON.
    "float": _Kind(float, repr, float),
    "complex": _Kind(complex, lambda v: [v.real, v.imag], lambda v: complex(*v)),
    "bytes": _Kind(bytes, lambda v: v.decode("latin-1"), lambda v: v.encode("latin-1")),
    "tuple": _Kind(tuple, list, tuple),
    # In an order, so that the same classifier gives the same file.
    "set": _Kind(set, lambda v: sorted(v, key=repr), set),
    "frozenset": _Kind(frozenset, lambda v: sorted(v, key=repr), frozenset),
    # Keys of JSON are strings.
    "dict": _Kind(dict, lambda v: [[k, v[k]] for k in v], dict),
    "ordered dict": _Kind(OrderedDict, lambda v: [[k, v[k]] for k in v], OrderedDict),
    "range": _Kind(range, lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
    "path": _Kind(type(Path()), str, Path),
    "date": _Kind(date, date.isoformat, date.fromisoformat),
    "datetime": _Kind(datetime, datetime.isoformat, datetime.fromisoformat),
    "time": _Kind(time, time.isoformat, time.fromisoformat),
    "timedelta": _Kind(
        timedelta, lambda v: [v.days, v.seconds, v.microseconds], lambda v: timedelta(*v)
    ),
    "decimal": _Kind(Decimal, str, Decimal),
    "fraction": _Kind(Fraction, str, Fraction),
    "uuid": _Kind(UUID, str, UUID),
    "numpy array": _Kind(np.ndarray, _array_parts, _array),
    "numpy scalar": _Kind(np.generic, _array_parts, _scalar),
    "numpy random state": _Kind(
        np.random.RandomState, lambda v: v.get_state(legacy=False), _random_state
    ),
    "pandas series": _Kind(pd.Series, _parts, _series),
    "pandas index": _Kind(pd.Index, _parts, _index),
    "pandas dates": _Kind(pd.DatetimeIndex, _parts, _index),
    "pandas range": _Kind(
        pd.RangeIndex,
        lambda v: [v.start, v.stop, v.step, v.name],
        lambda v: pd.RangeIndex(v[0], v[1], v[2], name=v[3]),
    ),
    "pandas timestamp": _Kind(
        pd.Timestamp,
        lambda v: [v.tz_localize(None).isoformat(), v.tz and str(v.tz), v.unit],
        _timestamp,
    ),
    "pandas timedelta": _Kind(
        pd.Timedelta, lambda v: [v.isoformat(), v.unit], lambda v: pd.Timedelta(v[0]).as_unit(v[1])
    ),
}
_NAMES = {kind.type: name for name, kind in _KINDS.items()}
