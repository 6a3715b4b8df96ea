"""The command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from ._version import __version__
from .cli.classify import add_classify
from .cli.errors import can_be_mended, one_line, said_of
from .cli.evaluate import add_evaluate
from .cli.export import add_export
from .cli.pretrain import add_pretrain
from .cli.suggest import add_suggest
from .cli.train import add_train


class _Terminated(KeyboardInterrupt):
    """The system asked to stop: as the user does by Ctrl-C, but with another exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0 if it worked, 2 if the input or the surroundings were at fault, 1 if something unexpected
        happened, and 130 or 143 if it was interrupted or terminated. One line on stderr explains
        what is not 0, but a closed pipe, which ends with 1 in silence.
    """
    args = build_parser().parse_args(argv)
    with warnings.catch_warnings(), _termination_as_interrupt() as was_terminated:
        # Of this block alone: catch_warnings gives the function back as it was, too.
        warnings.showwarning = _show_warning
        try:
            args.run(args)
            # What is still in the buffer may not fit on the disk, or nobody may read it any more.
            sys.stdout.flush()
        except SystemExit:
            raise
        except BaseException as error:
            _flush_or_close_stdout()
            if isinstance(error, BrokenPipeError):
                return 1
            if args.debug:
                traceback.print_exception(error)
            if isinstance(error, KeyboardInterrupt):
                print(f"skgliclass: {one_line(error) or 'interrupted'}", file=sys.stderr)
                # As shells have it: 128 and the number of the signal.
                return 128 + (signal.SIGTERM if was_terminated() else signal.SIGINT)
            print(f"skgliclass: {said_of(error)}", file=sys.stderr)
            return 2 if can_be_mended(error) else 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="skgliclass",
        description="Zero-shot and few-shot text classification with GLiClass models.",
    )
    parser.add_argument("--version", action="version", version=f"skgliclass {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_classify(commands)
    add_train(commands)
    add_suggest(commands)
    add_evaluate(commands)
    add_export(commands)
    add_pretrain(commands)
    for command in commands.choices.values():
        # Left out behind the command, it stays what it was before it.
        command.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show where an error arose",
        )
    return parser


@contextmanager
def _termination_as_interrupt() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM stop a command as Ctrl-C does, and give what tells whether it came."""
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise _Terminated("terminated")

    # Another thread may not set handlers, and a caller's own handler is to stay.
    is_free = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_free:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: bool(came)
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _flush_or_close_stdout() -> None:
    """Let Python flush what cannot be written, at its end, to where it does not complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # In a test or a notebook stdout has no descriptor.
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"skgliclass: warning: {one_line(message)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
