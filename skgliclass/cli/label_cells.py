"""The labels of the rows of a table: names, lists, scores, or a column of 0 and 1 a label."""

from __future__ import annotations

import ast
import json
import re
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import warn
from .errors import CommandError, such
from .tables import Table, Window
from .values import as_text, is_missing, parse_json

Labels = list[str] | dict[str, float] | None
"""What a row has in its cells; None where nobody knows."""
_NUMBERS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
_AS_JSON = 'write every cell as a JSON list, such as ["a", "b"]'
_SEPARATORS = (",", ";", "|", "/")
# What numpy writes, or a person, which neither JSON nor Python reads as a list.
_LIKE_LIST = re.compile(r"""(?s)(\[.*[,;|'"].*\]|\{.*[,;|'"].*\})""")


@dataclass(frozen=True)
class _Column:
    """A column, for what is said of its cells."""

    table: str
    name: str

    def cell(self, number: int, what: str) -> str:
        return f"{self.table}: row {number} has {what} in column {self.name!r}"

    def text(self, value: Any, number: int) -> str:
        """Give the text of a value, which is to be a label."""
        try:
            return as_text(value)
        except UnicodeDecodeError as error:
            place = self.cell(number, "bytes that are no text")
            raise CommandError(f"{place}: {error}") from error


class LabelColumn:
    """The labels of each row in one column of a table.

    Parameters
    ----------
    table : Table
        The table, whose column is looked at from beginning to end.
    column : int
        Which column. A cell holds one label; or a list of them, which JSON and Parquet have and
        which is written as JSON (or as Python writes it) in a cell of text; or an object with a
        score for each label.
    multi_label : bool
        Whether a cell of text holds any number of labels.
    separator : str
        What stands between those.
    unlabelled : bool or None
        Whether an empty cell says that nobody knows the labels; None where a command has no such
        rows.

    Raises
    ------
    CommandError
        If a row has no label and has to have one.
    """

    def __init__(
        self,
        table: Table,
        column: int,
        *,
        multi_label: bool,
        separator: str,
        unlabelled: bool | None = None,
    ) -> None:
        self._column, self._multi_label, self._separator = column, multi_label, separator
        self._unlabelled = unlabelled
        self._place = _Column(table.name, table.columns[column])
        cells = (cell for window in table.windows() for cell in window.column(column))
        self._has_lists = self._look_for_lists(cells)

    def _look_for_lists(self, cells: Iterable[Any]) -> bool:
        likely, empty, n_empty = None, 0, 0
        whole: set[str] = set()
        for number, cell in enumerate(cells, 1):
            if not is_missing(cell) and _list_in(cell, self._place, number) is not None:
                return True
            label = self._label_in(cell, number)
            whole.add(label)
            if not label:
                empty, n_empty = empty or number, n_empty + 1
            elif likely is None and _LIKE_LIST.fullmatch(label):
                likely = self._place.cell(number, repr(label[:60]))
        if likely is not None:
            warn(f"{likely}, which cannot be read as a list and is taken as it is; {_AS_JSON}")
        if self._multi_label:
            self._look_for_another_separator(whole - {""})
        # With any number of labels an empty cell is a text that has none.
        if n_empty and not (self._multi_label or self._unlabelled):
            hint = _hint(self._unlabelled)
            raise CommandError(f"{self._place.cell(empty, 'no label')} {such(n_empty)}{hint}")
        return False

    def _look_for_another_separator(self, cells: set[str]) -> None:
        """Warn where cells hold no separator, and cut at another one they share their labels."""
        if any(self._separator in cell for cell in cells):
            return
        for other in _SEPARATORS:
            parts = {name for cell in cells for name in _distinct(cell.split(other))}
            if len(parts) < len(cells):
                warn(
                    f"{self._place.table}: no cell of column {self._place.name!r} has "
                    f"{self._separator!r} in it, so that each is one label; cut at {other!r} there "
                    f"are {len(parts)} labels rather than {len(cells)}. If that is meant, give "
                    f"--label-separator {shlex.quote(other)}"
                )
                return

    def _label_in(self, cell: Any, number: int) -> str:
        return "" if is_missing(cell) else self._place.text(cell, number).strip()

    def read(self, window: Window, first: int) -> list[Labels]:
        """Give a list for each row of a window; it is empty where a text has no label.

        Parameters
        ----------
        window : Window
        first : int
            The number of its first row.

        Raises
        ------
        CommandError
            If lists and single labels are mixed, or a list is at fault; the message names the row.
        """
        cells = window.column(self._column)
        if self._has_lists:
            empty: Labels = None if self._unlabelled else []
            return _checked_lists(cells, self._place, first, empty)
        labels = [self._label_in(cell, number) for number, cell in enumerate(cells, first)]
        return [self._labels_in(cell) for cell in labels]

    def _labels_in(self, cell: str) -> Labels:
        if self._unlabelled and not cell:
            return None
        return _distinct(cell.split(self._separator)) if self._multi_label else [cell]


