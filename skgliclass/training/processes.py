"""Share a training among the processes that a launcher started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..exceptions import warn

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
    def joined(cls) -> Workers:
        """Give those of the innermost :func:`joined_processes`; this process alone elsewhere."""
        return _joined.get() or cls()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints for all of them."""
        return self.rank == 0

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


_joined: ContextVar[Workers | None] = ContextVar("joined processes", default=None)


@contextmanager
def joined_processes() -> Iterator[Workers]:
    """Let the fits of this block share their work with the processes launched beside this one.

    A launcher such as ``torchrun``, which comes with torch, starts the same program several times.
    Each process has to call the same fits in the same order, with the same data and an integer as
    ``random_state``; all of them end with the same weights, which are those that one process gives.
    Started without a launcher, a program does everything by itself. Outside of this block, and in
    other threads, a fit never waits for other processes.

    Where one process ends in the middle, the others fail in their next step, and a launcher ends
    all of them.

    Yields
    ------
    Workers
        Its `is_first` is true in one process, which may write and print for all; `rank` and `size`
        tell which process this is, and of how many.

    Warns
    -----
    UserWarning
        Under ``accelerate launch --cpu``, which starts one process, however many are asked for.

    Examples
    --------
    >>> from skgliclass import GLiClassClassifier
    >>> from skgliclass.training.processes import joined_processes
    >>> clf = GLiClassClassifier(labels=["sport", "travel"], max_epochs=0, random_state=0)
    >>> with joined_processes() as processes:
    ...     _ = clf.fit(["a goal", "a trip"], ["sport", "travel"])
    ...     if processes.is_first:
    ...         print(clf.classes_)
    ['sport' 'travel']
    """
    if dist.is_initialized():
        with _joining(Workers(dist.get_rank(), dist.get_world_size())) as workers:
            yield workers
    elif int(os.environ.get("WORLD_SIZE", "1")) == 1:
        _check_launcher()
        yield Workers()
    else:
        with _process_group(), _joining(Workers(dist.get_rank(), dist.get_world_size())) as workers:
            yield workers


def _check_launcher() -> None:
    # Of what it was asked for, this variable is all that it passes on.
    if os.environ.get("ACCELERATE_USE_CPU") == "True":
        warn(
            "accelerate launch --cpu started one process, which trains alone; it never starts more "
            "on one machine. For several use torchrun --standalone --nproc-per-node N."
        )


@contextmanager
def _joining(workers: Workers) -> Iterator[Workers]:
    token = _joined.set(workers)
    try:
        yield workers
    finally:
        _joined.reset(token)


@contextmanager
def _process_group() -> Iterator[None]:
    """Connect with the other processes, as the launcher says in the environment."""
    has_gpu = torch.cuda.is_available()
    with torch.cuda.device(int(os.environ.get("LOCAL_RANK", "0"))) if has_gpu else nullcontext():
        dist.init_process_group("nccl" if has_gpu else "gloo")
        try:
            yield
        finally:
            dist.destroy_process_group()
