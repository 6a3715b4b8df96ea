"""Share a training among processes that ``accelerate launch`` or ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

_Item = TypeVar("_Item")


class Workers:
    """The processes that train one model together, each on its part of every batch.

    All of them make the same plan of a batch and take every n-th micro-batch of it; gradients are
    summed before each step, so that all have the same weights and the result is that of one
    process.

    Parameters
    ----------
    rank, size : int
        Which process this is, and how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @classmethod
    def of_this_launch(cls) -> Workers:
        """Join the processes that were launched together; alone if there are none.

        Raises
        ------
        ImportError
            If there are several, but accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise ImportError(
                    "Training in several processes needs accelerate. Install it with: "
                    'pip install "skgliclass[distributed]"'
                ) from error
            PartialState(cpu=not torch.cuda.is_available())
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Give this process's part."""
        # Micro-batches come sorted by length, so every n-th gives all processes about as much to
        # do.
        return items[self.rank :: self.size]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every process's gradients the sum over all processes."""
        if self.size == 1:
            return
        parameters = list(parameters)
        # Where no process has a gradient there must be none, as the optimizer skips such weights.
        has = torch.tensor([float(p.grad is not None) for p in parameters])
        has = self.sum(has.to(parameters[0].device))
        used = [p for p, n in zip(parameters, has.tolist(), strict=True) if n]
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in used]
        )
        dist.all_reduce(flat)
        for parameter, part in zip(used, flat.split([p.numel() for p in used]), strict=True):
            parameter.grad = part.view_as(parameter)

    def any(self, condition: bool) -> bool:
        """Tell whether a condition holds in one of the processes."""
        if self.size == 1:
            return condition
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return bool(self.sum(torch.tensor(float(condition), device=device)).item())

    def sum(self, value: Tensor) -> Tensor:
        """Give the sum over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value
