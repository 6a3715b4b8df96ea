"""The labelled data of the commands: files of examples, or tables with two columns."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..datasets.examples import Example
from ..datasets.files import examples_of, is_single_label
from ..estimators.persistence import read_content
from .errors import CommandError
from .json_rows import Placed
from .label_cells import LabelColumn, LabelColumns, Labels
from .options import files_of_labels
from .rows import UnlabelledExample
from .tables import (
    EXTENSIONS,
    UNLIMITED,
    JsonTable,
    Kept,
    Limit,
    Table,
    TableOptions,
    Window,
    add_table_options,
    check_options,
    check_texts,
    open_table,
    options_for,
    table_kind,
    table_options,
    text_column,
)

_SEPARATOR = ";"
_MISSED = (
    "choose the labels with --label-column, or give --labels to learn from texts alone",
    "choose the labels with --label-column",
)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the labelled data is read."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--single-label", action="store_true", help="one label a text (default: told from the data)"
    )
    kind.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    add_table_options(parser)
    add_label_columns(parser)
    parser.add_argument(
        "--label-separator",
        metavar="TEXT",
        help="between the labels of a row of a table, with --multi-label (default: ;)",
    )


def add_label_columns(parser: argparse.ArgumentParser) -> None:
    """Add what says where the labels of a table are."""
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument(
        "--label-column",
        metavar="NAME",
        help="of a table (default: label, or labels); a cell holds one label, or a list of them",
    )
    columns.add_argument(
        "--label-columns",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="the columns of a table that each stand for the label of their name, and hold 1 where "
        "it is true, 0 where not, and nothing where nobody knows",
    )


@dataclass(frozen=True, eq=False)
class LabelledFile:
    """A file of labelled texts, opened once.

    Attributes
    ----------
    table : Table
        What it holds.
    is_table : bool
        Whether it is a table, whose rows share one label set, rather than a file in the GLiClass
        training format.
    """

    table: Table
    is_table: bool


def open_data(
    args: argparse.Namespace, *names: str, keeps: Limit = UNLIMITED, takes_texts: bool = False
) -> list[LabelledFile]:
    """Open files of labelled texts, each in the GLiClass training format or a table.

    Parameters
    ----------
    args : Namespace
        With the options of :func:`add_data_options`; naming columns of labels makes a table of
        any file.
    *names : str
        The files.
    keeps : Limit
        What is read once and stays in memory; a file with more is read several times.
    takes_texts : bool
        Whether the first may be a file of texts alone, or stdin.

    Raises
    ------
    CommandError
        If a file cannot be read, or an option has no effect on any of them; the message names it.
    """
    options = table_options(args)
    for name in names[1:] if takes_texts and _holds_lines(names[0]) else names:
        if _holds_lines(name):
            raise CommandError(
                f"{name}: {'stdin' if name == '-' else 'a .txt file'} is read as one text a line, "
                "without labels; give a table, or a file in the GLiClass training format"
            )
        if table_kind(name) is None:
            known = [extension for extension in EXTENSIONS if table_kind(extension) != ".txt"]
            raise CommandError(f"{name}: unknown extension; use one of {', '.join(known)}")
    check_options([*names, *_files_of_texts(args), *files_of_labels(args)], options)
    files = [_opened(name, args, options_for(name, options), keeps) for name in names]
    _check_effects(args, files)
    return files


def _files_of_texts(args: argparse.Namespace) -> list[str]:
    """Give the files of further texts, which not every command has."""
    return getattr(args, "unlabelled", [])


def _holds_lines(name: str) -> bool:
    return name == "-" or table_kind(name) == ".txt"


def _opened(
    name: str, args: argparse.Namespace, options: TableOptions, keeps: Limit
) -> LabelledFile:
    table = open_table(name, options, keeps=keeps)
    names_labels = args.label_column is not None or args.label_columns is not None
    has_keys = isinstance(table, JsonTable) and {"all_labels", "true_labels"} & set(table.columns)
    return LabelledFile(table, is_table=names_labels or not has_keys)


def _check_effects(args: argparse.Namespace, files: Sequence[LabelledFile]) -> None:
    for name in ("text_column", "label_separator"):
        is_read = any(file.is_table for file in files)
        is_read = is_read or (name == "text_column" and bool(_files_of_texts(args)))
        if getattr(args, name) is not None and not is_read:
            raise CommandError(
                f"--{name.replace('_', '-')} has no effect: {files[0].table.name} is in the "
                "GLiClass training format, which says by itself where texts and labels are"
            )
    if args.label_separator is not None and args.label_columns is not None:
        raise CommandError("--label-separator has no effect with --label-columns")
    if args.label_separator == "":
        raise CommandError("--label-separator is empty")


@dataclass(frozen=True, eq=False)
class TextFile:
    """The texts of a file, as often as one goes through them; what else it holds is not read.

    Attributes
    ----------
    table : Table
        What it holds.
    column : int
        Where its texts are.
    n_texts : int
        How many there are.
    """

    table: Table
    column: int
    n_texts: int

    @classmethod
    def opened(cls, name: str, args: argparse.Namespace) -> TextFile:
        """Open a table, a ``.txt`` file or stdin, all of whose rows have to have a text.

        Raises
        ------
        CommandError
            If it cannot be read, or a row has no text; the message names it.
        """
        table = open_table(name, options_for(name, table_options(args)))
        # The texts of a file with nothing else need no name.
        named = None if len(table.columns) == 1 else args.text_column
        column = text_column(table, named)
        return cls(table, column, check_texts(table, column))

    def __len__(self) -> int:
        return self.n_texts

    def __iter__(self) -> Iterator[str]:
        for window in self.table.windows():
            yield from window.texts(self.column)


def chosen_kind(args: argparse.Namespace) -> bool | None:
    """Tell whether the options ask for many labels a text; None where they leave it open."""
    return True if args.multi_label else False if args.single_label else None


def read_saved(args: argparse.Namespace) -> dict[str, Any]:
    """Give what a saved classifier knows besides its model; nothing for another model."""
    return read_content(args.model, args.revision) or {}


def saved_kind(model: str, saved: Mapping[str, Any], asked: bool | None) -> bool | None:
    """Tell many labels from one by a saved classifier; by what was asked for if there is none.

    Raises
    ------
    CommandError
        If it is of the other kind than was asked for.
    """
    if "estimator" not in saved:
        return asked
    is_multi_label = bool(saved["estimator"] == "GLiClassMultiLabelClassifier")
    if asked is not None and asked != is_multi_label:
        raise CommandError(
            f"--{'multi' if asked else 'single'}-label: {model} holds a "
            f"{saved['estimator']}, which is for the other kind"
        )
    return is_multi_label


def is_saved_multi_label(args: argparse.Namespace) -> bool:
    """Tell the kind of the saved classifier whose labels are to be used.

    Raises
    ------
    CommandError
        If there is none, or it is of the other kind than was asked for.
    """
    saved = read_saved(args)
    if not saved.get("classes"):
        raise CommandError(
            f"give --labels or --labels-file: {args.model} is no saved classifier with labels"
        )
    # Leaving the option out asks for no kind: there is none for one label a text.
    return bool(saved_kind(args.model, saved, args.multi_label or None))


def read_data(
    file: LabelledFile,
    args: argparse.Namespace,
    *,
    multi_label: bool | None,
    labels: Iterable[str] = (),
    keeps: Limit = UNLIMITED,
    takes_texts: bool = False,
    unlabelled: bool | None = None,
) -> Iterable[Example]:
    """Read labelled texts, as often as one goes through them.

    Parameters
    ----------
    file : LabelledFile
        What :func:`open_data` opened.
    args : Namespace
        With the options of :func:`add_data_options`.
    multi_label : bool or None
        Whether a row of a table may have several labels.
    labels : iterable of str
        More labels that every row of a table could have had.
    keeps : Limit
        As for :func:`open_data`.
    takes_texts : bool
        Whether a table without a column of labels is one of texts without labels.
    unlabelled : bool or None
        Whether a row without a label is a text without labels; None where a command has none.

    Returns
    -------
    iterable of Example
        At least one; texts without labels are ``UnlabelledExample``.

    Raises
    ------
    CommandError
        If it has no rows, or a row of a table has no text or label; of a row that is at fault by
        itself when one comes to it.
    ValueError
        If a file of examples is not in the format, when one comes to the row.
    """
    if isinstance(file.table, JsonTable) and not file.is_table:
        read = partial(_examples_in, file.table, bool(unlabelled))
        return Kept(read, _size_of_example, keeps)
    missed = None if takes_texts else _MISSED[unlabelled is None]
    columns = columns_of_rows(file.table, args, missed)
    rows = _TableRows(file.table, columns, args, bool(multi_label), labels, keeps, unlabelled)
    return Kept(lambda: rows, _size_of_example, keeps)


def _examples_in(table: JsonTable, unlabelled: bool) -> Iterator[Example]:
    """Give the rows of a file of examples; null as its labels says that nobody knows them."""
    if not unlabelled:
        yield from examples_of(table.placed(), table.name)
        return
    is_unlabelled: list[bool] = []

    def with_labels() -> Iterator[Placed]:
        for place, row in table.placed():
            is_unlabelled.append(row.get("true_labels") is None)
            yield place, {**row, "true_labels": []} if is_unlabelled[-1] else row

    for row in examples_of(with_labels(), table.name):
        # Checked as any other row, its labels to choose from, too.
        yield _as_unlabelled(row) if is_unlabelled.pop() else row


def _as_unlabelled(row: Example) -> UnlabelledExample:
    return UnlabelledExample(row.text, row.all_labels, prompt=row.prompt, examples=row.examples)


def _size_of_example(row: Example) -> tuple[int, int]:
    return 1, len(row.text) + sum(len(shown.text) for shown in row.examples)


def told_kind(examples: Sequence[Example], multi_label: bool | None, name: str) -> bool:
    """Tell many labels a text from one, by the data where nothing else says.

    Raises
    ------
    CommandError
        If one label a text was asked for and the true labels of a row do not add up to one.
    """
    if multi_label is None:
        return not is_single_label(examples)
    if not multi_label:
        for number, row in enumerate(examples, 1):
            check_one_label(row, f"{name}: the true labels of row {number}")
    return multi_label


def check_one_label(row: Example, what: str) -> None:
    """Refuse a row whose true labels do not add up to one."""
    # Soft labels in a file are rounded.
    if abs(sum(row.targets) - 1) > 1e-3:
        raise CommandError(
            f"{what} add up to {sum(row.targets):g}; with one label a text they have to add up to "
            "1 (see --multi-label)"
        )


class _TableRows:
    """The rows of a table, which share one label set, or have one of what is annotated.

    It is looked at as a whole when this is made: every row has a text, and a label if it has to.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[int],
        args: argparse.Namespace,
        multi_label: bool,
        labels: Iterable[str],
        keeps: Limit,
        unlabelled: bool | None,
    ) -> None:
        separator = args.label_separator
        if separator is not None and not multi_label:
            raise CommandError("--label-separator has no effect without --multi-label")
        # What is read has the texts first, and then the labels.
        self._table = table.read(columns, keeps)
        check_texts(self._table, 0)
        self._choice: tuple[str, ...] | None = None
        self._cells: LabelColumn | LabelColumns | None = None
        if args.label_columns:
            positions = range(1, len(columns))
            self._cells = LabelColumns(
                self._table, positions, args.label_columns, unlabelled=unlabelled
            )
        elif len(columns) > 1:
            self._cells = LabelColumn(
                self._table,
                1,
                multi_label=multi_label,
                separator=separator or _SEPARATOR,
                unlabelled=unlabelled,
            )
            found = {label for _, row in self._rows() for label in row or ()}
            self._choice = tuple(sorted({*labels, *found}))
            if not (self._choice or unlabelled):
                raise CommandError(f"{table.name}: no row has a label")

    def __iter__(self) -> Iterator[Example]:
        for text, labels in self._rows():
            if labels is None:
                yield UnlabelledExample(text)
            elif self._choice is not None:
                yield Example(text, self._choice, labels)
            else:
                assert isinstance(labels, dict)
                true = {name: value for name, value in labels.items() if value}
                is_certain = all(value == 1 for value in true.values())
                yield Example(text, list(labels), list(true) if is_certain else true)

    def _rows(self) -> Iterator[tuple[str, Sequence[str] | Mapping[str, float] | None]]:
        number = 1
        for window in self._table.windows():
            texts = window.texts(0)
            cells = [None] * len(window) if self._cells is None else self._read(window, number)
            yield from zip(texts, cells, strict=True)
            number += len(window)

    def _read(self, window: Window, number: int) -> Sequence[Labels]:
        assert self._cells is not None
        return self._cells.read(window, number)


