"""What a command says when it fails, and whose fault it tells that it is."""

from __future__ import annotations

import dis
from pathlib import Path
from types import TracebackType

from sklearn.utils._param_validation import InvalidParameterError

_PACKAGE = Path(__file__).parent.parent
_RAISE = dis.opmap["RAISE_VARARGS"]


class CommandError(Exception):
    """The input of a command is at fault; the message is for the user."""


class NoRowsError(CommandError):
    """A table has no rows."""


def can_be_mended(error: BaseException) -> bool:
    """Tell whether the user can do something about an error: the input or the surroundings.

    A ``ValueError`` may be the check of a parameter or a slip of the program, which its class does
    not tell. The package says by a ``raise`` of its own, with a message, what is wrong with what it
    was given; what arises elsewhere, or by itself, nobody has foreseen.
    """
    # Files, disks and the network are the user's.
    if isinstance(error, CommandError | InvalidParameterError | OSError):
        return True
    return bool(str(error)) and _is_raised_by_package(error.__traceback__)


def such(n: int, noun: str = "row") -> str:
    """Count what is at fault, in brackets."""
    return f"({n} such {noun}{'' if n == 1 else 's'})"


def one_line(message: object) -> str:
    """Give a message as one line that a terminal shows as it is."""
    # What it quotes may hold the line ends and control characters of any file.
    text = " ".join(str(message).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def said_of(error: BaseException) -> str:
    """Give what one line says of an error."""
    if can_be_mended(error):
        return one_line(error) or type(error).__name__
    if isinstance(error, MemoryError):
        said = "there is not enough memory"
    elif isinstance(error, UnicodeEncodeError):
        said = (
            f"{error.object[error.start]!r} cannot be written in {error.encoding}; give --output, "
            "or set PYTHONIOENCODING=utf-8"
        )
    else:
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
    return one_line(f"unexpected error: {said} (--debug shows where)")


def _is_raised_by_package(trace: TracebackType | None) -> bool:
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    is_ours = Path(code.co_filename).is_relative_to(_PACKAGE)
    # Otherwise something that has no frame, written in C, has raised it.
    return is_ours and code.co_code[trace.tb_lasti] == _RAISE
