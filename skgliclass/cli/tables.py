"""The one reader of tables: files of texts, read in windows, as they were written.

A command adds the options with :func:`add_table_options`, then::

    table = open_table(name, table_options(args))     # or texts_table(texts) of arguments
    column = text_column(table, args.text_column)     # the position of the column of texts
    n_rows = check_texts(table, column)               # every row has a text, or an error names one
    for window in table.windows():                    # some thousand rows, as often as one likes
        texts = window.texts(column)
        cells = window.column(table.position("label"))   # str, or what JSON, Parquet, Excel hold

Cells of CSV, TSV and text files are the text that was written: nothing is guessed. An empty cell
and JSON's null are missing (:func:`~skgliclass.cli.values.is_missing`), a text ``null`` is a text.
``as_text`` makes a text of any value.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..exceptions import missing_extra, warn
from ..prompts.checks import check_unicode
from .delimited import checked_separator, names_of, read_delimited, separator_hint
from .errors import CommandError, NoRowsError, such
from .json_rows import Placed, read_json, read_json_lines
from .sheets import note_formulas, note_other_sheets, read_sheet
from .sources import SameFile, Source, lines_of
from .values import ABSENT, as_text, is_missing

EXTENSIONS = (
    ".json",
    ".json.gz",
    ".jsonl",
    ".jsonl.gz",
    ".csv",
    ".csv.gz",
    ".tsv",
    ".tsv.gz",
    ".parquet",
    ".xlsx",
    ".txt",
    ".txt.gz",
)
"""The names that a table may end with."""

TEXT = "text"
# Enough for a model to be busy, and few enough for a bar to move.
_ROWS_OF_WINDOW = 1024
# Texts may be whole books.
_CHARACTERS_OF_WINDOW = 1 << 24
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_WITH_HEADER = (".csv", ".tsv", ".xlsx")
_WITHOUT_ENCODING = (".parquet", ".xlsx")
_OPTIONS = {"separator": "--separator", "has_header": "--no-header", "encoding": "--encoding"}
# A sentence, rather than a name: names of columns are short and end in no full stop.
_SENTENCE = re.compile(r"(?s)(\S+\s+){2,}\S*[.!?…]\W*|(\S+\s+){5,}\S+.*|.{60,}")


@dataclass(frozen=True)
class TableOptions:
    """How a table is read, besides what its name says.

    Attributes
    ----------
    encoding : str, optional
        By default UTF-8, with or without a byte order mark.
    separator : str, optional
        Between the fields of a row; by default a comma in .csv and a tab in .tsv.
    has_header : bool
        Whether the first row of a CSV, TSV or Excel file names the columns; otherwise they are
        called 1, 2 and so on.
    """

    encoding: str | None = None
    separator: str | None = None
    has_header: bool = True


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how a table is read."""
    parser.add_argument(
        "--text-column",
        metavar="NAME",
        help="the column with the texts (default: text, or the only column)",
    )
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="of tables and files of labels that are read (default: utf-8); utf-8 is written",
    )
    parser.add_argument(
        "--separator",
        metavar="CHARACTER",
        help="between the fields of a CSV or TSV file that is read (default: a comma, or a tab)",
    )
    parser.add_argument(
        "--no-header",
        action="store_true",
        help="the first row of a CSV, TSV or Excel file is a row; the columns are called 1, 2, ...",
    )


def table_options(args: argparse.Namespace) -> TableOptions:
    """Give what the options of :func:`add_table_options` say."""
    return TableOptions(args.encoding, args.separator, not args.no_header)


@dataclass(frozen=True)
class Limit:
    """How much of a file may stay in memory.

    Attributes
    ----------
    n_rows, n_characters : int, optional
        At most so many; None for any number.
    """

    n_rows: int | None = None
    n_characters: int | None = None

    def holds(self, n_rows: int, n_characters: int) -> bool:
        """Tell whether so much may stay."""
        return (self.n_rows is None or n_rows <= self.n_rows) and (
            self.n_characters is None or n_characters <= self.n_characters
        )


UNLIMITED = Limit()
Item = TypeVar("Item")