class LabelColumns:
    """How far each label holds, from a column for each; what is empty is not annotated.

    Parameters
    ----------
    table : Table
        The table.
    columns : sequence of int
        Which columns.
    names : sequence of str
        The labels.
    unlabelled : bool or None
        As for :class:`LabelColumn`, of a row whose cells are all empty.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[int],
        names: Sequence[str],
        *,
        unlabelled: bool | None = None,
    ) -> None:
        self._name, self._columns, self._unlabelled = table.name, columns, unlabelled
        self._places = [_Column(table.name, name) for name in names]

    def read(self, window: Window, first: int) -> list[dict[str, float] | None]:
        """Give the labels that are annotated, for each row of a window; None where none is.

        Parameters
        ----------
        window : Window
        first : int
            The number of its first row.

        Raises
        ------
        CommandError
            If a cell is no number from 0 to 1, or a row has no annotated label.
        """
        rows: list[dict[str, float] | None] = []
        cells = zip(*(window.column(j) for j in self._columns), strict=True)
        for number, row in enumerate(cells, first):
            known = [pair for pair in zip(self._places, row, strict=True) if not is_blank(pair[1])]
            if not (known or self._unlabelled):
                raise CommandError(
                    f"{self._name}: row {number} is empty in all of the columns of labels; give at "
                    f"least one 0 or 1{_hint(self._unlabelled)}"
                )
            scores = {place.name: _number(cell, place, number) for place, cell in known}
            rows.append(scores or None)
        return rows


def _hint(unlabelled: bool | None) -> str:
    """Say how rows without labels are learnt from, where a command does that."""
    return "" if unlabelled is None else "; texts without labels need --unlabelled-rows"


def is_blank(cell: Any) -> bool:
    """Tell whether a cell holds nothing, or white space alone."""
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip())


def _number(cell: Any, place: _Column, row: int) -> float:
    text = place.text(cell, row).strip().lower()
    try:
        number = _NUMBERS[text] if text in _NUMBERS else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise CommandError(f"{place.cell(row, repr(cell))}; with --label-columns a cell is 1 or 0")
    return number


def _list_in(cell: Any, place: _Column, number: int) -> list[Any] | dict[Any, Any] | None:
    """Give the list or the scores that a cell holds, or None."""
    if isinstance(cell, list) and cell and all(isinstance(item, tuple) for item in cell):
        # As Parquet's maps come, whose keys may be there twice.
        if len(dict(cell)) < len(cell):
            raise CommandError(place.cell(number, "a label twice"))
        return dict(cell)
    if isinstance(cell, list | dict):
        return cell
    text = place.text(cell, number).strip()
    if not text.startswith(("[", "{", "(")) or not text.endswith(("]", "}", ")")):
        return None
    try:
        value = parse_json(text)
    except json.JSONDecodeError:
        value = _python_list(text)
    except ValueError as error:
        raise CommandError(f"{place.cell(number, text[:60])}: {error}") from error
    return value if isinstance(value, list | dict) else None


def _python_list(text: str) -> Any:
    """Read a list, set, tuple of strings or dict as Python writes it; None for anything else."""
    try:
        # Of escapes that Python does not know it warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, tree = ast.literal_eval(text), ast.parse(text, mode="eval").body
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    written = repr(value)
    if isinstance(tree, ast.Set):
        # In the order that was written, and not in that of this process.
        value = list(map(ast.literal_eval, tree.elts))
        written = "{" + ", ".join(map(repr, value)) + "}"
    # Numbers in round brackets are the ends of an interval, which is one class.
    if isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
        value = list(value)
    # numpy leaves the commas out, and Python joins what stands side by side into one name.
    return value if written == text else None


def _checked_lists(cells: Sequence[Any], place: _Column, first: int, empty: Labels) -> list[Labels]:
    """Read the lists of a column, in which a missing cell has the labels `empty`."""
    labels: list[Labels] = []
    for number, cell in enumerate(cells, first):
        found = None if is_missing(cell) else _list_in(cell, place, number)
        if found is None and not is_blank(cell):
            text = f"{place.text(cell, number)[:60]!r}, while other rows have lists,"
            raise CommandError(f"{place.cell(number, text)}; {_AS_JSON}")
        if found is None:
            labels.append(empty)
        elif isinstance(found, Mapping):
            labels.append(_checked_scores(found, place, number))
        else:
            names = list(found)
            if any(map(is_blank, names)):
                raise CommandError(place.cell(number, "an empty label"))
            if any(isinstance(item, list | tuple | dict | set) for item in names):
                raise CommandError(place.cell(number, "a list of lists"))
            labels.append(_distinct(place.text(name, number) for name in names))
    return labels


def _checked_scores(scores: Mapping[Any, Any], place: _Column, number: int) -> dict[str, float]:
    # Parquet has the same keys in every row, and null where a row has none of them.
    known = {name: value for name, value in scores.items() if value is not None}
    values = {place.text(name, number).strip(): value for name, value in known.items()}
    if len(values) < len(known):
        raise CommandError(place.cell(number, "a label twice"))
    if "" in values:
        raise CommandError(place.cell(number, "an empty label"))
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CommandError(place.cell(number, f"the score {value!r} for {name!r}"))
    return {name: float(value) for name, value in values.items()}


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))
