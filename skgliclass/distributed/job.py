"""One part of a table, classified: what every engine does in its workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..estimators.containers import is_missing
from ..estimators.texts import raise_bad_row
from ..prompts.checks import check_unicode, listed
from .results import Results, Values, method_of

Call = Callable[[str, list[str]], Any]
"""Calls a method of the estimator, by its name, with texts."""

_N_SHOWN, _N_CHARACTERS = 3, 40


@dataclass(frozen=True)
class Job:
    """What is to be done with each part of a table.

    Attributes
    ----------
    text_column : object
        The name of the column of texts.
    results : Results
        What is added.
    """

    text_column: Any
    results: Results

    def check_columns(self, columns: Sequence[Any], *, any_case: bool = False) -> None:
        """Refuse a table without the column of texts, or with one that would be added.

        Parameters
        ----------
        columns : sequence
            The names of its columns.
        any_case : bool, default=False
            Whether ``"Text"`` and ``"text"`` are the same name.

        Raises
        ------
        ValueError
            If it has.
        """
        n_columns = list(columns).count(self.text_column)
        if n_columns != 1:
            which = "several columns" if n_columns else "no column"
            raise ValueError(
                f"The frame has {which} of the name text_column={self.text_column!r}; "
                f"it has {listed(columns)}."
            )
        fold = str.casefold if any_case else str
        taken = {fold(str(column)) for column in columns}
        for name in self.results.names:
            if fold(name) in taken:
                raise ValueError(
                    f"The frame has a column {name!r} already, as one of the result is called. "
                    "Rename it first, or drop it."
                )
            if any_case:
                taken.add(fold(name))

    def on_pandas(self, frame: pd.DataFrame, call: Call) -> pd.DataFrame:
        """Give a frame of pandas with the columns of the result behind its own."""
        texts = frame[self.text_column].tolist()
        column = self.text_column
        values = self._values(
            texts, call, lambda i: f"{column!r} at index {frame.index[i : i + 1].tolist()[0]!r}"
        )
        added = self.results.as_pandas(values, frame.index)
        added.columns.names = frame.columns.names
        return pd.concat([frame, added], axis=1)

    def on_arrow(self, rows: Any, call: Call) -> Any:
        """Give a table or batch of Arrow with the columns of the result behind its own.

        The other columns stay as they are; on their way through pandas a whole number beside a
        missing one would become a decimal fraction.
        """
        column = rows.schema.get_field_index(self.text_column)
        values = self._values(rows.column(column).to_pylist(), call, lambda i: self._row(rows, i))
        for name, array in zip(self.results.names, self.results.as_arrow(values), strict=True):
            rows = rows.append_column(name, array)
        return rows

    def _row(self, rows: Any, i: int) -> str:
        """Name a row of a table without an index by the first of its other columns."""
        row = rows.slice(i, 1).to_pylist()[0]
        others = [name for name in row if name != self.text_column][:_N_SHOWN]
        if not others:
            return repr(self.text_column)
        return f"{self.text_column!r} of the row with " + ", ".join(
            f"{name}={_cut(row[name])}" for name in others
        )

    def _values(self, rows: list[Any], call: Call, name_of: Callable[[int], str]) -> Values:
        for i, row in enumerate(rows):
            if not isinstance(row, str):
                self._check_may_be_missing(row, name_of(i))
            elif not row.isascii():
                check_unicode(row, name_of(i))
        texts = [row for row in rows if isinstance(row, str)]
        predicted = call(method_of(self.results.output), texts) if texts else None
        return self.results.read(predicted, np.array([isinstance(row, str) for row in rows], bool))

    def _check_may_be_missing(self, row: Any, place: str) -> None:
        if not is_missing(row):
            raise_bad_row(row, place, "the column")
        if not self.results.nullable:
            raise ValueError(
                f"{place} is missing ({row!r}). Drop such rows or fill them, or pass "
                'missing="null", which predicts nothing for them.'
            )


def _cut(value: Any) -> str:
    written = repr(value)
    return written if len(written) <= _N_CHARACTERS else f"{written[: _N_CHARACTERS - 3]}..."
