"""``skgliclass classify``: texts from the command line, from stdin or from a table."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..estimators.scores import Scores
from ..exceptions import warn
from .data import is_saved_multi_label
from .errors import CommandError
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
    TableOptions,
    add_table_options,
    check_options,
    check_texts,
    open_table,
    options_for,
    table_kind,
    table_options,
    text_column,
    texts_table,
)
from .values import as_json
from .writers import (
    add_output_options,
    check_formulas,
    check_output,
    free_names,
    opened_writer,
)

_EPILOG = """A table comes out as it came in, with the columns label and score (or labels) after
its own; where it has a column of such a name, the new one is called label_2 and so on.
Texts that are arguments come with the probability of every label; with --multi-label a * is after
those that are predicted, and --other comes first where no label is.
An argument that ends in .csv, .json and so on is a file if there is such a file, and a text
otherwise; but the only argument, if it has no spaces, is taken for a file that is missed.

examples:
  skgliclass classify "One day I will see the world!" --labels travel dreams sport
  skgliclass classify reviews.csv --text-column review --labels good bad --output out.csv
  cat lines.txt | skgliclass classify - --labels travel dreams sport --multi-label
  skgliclass classify reviews.csv --text-column review --model tuned
"""
_SEPARATOR = "; "
_COUNTS = re.compile(r"(\d+) of (\d+) ")


def add_classify(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "classify",
        help="classify texts, or a column of a table",
        description="Classify texts given as arguments, or a column of a CSV, TSV, JSON, JSONL, "
        "Parquet or Excel file, or the lines of a .txt file or of stdin (-). No text may be blank. "
        "CSV, TSV, JSON, JSONL and .txt may be compressed (.gz). The model may be the folder of a "
        "saved classifier, which has its own labels, kind and thresholds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="TEXT", help="texts, one file, or -")
    add_label_options(parser)
    parser.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    add_table_options(parser)
    add_output_options(parser)
    parser.add_argument(
        "--label-column-out",
        metavar="NAME",
        help="the column that the labels are written to (default: label, or labels)",
    )
    parser.add_argument("--scores", action="store_true", help="write a column for each label")
    add_scoring_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Classify what the arguments say."""
    check_output(args.output)
    if args.label_column_out is not None and not args.label_column_out.strip():
        raise CommandError("--label-column-out is empty; give a name, or leave it out")
    labels = chosen_labels(args)
    multi_label = is_saved_multi_label(args) if labels is None else args.multi_label
    is_file = _is_file(args)
    is_table = (
        is_file or args.output is not None or args.scores or args.label_column_out is not None
    )
    check_formulas(args, is_table)
    table = _table(args, is_file)
    column = text_column(table, args.text_column if is_file else None)
    n_rows = check_texts(table, column)
    classifier = make_classifier(args, multi_label=multi_label, labels=labels)
    classifier.set_params(verbose=0)
    if is_table:
        _write(classifier, table, column, n_rows, args)
    else:
        _print_texts(classifier, args.inputs)


def _table(args: argparse.Namespace, is_file: bool) -> Table:
    options, name = table_options(args), args.inputs[0]
    if is_file:
        check_options([name, *files_of_labels(args)], options)
        return open_table(name, options_for(name, options))
    if options != TableOptions(encoding=args.encoding if args.labels_file else None):
        raise CommandError("--encoding, --separator and --no-header are for files")
    return texts_table(args.inputs)


def _looks_like_a_path(text: str) -> bool:
    """Tell whether a text that is no file is more likely a mistyped path."""
    if re.search(r"\s|://", text) or os.path.isdir(text):
        return False
    has_suffix_in_folder = re.search(r"[/\\][^/\\]*\.[A-Za-z]\w*$", text)
    is_spreadsheet = text.lower().endswith((".xls", ".xlsm", ".xlsb", ".ods"))
    return bool(table_kind(text) or has_suffix_in_folder or is_spreadsheet)


def _is_file(args: argparse.Namespace) -> bool:
    """Tell whether the arguments are a file, rather than texts."""
    first = args.inputs[0]
    is_alone = len(args.inputs) == 1
    is_file = first == "-" or _exists(first)
    if not is_alone and any(name == "-" or _exists(name) for name in args.inputs):
        raise CommandError("give one file, or texts, not several files")
    if is_file or not is_alone:
        return is_file
    if args.text_column is not None or _looks_like_a_path(first):
        raise CommandError(
            f"{first}: there is no such file (a text of this kind may come from stdin, see -)"
        )
    if table_kind(first):
        warn(f"there is no file {first!r}, so that it is classified as a text")
    elif os.path.isdir(first):
        warn(f"{first!r} is a folder, whose name is classified as a text; give a file in it")
    return False


