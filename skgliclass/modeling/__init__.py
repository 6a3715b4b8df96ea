"""The torch modules; nothing here knows tokenizers or scikit-learn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import GLiClassConfig
    from .decoder_kv import TextCache

__all__ = ["GLiClassConfig", "TextCache"]

_MODULES = {"GLiClassConfig": "config", "TextCache": "decoder_kv"}


def __getattr__(name: str) -> Any:
    """Import what needs torch or transformers when it is first asked for."""
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
