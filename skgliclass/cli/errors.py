"""What a command says when its input is at fault."""

from __future__ import annotations


class CommandError(Exception):
    """The input of a command is at fault; the message is for the user."""
