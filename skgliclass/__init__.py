"""Zero-shot and few-shot text classification with GLiClass models, the scikit-learn way."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .estimators.multi_label import GLiClassMultiLabelClassifier
from .estimators.single_label import GLiClassClassifier
from .estimators.transformer import GLiClassTransformer
from .exceptions import TruncationWarning, UntrainedModelError

if TYPE_CHECKING:
    from .loading.model import GLiClassModel
    from .modeling.config import GLiClassConfig

__all__ = [
    "GLiClassClassifier",
    "GLiClassConfig",
    "GLiClassModel",
    "GLiClassMultiLabelClassifier",
    "GLiClassTransformer",
    "TruncationWarning",
    "UntrainedModelError",
    "__version__",
]

# torch takes seconds to import, and much of the package, such as `--help`, needs none of it.
_TORCH_NAMES = {"GLiClassConfig": "modeling.config", "GLiClassModel": "loading.model"}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if name in _TORCH_NAMES:
        return getattr(import_module(f".{_TORCH_NAMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The names of a module are otherwise those imported so far, without those that need torch.
    return sorted(__all__)
