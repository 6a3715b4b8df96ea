"""The uni-encoder: one forward pass reads all labels together with the text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, T5EncoderModel, UMT5EncoderModel

from .config import GLiClassConfig
from .heads import BidirectionalLSTM, FeaturesProjector
from .pooling import pool
from .scorers import make_scorer

_ENCODER_HALVES = {"t5": T5EncoderModel, "mt5": T5EncoderModel, "umt5": UMT5EncoderModel}


@dataclass
class Scores:
    """What an architecture gives back for one micro-batch."""

    logits: Tensor
    text_embeddings: Tensor
    class_embeddings: Tensor
    class_mask: Tensor


@dataclass
class Features:
    """What the heads of a uni-encoder work on, before any projection."""

    text: Tensor
    text_mask: Tensor
    classes: Tensor
    class_mask: Tensor


class UniEncoder(nn.Module):
    """Backbone, projections and scorer over prompts that hold labels and text."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        if config.squeeze_layers:
            raise NotImplementedError(
                "squeeze_layers=True (as in the -lw checkpoints) is not supported yet."
            )
        self.config = config
        self.encoder_model = make_encoder(config.encoder_config)
        if self.encoder_model.config.vocab_size != config.vocab_size:
            self.encoder_model.resize_token_embeddings(config.vocab_size, mean_resizing=False)
        width = config.encoder_config.hidden_size
        self.text_projector = make_projector(config, width)
        self.classes_projector = make_projector(config, width)
        self.scorer = make_scorer(config)
        self.dropout = nn.Dropout(config.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        if config.use_lstm:
            self.lstm = BidirectionalLSTM(width)
        if config.use_segment_embeddings:
            self.segment_embeddings = nn.Embedding(3, width)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> Scores:
        """Score the labels that each prompt holds.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            Prompts, padded on the right.
        max_num_classes : int, optional
            How many columns to give; by default the most markers that a prompt has.

        Returns
        -------
        Scores
            A row with fewer labels has zeros in ``class_mask`` for the columns that are not its.
        """
        return self.score(self.features(input_ids, attention_mask, max_num_classes))

    def features(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> Features:
        """Run the backbone and pool; the arguments are those of :meth:`forward`."""
        hidden = self.encode(input_ids, attention_mask)
        markers = input_ids.eq(self.config.class_token_index) & attention_mask.bool()
        n_labels = markers.sum(dim=1)
        n_columns = int(n_labels.max()) if max_num_classes is None else max_num_classes
        class_mask = torch.arange(n_columns, device=hidden.device) < n_labels[:, None]

        text_mask, n_zeros = self._text_part(input_ids, attention_mask)
        text_hidden = hidden
        if self.config.use_lstm:
            text_hidden, text_mask = self.lstm(hidden, text_mask)
        text = pool(text_hidden, text_mask, self.config.pooling_strategy, n_zeros)
        classes = self._class_features(hidden, input_ids, attention_mask, markers, n_columns)
        return Features(text, text_mask, classes, class_mask)

    def score(self, features: Features) -> Scores:
        """Project and compare what :meth:`features` gives."""
        text = self.dropout(self.text_projector(features.text))
        classes = self.classes_projector(features.classes)
        if self.config.normalize_features:
            text, classes = _to_unit_length(text), _to_unit_length(classes)
        logits = self.scorer(
            text, classes, text_mask=features.text_mask, label_mask=features.class_mask
        )
        if self.config.normalize_features:
            logits = logits * self.logit_scale
        if self.config.logit_bias is not None:
            logits = logits + self.config.logit_bias
        return Scores(logits, text, classes, features.class_mask)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give the token vectors that heads work on, of shape (batch, length, width)."""
        inputs: dict[str, Tensor] = {"input_ids": input_ids}
        if self.config.use_segment_embeddings:
            words = self.encoder_model.get_input_embeddings()(input_ids)
            inputs = {"inputs_embeds": words + self.segment_embeddings(self._segments(input_ids))}
        layer = self.config.encoder_layer_id
        output = self.encoder_model(
            **inputs, attention_mask=attention_mask, output_hidden_states=layer != -1
        )
        hidden: Tensor = output[0] if layer == -1 else output.hidden_states[layer]
        return hidden

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
        start = input_ids.eq(self.config.text_token_index).int().argmax(dim=1, keepdim=True)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        part = attention_mask * (positions >= start)
        return part, (attention_mask - part).sum(dim=1)

    def _class_features(
        self, hidden: Tensor, input_ids: Tensor, mask: Tensor, markers: Tensor, n_columns: int
    ) -> Tensor:
        rank = markers.long().cumsum(dim=1)
        if self.config.class_token_pooling == "average":
            return self._mean_over_labels(hidden, input_ids, mask, markers, rank, n_columns)
        return self._at_markers(hidden, markers, rank, n_columns)

    def _at_markers(self, hidden: Tensor, markers: Tensor, rank: Tensor, n_columns: int) -> Tensor:
        rows, positions = markers.nonzero(as_tuple=True)
        columns = rank[rows, positions] - 1
        if not self.config.embed_class_token:
            positions = positions + 1
        kept = (columns < n_columns) & (positions < hidden.shape[1])
        rows, columns, positions = rows[kept], columns[kept], positions[kept]
        features = hidden.new_zeros(len(hidden), n_columns, hidden.shape[2])
        return features.index_put((rows, columns), hidden[rows, positions])

    def _mean_over_labels(
        self,
        hidden: Tensor,
        input_ids: Tensor,
        mask: Tensor,
        markers: Tensor,
        rank: Tensor,
        n_columns: int,
    ) -> Tensor:
        # The last label's span runs on over the text marker and the text unless these are told
        # apart; the published checkpoints with averaged labels were trained so.
        counted = mask.bool()
        if self.config.extract_text_features:
            is_text = input_ids.eq(self.config.text_token_index)
            counted = counted & is_text.long().cumsum(dim=1).eq(0)
        if not self.config.embed_class_token:
            counted = counted & ~markers
        columns = torch.arange(1, n_columns + 1, device=hidden.device)
        spans = (rank[:, None] == columns[:, None]) & counted[:, None]
        weights = spans.to(hidden.dtype)
        return weights @ hidden / weights.sum(dim=2, keepdim=True).clamp_min(1)


def make_encoder(config: object) -> PreTrainedModel:
    """Build a backbone without weights; only the encoder half of a T5."""
    model_type = getattr(config, "model_type", "")
    if model_type in _ENCODER_HALVES:
        return _ENCODER_HALVES[model_type]._from_config(config)
    encoder: PreTrainedModel = AutoModel.from_config(config)
    return encoder


def make_projector(config: GLiClassConfig, in_size: int, dropout: bool = True) -> FeaturesProjector:
    """Build a projection to the backbone's width."""
    return FeaturesProjector(
        in_size,
        config.hidden_size,
        config.encoder_config.hidden_size,
        config.projector_hidden_act,
        config.dropout if dropout else 0.0,
    )


def _to_unit_length(vectors: Tensor) -> Tensor:
    return vectors / (vectors.norm(p=2, dim=-1, keepdim=True) + 1e-8)
