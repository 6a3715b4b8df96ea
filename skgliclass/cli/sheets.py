"""Rows of Excel files, by openpyxl."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from types import ModuleType
from typing import Any
from zipfile import ZipFile

from ..exceptions import missing_extra, warn
from .delimited import names_of
from .errors import CommandError, NoRowsError
from .sources import Source
from .values import as_text

MAX_ROWS = 1 << 20
MAX_CHARACTERS = 32767
# Of a formula in the XML of a sheet, whose name may have a prefix.
_FORMULA = re.compile(rb"<(\w+:)?f[\s/>]")
# What XML cannot hold, or gives back as something else; and what would be taken for its escape.
_ESCAPED = re.compile("[\0-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


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
            raise NoRowsError(f"{source.name}: the sheet is empty")
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


def note_formulas(source: Source) -> None:
    """Warn of formulas that no program has computed, of which a file holds no values."""
    with source.opened() as file:
        if not _has_formulas(file, source.name):
            return
    with source.opened() as of_formulas, source.opened() as of_values, _damage_told(source.name):
        sheets = (
            _sheets(of_formulas, source.name, with_values=False)[0],
            _sheets(of_values, source.name)[0],
        )
        for sheet in sheets:
            sheet.reset_dimensions()
        cells = zip(*(chain.from_iterable(sheet.iter_rows()) for sheet in sheets), strict=True)
        # One that gives an empty text has a value of its own type.
        empty = [
            formula.coordinate
            for formula, value in cells
            if formula.data_type == "f" and value.value is None and value.data_type != "str"
        ]
    if empty:
        warn(
            f"{source.name}: {len(empty)} formulas have no values, the first in {empty[0]}, and "
            "are read as empty cells; open the file in a spreadsheet, which computes them, and "
            "save it"
        )


def escaped(text: str) -> str:
    """Write a text as it stands in the XML of a sheet, where _x000D_ is a carriage return."""
    return _ESCAPED.sub(lambda match: f"_x{ord(match[0]):04X}_", text)


def import_openpyxl() -> ModuleType:
    """Import openpyxl, or say which extra brings it."""
    try:
        import openpyxl
    except ImportError as error:
        raise CommandError(missing_extra("An .xlsx file", "openpyxl", "excel")) from error
    return openpyxl


def _has_formulas(file: Any, name: str) -> bool:
    """Tell whether there may be formulas, far faster than by reading the cells."""
    with _damage_told(name), ZipFile(file) as archive:
        for part in archive.namelist():
            if part.startswith("xl/worksheets/"):
                with archive.open(part) as sheet:
                    end = b""
                    while chunk := sheet.read(1 << 20):
                        if _FORMULA.search(end + chunk):
                            return True
                        end = chunk[-64:]
    return False


def _filled_rows(file: Any, name: str) -> Iterator[tuple[int, list[Any]]]:
    """Give the rows that hold something, with their numbers, without the empty cells at the end."""
    unescape = import_openpyxl().utils.escape.unescape
    sheet = _sheets(file, name)[0]
    # What the file says of its size is often wrong, and would cut rows off.
    sheet.reset_dimensions()
    with _damage_told(name):
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            row = [unescape(cell) if isinstance(cell, str) else cell for cell in cells]
            while row and row[-1] is None:
                row.pop()
            if row:
                yield number, row


def _sheets(file: Any, name: str, *, with_values: bool = True) -> Sequence[Any]:
    openpyxl = import_openpyxl()
    # It warns of styles and extensions, which are no part of the cells.
    with warnings.catch_warnings(), _damage_told(name):
        warnings.simplefilter("ignore")
        sheets: Sequence[Any] = openpyxl.load_workbook(
            file, read_only=True, data_only=with_values
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
