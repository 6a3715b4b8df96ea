"""Which positions of a batch of sequences somebody reads: a last layer need not give the others."""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences one after the other, without what pads them on the right.

    Attributes
    ----------
    mask : Tensor of shape (batch, length)
        Nonzero at the positions that count.
    lengths : list of int
        The positions of each sequence up to the last that counts.
    places : Tensor of shape (n_positions,) or None
        Where they are in the padded batch; None where that has no others.
    """

    mask: Tensor
    lengths: list[int]
    places: Tensor | None

    @classmethod
    def of(cls, attention_mask: Tensor) -> Sequences:
        """Take apart what is padded."""
        steps = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
        # One of padding alone keeps a position, as empty tensors are no sequences.
        lengths = (attention_mask.ne(0) * steps).amax(dim=1).clamp(min=1)
        kept = steps <= lengths[:, None]
        places = None if bool(kept.all()) else kept.flatten().nonzero()[:, 0]
        return cls(attention_mask, lengths.tolist(), places)

    def join(self, padded: Tensor) -> Tensor:
        """Give vectors of shape (n_positions, width) of a padded batch of them."""
        flat = padded.flatten(0, 1)
        return flat if self.places is None else flat[self.places]

    def pad(self, flat: Tensor) -> Tensor:
        """Give vectors of shape (batch, length, width), with zeros as padding."""
        if self.places is not None:
            padded = flat.new_zeros(self.mask.numel(), flat.shape[1])
            flat = padded.index_copy(0, self.places, flat)
        return flat.view(*self.mask.shape, -1)

    def parts(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor | None]]:
        """Give which positions each sequence has, and what is added to their attention scores."""
        counts = self.mask.count_nonzero(dim=1).tolist()
        start = 0
        for row, (length, count) in enumerate(zip(self.lengths, counts, strict=True)):
            # None of those that count is missing.
            bias = (
                None if length == count else padding_bias(self.mask[row : row + 1, :length], dtype)
            )
            yield slice(start, start + length), None if bias is None else bias[0, 0, 0]
            start += length


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
