"""``skgliclass train``: fine-tune a model on a file of labelled texts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..datasets.examples import Example
from ..estimators.classifier import BaseGLiClassClassifier
from ..estimators.fit import FitOutcome
from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..estimators.parameters import PARAMETERS, Parameter
from ..estimators.rows import RowError
from ..estimators.single_label import GLiClassClassifier
from ..prompts.architectures import SUPPORTED_ARCHITECTURES
from .data import add_data_options, chosen_kind, chosen_parameters, read_data, told_kind
from .errors import CommandError

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
        "also with .gz; every row may have a label set of its own, and soft labels), or on a CSV, "
        "TSV or Parquet file with a column of texts and one of labels.",
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
        "--checkpoint-folder",
        metavar="FOLDER",
        help="write a checkpoint after every epoch and every ten minutes; it is removed when the "
        "result is written",
    )
    options.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of the same command"
    )
    options.add_argument(
        "--join-processes",
        action="store_true",
        help="share the work among the processes that torchrun or accelerate launch started",
    )
    options.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Train as the arguments say, and write the result."""
    check_folder(args.output)
    _check_checkpoint(args)
    asked = chosen_kind(args)
    examples = read_data(args.data, args, multi_label=asked)
    multi_label = told_kind(examples, asked, args.data)
    training, validation = _held_out(examples, args, multi_label)
    _check_rows(training, args.data)
    classifier = _make_classifier(args, examples, multi_label, validation is not None)
    with _processes(args) as processes:
        # One bar for all of them.
        classifier.set_params(verbose=int(processes.is_first))
        try:
            outcome = classifier._fit_rows(training, validation)
        except RowError as error:
            raise CommandError(f"{args.data}: {error}") from error
    if processes.is_first:
        classifier.save_pretrained(args.output)
        _print_summary(outcome, args.output)
    outcome.check_not_interrupted()
    # Only now: until the folder is written, a later run could still go on.
    outcome.remove_checkpoint()


def _check_checkpoint(args: argparse.Namespace) -> None:
    """Refuse to go on from what is not there, and to go on where that was not asked for."""
    folder = args.checkpoint_folder
    if folder is None:
        if args.resume:
            raise CommandError("--resume needs --checkpoint-folder")
        return
    exists = (Path(folder) / "checkpoint.safetensors").is_file()
    if args.resume and not exists:
        raise CommandError(f"--resume: there is no checkpoint in {folder}")
    if exists and not args.resume:
        raise CommandError(
            f"--checkpoint-folder {folder}: it holds a checkpoint; go on from it with --resume, or "
            "give another folder"
        )


def _processes(args: argparse.Namespace) -> AbstractContextManager[Workers]:
    from ..training.processes import Workers, joined_processes

    return joined_processes() if args.join_processes else nullcontext(Workers())


def check_folder(name: str) -> None:
    """Refuse an output that could not or should not be written, before any work is done."""
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--output {name}: this is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise CommandError(f"--output {name}: the folder is not empty; give a new one")


def _check_rows(examples: Sequence[Example], name: str) -> None:
    if not any(row.weight for row in examples):
        raise CommandError(f"{name}: the weight of every row is 0; there is nothing to learn from")


def _held_out(
    examples: list[Example], args: argparse.Namespace, multi_label: bool
) -> tuple[list[Example], list[Example] | None]:
    if args.validation is not None:
        known = {label for row in examples for label in row.all_labels}
        held_out = read_data(args.validation, args, multi_label=multi_label, labels=known)
        told_kind(held_out, multi_label, args.validation)
        return examples, held_out
    if args.validation_fraction is None:
        if args.n_iter_no_change is not None:
            raise CommandError("--n-iter-no-change needs --validation or --validation-fraction")
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
    args: argparse.Namespace, examples: Sequence[Example], multi_label: bool, is_validated: bool
) -> BaseGLiClassClassifier:
    options = [name for name, parameter in PARAMETERS.items() if parameter.is_option]
    parameters = chosen_parameters(args, (*_PARAMETERS, "checkpoint_folder", *options))
    prompts = {row.prompt for row in examples}
    if len(prompts) == 1 and prompts != {None}:
        # What all rows have is a part of the classifier, and saved with it.
        parameters["task_description"] = prompts.pop()
    kind = GLiClassMultiLabelClassifier if multi_label else GLiClassClassifier
    return kind(
        **parameters,
        labels=_shared_labels(examples),
        # The best epoch on held-out data is kept in any case.
        early_stopping=is_validated and args.n_iter_no_change is not None,
        random_state=args.seed,
    )


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
