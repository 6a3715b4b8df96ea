"""How torch says that memory did not suffice."""

from __future__ import annotations

import torch

_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What torch's allocators say on any device; not all of them have an error of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    # torch raises nothing more special on a CPU.
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MESSAGES)