class Kept(Generic[Item]):
    """What is read once where a limit lets it stay in memory, and otherwise each time.

    Parameters
    ----------
    read : callable
        Begins to read.
    size : callable
        Gives the rows and the characters of an item.
    limit : Limit
        For all items together.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Item]],
        size: Callable[[Item], tuple[int, int]],
        limit: Limit,
    ) -> None:
        self._read, self._size, self._limit = read, size, limit
        self._items: list[Item] | None = None
        self._is_large = False

    def __iter__(self) -> Iterator[Item]:
        if self._items is not None:
            return iter(self._items)
        return iter(self._read()) if self._is_large else self._first()

    def _first(self) -> Iterator[Item]:
        items: list[Item] = []
        n_rows = n_characters = 0
        for item in self._read():
            if not self._is_large:
                more_rows, more_characters = self._size(item)
                n_rows, n_characters = n_rows + more_rows, n_characters + more_characters
                items.append(item)
                self._is_large = not self._limit.holds(n_rows, n_characters)
                if self._is_large:
                    items = []
            yield item
        if not self._is_large:
            self._items = items


class Window:
    """Some rows of a table.

    Attributes
    ----------
    columns : tuple of str
        The names of the columns.
    rows : list of list
        The cells; ``ABSENT`` where an object of JSON has not the key that others have.
    """

    def __init__(self, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
        self.columns = columns
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, j: int) -> list[Any]:
        """Give the cells of a column."""
        return [row[j] for row in self.rows]

    def texts(self, j: int) -> list[str]:
        """Give the cells of a column as texts; a missing one is empty."""
        return ["" if is_missing(cell) else as_text(cell) for cell in self.column(j)]

    def take(self, rows: Sequence[int]) -> Window:
        """Give some of the rows."""
        return Window(self.columns, [self.rows[i] for i in rows])


class ArrowWindow(Window):
    """Some rows of a Parquet file, whose types a Parquet file that is written keeps.

    Attributes
    ----------
    batch : pyarrow.RecordBatch
    """

    def __init__(self, columns: tuple[str, ...], batch: Any) -> None:
        self.columns = columns
        self.batch = batch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def rows(self) -> list[list[Any]]:  # type: ignore[override]
        """Give the cells as Python has them, which takes long."""
        cells = [self.column(j) for j in range(len(self.columns))]
        return [list(row) for row in zip(*cells, strict=True)]

    def column(self, j: int) -> list[Any]:
        """Give the cells of a column."""
        values: list[Any] = self.batch.column(j).to_pylist()
        return values

    def take(self, rows: Sequence[int]) -> ArrowWindow:
        """Give some of the rows."""
        return ArrowWindow(self.columns, self.batch.take(rows))


class Table:
    """A table that is read in windows, as often as one likes.

    Parameters
    ----------
    name : str
        What to call it in an error.
    columns : sequence of str
        The names of the columns, of which some may be the same.
    windows : callable
        Begins to read it.
    kind : str, default=""
        The extension, without .gz.
    hint : str, default=""
        What to say where a column is not found.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        windows: Callable[[], Iterator[Window]],
        kind: str = "",
        hint: str = "",
    ) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.windows = windows
        self.kind = kind
        self.hint = hint

    def position(self, column: str) -> int:
        """Find a column by its name.

        Raises
        ------
        CommandError
            If there is none of this name, or more than one.
        """
        n_found = self.columns.count(column)
        if n_found == 1:
            return self.columns.index(column)
        what = f"there are {n_found} columns" if n_found else "there is no column"
        raise CommandError(f"{self.name}: {what} {column!r}; {self.described()}")

    def described(self) -> str:
        """Name the columns, for an error."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"columns: {names_of(self.columns)}{hint}"

    def read(self, columns: Sequence[int], limit: Limit) -> Table:
        """Give a table of some columns, in this order, that is read once if it is small enough."""
        names = tuple(self.columns[j] for j in columns)
        kept = Kept(lambda: map(part, self.windows()), _size_of_window, limit)

        def part(window: Window) -> Window:
            cells = [window.column(j) for j in columns]
            return Window(names, [list(row) for row in zip(*cells, strict=True)])

        return Table(self.name, names, lambda: iter(kept), self.kind, self.hint)


def _size_of_window(window: Window) -> tuple[int, int]:
    return len(window), sum(len(c) for row in window.rows for c in row if isinstance(c, str))


class JsonTable(Table):
    """A table of objects of JSON.

    Parameters
    ----------
    name, kind
        As for :class:`Table`.
    placed : callable
        Begins to read the objects, each with its place in the file.
    """

    def __init__(self, name: str, kind: str, placed: Callable[[], Iterable[Placed]]) -> None:
        # An object may have keys that those before it have not.
        columns = tuple({key: None for _, row in placed() for key in row})
        if not columns:
            raise NoRowsError(f"{name}: there are no rows")
        self.placed = placed
        super().__init__(name, columns, self._read_windows, kind)

    def _read_windows(self) -> Iterator[Window]:
        rows = ([row.get(key, ABSENT) for key in self.columns] for _, row in self.placed())
        return _windows(self.columns, rows)


def table_kind(name: str) -> str | None:
    """Give the extension that says how a file is read, without .gz; None for another."""
    lower = name.lower()
    return next((e.removesuffix(".gz") for e in EXTENSIONS if lower.endswith(e)), None)


def open_table(
    name: str, options: TableOptions = TableOptions(), *, keeps: Limit | None = None
) -> Table:
    """Begin to read a table by the extension of its name; ``-`` is one text a line from stdin.

    Parameters
    ----------
    name : str
        Of a file, or ``-``.
    options : TableOptions
        Those that are for files of this kind.
    keeps : Limit, optional
        How many objects of JSONL are kept in memory, as those of JSON are, rather than read each
        time; by default none.

    Returns
    -------
    Table

    Raises
    ------
    CommandError
        If there is no such file, its extension is unknown, or it cannot be read.
    """
    kind = ".txt" if name == "-" else table_kind(name)
    if name != "-" and not Path(name).exists():
        raise CommandError(f"{name}: there is no such file")
    if name != "-" and Path(name).is_dir():
        raise CommandError(f"{name}: this is a folder; give a file")
    if kind is None:
        raise CommandError(f"{name}: unknown extension; use one of {', '.join(EXTENSIONS)}, or -")
    check_options([name], options)
    if kind == ".parquet":
        return _open_parquet(name)
    source = Source(name, options.encoding)
    if kind in (".json", ".jsonl"):
        return _open_json(source, kind, keeps)
    if kind == ".txt":
        return _table_of(source.name, kind, lambda: _rows_of_lines(source))
    if kind == ".xlsx":
        note_other_sheets(source)
        note_formulas(source)
        return _table_of(source.name, kind, lambda: read_sheet(source, options.has_header))
    separator = checked_separator(options.separator or _SEPARATORS[kind])
    hint = "give --no-header if the first line names none" if options.has_header else ""
    table = _table_of(
        source.name, kind, lambda: read_delimited(source, separator, options.has_header), hint
    )
    table.hint = "; ".join(filter(None, [separator_hint(table.columns, separator), table.hint]))
    return table


def texts_table(texts: Sequence[str]) -> Table:
    """Give a table of texts that are at hand."""
    return _table_of("the arguments", "", lambda: iter([[TEXT], *([text] for text in texts)]))


def text_column(table: Table, column: str | None) -> int:
    """Choose the column with the texts: the one that is named, ``text``, or the only one.

    Raises
    ------
    CommandError
        If there is no such column, or several and none was named.
    """
    if column is not None:
        return table.position(column)
    if TEXT in table.columns:
        return table.position(TEXT)
    if len(table.columns) != 1:
        raise CommandError(
            f"{table.name}: choose the texts with --text-column; {table.described()}"
        )
    if table.kind in _WITH_HEADER and _SENTENCE.fullmatch(table.columns[0]):
        warn(
            f"{table.name}: the first line, {table.columns[0][:60]!r}, is taken as the name of the "
            "column; if it is a text, give --no-header"
        )
    return 0


def check_texts(table: Table, column: int) -> int:
    """Count the rows, all of which have to have a text.

    Raises
    ------
    CommandError
        If there are no rows, or the text of one is missing, blank, a list or no valid Unicode; the
        message names the row.
    """
    n_rows, blank = 0, []
    for window in table.windows():
        for number, cell in enumerate(window.column(column), n_rows + 1):
            if is_missing(cell):
                blank.append(number)
            elif not isinstance(cell, str) or not cell.isascii():
                _check_text(table.name, number, cell)
            if not is_missing(cell) and not as_text(cell).strip():
                blank.append(number)
        n_rows += len(window)
    if not n_rows:
        raise NoRowsError(f"{table.name}: there are no rows")
    if blank:
        raise _blank(table, column, blank)
    return n_rows


def _blank(table: Table, column: int, rows: Sequence[int]) -> CommandError:
    # Leaving them out would put every later row of the output beside another one.
    if table.kind == ".txt":
        return CommandError(
            f"{table.name}: line {rows[0]} is blank {such(len(rows), 'line')}; remove them, for "
            "instance with grep '[^[:space:]]'"
        )
    if not table.kind:
        return CommandError(f"text {rows[0]} is blank; there is nothing to classify")
    return CommandError(
        f"{table.name}: row {rows[0]} has no text in column {table.columns[column]!r} "
        f"{such(len(rows))}; fill or drop them"
    )


def _check_text(name: str, number: int, cell: Any) -> None:
    if isinstance(cell, list | dict):
        raise CommandError(f"{name}: row {number} has {cell!r:.60} where its text should be")
    try:
        check_unicode(as_text(cell), f"{name}: row {number}")
    except UnicodeDecodeError as error:
        raise CommandError(f"{name}: row {number} has bytes that are no text: {error}") from error


def check_options(names: Sequence[str], options: TableOptions) -> None:
    """Refuse options that are for none of the files that are to be read with them.

    Raises
    ------
    CommandError
        It names the option, and the kind of the first file.
    """
    for field, option in _OPTIONS.items():
        is_given = getattr(options, field) != getattr(TableOptions(), field)
        if is_given and not any(_is_for(field, name) for name in names):
            kind = "stdin" if names[0] == "-" else f"{table_kind(names[0])} files"
            raise CommandError(f"{option} is not for {kind}")


def options_for(name: str, options: TableOptions) -> TableOptions:
    """Give the options that are for a file of this kind."""
    kept = {field: getattr(options, field) for field in _OPTIONS if _is_for(field, name)}
    return TableOptions(**kept)


def _is_for(field: str, name: str) -> bool:
    kind = table_kind(name)
    return {
        "separator": kind in _SEPARATORS,
        "has_header": kind in _WITH_HEADER,
        "encoding": kind not in _WITHOUT_ENCODING,
    }[field]


# From rows to windows.


def _table_of(
    name: str, kind: str, read: Callable[[], Iterator[list[Any]]], hint: str = ""
) -> Table:
    """Make a table of what gives its columns first and then its rows."""
    columns = tuple(next(read()))

    def windows() -> Iterator[Window]:
        rows = read()
        next(rows)
        return _windows(columns, rows)

    return Table(name, columns, windows, kind, hint)


def _windows(columns: tuple[str, ...], rows: Iterable[list[Any]]) -> Iterator[Window]:
    window: list[list[Any]] = []
    n_characters = 0
    for row in rows:
        window.append(row)
        n_characters += sum(len(cell) for cell in row if isinstance(cell, str))
        if len(window) == _ROWS_OF_WINDOW or n_characters > _CHARACTERS_OF_WINDOW:
            yield Window(columns, window)
            window, n_characters = [], 0
    if window:
        yield Window(columns, window)


def _rows_of_lines(source: Source) -> Iterator[list[str]]:
    yield [TEXT]
    n_empty = 0
    for line in lines_of(source):
        # Empty lines at the end are no rows, as in other tables of one column.
        if not line:
            n_empty += 1
            continue
        yield from ([""] for _ in range(n_empty))
        n_empty = 0
        yield [line]


def _open_json(source: Source, kind: str, keeps: Limit | None) -> JsonTable:
    if kind == ".json":
        objects = list(read_json(source))
        return JsonTable(source.name, kind, lambda: objects)
    if keeps is None:
        return JsonTable(source.name, kind, lambda: read_json_lines(source))
    kept = Kept(lambda: read_json_lines(source), _size_of_object, keeps)
    return JsonTable(source.name, kind, lambda: kept)


def _size_of_object(placed: Placed) -> tuple[int, int]:
    return 1, sum(len(value) for value in placed[1].values() if isinstance(value, str))


def _open_parquet(name: str) -> Table:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise CommandError(missing_extra("Reading .parquet files", "pyarrow", "parquet")) from error

    same = SameFile(name)

    def windows() -> Iterator[Window]:
        # A buffer reads pages one by one, and not the whole of what may be the only row group.
        with (
            same.read(),
            damage_told(),
            ParquetFile(name, buffer_size=1 << 20, pre_buffer=False) as file,
        ):
            for batch in file.iter_batches(batch_size=_ROWS_OF_WINDOW):
                yield ArrowWindow(columns, batch)

    @contextmanager
    def damage_told() -> Iterator[None]:
        try:
            yield
        except (ArrowException, OSError) as error:
            raise CommandError(f"{name}: cannot be read: {error}") from error

    with damage_told(), ParquetFile(name) as file:
        columns = tuple(file.schema_arrow.names)
    return Table(name, columns, windows, ".parquet")
