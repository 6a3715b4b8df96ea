"""Write tables window by window, with columns beside those that were read."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import IO, Any, Protocol

from ..datasets.files import opened_to_write
from ..estimators.values import shortened
from ..exceptions import missing_extra
from ..files import replacing
from ..prompts.checks import first_repeated
from .errors import CommandError
from .folders import check_room
from .sheets import MAX_CHARACTERS, MAX_ROWS, escaped, import_openpyxl
from .tables import ArrowWindow, Table, Window, table_kind
from .values import ABSENT, WrittenNumber, as_json, as_text

EXTENSIONS = (
    ".csv",
    ".csv.gz",
    ".tsv",
    ".tsv.gz",
    ".jsonl",
    ".jsonl.gz",
    ".json",
    ".json.gz",
    ".parquet",
    ".xlsx",
)
"""The names that an output may end with."""

# What makes a spreadsheet compute a cell, rather than show it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROWS_OF_ROW_GROUP = 1 << 16


class Writer(Protocol):
    """What takes the rows of a table."""

    def write(self, window: Window, results: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the cells that come after its own."""

    def finish(self) -> None:
        """Write what comes after the last row."""


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where a table is written, and how."""
    parser.add_argument(
        "--output", metavar="FILE", help="where to write a table (default: stdout, as CSV)"
    )
    parser.add_argument(
        "--escape-formulas",
        action="store_true",
        help="put an apostrophe before cells of CSV and TSV that begin with = + - or @, which a "
        "spreadsheet would compute",
    )


def check_formulas(args: argparse.Namespace, is_table: bool = True) -> None:
    """Refuse to escape formulas where no CSV or TSV is written."""
    name = (args.output or ".csv").lower().removesuffix(".gz")
    if args.escape_formulas and not (is_table and name.endswith((".csv", ".tsv"))):
        raise CommandError("--escape-formulas has no effect: no CSV or TSV is written")


def free_names(names: Sequence[str], table: Table) -> list[str]:
    """Name the columns that come after those of a table, none of which they may replace."""
    taken, free = set(table.columns), []
    for name in names:
        candidates = (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3)))
        free.append(next(candidate for candidate in candidates if candidate not in taken))
        taken.add(free[-1])
    renamed = ", ".join(repr(new) for name, new in zip(names, free, strict=True) if name != new)
    if renamed:
        print(
            f"skgliclass: note: the result is in {renamed}, as {table.name} has the usual names",
            file=sys.stderr,
        )
    return free


def check_output(name: str | None) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises
    ------
    CommandError
        If the extension is unknown, the folder does not exist or nothing can be written there.
    """
    if name is None:
        return
    if not name:
        raise CommandError("--output is empty; give the name of a file, or leave it out")
    path = Path(name)
    if not name.lower().endswith(EXTENSIONS):
        known = ", ".join(EXTENSIONS)
        raise CommandError(f"--output {name}: unknown extension; use one of {known}")
    if path.is_dir():
        raise CommandError(f"--output {name}: this is a folder; give a file")
    if not path.parent.is_dir():
        raise CommandError(f"--output {name}: there is no folder {path.parent}")
    check_room(path.parent, 0, f"--output {name}")
    if name.lower().endswith(".xlsx"):
        import_openpyxl()


@contextmanager
def opened_writer(
    name: str | None, table: Table, columns: Sequence[str], *, escape_formulas: bool = False
) -> Iterator[Writer]:
    """Open what writes a table; a file has its name once it is whole.

    Parameters
    ----------
    name : str or None
        Where to; the extension says how. None is CSV on stdout, as far as it is done.
    table : Table
        The table whose rows will be written.
    columns : sequence of str
        The names of the columns that come after its own.
    escape_formulas : bool, default=False
        Whether cells of CSV and TSV files that a spreadsheet would compute get an apostrophe.

    Yields
    ------
    Writer

    Raises
    ------
    CommandError
        If a row cannot be written in this format.
    OSError
        If the file cannot be written.
    """
    names = [*table.columns, *columns]
    if name is None:
        writer: Writer = DelimitedWriter(_StandardOutput(), ",", names, escape_formulas)
        yield writer
        writer.finish()
        return
    kind = table_kind(name)
    if kind in (".json", ".jsonl", ".parquet"):
        _check_distinct(names, name)
    with ExitStack() as stack:
        path = stack.enter_context(replacing(name))
        if kind == ".parquet":
            writer = ParquetWriter(path, table, columns)
        elif kind == ".xlsx":
            writer = SheetWriter(path, names)
        else:
            file = stack.enter_context(
                opened_to_write(path, is_compressed=name.lower().endswith(".gz"))
            )
            if kind in (".csv", ".tsv"):
                separator = "," if kind == ".csv" else "\t"
                writer = DelimitedWriter(file, separator, names, escape_formulas)
            else:
                writer = JsonWriter(file, names, is_list=kind == ".json")
        stack.callback(writer.close)
        yield writer
        writer.finish()


