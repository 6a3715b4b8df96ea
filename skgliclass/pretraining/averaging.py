"""The average of the weights along a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ..training.checkpoint import check_like, tensors_under
from ..training.loop import Run

_AVERAGE = "average."


class WeightAverage:
    """An average over all steps so far in which later ones count more.

    It needs no falling learning rate and no known end, so that a run may be stopped at any time
    (polynomial-decay averaging; Shamir and Zhang 2013, arXiv:1212.1824).

    Parameters
    ----------
    run : Run
        Whose weights are averaged.
    power : float or None
        The weights after step t count in proportion to about ``t ** power``; 0 gives the plain
        mean, and None no average but the last weights.
    """

    def __init__(self, run: Run, power: float | None) -> None:
        named = run.trainable.network.named_parameters()
        self._parameters = {name: p for name, p in named if p.requires_grad}
        self._power = power
        self._values: dict[str, Tensor] = {}
        if power is not None:
            self._values = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Add the weights after a step; steps count from 1."""
        if self._power is not None:
            share = (self._power + 1) / (self._power + step)
            for name, value in self._values.items():
                value.lerp_(self._parameters[name], share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the model have the average for a while."""
        last = {name: self._parameters[name].detach().clone() for name in self._values}
        self._put(self._values)
        try:
            yield
        finally:
            self._put(last)

    def tensors(self) -> dict[str, Tensor]:
        """Give what a checkpoint has to hold."""
        return {_AVERAGE + name: value for name, value in self._values.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what :meth:`tensors` gave.

        Raises
        ------
        ValueError
            If the tensors are not those of such a run, or not finite.
        """
        stored = tensors_under(_AVERAGE, tensors)
        check_like(stored, self._values)
        for name, value in self._values.items():
            value.copy_(stored[name])

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._parameters[name].copy_(value)
