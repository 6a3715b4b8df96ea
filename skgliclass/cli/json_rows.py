"""Rows of JSON and JSONL files, whose values keep their type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..prompts.checks import in_short
from .errors import CommandError
from .sources import Source, text_of
from .values import parse_json

Placed = tuple[str, dict[str, Any]]
"""An object, and where in the file it is."""


def read_json_lines(source: Source) -> Iterator[Placed]:
    """Give the objects of a file with one a line, each with its place; blank lines are none.

    Raises
    ------
    CommandError
        If a line is no object; the message names it.
    """
    # A carriage return within a line is white space to JSON, as is the one at its end.
    with source.lines(newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                value = _parsed(line, f"{source.name}, line {number}")
                yield _placed(value, source, f"line {number}")


def read_json(source: Source) -> Iterator[Placed]:
    """Give the objects, each with its place, of a list of them, or of a list of values a column.

    Unlike the lines of JSONL, the file is read as a whole.

    Raises
    ------
    CommandError
        If it is not valid, or holds something else; the message names the row.
    """
    content = _parsed(
        text_of(source), source.name, hint=" (one object a line is the .jsonl format)"
    )
    if isinstance(content, Mapping):
        content = _rows_of_columns(content, source.name)
    if not isinstance(content, list):
        raise CommandError(
            f"{source.name}: a .json file holds a list of rows, found {in_short(content)}"
        )
    for number, row in enumerate(content, 1):
        yield _placed(row, source, f"row {number}")


def _parsed(text: str, place: str, hint: str = "") -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise CommandError(f"{place}: not valid JSON: {error}{hint}") from error


def _placed(value: Any, source: Source, place: str) -> Placed:
    if not isinstance(value, dict):
        raise CommandError(
            f"{source.name}, {place}: a row is an object with a text, found {in_short(value)}"
        )
    return place, value


def _rows_of_columns(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Read what pandas' ``to_json`` and ``to_dict`` write by default."""
    columns = list(content.values())
    if columns and all(isinstance(c, Mapping) and c.keys() == columns[0].keys() for c in columns):
        # The keys are the names of the rows, which each column may have in an order of its own.
        columns = [[column[row] for row in columns[0]] for column in columns]
    if not columns or not all(
        isinstance(c, Sequence) and not isinstance(c, str) and len(c) == len(columns[0])
        for c in columns
    ):
        raise CommandError(
            f"{name}: a .json file holds a list of rows, found an object with the keys "
            f"{', '.join(content) or 'none'}"
        )
    return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]
