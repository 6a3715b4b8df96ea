"""Which positions of a batch of sequences somebody reads: a last layer need not give the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReadPositions:
    """As many positions of every row, so that they form a tensor.

    Attributes
    ----------
    positions : Tensor of shape (batch, n_read)
        A row that reads fewer than another has some that nobody reads.
    """

    positions: Tensor

    @classmethod
    def of(cls, read: Tensor) -> ReadPositions:
        """Find them where `read`, of shape (batch, length), is nonzero."""
        n_read = max(1, int(read.count_nonzero(dim=1).max()))
        order = read.ne(0).int().argsort(dim=1, descending=True, stable=True)
        return cls(order[:, :n_read])

    def take(self, vectors: Tensor) -> Tensor:
        """Give vectors of shape (batch, n_read, width) of those of all positions."""
        return vectors.gather(1, self._places(vectors))

    def put(self, chosen: Tensor, vectors: Tensor) -> Tensor:
        """Give the vectors of all positions with the chosen in their places."""
        put = vectors.scatter_ if in_place() else vectors.scatter
        return put(1, self._places(vectors), chosen)

    def _places(self, vectors: Tensor) -> Tensor:
        return self.positions[:, :, None].expand(-1, -1, vectors.shape[2])


def in_place() -> bool:
    """Tell whether activations may be overwritten: no gradient will ever need them."""
    return torch.is_inference_mode_enabled()


def padding_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Give what is added to attention scores, or nothing where all positions count.

    Returns
    -------
    Tensor of shape (batch, 1, 1, length), or None
    """
    # A graph that is traced cannot depend on what the mask holds.
    if not torch.compiler.is_compiling() and bool(attention_mask.all()):
        return None
    bias = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
    # As in transformers, to the bit. With minus infinity a row of padding alone would be NaN.
    bias = bias.masked_fill_(attention_mask == 0, torch.finfo(dtype).min)
    return bias[:, None, None]
