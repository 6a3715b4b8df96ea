"""The encoder-decoders: one half of the backbone reads the text, the other the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from .architecture import Architecture
from .encoders import encoder_decoder_class, make_backbone, tied_weights
from .features import Features, Markers, class_features
from .joint import JointModel
from .pooling import pool

if TYPE_CHECKING:
    from .config import GLiClassConfig


class _BothHalves(JointModel):
    """What the two ways to use an encoder-decoder share."""

    backbone_name: ClassVar[str] = "encoder_decoder_model"
    inputs: ClassVar[tuple[str, ...]] = (
        *Architecture.inputs,
        "class_input_ids",
        "class_attention_mask",
    )

    def __init__(self, config: GLiClassConfig, backbone: Any = None) -> None:
        super().__init__(config)
        settings = config.encoder_config
        self.encoder_decoder_model = backbone or make_backbone(
            self.backbone_class(settings), settings
        )

    @classmethod
    def _backbone_class(cls, config: Any) -> Any:
        return encoder_decoder_class(config)

    @classmethod
    def new_fields(cls, backbone: Any) -> dict[str, Any]:
        """Give the fields of a new model's configuration that are particular to its kind."""
        return {"class_token_pooling": "average"}

    def duplicates(self) -> dict[str, str]:
        """Let a checkpoint hold the word embeddings of both halves.

        The ``gliclass`` package does not tie those of a decoder when it loads, and would start
        with random ones.
        """
        name = self.backbone_name
        tied = tied_weights(self.encoder_decoder_model)
        return {f"{name}.{second}": f"{name}.{first}" for second, first in tied.items()}


class EncoderDecoder(_BothHalves):
    """The encoder reads the text; the decoder reads the labels and attends to the text."""

    name: ClassVar[str] = "encoder-decoder"

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        max_num_classes: int | None = None,
    ) -> Features:
        """Run the backbone and pool.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            The texts, padded on the right.
        class_input_ids, class_attention_mask : Tensor of shape (batch, labels_length)
            Each text's labels with their markers, padded on the right.
        max_num_classes : int, optional
            How many columns to give; by default the most markers that a row has.
        """
        labels = _checked(class_input_ids, class_attention_mask)
        output = self.encoder_decoder_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=labels[0],
            decoder_attention_mask=self._both_directions(labels[1]),
        )
        markers = Markers.of(*labels, self.config.class_token_index, max_num_classes)
        text, text_mask = self.pool_text(output.encoder_last_hidden_state, attention_mask)
        classes = class_features(output.last_hidden_state, *labels, markers, self.config)
        return Features(text, text_mask, classes, markers.class_mask)

    def _both_directions(self, mask: Tensor) -> Tensor:
        """Let every decoder token attend to all real ones: a mask of four dimensions is final."""
        dtype = self.encoder_decoder_model.dtype
        hidden = torch.zeros_like(mask, dtype=dtype).masked_fill(
            ~mask.bool(), torch.finfo(dtype).min
        )
        return hidden[:, None, None].expand(-1, 1, mask.shape[1], -1)


class EncoderDecoderCLS(_BothHalves):
    """The encoder reads the labels; the decoder reads the text, whose last token stands for it."""

    name: ClassVar[str] = "encoder-decoder-cls"
    pooling_is_fixed: ClassVar[bool] = True

    def __init__(self, config: GLiClassConfig, backbone: Any = None) -> None:
        if config.scorer_type == "cross-attn":
            raise ValueError(
                "An encoder-decoder-cls has one vector for the text, so that scorer_type="
                "'cross-attn' has nothing to attend to. Choose another scorer."
            )
        super().__init__(config, backbone)

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        max_num_classes: int | None = None,
    ) -> Features:
        """Run the backbone; the arguments are those of :meth:`EncoderDecoder.features`."""
        labels = _checked(class_input_ids, class_attention_mask)
        output = self.encoder_decoder_model(
            input_ids=labels[0],
            attention_mask=labels[1],
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
        )
        markers = Markers.of(*labels, self.config.class_token_index, max_num_classes)
        # Whatever the configured pooling: only the last token of a causal decoder has seen all.
        text = pool(output.last_hidden_state, attention_mask, "last")
        classes = class_features(output.encoder_last_hidden_state, *labels, markers, self.config)
        return Features(text, attention_mask, classes, markers.class_mask)


def _checked(input_ids: Tensor | None, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    if input_ids is None or attention_mask is None:
        raise ValueError("An encoder-decoder needs class_input_ids, the tokens of the labels.")
    return input_ids, attention_mask
