"""The labels of the rows of a table: names, lists, scores, or a column of 0 and 1 a label."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import CommandError
from .tables import Table
from .values import as_text, is_missing

Labels = list[str] | dict[str, float]
_NUMBERS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}


def labels_of_column(
    table: Table, column: int, *, multi_label: bool, separator: str
) -> list[Labels]:
    """Read the labels of each row from one column.

    Parameters
    ----------
    table : Table
        The table.
    column : int
        Which one. A cell holds one label; or a list of them, which JSON and Parquet have and which
        is written as JSON (or as Python writes it) in a cell of text; or an object with a score
        for each label.
    multi_label : bool
        Whether a cell of text holds any number of labels.
    separator : str
        What stands between those.

    Returns
    -------
    list of (list of str, or dict of str to float)
        A list for each row; it is empty where a text has no label.

    Raises
    ------
    CommandError
        If a row has no label and has to have one, or lists and single labels are mixed.
    """
    cells = [cell for window in table.windows() for cell in window.column(column)]
    where = f"{table.name}: row {{}} has {{}} in column {table.columns[column]!r}"
    lists = [None if is_missing(cell) else _as_list(cell) for cell in cells]
    if any(found is not None for found in lists):
        return _checked_lists(cells, lists, where)
    labels = ["" if is_missing(cell) else as_text(cell).strip() for cell in cells]
    if multi_label:
        return [_distinct(cell.split(separator)) for cell in labels]
    empty = [number for number, label in enumerate(labels, 1) if not label]
    # With any number of labels an empty cell is a text that has none.
    if empty:
        raise CommandError(f"{where.format(empty[0], 'no label')} ({len(empty)} such rows)")
    return [[label] for label in labels]


def labels_of_columns(
    table: Table, columns: Sequence[int], names: Sequence[str]
) -> list[dict[str, float]]:
    """Read how far each label holds from a column for each; what is empty is not annotated.

    Parameters
    ----------
    table : Table
        The table.
    columns : sequence of int
        Which columns.
    names : sequence of str
        The labels.

    Returns
    -------
    list of dict of str to float
        The labels that are annotated, for each row.

    Raises
    ------
    CommandError
        If a cell is no number from 0 to 1, or a row has no annotated label.
    """
    rows: list[dict[str, float]] = []
    for window in table.windows():
        cells = zip(*(window.column(j) for j in columns), strict=True)
        for number, row in enumerate(cells, len(rows) + 1):
            known = {name: cell for name, cell in zip(names, row, strict=True) if not _blank(cell)}
            if not known:
                raise CommandError(
                    f"{table.name}: row {number} is empty in all of the columns of labels; give at "
                    "least one 0 or 1"
                )
            where = f"{table.name}: row {number} has {{}} in column {{!r}}"
            rows.append({name: _number(cell, where, name) for name, cell in known.items()})
    return rows


def _blank(cell: Any) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip())


def _number(cell: Any, where: str, name: str) -> float:
    text = as_text(cell).strip().lower()
    try:
        number = _NUMBERS[text] if text in _NUMBERS else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        found = where.format(repr(cell), name)
        raise CommandError(f"{found}; with --label-columns a cell is 1 or 0")
    return number


def _as_list(cell: Any) -> Any:
    """Give the list or the scores that a cell holds, or None."""
    if isinstance(cell, list | dict):
        return cell
    text = as_text(cell).strip()
    if not text.startswith(("[", "{")) or not text.endswith(("]", "}")):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = _as_python_list(text)
    return value if isinstance(value, list | dict) else None


def _as_python_list(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    # numpy leaves the commas out, and Python joins what stands side by side into one name.
    return value if repr(value) == text else None


def _checked_lists(cells: Sequence[Any], lists: Sequence[Any], where: str) -> list[Labels]:
    """Read the lists of a column, in which a missing cell is a text that has no label."""
    labels: list[Labels] = []
    for number, (cell, found) in enumerate(zip(cells, lists, strict=True), 1):
        if found is None and not _blank(cell):
            text = f"{as_text(cell)[:60]!r}, while other rows have lists,"
            raise CommandError(
                f'{where.format(number, text)}; write every cell as a JSON list, such as ["a", "b"]'
            )
        if isinstance(found, Mapping):
            labels.append(_checked_scores(found, where, number))
        else:
            names = [] if found is None else list(found)
            if any(map(_blank, names)):
                raise CommandError(where.format(number, "an empty label"))
            if any(isinstance(item, list | dict) for item in names):
                raise CommandError(where.format(number, "a list of lists"))
            labels.append(_distinct(map(as_text, names)))
    return labels


def _checked_scores(scores: Mapping[Any, Any], where: str, number: int) -> dict[str, float]:
    # Parquet has the same keys in every row, and null where a row has none of them.
    values = {as_text(name): value for name, value in scores.items() if value is not None}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CommandError(where.format(number, f"the score {value!r} for {name!r}"))
    return {name: float(value) for name, value in values.items()}


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))
