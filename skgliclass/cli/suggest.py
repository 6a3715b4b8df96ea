"""``skgliclass suggest``: which rows of a table to label next."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import add_label_columns, columns_of_rows, is_saved_multi_label
from .errors import CommandError
from .label_cells import is_blank
from .options import (
    Classifier,
    add_label_options,
    add_scoring_options,
    chosen_labels,
    files_of_labels,
    make_classifier,
    wants_bar,
)
from .tables import (
    Table,
    Window,
    add_table_options,
    check_options,
    check_texts,
    open_table,
    options_for,
    table_options,
)
from .writers import (
    add_output_options,
    check_formulas,
    check_output,
    free_names,
    opened_writer,
)

# Of a class and how sure the model has to be of it: here none is chosen.
_DECISIONS = ("threshold", "min_probability", "other")

_EPILOG = """The rows come out as they came in, with the column row after their own: their number in
the table, counted from 1. Label them in the table, train with --unlabelled-rows, and choose again
with what was learnt.

examples:
  skgliclass suggest texts.csv --labels travel dreams sport -n 20
  skgliclass suggest texts.csv --model learnt --label-column topic -n 20 --output next.csv
"""


def add_suggest(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "suggest",
        help="choose the rows of a table to label next",
        description="Choose the rows of a table whose labels would teach most: texts that differ "
        "from each other, and of which the model is unsure. Rows that have a label already are "
        "left out. The table is a CSV, TSV, JSON, JSONL, Parquet or Excel file, a .txt file or "
        "stdin (-); all of its texts are in memory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="FILE", help="a table of texts, or -")
    parser.add_argument(
        "-n",
        "--n-rows",
        type=int,
        default=20,
        metavar="N",
        help="how many rows to choose (default: 20)",
    )
    add_label_options(parser)
    parser.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    add_table_options(parser)
    add_label_columns(parser)
    add_output_options(parser)
    add_scoring_options(parser, without=_DECISIONS)
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Choose as the arguments say, and write the rows."""
    check_output(args.output)
    check_formulas(args)
    if args.n_rows < 1:
        raise CommandError(f"--n-rows {args.n_rows}: give a number of at least 1")
    labels = chosen_labels(args)
    multi_label = is_saved_multi_label(args) if labels is None else args.multi_label
    table = _table(args)
    column, *of_labels = columns_of_rows(table, args)
    n_rows = check_texts(table, column)
    classifier = make_classifier(args, multi_label=multi_label, labels=labels)
    classifier.set_params(verbose=wants_bar(n_rows), random_state=args.seed)
    _write(table, _chosen(classifier, table, column, of_labels, args.n_rows), args)


def _table(args: argparse.Namespace) -> Table:
    options = table_options(args)
    check_options([args.data, *files_of_labels(args)], options)
    return open_table(args.data, options_for(args.data, options))


def _chosen(
    classifier: Classifier, table: Table, column: int, of_labels: Sequence[int], n_rows: int
) -> NDArray[np.intp]:
    texts: list[str] = []
    is_labelled: list[bool] = []
    for window in table.windows():
        texts += window.texts(column)
        is_labelled += _have_labels(window, of_labels)
    if all(is_labelled):
        raise CommandError(f"{table.name}: every row has a label; there is none left to choose")
    # Which of the classes it is makes no difference.
    label = classifier.classes_[0]
    # A set of them, since lists of numbers may be the rows of a matrix, too.
    of_row = {label} if classifier._multi_label else label
    y = [of_row if labelled else None for labelled in is_labelled]
    return classifier.suggest_rows(texts, n_rows, y)


def _have_labels(window: Window, of_labels: Sequence[int]) -> list[bool]:
    if not of_labels:
        return [False] * len(window)
    cells = zip(*(window.column(j) for j in of_labels), strict=True)
    return [not all(map(is_blank, row)) for row in cells]


def _write(table: Table, chosen: NDArray[np.intp], args: argparse.Namespace) -> None:
    names = free_names(["row"], table)
    with opened_writer(args.output, table, names, escape_formulas=args.escape_formulas) as writer:
        for window, rows, start in _windows_of(table, chosen):
            writer.write(window.take(rows), [[start + i + 1] for i in rows])


def _windows_of(table: Table, chosen: NDArray[np.intp]) -> Iterator[tuple[Window, list[int], int]]:
    """Give the windows with chosen rows, their places in it, and how many rows are before it."""
    start = 0
    for window in table.windows():
        places = chosen[(chosen >= start) & (chosen < start + len(window))] - start
        if len(places):
            yield window, places.tolist(), start
        start += len(window)
