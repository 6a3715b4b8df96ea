"""What happens to a text that does not fit beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONG_TEXTS = ("truncate", "chunk")
POOLINGS = ("max", "mean")


@dataclass(frozen=True)
class LongTexts:
    """What happens to a text that does not fit beside the labels.

    Parameters
    ----------
    mode : {"truncate", "chunk"}
        Read its beginning, or cut it into chunks that are scored one by one.
    overlap : int
        The tokens that neighbouring chunks share, though never more than half of a chunk: most of
        the text would be read again and again.
    pooling : {"max", "mean"}
        Take the largest logit over chunks, or the mean, weighted by the tokens that each adds to
        those before it.

    Raises
    ------
    ValueError
        If a value is unknown or negative.
    """

    mode: str = "truncate"
    overlap: int = 32
    pooling: str = "max"

    def __post_init__(self) -> None:
        _check_choice("long_texts", self.mode, LONG_TEXTS)
        _check_choice("chunk_pooling", self.pooling, POOLINGS)
        if self.overlap < 0:
            raise ValueError(f"chunk_overlap={self.overlap} is negative.")

    @property
    def chunks(self) -> bool:
        """Whether long texts are cut into chunks."""
        return self.mode == "chunk"


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose from {', '.join(choices)}.")
