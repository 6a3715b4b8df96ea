"""``skgliclass train``: fine-tune a model on a file of labelled texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ..datasets.files import Example
from ..estimators.fit import training_options
from ..estimators.fitting import warn_of_cut_texts
from ..prompts.architectures import SUPPORTED_ARCHITECTURES
from .data import add_data_options, chosen_kind, read_data, told_kind
from .errors import CommandError
from .scoring import check_examples, make_validator

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..estimators.classifier import BaseGLiClassClassifier
    from ..training.data import TrainingSet
    from ..training.options import TrainingOptions
from ..training.loop import Progress, TrainingResult

# Options that are parameters of the classifiers; where one is not given, their default holds.
_PARAMETERS = (
    "model",
    "revision",
    "architecture",
    "max_length",
    "device",
    "trainable",
    "lora_rank",
    "max_epochs",
    "batch_size",
    "learning_rate",
    "head_learning_rate",
    "weight_decay",
    "focal_gamma",
    "focal_alpha",
    "label_smoothing",
    "n_iter_no_change",
)

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
    parser.add_argument("--model", default="mini", help="mini, a folder or a hub id")
    parser.add_argument("--revision", help="of a hub repository")
    parser.add_argument("--architecture", choices=["auto", *SUPPORTED_ARCHITECTURES])
    parser.add_argument("--task-description", help="a sentence put before each text")
    parser.add_argument("--max-length", type=int, help="the longest prompt in tokens")
    parser.add_argument("--device")
    add_data_options(parser)
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
    parser.add_argument(
        "--n-iter-no-change", type=int, metavar="N", help="stop after N epochs that are no better"
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trainable", choices=["all", "head", "lora"], help="which weights change")
    parser.add_argument("--lora-rank", type=int)
    parser.add_argument("--max-epochs", type=_epochs, metavar="N", help="or auto (the default)")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float, help="of the backbone")
    parser.add_argument("--head-learning-rate", type=float, help="of the heads")
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--focal-gamma", type=float, help="0 is cross-entropy (the default)")
    parser.add_argument("--focal-alpha", type=float, help="the weight of true labels, multi-label")
    parser.add_argument("--label-smoothing", type=float)
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")


def _epochs(value: str) -> int | str:
    return value if value == "auto" else int(value)


def run(args: argparse.Namespace) -> None:
    """Train as the arguments say, and write the result."""
    check_folder(args.output)
    asked = chosen_kind(args)
    examples = read_data(args.data, args, multi_label=asked)
    multi_label = told_kind(examples, asked, args.data)
    training, validation = _held_out(examples, args, multi_label)
    _check_rows(training, args.data)
    classifier = _make_classifier(args, multi_label, validation is not None)
    engine = classifier._make_engine(tuned=False)
    task = args.task_description or ""
    check_examples(engine, examples, args.data)
    data, shared_task = make_data(engine, training, task)
    warn_of_cut_texts(engine, data)
    options = training_options(classifier, len(training), one_epoch=False)
    validate = None if validation is None else make_validator(validation, multi_label, task)
    result = _train(engine, data, options, validate)
    classifier.set_params(
        labels=_shared_labels(examples), task_description=shared_task or args.task_description
    )
    _save(classifier, engine, result, args.output)
    _print_summary(result, args.output)


def make_data(
    engine: Engine, examples: Sequence[Example], task_description: str
) -> tuple[TrainingSet, str]:
    """Tokenise rows that may each have a label set and a prompt of their own.

    Parameters
    ----------
    engine : Engine
        Of the model that will be trained.
    examples : sequence of Example
        The rows.
    task_description : str
        That of rows without a prompt of their own.

    Returns
    -------
    data : TrainingSet
    task_description : str
        The one that all rows share; empty if they differ, and then stand before the texts.

    Raises
    ------
    CommandError
        If the prompts differ and the model reads them after the text.
    """
    from ..prompts.examples import can_show_examples
    from ..training.data import LabelledRows, make_training_set

    shown = [row.examples for row in examples]
    is_shown = any(shown) and can_show_examples(engine.composer)
    texts, shared_task = _described_texts(engine, examples, task_description, is_shown)
    names = sorted({name for row in examples for name in row.all_labels})
    index = {name: k for k, name in enumerate(names)}
    pairs = [sorted(zip(row.all_labels, row.targets, strict=True)) for row in examples]
    rows = LabelledRows.ragged(
        [[index[name] for name, _ in row] for row in pairs],
        [[target for _, target in row] for row in pairs],
    )
    weights = np.asarray([row.weight for row in examples], dtype=np.float32)
    data = make_training_set(
        engine,
        texts,
        names,
        rows,
        weights=weights,
        task_description=shared_task,
        examples=shown if is_shown else None,
    )
    return data, shared_task


def _described_texts(
    engine: Engine, examples: Sequence[Example], default: str, is_shown: bool
) -> tuple[list[str], str]:
    texts = [row.text for row in examples]
    tasks = [default if row.prompt is None else row.prompt for row in examples]
    if len(set(tasks)) == 1:
        return texts, tasks[0]
    composer = engine.composer
    if not engine.loaded.network.encodes_labels_apart and not composer.prompt_first:
        raise CommandError(
            "the rows have different prompts, but the model reads the prompt after the text and "
            "can be trained with one prompt only; give all rows the same"
        )
    if is_shown and composer.examples_follow_task:
        raise CommandError(
            "the rows have different prompts and in-context examples, but the model reads the "
            "examples between prompt and text and can be trained with one prompt only; give all "
            "rows the same"
        )
    joint = " " if engine.loaded.network.encodes_labels_apart else ""
    return [
        f"{task}{joint}{text}" if task else text for task, text in zip(tasks, texts, strict=True)
    ], ""


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
    args: argparse.Namespace, multi_label: bool, is_validated: bool
) -> BaseGLiClassClassifier:
    from .. import GLiClassClassifier, GLiClassMultiLabelClassifier

    given = {name: getattr(args, name) for name in _PARAMETERS if getattr(args, name) is not None}
    kind = GLiClassMultiLabelClassifier if multi_label else GLiClassClassifier
    classifier = kind(
        **given,
        early_stopping=is_validated and args.n_iter_no_change is not None,
        random_state=args.seed,
    )
    classifier._validate_params()
    return classifier


def _shared_labels(examples: Sequence[Example]) -> list[str] | None:
    sets = {frozenset(row.all_labels) for row in examples}
    return sorted(sets.pop()) if len(sets) == 1 else None


def _train(
    engine: Engine, data: TrainingSet, options: TrainingOptions, validate: Any
) -> TrainingResult:
    from ..training.loop import train

    n_steps = options.max_epochs * -(-len(data) // options.batch_size)
    with tqdm(total=n_steps, unit="step", file=sys.stderr) as bar:

        def on_step(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        def on_epoch(progress: Progress) -> None:
            if progress.validation is not None:
                bar.set_description(f"validation score {progress.validation.score:.4f}")

        return train(
            engine,
            data,
            options,
            validate=validate,
            on_epoch=on_epoch,
            on_step=on_step,
        )


def _save(
    classifier: BaseGLiClassClassifier, engine: Engine, result: TrainingResult, folder: str
) -> None:
    from ..estimators.persistence import save_estimator

    loaded = result.weights.apply(engine.loaded)
    save_estimator(classifier, loaded, classifier._current_label_set(), folder)


def _print_summary(result: TrainingResult, folder: str) -> None:
    if result.interrupted:
        print("skgliclass: interrupted; the best weights so far are kept", file=sys.stderr)
    print(f"epochs            {result.n_iter}")
    if result.loss_curve:
        print(f"training loss     {result.loss_curve[-1]:.4f}")
    if result.validation_scores:
        print(f"before training   {result.validation_scores[0]:.4f}")
        print(f"best validation   {max(result.validation_scores):.4f} (epoch {result.best_iter})")
    print(f"written to        {folder}")
