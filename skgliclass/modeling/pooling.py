"""Make one vector of a text's token vectors."""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("first", "last", "avg", "max", "sum", "rms", "abs_max", "abs_avg", "pass")


def pool(hidden: Tensor, mask: Tensor, strategy: str, n_zeros: Tensor | None = None) -> Tensor:
    """Pool token vectors over the positions of a mask.

    Parameters
    ----------
    hidden : Tensor of shape (batch, length, width)
        The token vectors.
    mask : Tensor of shape (batch, length)
        Nonzero at the positions that count. The result depends on no other.
    strategy : str
        One of ``POOLINGS``; ``pass`` gives `hidden` back.
    n_zeros : Tensor of shape (batch,), optional
        How many zero vectors count besides. Where only a part of the sequence is the text, the
        ``gliclass`` package pools over a copy in which zeros stand for the rest, and checkpoints
        were trained so. For ``last``, whose result it makes constant, they are left out.

    Returns
    -------
    Tensor of shape (batch, width), or that of `hidden` for ``pass``
    """
    if strategy == "pass":
        return hidden
    real = mask.bool()
    if strategy in ("first", "last"):
        return _pick(hidden, real, strategy)
    if strategy in ("max", "abs_max"):
        return _maximum(hidden, real, strategy, n_zeros)
    return _mean_or_sum(hidden, real, strategy, n_zeros)


def looked_at(mask: Tensor, strategy: str) -> Tensor | None:
    """Tell which positions :func:`pool` looks at.

    Parameters
    ----------
    mask : Tensor of shape (batch, length)
        Nonzero at the positions that count.
    strategy : str
        One of ``POOLINGS``.

    Returns
    -------
    Tensor of shape (batch, length), bool, or None if it is all that count
    """
    if strategy not in ("first", "last"):
        return None
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    return chosen.scatter_(1, _position(mask.bool(), strategy)[:, None], True)


def _pick(hidden: Tensor, real: Tensor, strategy: str) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), _position(real, strategy)]


def _position(real: Tensor, strategy: str) -> Tensor:
    if strategy == "first":
        return real.int().argmax(dim=1)
    positions = torch.arange(real.shape[1], device=real.device)
    # Where nothing counts, the first position too, as argmax gives it above.
    return positions.masked_fill(~real, -1).amax(dim=1).clamp_min(0)


def _maximum(hidden: Tensor, real: Tensor, strategy: str, n_zeros: Tensor | None) -> Tensor:
    values = hidden.abs() if strategy == "abs_max" else hidden
    largest = values.masked_fill(~real[..., None], float("-inf")).amax(dim=1)
    if n_zeros is None:
        return largest
    return torch.where(n_zeros[:, None] > 0, largest.clamp_min(0), largest)


def _mean_or_sum(hidden: Tensor, real: Tensor, strategy: str, n_zeros: Tensor | None) -> Tensor:
    if strategy == "rms":
        values = hidden.pow(2)
    elif strategy == "abs_avg":
        values = hidden.abs()
    elif strategy in ("avg", "sum"):
        values = hidden
    else:
        raise ValueError(f"Unknown pooling {strategy!r}; choose from {', '.join(POOLINGS)}.")
    # Not times zero: vectors at padding have no meaning, and could be infinite.
    total = values.masked_fill(~real[..., None], 0).sum(dim=1)
    if strategy == "sum":
        return total
    count = real.sum(dim=1) if n_zeros is None else real.sum(dim=1) + n_zeros
    mean = total / count.clamp_min(1)[:, None].to(total.dtype)
    return mean.sqrt() if strategy == "rms" else mean
