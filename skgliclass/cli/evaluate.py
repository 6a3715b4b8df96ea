"""``skgliclass evaluate``: judge a model on a file of labelled texts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ..datasets.examples import Example
from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..estimators.rows import RowError
from ..estimators.single_label import GLiClassClassifier
from .data import (
    add_data_options,
    chosen_kind,
    chosen_parameters,
    is_labelled_table,
    read_data,
    read_saved,
    saved_kind,
    show_progress,
    told_kind,
)
from .errors import CommandError
from .judgement import Judgement

_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "lrap": "LRAP",
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
        "CSV, TSV or Parquet file with a column of texts and one of labels. Prints accuracy, "
        "macro-F1 and micro-F1, and for many labels a text the label ranking average precision. "
        "A saved classifier is judged with all that it has: thresholds, examples, how it scores.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="FILE", help="what to compare with")
    parser.add_argument("--model", default="mini", help="mini, a folder or a hub id")
    parser.add_argument("--revision", help="of a hub repository")
    parser.add_argument("--task-description", help="a sentence put before each text")
    parser.add_argument("--threshold", type=float, help="for many labels a text")
    parser.add_argument("--max-length", type=int, help="the longest prompt in tokens")
    parser.add_argument("--device", default="auto")
    add_data_options(parser)
    parser.add_argument("--report", action="store_true", help="also the figures of every label")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate as the arguments say, and print the figures."""
    saved = read_saved(args)
    asked = saved_kind(args.model, saved, chosen_kind(args))
    known = [str(value) for value in saved.get("classes") or []]
    examples = read_data(args.data, args, multi_label=asked, labels=known)
    if known and is_labelled_table(args.data):
        _check_known(examples, known, args)
    multi_label = told_kind(examples, asked, args.data)
    classifier = _load(args, multi_label)
    show_progress(classifier, len(examples))
    try:
        ranking = classifier.predict_top(examples, k=None)
    except RowError as error:
        raise CommandError(f"{args.data}: {error}") from error
    judgement = Judgement(examples, ranking, multi_label)
    if args.json:
        print(json.dumps(_as_json(judgement, len(examples), args.report), indent=2))
    else:
        _print_figures(judgement, len(examples), args.report)


def _check_known(
    examples: Sequence[Example], known: Sequence[str], args: argparse.Namespace
) -> None:
    """Refuse a table with labels that a saved classifier can never give."""
    for number, row in enumerate(examples, 1):
        unknown = next((label for label in row.true_labels if label not in known), None)
        if unknown is not None:
            raise CommandError(
                f"{args.data}: row {number} has the label {unknown!r}, which is none of the "
                f"classes of {args.model}: {', '.join(known)}. Rows with label sets of their own "
                "go into a file in the GLiClass training format"
            )


def _load(
    args: argparse.Namespace, multi_label: bool
) -> GLiClassClassifier | GLiClassMultiLabelClassifier:
    parameters = chosen_parameters(args, ("task_description", "max_length", "threshold"))
    if "threshold" in parameters and not multi_label:
        raise CommandError("--threshold is for many labels a text; the data has one a text")
    kind = GLiClassMultiLabelClassifier if multi_label else GLiClassClassifier
    return kind.from_pretrained(
        args.model, revision=args.revision, device=args.device, **parameters
    )


def _as_json(judgement: Judgement, n_rows: int, with_report: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"n_samples": n_rows, "n_labels": len(judgement.labels)}
    content.update(judgement.metrics())
    if with_report:
        content["report"] = judgement.report(as_dict=True)
    return content


def _print_figures(judgement: Judgement, n_rows: int, with_report: bool) -> None:
    print(f"texts     {n_rows}")
    print(f"labels    {len(judgement.labels)}")
    for name, value in judgement.metrics().items():
        print(f"{_NAMES[name]:<9} {value:.4f}")
    if with_report:
        print(f"\n{judgement.report(as_dict=False)}", end="")
