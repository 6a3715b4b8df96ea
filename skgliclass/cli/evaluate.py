"""``skgliclass evaluate``: judge a model on a file of labelled texts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ..datasets.examples import Example
from ..estimators.rows import RowError
from .data import (
    add_data_options,
    chosen_kind,
    open_data,
    read_data,
    read_saved,
    saved_kind,
    told_kind,
)
from .errors import CommandError
from .judgement import Judgement
from .options import (
    Classifier,
    add_label_options,
    add_scoring_options,
    chosen_labels,
    has_labels,
    make_classifier,
    wants_bar,
)
from .rows import named_as_classes, of_known, offer, without_other

_NAMES = {
    "accuracy": "accuracy",
    "subset_accuracy": "subset accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "lrap": "label ranking average precision",
}

_EPILOG = """examples:
  skgliclass evaluate test.json --model tuned
  skgliclass evaluate tickets.csv --label-column team --report
  skgliclass evaluate test.jsonl --model tuned --json > metrics.json
"""


def add_evaluate(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "evaluate",
        help="judge a model on labelled texts",
        description="Compare a model's predictions with a file in the GLiClass training format "
        "(JSON or JSONL, also with .gz; every row may have a label set of its own), or with a "
        "table (CSV, TSV, JSON, JSONL, Parquet or Excel) with a column of texts and one of "
        "labels. Prints accuracy, or "
        "for many labels a text the subset accuracy (the share of texts all of whose labels are "
        "right) and the label ranking average precision, and macro-F1 and micro-F1. "
        "A saved classifier is judged with all that it has: thresholds, examples, how it scores.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="FILE", help="what to compare with")
    add_data_options(parser)
    add_label_options(parser)
    add_scoring_options(parser)
    parser.add_argument("--report", action="store_true", help="also the figures of every label")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate as the arguments say, and print the figures."""
    (file,) = open_data(args, args.data)
    asked = chosen_kind(args)
    if not has_labels(args):
        asked = saved_kind(args.model, read_saved(args), asked)
    examples = list(read_data(file, args, multi_label=asked))
    multi_label = told_kind(examples, asked, args.data)
    classifier = _make_classifier(args, examples, multi_label)
    examples = _rows_for(classifier, args, examples, is_table=file.is_table)
    classifier.set_params(verbose=wants_bar(len(examples)))
    try:
        ranking = classifier.predict_top(examples, k=None)
    except RowError as error:
        raise CommandError(f"{args.data}: {error}") from error
    judgement = Judgement(examples, ranking, multi_label)
    if args.json:
        print(json.dumps(_as_json(judgement, len(examples), args.report), indent=2))
    else:
        _print_figures(judgement, len(examples), args.report)


def _make_classifier(
    args: argparse.Namespace, examples: Sequence[Example], multi_label: bool
) -> Classifier:
    return make_classifier(
        args,
        multi_label=multi_label,
        labels=chosen_labels(args),
        has_examples=any(row.examples for row in examples),
    )


def _rows_for(
    classifier: Classifier,
    args: argparse.Namespace,
    examples: Sequence[Example],
    *,
    is_table: bool,
) -> list[Example]:
    """Give the rows as the classifier is to see them: those of a table offer its classes."""
    rows = without_other(examples, getattr(classifier, "other", None), name=args.data)
    if classifier.labels is None or not is_table:
        return list(rows)
    rows = named_as_classes(rows, classifier.classes_.tolist())
    known = [str(value) for value in classifier.classes_]
    whose = "the labels" if has_labels(args) else f"the classes of {args.model}"
    rows = of_known(rows, known, name=args.data, whose=whose)
    # An empty cell of one column a label is not annotated, and no label that does not hold.
    return list(rows if args.label_columns else offer(rows, known))


def _as_json(judgement: Judgement, n_rows: int, with_report: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"n_samples": n_rows, "n_labels": len(judgement.labels)}
    content.update(judgement.metrics())
    if with_report:
        content["report"] = judgement.report(as_dict=True)
    return content


def _print_figures(judgement: Judgement, n_rows: int, with_report: bool) -> None:
    figures = judgement.metrics()
    width = max(len(_NAMES[name]) for name in figures) + 1
    print(f"{'texts':<{width}}{n_rows}")
    print(f"{'labels':<{width}}{len(judgement.labels)}")
    for name, value in figures.items():
        print(f"{_NAMES[name]:<{width}}{value:.4f}")
    if with_report:
        print(f"\n{judgement.report(as_dict=False)}", end="")
