"""The encoder-decoders: one half of the backbone reads the text, the other the labels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from .config import GLiClassConfig
from .features import Features, Markers, class_features
from .joint import JointModel
from .pooling import pool


class EncoderDecoder(JointModel):
    """The encoder reads the text; the decoder reads the labels and attends to the text."""

    backbone_name: ClassVar[str] = "encoder_decoder_model"

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__(config)
        self.encoder_decoder_model = make_encoder_decoder(config)

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor,
        class_attention_mask: Tensor,
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
        output = self.encoder_decoder_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=class_input_ids,
            decoder_attention_mask=self._both_directions(class_attention_mask),
        )
        labels = class_input_ids, class_attention_mask
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


class EncoderDecoderCLS(JointModel):
    """The encoder reads the labels; the decoder reads the text, whose last token stands for it."""

    backbone_name: ClassVar[str] = "encoder_decoder_model"

    def __init__(self, config: GLiClassConfig) -> None:
        if config.scorer_type == "cross-attn":
            raise ValueError(
                "An encoder-decoder-cls has one vector for the text, so that scorer_type="
                "'cross-attn' has nothing to attend to. Choose another scorer."
            )
        super().__init__(config)
        self.encoder_decoder_model = make_encoder_decoder(config)

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor,
        class_attention_mask: Tensor,
        max_num_classes: int | None = None,
    ) -> Features:
        """Run the backbone; the arguments are those of :meth:`EncoderDecoder.features`."""
        output = self.encoder_decoder_model(
            input_ids=class_input_ids,
            attention_mask=class_attention_mask,
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
        )
        labels = class_input_ids, class_attention_mask
        markers = Markers.of(*labels, self.config.class_token_index, max_num_classes)
        # Whatever the configured pooling: only the last token of a causal decoder has seen all.
        text = pool(output.last_hidden_state, attention_mask, "last")
        classes = class_features(output.encoder_last_hidden_state, *labels, markers, self.config)
        return Features(text, attention_mask, classes, markers.class_mask)


def make_encoder_decoder(config: GLiClassConfig) -> PreTrainedModel:
    """Build an encoder-decoder backbone without weights.

    Raises
    ------
    ValueError
        If the configured backbone has no decoder.
    """
    if not config.encoder_config.is_encoder_decoder:
        raise ValueError(
            f"architecture_type={config.architecture_type!r} needs an encoder-decoder backbone "
            f"such as T5; {config.encoder_config.model_type!r} is none."
        )
    backbone: PreTrainedModel = AutoModel.from_config(config.encoder_config)
    return backbone
