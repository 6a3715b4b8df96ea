"""``skgliclass train``: fine-tune a model on a file of labelled texts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..datasets.examples import Example
from ..estimators.fit import FitOutcome
from ..estimators.rows import RowError
from .data import (
    LabelledFile,
    add_data_options,
    chosen_kind,
    open_data,
    read_data,
    told_kind,
)
from .errors import CommandError
from .folders import check_new_folder, check_room
from .options import (
    Classifier,
    add_label_options,
    add_scoring_options,
    add_training_options,
    chosen_labels,
    has_labels,
    make_classifier,
    option_of,
    wants_bar,
)
from .rows import check_known, named_as_classes, names_in, offer, without_other

if TYPE_CHECKING:
    from ..training.processes import Workers

_EPILOG = """examples:
  skgliclass train data.json --output tuned
  skgliclass train train.jsonl --validation dev.jsonl --n-iter-no-change 3 --output tuned
  skgliclass train tickets.csv --label-column team --trainable head --output tuned
"""


def add_train(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "train",
        help="fine-tune a model on labelled texts",
        description="Fine-tune a model on a file in the GLiClass training format (JSON or JSONL, "
        "also with .gz; every row may have a label set of its own, and soft labels), or on a "
        "table (CSV, TSV, JSON, JSONL, Parquet or Excel) with a column of texts and one of labels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="FILE", help="what to learn from")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new or empty folder")
    add_data_options(parser)
    add_label_options(parser)
    add_scoring_options(parser)
    _add_validation_options(parser)
    _add_training_options(parser)
    parser.set_defaults(run=run)


def _add_validation_options(parser: argparse.ArgumentParser) -> None:
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument(
        "--validation", metavar="FILE", help="held-out data; the best epoch on it is kept"
    )
    held_out.add_argument(
        "--validation-fraction", type=float, metavar="F", help="hold out this share of the rows"
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    options = add_training_options(parser)
    options.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of the same command"
    )
    options.add_argument(
        "--join-processes",
        action="store_true",
        help="share the work among the processes that torchrun or accelerate launch started",
    )
    options.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")


class _Rows(NamedTuple):
    """What is learnt from, what it is judged by, and the texts of none of the classes."""

    training: list[Example]
    validation: list[Example] | None
    others: list[str]


def run(args: argparse.Namespace) -> None:
    """Train as the arguments say, and write the result."""
    _check_options(args)
    files = open_data(args, args.data, *([args.validation] if args.validation else []))
    asked = chosen_kind(args)
    examples = read_data(files[0], args, multi_label=asked)
    multi_label = told_kind(examples, asked, args.data)
    training, validation = _held_out(examples, files, args, multi_label)
    _check_rows(training, args.data)
    classifier = _make_classifier(args, examples, multi_label)
    rows = _rows_for(classifier, args, files, training, validation)
    with _processes(args) as processes:
        # One bar for all of them.
        classifier.set_params(verbose=wants_bar() if processes.is_first else 0)
        try:
            outcome = classifier._fit_rows(rows.training, rows.validation, rows.others)
        except RowError as error:
            raise CommandError(f"{args.data}: {error}") from error
    if processes.is_first:
        classifier.save_pretrained(args.output)
        _print_summary(outcome, args.output)
    if outcome.interrupted:
        raise KeyboardInterrupt(
            f"interrupted after {outcome.n_iter} epoch(s); the best weights so far are in "
            f"{args.output}"
        )
    # Only now: until the folder is written, a later run could still go on.
    outcome.remove_checkpoint()


def _check_options(args: argparse.Namespace) -> None:
    """Refuse, before anything is read, what could only fail later."""
    if args.validation is None and args.validation_fraction is None:
        needs = {
            "n_iter_no_change": args.n_iter_no_change,
            "calibrate": args.calibrate,
            "threshold": args.threshold == "auto",
        }
        for name, is_asked_for in needs.items():
            if is_asked_for:
                value = " auto" if name == "threshold" else ""
                raise CommandError(
                    f"{option_of(name)}{value} needs --validation or --validation-fraction"
                )
    _check_checkpoint(args)
    reads = args.data, args.validation, args.model, args.labels_file
    check_new_folder(args.output, reads=reads, n_bytes=_size_of_weights(args))


def _size_of_weights(args: argparse.Namespace) -> int:
    """Tell how many bytes of weights will be written at least."""
    # Not that of a model on the hub, which is not here yet.
    folder = Path(args.model)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _check_checkpoint(args: argparse.Namespace) -> None:
    """Refuse to go on from what is not there, and to go on where that was not asked for."""
    folder = args.checkpoint_folder
    if folder is None:
        if args.resume:
            raise CommandError("--resume needs --checkpoint-folder")
        return
    path = Path(folder)
    if path.absolute() == Path(args.output).absolute():
        raise CommandError(f"--checkpoint-folder {folder}: this is --output; give another folder")
    check_room(_existing(path.absolute()), 0, f"--checkpoint-folder {folder}")
    from ..training.checkpoint import NAME

    exists = (path / NAME).is_file()
    if args.resume and not exists:
        raise CommandError(f"--resume: there is no checkpoint in {folder}")
    if exists and not args.resume:
        raise CommandError(
            f"--checkpoint-folder {folder}: it holds a checkpoint; go on from it with --resume, or "
            "give another folder"
        )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _processes(args: argparse.Namespace) -> AbstractContextManager[Workers]:
    from ..training.processes import Workers, joined_processes

    return joined_processes() if args.join_processes else nullcontext(Workers())


def _check_rows(examples: Sequence[Example], name: str) -> None:
    if not any(row.weight for row in examples):
        raise CommandError(f"{name}: the weight of every row is 0; there is nothing to learn from")


def _held_out(
    examples: list[Example],
    files: Sequence[LabelledFile],
    args: argparse.Namespace,
    multi_label: bool,
) -> tuple[list[Example], list[Example] | None]:
    if args.validation is not None:
        known = {label for row in examples for label in row.all_labels}
        held_out = read_data(files[1], args, multi_label=multi_label, labels=known)
        told_kind(held_out, multi_label, args.validation)
        return examples, held_out
    if args.validation_fraction is None:
        return examples, None
    # Not by the classifier, which splits X and y, but not rows with label sets of their own.
    n_held_out = max(1, round(args.validation_fraction * len(examples)))
    if not 0 < args.validation_fraction < 1 or n_held_out >= len(examples):
        raise CommandError(
            f"--validation-fraction {args.validation_fraction:g}: give a number between 0 and 1 "
            f"that leaves rows to learn from ({args.data} has {len(examples)})"
        )
    order = np.random.default_rng(args.seed).permutation(len(examples)).tolist()
    return (
        [examples[i] for i in sorted(order[n_held_out:])],
        [examples[i] for i in sorted(order[:n_held_out])],
    )


def _make_classifier(
    args: argparse.Namespace, examples: Sequence[Example], multi_label: bool
) -> Classifier:
    parameters: dict[str, Any] = {}
    prompts = {row.prompt for row in examples}
    if len(prompts) == 1 and prompts != {None}:
        # What all rows have is a part of the classifier, and saved with it.
        parameters["task_description"] = prompts.pop()
        if args.task_description not in (None, parameters["task_description"]):
            raise CommandError(
                f"--task-description has no effect: every row of {args.data} has a prompt of its "
                f"own, {parameters['task_description']!r}"
            )
    return make_classifier(
        args,
        multi_label=multi_label,
        labels=chosen_labels(args),
        has_examples=any(row.examples for row in examples),
        retrains=True,
        **parameters,
        # The best epoch on held-out data is kept in any case.
        early_stopping=args.n_iter_no_change is not None,
        random_state=args.seed,
    )


def _rows_for(
    classifier: Classifier,
    args: argparse.Namespace,
    files: Sequence[LabelledFile],
    training: list[Example],
    validation: list[Example] | None,
) -> _Rows:
    """Give the rows as the classifier is to see them, and set its labels by theirs."""
    other = getattr(classifier, "other", None)
    parts = [without_other(training, other, name=args.data)]
    if validation is not None:
        parts.append(without_other(validation, other, name=args.validation))
    classes = [] if classifier.labels is None else classifier.classes_.tolist()
    known = [str(value) for value in classes]
    # Held out of the first where there is no second one.
    tables = [files[min(i, len(files) - 1)] for i in range(len(parts))]
    parts = [
        named_as_classes(rows, classes) if classes and file.is_table else rows
        for rows, file in zip(parts, tables, strict=True)
    ]
    if not has_labels(args) and not set().union(*map(names_in, parts)) <= set(known):
        # What a saved classifier was for is another task.
        labels = _shared_labels(parts[0])
        classifier.set_params(labels=labels)
        if labels is not None and args.validation is not None and files[1].is_table:
            check_known(parts[1], labels, name=args.validation, whose=f"the labels of {args.data}")
        return _without_others(parts, other)
    for i, (rows, file) in enumerate(zip(parts, tables, strict=True)):
        # A file of examples says for each row what it offers; a table does not.
        if file.is_table:
            check_known(rows, known, name=file.table.name, whose="the labels")
            # An empty cell of one column a label is not annotated, and no label that does not hold.
            parts[i] = rows if args.label_columns else offer(rows, known)
    return _without_others(parts, other)


def _without_others(parts: Sequence[list[Example]], other: str | None) -> _Rows:
    """Set apart the texts of none of the classes, which nothing is learnt from."""
    if other is None:
        return _Rows(parts[0], parts[1] if parts[1:] else None, [])
    others = [row.text for rows in parts for row in rows if not row.true_labels]
    kept = [[row for row in rows if row.true_labels] for rows in parts]
    if others and len(kept) == 1:
        raise CommandError(
            f"rows labelled {other!r} tune --min-probability on held-out data: give --validation "
            "or --validation-fraction, or leave them out"
        )
    return _Rows(kept[0], kept[1] if kept[1:] else None, others)


def _shared_labels(examples: Sequence[Example]) -> list[str] | None:
    sets = {frozenset(row.all_labels) for row in examples}
    # Without labels what is learnt serves any, and every row brings its own.
    return sorted(sets.pop()) if len(sets) == 1 else None


def _print_summary(outcome: FitOutcome, folder: str) -> None:
    print(f"epochs            {outcome.n_iter}")
    if outcome.loss_curve:
        print(f"training loss     {outcome.loss_curve[-1]:.4f}")
    if outcome.validation_scores:
        print(f"before training   {outcome.validation_scores[0]:.4f}")
        print(f"best validation   {max(outcome.validation_scores):.4f} (epoch {outcome.best_iter})")
    print(f"written to        {folder}")
