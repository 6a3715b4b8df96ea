"""Rows of Excel files, by openpyxl."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..exceptions import missing_extra, warn
from .delimited import names_of
from .errors import CommandError
from .sources import Source
from .values import as_text

MAX_ROWS = 1 << 20
MAX_CHARACTERS = 32767


def read_sheet(source: Source, has_header: bool) -> Iterator[list[Any]]:
    """Give the rows of the first sheet, of which the first are the names of the columns.

    Empty rows are none, unless there is one column and rows come after them.

    Raises
    ------
    CommandError
        If the file cannot be read, or a row has cells beside the columns.
    """
    with source.opened() as file:
        rows = _filled_rows(file, source.name)
        number, first = next(rows, (0, []))
        if not first:
            raise CommandError(f"{source.name}: the sheet is empty")
        width = len(first)
        yield list(map(as_text, first)) if has_header else [str(j) for j in range(1, width + 1)]
        if not has_header:
            yield first
        for following, row in rows:
            if len(row) > width:
                raise CommandError(
                    f"{source.name}: row {following} of the sheet has {len(row)} cells, but row "
                    f"{number} has {width} ({names_of([*map(as_text, first)])}); name every column"
                )
            if width == 1:
                yield from ([None] for _ in range(following - number - 1))
            number = following
            yield row + [None] * (width - len(row))


def note_other_sheets(source: Source) -> None:
    """Warn where a file has sheets besides the one that is read."""
    with source.opened() as file:
        sheets = _sheets(file, source.name)
    if len(sheets) > 1:
        warn(f"{source.name}: of {len(sheets)} sheets the first is read, {sheets[0].title!r}")


def import_openpyxl() -> ModuleType:
    """Import openpyxl, or say which extra brings it."""
    try:
        import openpyxl
    except ImportError as error:
        raise CommandError(missing_extra("An .xlsx file", "openpyxl", "excel")) from error
    return openpyxl


def _filled_rows(file: Any, name: str) -> Iterator[tuple[int, list[Any]]]:
    """Give the rows that hold something, with their numbers, without the empty cells at the end."""
    sheet = _sheets(file, name)[0]
    # What the file says of its size is often wrong, and would cut rows off.
    sheet.reset_dimensions()
    with _damage_told(name):
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            row = list(cells)
            while row and row[-1] is None:
                row.pop()
            if row:
                yield number, row


def _sheets(file: Any, name: str) -> Sequence[Any]:
    openpyxl = import_openpyxl()
    # It warns of styles and extensions, which are no part of the cells.
    with warnings.catch_warnings(), _damage_told(name):
        warnings.simplefilter("ignore")
        sheets: Sequence[Any] = openpyxl.load_workbook(
            file, read_only=True, data_only=True
        ).worksheets
    if not sheets:
        raise CommandError(f"{name}: there is no sheet with cells")
    return sheets


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    try:
        yield
    # From the archive, its XML, or what openpyxl makes of both: there is no end of kinds.
    except Exception as error:
        raise CommandError(f"{name}: is damaged, or no .xlsx file: {error}") from error
