"""The way from lists of numbers to tensors, and back to numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..prompts.tokens import TokenIds


def pad_right(
    sequences: Sequence[TokenIds], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put sequences of ids in one tensor, with a mask that is 1 where they are."""
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(sequences)
    return (
        torch.from_numpy(ids).to(device),
        torch.from_numpy(mask.astype(np.int64)).to(device),
    )


def to_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Copy a tensor into an array."""
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array
