"""Read and write the tables that people keep texts in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import CommandError

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path),
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".json": lambda path: pd.read_json(path),
    ".parquet": lambda path: pd.read_parquet(path),
}

WRITERS: dict[str, Callable[[pd.DataFrame, Any], None]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    ".jsonl": lambda table, path: table.to_json(
        path, orient="records", lines=True, force_ascii=False
    ),
    ".json": lambda table, path: table.to_json(path, orient="records", indent=2, force_ascii=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}


def is_table(name: str) -> bool:
    """Tell whether an argument names a table rather than being a text."""
    return name == "-" or Path(name).suffix.lower() in READERS or _is_file(name)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a text too long for a file name
        return False


def read_table(name: str) -> pd.DataFrame:
    """Read a table by the extension of its name; ``-`` is one text a line from stdin.

    Raises
    ------
    CommandError
        If there is no such file, it cannot be read, or its extension is unknown; or a line of
        stdin is blank.
    """
    if name == "-":
        return pd.DataFrame({"text": _lines_of_stdin()})
    path = Path(name)
    if not path.is_file():
        raise CommandError(f"{name}: there is no such file")
    if path.suffix.lower() not in READERS:
        raise CommandError(f"{name}: unknown extension; use one of {', '.join(READERS)}, or -")
    try:
        return READERS[path.suffix.lower()](path)
    except (ValueError, ImportError, OSError) as error:
        needs = " (pip install 'skgliclass[parquet]')" if isinstance(error, ImportError) else ""
        raise CommandError(f"{name}: cannot be read: {error}{needs}") from error


def _lines_of_stdin() -> list[str]:
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    blank = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if blank:
        # Leaving them out would put every later row of the output beside another line.
        raise CommandError(
            f"stdin: line {blank[0]} is blank ({len(blank)} such lines); remove them, for "
            "instance with grep '[^[:space:]]'"
        )
    return lines


def check_output(name: str | None) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises
    ------
    CommandError
        If the extension is unknown or the folder does not exist.
    """
    if name is None:
        return
    path = Path(name)
    if path.suffix.lower() not in WRITERS:
        raise CommandError(f"--output {name}: unknown extension; use one of {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise CommandError(f"--output {name}: there is no folder {path.parent}")


def write_table(table: pd.DataFrame, name: str | None) -> None:
    """Write a table by the extension of its name; None writes CSV to stdout."""
    if name is None:
        WRITERS[".csv"](table, sys.stdout)
    else:
        WRITERS[Path(name).suffix.lower()](table, name)


def text_column(table: pd.DataFrame, column: str | None, name: str) -> pd.Series:
    """Choose the column with the texts.

    Raises
    ------
    CommandError
        If there is no such column, or several and none was named, or a row has no text.
    """
    columns = ", ".join(map(str, table.columns))
    if column is None:
        if len(table.columns) != 1:
            raise CommandError(f"{name}: choose the texts with --text-column; columns: {columns}")
        column = table.columns[0]
    if column not in table.columns:
        raise CommandError(f"{name}: there is no column {column!r}; columns: {columns}")
    texts = table[column]
    if table.empty:
        raise CommandError(f"{name}: there are no rows")
    missing = texts.isna().to_numpy().nonzero()[0]
    if len(missing):
        raise CommandError(
            f"{name}: row {missing[0] + 1} has no text in column {column!r} "
            f"({len(missing)} such rows); fill or drop them"
        )
    # pandas reads what looks like a number as one.
    return texts.astype(str)