def _exists(name: str) -> bool:
    try:
        return Path(name).exists() and not (Path(name).is_dir() and table_kind(name) is None)
    except (OSError, ValueError):  # a text too long for a file name, or with NUL
        return False


def _write(
    classifier: Classifier, table: Table, column: int, n_rows: int, args: argparse.Namespace
) -> None:
    """Classify the rows window by window, and write each when it is done."""
    names = _names_of_results(classifier, table, args)
    with (
        opened_writer(args.output, table, names, escape_formulas=args.escape_formulas) as writer,
        tqdm(total=n_rows, unit="text", disable=not wants_bar(n_rows)) as bar,
        _counted_warnings() as collect,
    ):
        for window in table.windows():
            with collect():
                scores = classifier._scores(window.texts(column), chooses=True)
            writer.write(window, scores.each(partial(_results, with_scores=args.scores)))
            bar.update(len(window))


def _names_of_results(classifier: Classifier, table: Table, args: argparse.Namespace) -> list[str]:
    """Name the columns that come after those of the table, none of which they may replace."""
    is_multi_label = isinstance(classifier, GLiClassMultiLabelClassifier)
    names = ["labels"] if is_multi_label else ["label", "score"]
    if args.label_column_out is not None:
        if args.label_column_out in table.columns:
            raise CommandError(
                f"--label-column-out {args.label_column_out}: {table.name} has this column already"
            )
        names[0] = args.label_column_out
    if args.scores:
        names += [f"score: {name}" for name in classifier.classes_]
    return free_names(names, table)


def _results(scores: Scores, *, with_scores: bool) -> list[list[Any]]:
    """Give the cells that each row gets."""
    rounded = scores.probabilities.astype(float).round(4).tolist()
    if scores.among.multi_label:
        results: list[list[Any]] = [[cell] for cell in _chosen_sets(scores)]
    else:
        labels = scores.one_class().tolist()
        results = [[label, max(row)] for label, row in zip(labels, rounded, strict=True)]
    if with_scores:
        results = [[*result, *row] for result, row in zip(results, rounded, strict=True)]
    return results


def _chosen_sets(scores: Scores) -> Iterator[str]:
    """Write the labels of each text in one cell, so that ``train`` reads them back."""
    # A label that holds what would stand between two of them.
    is_ambiguous = any(_SEPARATOR.strip() in str(value) for value in scores.among.classes)
    for chosen in scores.chosen_classes():
        names = [str(value) for value in chosen]
        yield as_json(names) if is_ambiguous else _SEPARATOR.join(names)


@contextmanager
def _counted_warnings() -> Iterator[Any]:
    """Say once, with the sum of the counts, what every window would warn of."""
    totals: dict[tuple[type[Warning], str], list[int]] = {}

    @contextmanager
    def collect() -> Iterator[None]:
        with warnings.catch_warnings(record=True) as caught:
            yield
        for warning in caught:
            text = str(warning.message)
            counts = _COUNTS.match(text)
            found = [int(number) for number in counts.groups()] if counts else []
            key = warning.category, text[counts.end() :] if counts else text
            totals[key] = [a + b for a, b in zip(totals.get(key, [0] * 2), found, strict=False)]

    try:
        yield collect
    finally:
        for (category, text), counts in totals.items():
            warn(f"{counts[0]} of {counts[1]} {text}" if counts else text, category)


def _print_texts(classifier: Classifier, texts: Sequence[str]) -> None:
    ranking = classifier.predict_top(texts, k=None)
    width = max(len(str(value)) for value in classifier.classes_)
    is_multi_label = isinstance(classifier, GLiClassMultiLabelClassifier)
    for i, text in enumerate(texts):
        if len(texts) > 1:
            print(text)
        of_text = ranking.loc[[i]]
        if not is_multi_label and not of_text["predicted"].any():
            print(classifier.other)
        for row in of_text.itertuples():
            # Of any number of labels the first is not the answer, as it is of one.
            mark = "  *" if is_multi_label and row.predicted else ""
            print(f"{row.label!s:<{width}}  {row.probability:.3f}{mark}")
        if len(texts) > 1:
            print()
