"""The torch modules and their checkpoints; nothing here knows scikit-learn."""

from __future__ import annotations

from ..architectures import SUPPORTED_ARCHITECTURES
from .config import GLiClassConfig
from .decoder_kv import TextCache
from .model import GLiClassModel, GLiClassOutput

__all__ = [
    "SUPPORTED_ARCHITECTURES",
    "GLiClassConfig",
    "GLiClassModel",
    "GLiClassOutput",
    "TextCache",
]
