"""``skgliclass pretrain``: train a new zero-shot model on a mixture of labelled sets."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .errors import CommandError
from .folders import check_new_folder
from .options import option_of, wants_bar

if TYPE_CHECKING:
    from ..pretraining.config import PretrainingConfig
    from ..pretraining.run import Outcome

_EPILOG = """examples:
  skgliclass pretrain --data data --config mini.toml --output run
  skgliclass pretrain --data data --config mini.toml --output run --resume --max-minutes 120
  skgliclass pretrain --output run --finish
"""


def add_pretrain(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "pretrain",
        help="train a new zero-shot model on a mixture of labelled sets",
        description="Train a new model on the sets in DATA/pretrain (files SET.jsonl.gz in the "
        "GLiClass training format). Labels are reworded, chosen and ordered at random, with "
        "negatives from other rows and sets. Log, checkpoint and in the end the folder 'model' "
        "are written to the output folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="FOLDER", help="with the folders pretrain and eval")
    parser.add_argument("--config", metavar="FILE", help="a TOML file")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--finish", action="store_true", help="only write the model of the last checkpoint"
    )
    parser.add_argument("--eval", action="store_true", help="score the sets in DATA/eval too")
    parser.add_argument("--max-minutes", type=float, metavar="M", help="stop after so long")
    parser.add_argument("--n-steps", type=int, metavar="N", help="in place of the file's")
    parser.add_argument(
        "--device", default="auto", help="where to train or, with --finish, to build the model"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train as the arguments say."""
    if args.finish:
        _check_finish(args)
    elif not args.resume:
        check_new_folder(args.output, reads=(args.data, args.config))
    # pydantic comes with an extra, without which the other commands have to run.
    from ..pretraining.run import finish, pretrain

    if args.finish:
        print(f"written to        {finish(args.output, args.device)}")
        return
    config = _read_config(args)
    total = config.training.n_steps
    with tqdm(total=total, unit="step", file=sys.stderr, disable=not wants_bar()) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            # Not by one: a resumed run begins in the middle.
            bar.update(step - bar.n)

        try:
            outcome = pretrain(
                config,
                args.data,
                args.output,
                resume=args.resume,
                evaluate=args.eval,
                max_minutes=args.max_minutes,
                device=args.device,
                on_step=on_step,
            )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                "interrupted; --resume goes on from the last checkpoint"
            ) from error
    _print_summary(outcome, Path(args.output))


def _check_finish(args: argparse.Namespace) -> None:
    """Refuse what training alone would use."""
    for name in ("data", "config", "resume", "eval", "max_minutes", "n_steps"):
        if getattr(args, name) not in (None, False):
            raise CommandError(
                f"{option_of(name)} has no effect with --finish, which trains nothing"
            )


def _read_config(args: argparse.Namespace) -> PretrainingConfig:
    from ..pretraining.config import read_config

    for name in ("data", "config"):
        if getattr(args, name) is None:
            raise CommandError(f"--{name} is missing")
    if args.max_minutes is not None and not args.max_minutes > 0:
        raise CommandError(f"--max-minutes {args.max_minutes:g}: it must be positive")
    config = read_config(args.config)
    if args.n_steps is None:
        return config
    if args.n_steps < 1:
        raise CommandError(f"--n-steps {args.n_steps}: it must be at least 1")
    return replace(config, training=replace(config.training, n_steps=args.n_steps))


def _print_summary(outcome: Outcome, output: Path) -> None:
    print(f"steps             {outcome.step}")
    if outcome.loss is not None:
        print(f"training loss     {outcome.loss:.4f}")
    if outcome.finished:
        print(f"written to        {output / 'model'}")
    else:
        print(f"checkpoint in     {output}; --resume goes on, --finish writes its model")
