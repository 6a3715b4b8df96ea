"""The labelled data of the commands: files of examples, or tables with two columns."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..datasets.examples import Example
from ..datasets.files import EXTENSIONS, is_single_label, read_examples
from ..estimators.classifier import BaseGLiClassClassifier
from ..estimators.persistence import read_content
from .errors import CommandError
from .tables import read_table, text_column

_TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
_SHOW_PROGRESS_FROM = 500


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the labelled data is read."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--single-label", action="store_true", help="one label a text (default: told from the data)"
    )
    kind.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    parser.add_argument("--text-column", metavar="NAME", help="of a table (default: text)")
    parser.add_argument(
        "--label-column", metavar="NAME", help="of a table (default: label, or labels)"
    )
    parser.add_argument(
        "--label-separator",
        default=";",
        metavar="TEXT",
        help="between the labels of a row of a table, with --multi-label (default: ;)",
    )


def chosen_parameters(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Give the options of these names; where one is left out, a parameter's default holds."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def show_progress(classifier: BaseGLiClassClassifier, n_texts: int) -> None:
    """Let a classifier show a bar, unless so few texts are over before it would help."""
    classifier.set_params(verbose=int(n_texts >= _SHOW_PROGRESS_FROM))


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
    path = Path(name)
    if not path.is_file():
        raise CommandError(f"{name}: there is no such file")
    if is_labelled_table(name):
        return _from_table(name, args, bool(multi_label), labels)
    if not path.name.lower().endswith(EXTENSIONS):
        known = ", ".join((*EXTENSIONS, *_TABLE_EXTENSIONS))
        raise CommandError(f"{name}: unknown extension; use one of {known}")
    examples = read_examples(path)
    if not examples:
        raise CommandError(f"{name}: there are no rows")
    return examples


def is_labelled_table(name: str) -> bool:
    """Tell by a file's name whether its rows share one label set."""
    # .json and .jsonl are files of examples here, but tables of texts to `classify`.
    return Path(name).suffix.lower() in _TABLE_EXTENSIONS


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
    table = read_table(name)
    texts = text_column(table, args.text_column or _first_of(table, "text"), name)
    cells = _label_cells(table, args.label_column, name, multi_label)
    rows = [_split(cell, args.label_separator) if multi_label else [cell] for cell in cells]
    choice = sorted({*labels, *(label for row in rows for label in row)})
    if not choice:
        raise CommandError(f"{name}: no row has a label")
    return [Example(text, choice, row) for text, row in zip(texts, rows, strict=True)]


def _first_of(table: pd.DataFrame, *names: str) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _label_cells(
    table: pd.DataFrame, column: str | None, name: str, multi_label: bool
) -> list[str]:
    column = column or _first_of(table, "label", "labels")
    columns = ", ".join(map(str, table.columns))
    if column is None:
        raise CommandError(f"{name}: choose the labels with --label-column; columns: {columns}")
    if column not in table.columns:
        raise CommandError(f"{name}: there is no column {column!r}; columns: {columns}")
    cells: list[Any] = ["" if pd.isna(cell) else str(cell).strip() for cell in table[column]]
    empty = [number for number, cell in enumerate(cells, 1) if not cell]
    # With any number of labels an empty cell is a text that has none.
    if empty and not multi_label:
        raise CommandError(
            f"{name}: row {empty[0]} has no label in column {column!r} ({len(empty)} such rows)"
        )
    return cells


def _split(cell: str, separator: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip()))