def columns_of_rows(table: Table, args: argparse.Namespace, missed: str | None = None) -> list[int]:
    """Give where the texts are, and then where the labels are, unless these may be missing."""
    column = text_column(table, args.text_column)
    # Before the texts, since whoever has no column of labels has no use for a blank text's row.
    of_labels = _columns_of_labels(table, args)
    if not of_labels and missed is not None and table.kind == ".txt":
        raise CommandError(
            f"{table.name} is read as one text a line, without labels: give --labels to learn from "
            "texts alone, or a table"
        )
    if not of_labels and missed is not None:
        raise CommandError(f"{table.name}: {missed}; {table.described()}")
    if column in of_labels:
        raise CommandError(
            f"{table.name}: the column {table.columns[column]!r} cannot hold both the texts "
            "and their labels; give another --text-column or --label-column; "
            f"{table.described()}"
        )
    return [column, *of_labels]


def _columns_of_labels(table: Table, args: argparse.Namespace) -> list[int]:
    """Give where the labels of a table are: in the columns that are named, or called so."""
    columns = [table.position(name) for name in args.label_columns or ()]
    if len(set(columns)) < len(columns):
        raise CommandError(f"--label-columns {' '.join(args.label_columns)}: name each column once")
    if columns or args.label_column is not None:
        return columns or [table.position(args.label_column)]
    name = next((name for name in ("label", "labels") if name in table.columns), None)
    return [] if name is None else [table.position(name)]
