"""Random numbers for one block of code, from a generator that nobody else has.

Dropout and the initialisation of layers draw from torch's global generator. To seed that one, and
to give it back afterwards, would disturb every other thread that draws from it, and be disturbed by
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from threading import RLock
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

_DRAWING = frozenset(
    {
        "alpha_dropout",
        "bernoulli",
        "bernoulli_",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "dropout_",
        "feature_alpha_dropout",
        "feature_dropout",
        "gru",
        "gumbel_softmax",
        "kaiming_uniform_",
        "lstm",
        "multi_head_attention_forward",
        "multinomial",
        "normal_",
        "rnn_relu",
        "rnn_tanh",
        "rrelu",
        "scaled_dot_product_attention",
        "uniform_",
    }
)
"""The functions of torch that may draw; all others are spared the search for what draws in them."""

_ACCELERATOR = RLock()


@contextmanager
def own_randomness(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Let torch draw from generators of this block, in the calling thread alone.

    On a CPU any number of threads draw at once, and the global generator is not touched. On other
    devices, where fused kernels know no other generator than the device's own, that is lent to one
    thread at a time, and given back as it was.

    Parameters
    ----------
    seed : int
        Where the stream begins.
    device : torch.device or str, default="cpu"
        Which generator is replaced besides the CPU's.
    """
    generator = torch.Generator().manual_seed(seed)
    with _lent_generator(torch.device(device), seed), _OwnRandomness(generator):
        yield


def recomputation(device: torch.device) -> dict[str, Any]:
    """Give the arguments with which activation checkpointing repeats the numbers it drew.

    Parameters
    ----------
    device : torch.device
        Where the model is.

    Returns
    -------
    dict of str to Any
        Keyword arguments of :func:`torch.utils.checkpoint.checkpoint`.
    """
    if device.type != "cpu":
        return {"use_reentrant": False}
    # Torch's own way would set the global generator back, from which nothing was drawn.
    return {"use_reentrant": False, "preserve_rng_state": False, "context_fn": _same_numbers}


def _same_numbers() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    own = _OwnRandomness.active()
    if own is None:
        return nullcontext(), nullcontext()
    again = torch.Generator()
    again.set_state(own.generator.get_state())
    return nullcontext(), _OwnRandomness(again)


class _OwnRandomness(TorchFunctionMode):
    """Finds the calls that may draw; cheap enough to watch all calls of a thread."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        self._redirect = _Redirect(generator)

    @staticmethod
    def active() -> _OwnRandomness | None:
        """Give the innermost one of the calling thread."""
        modes = torch.overrides._get_current_function_mode_stack()
        return next((mode for mode in reversed(modes) if isinstance(mode, _OwnRandomness)), None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        # A block within another draws from its own generator: the inner one comes here first.
        if name not in _DRAWING or _Redirect.is_active():
            return func(*args, **(kwargs or {}))
        filled = _filled(name, args, kwargs or {})
        if filled is not None and filled.is_meta:
            # It has no numbers, and drawing none takes longer than drawing them.
            return filled
        with self._redirect:
            return func(*args, **(kwargs or {}))


def _filled(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Give the tensor that a function draws the numbers of, if it makes no other."""
    if not name.endswith("_"):
        return None
    # Torch's initialisations are passed on by the names of their arguments.
    first = args[0] if args else kwargs.get("tensor")
    return first if isinstance(first, torch.Tensor) else None


class _Redirect(TorchDispatchMode):
    """Gives the operations that draw numbers on a CPU another generator than the global one."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Or torch imports its compiler with the first draw, which takes longer than a prediction.
        return False

    @classmethod
    def is_active(cls) -> bool:
        """Tell whether the calling thread is within one."""
        return any(isinstance(mode, cls) for mode in _get_current_dispatch_mode_stack())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _takes_generator(func) and args[0].device.type == "cpu":
            kwargs = {**kwargs, "generator": kwargs.get("generator") or self._generator}
        return func(*args, **kwargs)


@lru_cache(maxsize=1024)
def _takes_generator(operation: Any) -> bool:
    return any(argument.name == "generator" for argument in operation._schema.arguments)


@contextmanager
def _lent_generator(device: torch.device, seed: int) -> Iterator[None]:
    """Let a device's generator begin at a seed, and give it back as it was."""
    if device.type in ("cpu", "meta"):
        yield
        return
    module: Any = torch.get_device_module(device)
    # Only CUDA-like devices come in several.
    which = () if device.type == "mps" else (device,)
    with _ACCELERATOR:
        before = module.get_rng_state(*which)
        module.set_rng_state(torch.Generator(device).manual_seed(seed).get_state(), *which)
        try:
            yield
        finally:
            module.set_rng_state(before, *which)
