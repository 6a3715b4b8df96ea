"""Values of cells, as JSON and as text, without losing how they were written."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..loading.sources import without_repeats

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "absent"})()
"""What a row of JSON has under a key that other rows have, and it has not."""


class WrittenNumber(float):
    """A number of JSON that Python would write otherwise: 1e5, 1.10, -0 or one of many digits."""

    text: str

    def __new__(cls, text: str) -> WrittenNumber:
        """Keep how it is written."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def parse_json(text: str) -> Any:
    """Read JSON so that :func:`as_json` gives it back.

    Raises
    ------
    ValueError
        If it is not valid, or an object has a key twice, of which one would be lost.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error


def as_json(value: Any) -> str:
    """Write a value as JSON; what JSON has no type for becomes a string."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, WrittenNumber):
        return value.text
    if value is None or isinstance(value, bool | int | float):
        # What json would do for a float takes ten times as long.
        is_plain = type(value) is float and math.isfinite(value)
        return repr(value) if is_plain else _ENCODER.encode(value)
    if isinstance(value, Mapping):
        items = (f"{_quoted(as_text(key))}: {as_json(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return str(value) if isinstance(value, decimal.Decimal) else _quoted(as_text(value))


def as_text(value: Any) -> str:
    """Write a value as the text of a cell; a missing one is empty, and lists are JSON.

    Raises
    ------
    ValueError
        If it is bytes that are no text in UTF-8.
    """
    if isinstance(value, str):
        return value
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool | int | float | Mapping | Sequence):
        return as_json(value)
    return str(value)


def is_missing(value: Any) -> bool:
    """Tell whether a cell holds nothing: it is empty, null or not a number."""
    if isinstance(value, str):
        return not value
    return value is None or value is ABSENT or (isinstance(value, float) and math.isnan(value))


def _quoted(text: str) -> str:
    quoted = _ENCODER.encode(text)
    # Half of a surrogate pair cannot be encoded, but JSON has a way to write it.
    return quoted if quoted.isascii() or _is_unicode(quoted) else json.dumps(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_written(kind: type[int] | type[float]) -> Any:
    def parse(text: str) -> int | float:
        # Python refuses to read, and to write, whole numbers of thousands of digits.
        if len(text) > 4000:
            return WrittenNumber(text)
        number = kind(text)
        return number if repr(number) == text else WrittenNumber(text)

    return parse


_DECODER = json.JSONDecoder(
    parse_float=_as_written(float),
    parse_int=_as_written(int),
    object_pairs_hook=without_repeats,
)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
