"""What the module of every architecture offers to the layers above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from .encoders import encoder_class
from .features import Scores

if TYPE_CHECKING:
    from .config import GLiClassConfig


class Architecture(nn.Module):
    """How labels and text meet; a subclass says how, and computes the scores.

    What makes a kind of model different is asked of its class, so that nothing else needs to know
    the names of the architectures.

    Attributes
    ----------
    name : str
        That of the architecture in a configuration.
    config : GLiClassConfig
        What the model is like.
    backbone_name : str
        The name of the attribute with the pretrained model that reads the texts.
    inputs : tuple of str
        The arguments of ``forward``.
    has_label_encoder : bool
        Whether labels are encoded by themselves before anything else, so that their vectors can
        be kept.
    encodes_labels_apart : bool
        Whether these vectors meet the text in the scorer alone: the prompt holds no labels.
    pooling_is_fixed : bool
        Whether the text's vector is always made in the same way, whatever the configuration says.
    has_contrastive_loss : bool
        Whether ``contrastive_loss_coef`` has an effect on the loss.
    """

    name: ClassVar[str]
    backbone_name: ClassVar[str] = "encoder_model"
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "max_num_classes")
    has_label_encoder: ClassVar[bool] = False
    encodes_labels_apart: ClassVar[bool] = False
    pooling_is_fixed: ClassVar[bool] = False
    has_contrastive_loss: ClassVar[bool] = False

    config: GLiClassConfig

    @classmethod
    def backbone_class(cls, config: Any) -> Any:
        """Give the transformers class of a suitable backbone.

        Parameters
        ----------
        config : PretrainedConfig
            The backbone's configuration.

        Raises
        ------
        ValueError
            If this architecture needs another kind.
        """
        try:
            return cls._backbone_class(config)
        except ValueError as error:
            raise ValueError(f"The architecture {cls.name!r} {error}") from error

    @classmethod
    def _backbone_class(cls, config: Any) -> Any:
        return encoder_class(config)

    @classmethod
    def new_fields(cls, backbone: Any) -> dict[str, Any]:
        """Give the fields of a new model's configuration that are particular to its kind.

        Parameters
        ----------
        backbone : PretrainedConfig
            The configuration of the backbone that the model is built around.
        """
        return {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    @property
    def backbone(self) -> Any:
        """The pretrained model that reads the texts."""
        return getattr(self, self.backbone_name)

    @property
    def cosine_scale(self) -> float | None:
        """What logits are cosines of text and label vectors times, where they are that."""
        return None

    def encoders(self) -> dict[str, nn.Module]:
        """Give the pretrained models by the names of their attributes."""
        return {self.backbone_name: cast("nn.Module", self.backbone)}

    def is_head(self, parameter: str) -> bool:
        """Tell by a parameter's name whether it lies outside the pretrained models."""
        return parameter.partition(".")[0] not in self.encoders()

    def fixed_modules(self) -> list[nn.Module]:
        """Give the modules that training the layers leaves as they are: the embedding tables."""
        return [module for module in self.modules() if isinstance(module, nn.Embedding)]

    @property
    def n_layer_weights(self) -> int:
        """How many weights every token goes through: all but the embedding tables."""
        tables = (module for module in self.modules() if isinstance(module, nn.Embedding))
        looked_up = {id(parameter) for table in tables for parameter in table.parameters()}
        return sum(p.numel() for p in self.parameters() if id(p) not in looked_up)

    def duplicates(self) -> dict[str, str]:
        """Tell what a checkpoint holds twice: the weight of which name under which second one."""
        return {}

    def training_scores(self, **inputs: Any) -> list[Scores]:
        """Score a micro-batch for training; the loss is summed over what is given.

        Parameters
        ----------
        **inputs
            The arguments of ``forward``.
        """
        return [self(**inputs)]
