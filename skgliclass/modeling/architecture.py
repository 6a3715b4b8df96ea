"""What the module of every architecture offers to the layers above."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

if TYPE_CHECKING:
    from .config import GLiClassConfig


class Architecture(nn.Module):
    """How labels and text meet; a subclass says how, and computes the scores.

    Attributes
    ----------
    config : GLiClassConfig
        What the model is like.
    backbone_name : str
        The name of the attribute with the pretrained model that reads the texts.
    has_label_encoder : bool
        Whether labels are encoded by themselves before anything else, so that their vectors can
        be kept.
    encodes_labels_apart : bool
        Whether these vectors meet the text in the scorer alone: the prompt holds no labels.
    """

    backbone_name: ClassVar[str] = "encoder_model"
    has_label_encoder: ClassVar[bool] = False
    encodes_labels_apart: ClassVar[bool] = False

    config: GLiClassConfig

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def training_scores(self, **inputs):
        return [self(**inputs)]

    @property
    def contrastive_coef(self) -> float:
        return 0.0 if self.encodes_labels_apart else float(self.config.contrastive_loss_coef)
