"""What happens to a text that does not fit beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .label_plan import LabelPlan

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
        The tokens that neighbouring chunks share.
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


def check_overlap(plan: LabelPlan, long_texts: LongTexts, with_examples: bool) -> None:
    """Refuse an overlap by which most tokens would be read more than twice.

    Raises
    ------
    ValueError
        If the overlap is more than half of the smallest chunk that the labels leave room for.
    """
    if not long_texts.chunks:
        return
    smallest = int(plan.rooms.min())
    if with_examples:
        smallest -= smallest // 2
    if long_texts.overlap > smallest // 2:
        beside = "labels and examples" if with_examples else "labels"
        raise ValueError(
            f"chunk_overlap={long_texts.overlap} is more than half of a chunk: beside the {beside} "
            f"a chunk has {smallest} tokens. Lower chunk_overlap to at most {smallest // 2}, or "
            "raise max_length if the model allows it."
        )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose from {', '.join(choices)}.")