class DelimitedWriter:
    """Write CSV or TSV.

    Parameters
    ----------
    file : object with write
        Where to.
    separator : str
        Between two fields.
    columns : sequence of str
        The names of all columns.
    escape_formulas : bool
        See :func:`opened_writer`.
    """

    def __init__(
        self, file: Any, separator: str, columns: Sequence[str], escape_formulas: bool
    ) -> None:
        self._file = file
        self._buffer = _Lines()
        # At the start of a file it would be a byte order mark, unless a quote comes before it.
        always = columns[0].startswith("\ufeff")
        # Of line ends it quotes only the characters of its own, and a lone one ends a row, too.
        self._writer = csv.writer(
            self._buffer,
            delimiter=separator,
            lineterminator="\r\n",
            quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL,
        )
        self._to_text: Callable[[Any], str] = _escaped if escape_formulas else as_text
        self._n_rows = 0
        self._write_rows([columns])

    def write(self, window: Window, results: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the cells that come after its own."""
        self._write_rows(
            [[*row, *result] for row, result in zip(window.rows, results, strict=True)]
        )

    def finish(self) -> None:
        """Write what comes after the last row."""

    def close(self) -> None:
        """Let go of what it holds, whether it is finished or not."""

    def _write_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        for number, row in enumerate(rows, self._n_rows):
            try:
                self._writer.writerow(list(map(self._to_text, row)))
            except UnicodeDecodeError as error:
                raise _no_text(number, error) from error
        self._n_rows += len(rows)
        try:
            self._file.write(self._buffer.taken())
        except UnicodeEncodeError as error:
            # Only JSON has a way to write half of a surrogate pair.
            raise CommandError(
                f"a cell holds {error.object[error.start]!r}, which is no Unicode; write .jsonl"
            ) from error


class JsonWriter:
    """Write JSON or JSONL, whose values keep their type.

    Parameters
    ----------
    file : text file
        Where to.
    columns : sequence of str
        The names of all columns.
    is_list : bool
        Whether the objects are the items of a list.
    """

    def __init__(self, file: IO[str], columns: Sequence[str], *, is_list: bool) -> None:
        self._file = file
        self._columns = columns
        self._is_list = is_list
        self._n_rows = 0

    def write(self, window: Window, results: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the cells that come after its own."""
        for row, result in zip(window.rows, results, strict=True):
            cells = zip(self._columns, [*row, *result], strict=True)
            try:
                line = as_json({name: cell for name, cell in cells if cell is not ABSENT})
            except UnicodeDecodeError as error:
                raise _no_text(self._n_rows + 1, error) from error
            if self._is_list:
                self._file.write(",\n" if self._n_rows else "[\n")
            self._file.write(line if self._is_list else line + "\n")
            self._n_rows += 1

    def finish(self) -> None:
        """Write what comes after the last row."""
        if self._is_list:
            self._file.write("\n]\n" if self._n_rows else "[]\n")

    def close(self) -> None:
        """Let go of what it holds, whether it is finished or not."""


class ParquetWriter:
    """Write Parquet, with the types of a Parquet file that was read.

    Parameters
    ----------
    path : path
        Where to.
    table : Table
        The table whose rows will be written.
    columns : sequence of str
        The names of the columns that come after its own.
    """

    def __init__(self, path: Path, table: Table, columns: Sequence[str]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise CommandError(
                missing_extra("Writing .parquet files", "pyarrow", "parquet")
            ) from error
        self._pa, self._parquet = pyarrow, parquet
        self._path = path
        self._columns = columns
        with self._errors_told(f"{table.name}: cannot become"):
            self._schema = None if table.kind == ".parquet" else self._inferred(table)
        self._writer: Any = None
        self._pending: list[Any] = []

    def write(self, window: Window, results: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the cells that come after its own."""
        with self._errors_told("the table cannot become"):
            batch = self._as_table(window, self._schema)
        for name, cells in zip(self._columns, zip(*results, strict=True), strict=True):
            with self._errors_told(f"the column {name!r} cannot become one of"):
                batch = batch.append_column(name, self._pa.array(cells))
        self._pending.append(batch)
        if sum(map(len, self._pending)) >= _ROWS_OF_ROW_GROUP:
            self._flush()

    def finish(self) -> None:
        """Write what comes after the last row."""
        self._flush()
        self.close()

    def close(self) -> None:
        """Let go of what it holds, whether it is finished or not."""
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._pending:
            return
        with self._errors_told("the table cannot become"):
            rows = self._pa.concat_tables(self._pending)
            self._pending = []
            if self._writer is None:
                self._writer = self._parquet.ParquetWriter(self._path, rows.schema)
            self._writer.write_table(rows)

    def _inferred(self, table: Table) -> Any:
        """Find the types of the columns, for which all rows have to be seen."""
        schema: Any = None
        for window in table.windows():
            found = self._as_table(window, None).schema
            # Whole numbers and others in one column are numbers; nulls are of any type.
            schemas = [found] if schema is None else [schema, found]
            schema = self._pa.unify_schemas(schemas, promote_options="permissive")
        return schema

    @contextmanager
    def _errors_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (self._pa.ArrowException, TypeError, OverflowError) as error:
            raise CommandError(
                f"{what} a Parquet file, in which a column has one type: {error}; write .jsonl"
            ) from error

    def _as_table(self, window: Window, schema: Any) -> Any:
        if isinstance(window, ArrowWindow):
            return self._pa.Table.from_batches([window.batch])
        cells = {
            name: [_for_arrow(cell) for cell in window.column(j)]
            for j, name in enumerate(window.columns)
        }
        return self._pa.table(cells, schema=schema)


class SheetWriter:
    """Write an Excel file, in which no text is a formula.

    Parameters
    ----------
    path : path
        Where to.
    columns : sequence of str
        The names of all columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        openpyxl = import_openpyxl()
        self._path = path
        self._book = openpyxl.Workbook(write_only=True)
        self._sheet = self._book.create_sheet()
        self._cell = openpyxl.cell.WriteOnlyCell
        self._errors = ValueError, TypeError, OverflowError
        self._n_rows = 0
        self._write_row(columns)

    def write(self, window: Window, results: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with the cells that come after its own."""
        for row, result in zip(window.rows, results, strict=True):
            self._write_row([*row, *result])

    def finish(self) -> None:
        """Write what comes after the last row."""
        self._book.save(self._path)

    def close(self) -> None:
        """Let go of what it holds, whether it is finished or not."""
        if not self._sheet.closed:
            self._sheet.close()

    def _write_row(self, row: Sequence[Any]) -> None:
        self._n_rows += 1
        if self._n_rows > MAX_ROWS:
            raise CommandError(f"an .xlsx file has at most {MAX_ROWS} rows; write .csv")
        try:
            self._sheet.append([self._as_cell(value) for value in row])
        except self._errors as error:
            raise CommandError(
                f"row {self._n_rows - 1} cannot be written to an .xlsx file: "
                f"{str(error) or type(error).__name__}; write .csv"
            ) from error

    def _as_cell(self, value: Any) -> Any:
        value = _plain_number(value)
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"the number {value}")
        if not isinstance(value, str | list | dict | bytes) and value is not ABSENT:
            return value
        text = escaped(as_text(value))
        # openpyxl would cut it off, and read it as a formula or an error.
        if len(text) > MAX_CHARACTERS:
            raise ValueError(
                f"a cell of {len(text)} characters, of which it holds {MAX_CHARACTERS}"
            )
        cell = self._cell(self._sheet, text)
        cell.data_type = "s"
        return cell if text else None


class _StandardOutput:
    """Stdout in UTF-8, whatever the locale; what is written shows at once."""

    def write(self, text: str) -> None:
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None:
            sys.stdout.write(text)
        else:
            sys.stdout.flush()
            buffer.write(text.encode())
        sys.stdout.flush()


class _Lines(StringIO):
    """The rows that ``csv`` has written, with LF alone at their ends."""

    def __init__(self) -> None:
        super().__init__(newline="")

    def write(self, line: str) -> int:
        return super().write(line[:-2] + "\n")

    def taken(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def _check_distinct(names: Sequence[str], output: str) -> None:
    twice = first_repeated(names)
    if twice is not None:
        raise CommandError(
            f"--output {output}: there are two columns {twice!r}, of which this format would keep "
            "one; write .csv"
        )


def _no_text(number: int, error: UnicodeDecodeError) -> CommandError:
    return CommandError(f"row {number} has bytes that are no text: {error}; write .parquet")


def _escaped(value: Any) -> str:
    text = as_text(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _for_arrow(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_for_arrow, value))
    if isinstance(value, dict):
        return {name: _for_arrow(part) for name, part in value.items()}
    return None if value is ABSENT else _plain_number(value)


def _plain_number(value: Any) -> Any:
    """Give a number that JSON has otherwise written as one that other formats can hold.

    Raises
    ------
    OverflowError
        If it is too large for that.
    """
    if not isinstance(value, WrittenNumber):
        return value
    if math.isinf(value):
        raise OverflowError(f"the number {shortened(value.text)} is too large")
    return float(value)
