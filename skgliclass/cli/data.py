"""The labelled data of the commands: files of examples, or tables with two columns."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..datasets.examples import Example
from ..datasets.files import is_single_label, read_examples
from ..estimators.persistence import read_content
from .errors import CommandError
from .label_cells import labels_of_column, labels_of_columns
from .tables import (
    EXTENSIONS,
    Table,
    TableOptions,
    add_table_options,
    check_texts,
    open_table,
    table_kind,
    table_options,
    text_column,
)

_SEPARATOR = ";"


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the labelled data is read."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--single-label", action="store_true", help="one label a text (default: told from the data)"
    )
    kind.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    add_table_options(parser)
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument(
        "--label-column",
        metavar="NAME",
        help="of a table (default: label, or labels); a cell holds one label, or a list of them",
    )
    columns.add_argument(
        "--label-columns",
        nargs="+",
        metavar="NAME",
        help="the columns of a table that each stand for the label of their name, and hold 1 where "
        "it is true, 0 where not, and nothing where nobody knows",
    )
    parser.add_argument(
        "--label-separator",
        metavar="TEXT",
        help="between the labels of a row of a table, with --multi-label (default: ;)",
    )


def check_data_options(args: argparse.Namespace, *names: str) -> None:
    """Refuse what says how tables are read where no file is one, or none has such labels.

    Raises
    ------
    CommandError
        It names the option.
    """
    for name in ("text_column", "label_separator", "separator", "no_header"):
        is_used = getattr(args, name) not in (None, False)
        if is_used and not any(is_labelled_table(file, args) for file in names):
            raise CommandError(
                f"--{name.replace('_', '-')} has no effect: {names[0]} is in the GLiClass training "
                "format, which says by itself where texts and labels are"
            )
    if args.label_separator is not None and args.label_columns is not None:
        raise CommandError("--label-separator has no effect with --label-columns")
    if args.label_separator == "":
        raise CommandError("--label-separator is empty")


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


def read_data(
    name: str, args: argparse.Namespace, *, multi_label: bool | None, labels: Iterable[str] = ()
) -> list[Example]:
    """Read labelled texts.

    Parameters
    ----------
    name : str
        A file in the GLiClass training format, or a table with a column of texts and one of
        labels.
    args : Namespace
        With the options of :func:`add_data_options`.
    multi_label : bool or None
        Whether a row of a table may have several labels.
    labels : iterable of str
        More labels that every row of a table could have had.

    Returns
    -------
    list of Example
        At least one.

    Raises
    ------
    CommandError
        If there is no such file, it has no rows, or a row of a table has no text or label.
    ValueError
        If a file of examples is not in the format.
    """
    if table_kind(name) in (None, ".txt"):
        known = [extension for extension in EXTENSIONS if table_kind(extension) != ".txt"]
        raise CommandError(f"{name}: unknown extension; use one of {', '.join(known)}")
    if is_labelled_table(name, args):
        return _from_table(name, args, bool(multi_label), labels)
    if args.encoding is not None:
        examples = read_examples(name, encoding=args.encoding)
    else:
        examples = read_examples(name)
    if not examples:
        raise CommandError(f"{name}: there are no rows")
    return examples


def is_labelled_table(name: str, args: argparse.Namespace | None = None) -> bool:
    """Tell a table, whose rows share one label set, from a file in the GLiClass training format.

    Parameters
    ----------
    name : str
        The file.
    args : Namespace, optional
        With the options of :func:`add_data_options`; naming columns of labels makes a table of
        any file.

    Raises
    ------
    CommandError
        If the file cannot be read.
    """
    if table_kind(name) not in (".json", ".jsonl"):
        return True
    if args is not None and (args.label_column is not None or args.label_columns is not None):
        return True
    options = TableOptions() if args is None else TableOptions(encoding=args.encoding)
    return not {"all_labels", "true_labels"} & set(open_table(name, options).columns)


def told_kind(examples: list[Example], multi_label: bool | None, name: str) -> bool:
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
            # Soft labels in a file are rounded.
            if abs(sum(row.targets) - 1) > 1e-3:
                raise CommandError(
                    f"{name}: the true labels of row {number} add up to {sum(row.targets):g}; with "
                    "one label a text they have to add up to 1 (see --multi-label)"
                )
    return multi_label


def _from_table(
    name: str, args: argparse.Namespace, multi_label: bool, labels: Iterable[str]
) -> list[Example]:
    table = open_table(name, table_options(args))
    column = text_column(table, args.text_column)
    # Before the texts, since whoever has no column of labels has no use for a blank text's row.
    columns = [table.position(name) for name in args.label_columns or ()]
    if len(set(columns)) < len(columns):
        raise CommandError(f"--label-columns {' '.join(args.label_columns)}: name each column once")
    label_column = None if columns else _label_column(table, args.label_column)
    check_texts(table, column)
    texts = [text for window in table.windows() for text in window.texts(column)]
    if label_column is None:
        return _of_columns(table, texts, columns, args.label_columns)
    separator = args.label_separator
    if separator is not None and not multi_label:
        raise CommandError("--label-separator has no effect without --multi-label")
    rows = labels_of_column(
        table, label_column, multi_label=multi_label, separator=separator or _SEPARATOR
    )
    choice = sorted({*labels, *(label for row in rows for label in row)})
    if not choice:
        raise CommandError(f"{name}: no row has a label")
    return [Example(text, choice, row) for text, row in zip(texts, rows, strict=True)]


def _of_columns(
    table: Table, texts: Sequence[str], columns: Sequence[int], names: Sequence[str]
) -> list[Example]:
    rows = labels_of_columns(table, columns, names)
    examples = []
    for text, row in zip(texts, rows, strict=True):
        true = {name: value for name, value in row.items() if value}
        is_certain = all(value == 1 for value in true.values())
        examples.append(Example(text, list(row), list(true) if is_certain else true))
    return examples


def _label_column(table: Table, column: str | None) -> int:
    if column is None:
        column = next((name for name in ("label", "labels") if name in table.columns), None)
    if column is None:
        raise CommandError(
            f"{table.name}: choose the labels with --label-column; {table.described()}"
        )
    return table.position(column)
