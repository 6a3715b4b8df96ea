"""Read and write the training format of GLiClass, and turn it into `X` and `y` and back."""

from ..prompts.examples import PromptExample
from .examples import Example
from .files import (
    Arrays,
    from_arrays,
    is_single_label,
    read_examples,
    to_arrays,
    write_examples,
)

__all__ = [
    "Arrays",
    "Example",
    "PromptExample",
    "from_arrays",
    "is_single_label",
    "read_examples",
    "to_arrays",
    "write_examples",
]
