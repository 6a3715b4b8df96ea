"""Warnings and errors that a caller may want to catch by name."""

from __future__ import annotations


class TruncationWarning(UserWarning):
    """Texts were longer than the model reads; what came after was not seen."""


class UntrainedModelError(ValueError):
    """A model whose heads were never trained was asked to predict."""
