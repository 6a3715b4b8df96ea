"""The torch modules and their checkpoints; nothing here knows scikit-learn."""

from __future__ import annotations

from .config import GLiClassConfig
from .model import GLiClassModel, GLiClassOutput

__all__ = ["GLiClassConfig", "GLiClassModel", "GLiClassOutput"]
