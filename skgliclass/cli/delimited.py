"""Rows of CSV and TSV files, whose cells are the text that was written."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from .errors import CommandError, NoRowsError
from .sources import Source

# More than any text; an unclosed quote must not read the rest of a large file into memory.
_LONGEST_FIELD = 1 << 27
_SEPARATORS = ",;\t|"
# The line `sep=;`, which tells Excel what separates the fields.
_OF_EXCEL = ["sep=", ""]
_WORDS = {"tab": "\t", "\\t": "\t"}


def checked_separator(separator: str) -> str:
    r"""Read what ``--separator`` says, where ``tab`` and ``\t`` are a tab.

    Raises
    ------
    CommandError
        If it is not one character, or one that cannot separate fields.
    """
    character = _WORDS.get(separator, separator)
    if len(character) != 1 or character in '"\r\n\0':
        raise CommandError(
            f"--separator {separator}: give one character that is no quote and no line end, such "
            "as ';', or tab"
        )
    return character


def read_delimited(source: Source, separator: str, has_header: bool) -> Iterator[list[str]]:
    """Give the rows, of which the first are the names of the columns.

    A blank line is no row, unless there is one column and rows come after it: then its cell is
    empty.

    Parameters
    ----------
    source : Source
        The file.
    separator : str
        What stands between two fields.
    has_header : bool
        Whether the first row names the columns; otherwise they are called 1, 2 and so on.

    Yields
    ------
    list of str
        As many cells as there are columns.

    Raises
    ------
    CommandError
        If a row has more or fewer fields than the first, or a quote is not closed; the message
        names the line.
    """
    rows = _numbered_rows(source, separator)
    _, first = next(((line, row) for line, row in rows if row and row != _OF_EXCEL), (0, []))
    if not first:
        raise NoRowsError(f"{source.name}: the file is empty")
    columns = first if has_header else [str(j) for j in range(1, len(first) + 1)]
    if has_header:
        _check_separated(source.name, columns, separator)
    yield columns
    if not has_header:
        yield first
    n_blank = 0
    for line, row in rows:
        if not row:
            n_blank += 1
            continue
        if len(row) != len(columns):
            raise _ragged(f"{source.name}: line {line}", row, columns, separator)
        if len(columns) == 1:
            yield from ([""] for _ in range(n_blank))
        n_blank = 0
        yield row


def separator_hint(columns: Sequence[str], separator: str) -> str:
    """Say which other separator names of columns hold, if they do; otherwise nothing."""
    text = "".join(columns)
    other = next((c for c in _SEPARATORS if c != separator and c in text), None)
    return "" if other is None else f"give --separator {_shown(other)} if that separates the fields"


def names_of(columns: Sequence[str]) -> str:
    """Name columns in an error, in short where they are many or long."""
    short = [name if len(name) <= 60 else f"{name[:57]}..." for name in columns[:20]]
    # Blanks at its ends make another name of it, and would not be seen.
    names = [name if name and name == name.strip() else repr(name) for name in short]
    return ", ".join(names) + (", ..." if len(columns) > 20 else "")


def _numbered_rows(source: Source, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Give every row with the line on which it begins."""
    with source.lines(newline="") as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 1
            # The limit is one for the whole process, whose it stays.
            limit = csv.field_size_limit(_LONGEST_FIELD)
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise _misquoted(f"{source.name}: line {line}", error) from error
            finally:
                csv.field_size_limit(limit)
            yield line, row


def _misquoted(place: str, error: csv.Error) -> CommandError:
    if "unexpected end" in str(error) or "field limit" in str(error):
        return CommandError(f"{place}: a quote is opened in this row and never closed")
    return CommandError(
        f'{place}: {error}; a quote in a quoted field is written twice, as in "a ""b"" c"'
    )


def _check_separated(name: str, columns: Sequence[str], separator: str) -> None:
    hint = separator_hint(columns, separator)
    if len(columns) == 1 and hint:
        raise CommandError(
            f"{name}: the only column is {names_of(columns)!r}; {hint}, and otherwise "
            f"--separator {_shown(separator)}"
        )


def _ragged(place: str, row: Sequence[str], columns: Sequence[str], separator: str) -> CommandError:
    more = len(row) > len(columns)
    hint = separator_hint(columns, separator)
    if hint:
        pass
    elif more and len(row) == len(columns) + 1 and not row[-1]:
        hint = "it ends with a separator, which the first line does not; remove it"
    elif more:
        hint = f"put a field that holds {_shown(separator)} in double quotes"
    else:
        hint = "add the missing fields, which may be empty"
    n_fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
    return CommandError(
        f"{place} has {n_fields}, but the first line has {len(columns)} "
        f"({names_of(columns)}); {hint}"
    )


def _shown(separator: str) -> str:
    return "tab" if separator == "\t" else f"'{separator}'"
