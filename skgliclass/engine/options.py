"""How a model is asked: one frozen object from the estimator down to the engine."""

from __future__ import annotations

from dataclasses import dataclass

from ..prompts.long_texts import LongTexts


@dataclass(frozen=True)
class ScoringOptions:
    """How a model is asked; the names are those of the estimators' parameters.

    Parameters
    ----------
    task_description : str, default=""
        A sentence put in the prompt before the text.
    example_format : {"marker", "tags"}, default="marker"
        How examples are written: with the ``<<EXAMPLE>>`` token, or in the older format with
        ``<<TRUE_LABEL>>``, which is a part of the text and so goes with every architecture.
    long_texts : {"truncate", "chunk"}, default="truncate"
        Whether the beginning of a text that does not fit is read, or all of it in chunks.
    chunk_overlap : int, default=32
        The tokens that neighbouring chunks share, but never more than half of a chunk.
    chunk_pooling : {"max", "mean"}, default="max"
        Whether a label's logit is the largest of the chunks', or their mean, weighted by the
        tokens that each adds to those before it.
    n_permutations : int, default=1
        Over how many orders of the labels logits are averaged. The first is the order given. No
        effect on a bi-encoder, whose scores do not depend on it.
    seed : int, default=0
        Of the other orders.
    shortlist : int, optional
        How many labels the model reads for each text: those nearest to it by the cosine of
        embeddings. The others get the row's lowest logit, or 0 where that is higher, minus
        ``SHORTLIST_GAP`` (10).

    Raises
    ------
    ValueError
        If a value is unknown or out of range; the message names it.
    """

    task_description: str = ""
    example_format: str = "marker"
    long_texts: str = "truncate"
    chunk_overlap: int = 32
    chunk_pooling: str = "max"
    n_permutations: int = 1
    seed: int = 0
    shortlist: int | None = None

    def __post_init__(self) -> None:
        if self.n_permutations < 1:
            raise ValueError(f"n_permutations={self.n_permutations}; it must be at least 1.")
        if self.shortlist is not None and self.shortlist < 1:
            raise ValueError(
                f"shortlist={self.shortlist}; the model must read at least one label for a text."
            )
        # An unknown mode is refused here rather than with the first text.
        _ = self.chunking

    @property
    def chunking(self) -> LongTexts:
        """What happens to a text that does not fit beside the labels."""
        return LongTexts(self.long_texts, self.chunk_overlap, self.chunk_pooling)
