"""The uni-encoder: one forward pass reads all labels together with the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoders import make_backbone
from .features import Features, Markers, Scores, class_features
from .heads import LayerwiseAttention
from .joint import JointModel
from .passes import run_encoder
from .pooling import looked_at

if TYPE_CHECKING:
    from .config import GLiClassConfig


class UniEncoder(JointModel):
    """Backbone, projections and scorer over prompts that hold labels and text."""

    name: ClassVar[str] = "uni-encoder"

    def __init__(self, config: GLiClassConfig, backbone: Any = None) -> None:
        super().__init__(config)
        kind, settings = self.backbone_class, config.encoder_config
        if backbone is None:
            backbone = make_backbone(kind(settings), settings, config.vocab_size)
        self.encoder_model = backbone
        width = config.encoder_config.hidden_size
        if config.squeeze_layers:
            self.layer_wise_attention = LayerwiseAttention(n_squeezed_layers(config), width)
        if config.use_segment_embeddings:
            self.segment_embeddings = nn.Embedding(3, width)

    @classmethod
    def new_fields(cls, backbone: Any) -> dict[str, Any]:
        """Give the fields of a new model's configuration that are particular to its kind."""
        return {"class_token_pooling": "average", "prompt_first": True}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> Scores:
        """Score the labels that the prompts hold; the arguments are those of :meth:`features`."""
        hidden = self.encode(input_ids, attention_mask)
        return self.score(self._features(hidden, input_ids, attention_mask, max_num_classes))

    def training_scores(self, **inputs: Any) -> list[Scores]:
        """Score a micro-batch; with ``layer_wise``, from the vectors of every layer."""
        if not self.config.layer_wise:
            return [self(**inputs)]
        return [self.score(features) for features in self.layer_features(**inputs)]

    def features(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> Features:
        """Run the backbone and pool.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            Prompts, padded on the right.
        max_num_classes : int, optional
            How many columns to give; by default the most markers that a prompt has. A row with
            fewer labels has zeros in ``class_mask`` for the columns that are not its.
        """
        hidden = self.encode(input_ids, attention_mask)
        return self._features(hidden, input_ids, attention_mask, max_num_classes)

    def layer_features(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> list[Features]:
        """Give :meth:`features` of every layer's token vectors, the embeddings' first.

        With ``layer_wise`` the loss is summed over them in training, so that the lower layers
        learn to classify too; predictions come from the last.
        """
        output = self._run(input_ids, attention_mask, all_layers=True)
        return [
            self._features(hidden, input_ids, attention_mask, max_num_classes)
            for hidden in output.hidden_states
        ]

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give token vectors of shape (batch, length, width), right where the heads look."""
        layer, squeeze = self.config.encoder_layer_id, self.config.squeeze_layers
        if layer == -1 and not squeeze and not self.config.use_segment_embeddings:
            read = self._looked_at(input_ids, attention_mask)
            return run_encoder(self.encoder_model, input_ids, attention_mask, read)
        output = self._run(input_ids, attention_mask, all_layers=squeeze or layer != -1)
        if layer != -1:
            chosen: Tensor = output.hidden_states[layer]
            return chosen
        hidden: Tensor = output[0]
        if squeeze:
            hidden = self.layer_wise_attention(output.hidden_states, attention_mask)
        return hidden

    def pooled_text(
        self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pool the token vectors of the text; give the mask of what it was made of too."""
        part, n_zeros = self._text_part(input_ids, attention_mask)
        return self.pool_text(hidden, part, n_zeros)

    def _run(self, input_ids: Tensor, attention_mask: Tensor, all_layers: bool) -> Any:
        inputs: dict[str, Tensor] = {"input_ids": input_ids}
        if self.config.use_segment_embeddings:
            words = self.encoder_model.get_input_embeddings()(input_ids)
            inputs = {"inputs_embeds": words + self.segment_embeddings(self._segments(input_ids))}
        return self.encoder_model(
            **inputs, attention_mask=attention_mask, output_hidden_states=all_layers
        )

    def _features(
        self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor, n_columns: int | None
    ) -> Features:
        config = self.config
        markers = Markers.of(input_ids, attention_mask, config.class_token_index, n_columns)
        text, text_mask = self.pooled_text(hidden, input_ids, attention_mask)
        classes = class_features(hidden, input_ids, attention_mask, markers, config)
        return Features(text, text_mask, classes, markers.class_mask)

    def _looked_at(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor | None:
        """Tell which positions :meth:`_features` looks at; None where it may be all."""
        config = self.config
        if config.use_lstm or config.class_token_pooling == "average":
            return None
        part, _ = self._text_part(input_ids, attention_mask)
        text = looked_at(part, config.pooling_strategy)
        if text is None:
            return None
        of_labels = input_ids.eq(config.class_token_index) & attention_mask.bool()
        if not config.embed_class_token:
            of_labels = F.pad(of_labels[:, :-1], (1, 0))
        return text | of_labels

    def _segments(self, input_ids: Tensor) -> Tensor:
        """Tell labels (0) from what follows the first text marker (1)."""
        is_text = input_ids.eq(self.config.text_token_index)
        # Without a text marker the reference takes the first position for one.
        start = is_text.int().argmax(dim=1, keepdim=True)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        segments = (positions >= start).long()
        # The reference means to give examples a segment of their own, but its search for their
        # start finds the first token that is none, so that all tokens get it; checkpoints with
        # segments have only ever seen this.
        has_examples = input_ids.eq(self.config.example_token_index).any(dim=1, keepdim=True)
        return torch.where(has_examples, torch.full_like(segments, 2), segments)

    def _text_part(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.config.extract_text_features:
            return attention_mask, None
        # Without a text marker this is the first position, so that all is text, as in the
        # reference.
        start = input_ids.eq(self.config.text_token_index).int().argmax(dim=1, keepdim=True)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        part = attention_mask * (positions >= start)
        return part, (attention_mask - part).sum(dim=1)


def n_squeezed_layers(config: GLiClassConfig) -> int:
    """Tell how many layers ``squeeze_layers`` weighs: by default all, with the embeddings."""
    n_layers: int | None = config.n_squeezed_layers
    return config.encoder_config.num_hidden_layers + 1 if n_layers is None else n_layers
