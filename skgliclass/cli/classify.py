"""``skgliclass classify``: texts from the command line, from stdin or from a table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..estimators.single_label import GLiClassClassifier
from .data import chosen_parameters, read_saved, saved_kind, show_progress
from .errors import CommandError
from .tables import check_output, is_table, read_table, text_column, write_table

_EPILOG = """examples:
  skgliclass classify "One day I will see the world!" --labels travel dreams sport
  skgliclass classify reviews.csv --text-column review --labels good bad --output out.csv
  cat lines.txt | skgliclass classify - --labels travel dreams sport --multi-label
  skgliclass classify reviews.csv --text-column review --model tuned
"""

# Options that are parameters of the classifiers; where one is not given, their default holds, or
# what a saved classifier has.
_PARAMETERS = ("revision", "threshold", "task_description", "max_length", "device", "dtype")


def add_classify(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "classify",
        help="classify texts, or a column of a table",
        description="Classify texts given as arguments, or a column of a CSV, TSV, JSON, JSONL or "
        "Parquet file, or the lines of stdin (-), none of which may be blank. The model may be the "
        "folder of a saved classifier, which has its own labels, kind and thresholds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="TEXT", help="texts, one file, or -")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="what to choose from (default: the classes of a saved classifier)",
    )
    group.add_argument(
        "--labels-file", metavar="FILE", help="one label a line, or JSON as in the labels parameter"
    )
    parser.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    parser.add_argument(
        "--threshold",
        type=float,
        help="for --multi-label (default: 0.5, or those of a saved classifier)",
    )
    parser.add_argument("--text-column", metavar="NAME", help="the column with the texts")
    parser.add_argument("--output", metavar="FILE", help="where to write (default: stdout)")
    parser.add_argument("--scores", action="store_true", help="write a column for each label")
    parser.add_argument("--model", default="mini", help="mini, a folder or a hub id")
    parser.add_argument("--revision", help="of a hub repository")
    parser.add_argument("--task-description", help="a sentence put before each text")
    parser.add_argument("--max-length", type=int, help="the longest prompt in tokens")
    parser.add_argument("--device", help="default: auto")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"])
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Classify what the arguments say."""
    check_output(args.output)
    classifier = make_classifier(args)
    if is_table(args.inputs[0]):
        if len(args.inputs) > 1:
            raise CommandError("give one file, or texts, not several files")
        table = read_table(args.inputs[0])
        texts = text_column(table, args.text_column, args.inputs[0]).tolist()
        show_progress(classifier, len(texts))
        result = _columns(classifier, classifier.predict_proba(texts), args.scores)
        # pandas would write two columns of one name.
        taken = [name for name in result.columns if name in table.columns]
        if taken:
            raise CommandError(
                f"{args.inputs[0]}: the result needs the column {taken[0]!r}, which the file has "
                "already; rename it there"
            )
        # concat joins rows by the index, and a Parquet file may bring one of its own.
        write_table(pd.concat([table.reset_index(drop=True), result], axis=1), args.output)
    elif args.output is not None or args.scores:
        result = _columns(classifier, classifier.predict_proba(args.inputs), args.scores)
        result.insert(0, "text", args.inputs)
        write_table(result, args.output)
    else:
        _print_texts(classifier, args.inputs, classifier.predict_proba(args.inputs))


def make_classifier(
    args: argparse.Namespace,
) -> GLiClassClassifier | GLiClassMultiLabelClassifier:
    """Build the classifier that the options describe."""
    labels = args.labels
    if args.labels_file is not None:
        labels = read_labels(args.labels_file)
    multi_label = _is_saved_multi_label(args) if labels is None else args.multi_label
    if args.threshold is not None and not multi_label:
        raise CommandError("--threshold is for many labels a text (see --multi-label)")
    parameters = chosen_parameters(args, _PARAMETERS)
    kind = GLiClassMultiLabelClassifier if multi_label else GLiClassClassifier
    if labels is None:
        return kind.from_pretrained(args.model, **parameters)
    return kind(args.model, labels, **parameters)


def _is_saved_multi_label(args: argparse.Namespace) -> bool:
    """Tell the kind of the saved classifier whose labels are to be used."""
    saved = read_saved(args)
    if not saved.get("classes"):
        raise CommandError(
            f"give --labels or --labels-file: {args.model} is no saved classifier with labels"
        )
    # Leaving the option out asks for no kind: there is none for one label a text.
    return bool(saved_kind(args.model, saved, args.multi_label or None))


def read_labels(name: str) -> Any:
    """Read labels from a file: JSON, or one label a line.

    Raises
    ------
    CommandError
        If there is no such file or it is not valid JSON.
    """
    path = Path(name)
    if not path.is_file():
        raise CommandError(f"--labels-file {name}: there is no such file")
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--labels-file {name}: not valid JSON: {error}") from error


def _columns(
    classifier: GLiClassClassifier | GLiClassMultiLabelClassifier,
    scores: np.ndarray,
    with_scores: bool,
) -> pd.DataFrame:
    classes = classifier.classes_
    if isinstance(classifier, GLiClassMultiLabelClassifier):
        thresholds = classifier.thresholds_
        chosen = ["; ".join(map(str, classes[row >= thresholds])) for row in scores]
        result = pd.DataFrame({"labels": chosen})
    else:
        labels = classes[scores.argmax(axis=1)].astype(object)
        if classifier.other is not None:
            labels[scores.max(axis=1) < classifier.min_probability_] = classifier.other
        result = pd.DataFrame({"label": labels, "score": scores.max(axis=1).round(4)})
    if with_scores:
        columns = pd.DataFrame(scores.round(4), columns=[f"score: {name}" for name in classes])
        result = pd.concat([result, columns], axis=1)
    return result


def _print_texts(
    classifier: GLiClassClassifier | GLiClassMultiLabelClassifier,
    texts: list[str],
    scores: np.ndarray,
) -> None:
    classes = [str(value) for value in classifier.classes_]
    width = max(map(len, classes))
    for text, row in zip(texts, scores, strict=True):
        if len(texts) > 1:
            print(text)
        # Equal scores stay in the order of the labels.
        for i in np.argsort(-row, kind="stable"):
            print(f"{classes[i]:<{width}}  {row[i]:.3f}")
        if len(texts) > 1:
            print()
