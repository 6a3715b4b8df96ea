"""The command line."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from ._version import __version__
from .cli.classify import add_classify
from .cli.errors import CommandError
from .cli.evaluate import add_evaluate
from .cli.export import add_export
from .cli.pretrain import add_pretrain
from .cli.train import add_train


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0 if it worked, 2 if the input was at fault and 130 if the user stopped it, which one line
        on stderr then explains.
    """
    args = build_parser().parse_args(argv)
    with warnings.catch_warnings():
        # Of this block alone: catch_warnings gives the function back as it was, too.
        warnings.showwarning = _show_warning
        try:
            args.run(args)
        # What the caller can mend. Anything else is a fault of the program and keeps its traceback.
        except (CommandError, OSError, TypeError, ValueError, ImportError) as error:
            print(f"skgliclass: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("skgliclass: interrupted", file=sys.stderr)
            # As shells have it: 128 and the number of the signal.
            return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="skgliclass",
        description="Zero-shot and few-shot text classification with GLiClass models.",
    )
    parser.add_argument("--version", action="version", version=f"skgliclass {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_classify(commands)
    add_train(commands)
    add_evaluate(commands)
    add_export(commands)
    add_pretrain(commands)
    return parser


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"skgliclass: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
