"""Warnings and errors that a caller may want to catch by name, and how they are issued."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

# Whoever calls the package may do so through scikit-learn (a pipeline, a search, a decorator of
# its own) or through joblib, whose lines say as little about where the text came from as ours.
_NOT_THE_USERS = ("sklearn", "joblib", "contextlib")
_PACKAGE = f"{Path(__file__).parent}{os.sep}"


class TruncationWarning(UserWarning):
    """Texts were longer than the model reads; what came after was not seen."""


class NonFiniteScoresError(ValueError):
    """A model gives NaN or infinity for a text: its weights are damaged, or training diverged.

    Parameters
    ----------
    model : str
        The model, and its data type.
    text : str
        The text.
    place : str
        How the user knows it, such as ``"text 3"`` or ``"X[3]"``.
    """

    def __init__(self, model: str, text: str, place: str) -> None:
        # All of them, by which it is pickled on its way out of another process.
        super().__init__(model, text, place)
        self.model, self.text, self.place = model, text, place

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        return (
            f"The model {self.model} gives NaN or infinity for {self.place}, {shown!r}. Its "
            'weights are damaged, its training diverged, or it needs dtype="float32".'
        )


class UntrainedModelError(ValueError):
    """A model whose heads were never trained was asked to predict."""


def missing_extra(what: str, packages: str, extra: str) -> str:
    """Say what to install for what an extra of the package brings.

    Parameters
    ----------
    what : str
        What cannot be done without it, as the beginning of a sentence.
    packages : str
        The names of the packages, separated by spaces.
    extra : str
        The extra that names them.
    """
    # The packages themselves can be installed wherever this one came from.
    return (
        f"{what} needs {' and '.join(packages.split())}. Install with: pip install {packages} "
        f'(in a clone of skgliclass: pip install ".[{extra}]")'
    )


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points at the user's line, however deep in the package it arose.

    Parameters
    ----------
    message : str
        What to say.
    category : type, default=UserWarning
        Of which kind.
    """
    # Not skip_file_prefixes, which Python has since 3.12. A stacklevel of 1 is this function.
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename, frame.f_globals):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(file: str, module: dict[str, object]) -> bool:
    name = str(module.get("__name__", "")).partition(".")[0]
    return name in _NOT_THE_USERS or file.startswith(_PACKAGE)
