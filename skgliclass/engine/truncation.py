"""What did not fit into prompts, counted over as many passes as a caller makes."""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import TruncationWarning, warn

_CHUNK = ', or set long_texts="chunk"'


@dataclass
class Truncation:
    """Counts texts that lost something, to warn of all of them once.

    Attributes
    ----------
    n_texts : int
        How many were read.
    n_cut : int
        Of how many the beginning alone.
    n_dropped : int
        How many left no room for all of their examples.
    is_told : bool
        Whether it was warned of.
    """

    n_texts: int = 0
    n_cut: int = 0
    n_dropped: int = 0
    is_told: bool = False

    def add(self, n_texts: int, n_cut: int, n_dropped: int = 0) -> None:
        """Count the texts of another pass."""
        self.n_texts += n_texts
        self.n_cut += n_cut
        self.n_dropped += n_dropped

    def tell(self, max_length: int, *, trains: bool = False) -> None:
        """Warn of what was counted so far, if that was not done before."""
        if self.is_told or not (self.n_cut or self.n_dropped):
            return
        self.is_told = True
        if self.n_cut:
            what, reading, chunk = (
                ("texts to learn from", "training reads only the beginning of each", "")
                if trains
                else ("texts", "only the beginning of each was read", _CHUNK)
            )
            warn(
                f"{self.n_cut} of {self.n_texts} {what} did not fit beside the labels in "
                f"max_length={max_length} tokens; {reading}. Raise max_length if the model allows "
                f"it{chunk}.",
                TruncationWarning,
            )
        if self.n_dropped:
            warn(
                f"{self.n_dropped} of {self.n_texts} texts left no room in max_length={max_length} "
                "tokens for all of their examples, of which the last were not shown. Give fewer "
                "or shorter examples, or raise max_length if the model allows it.",
                TruncationWarning,
            )
