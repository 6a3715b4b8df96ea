"""The bi-encoder: texts and labels are encoded apart and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import Architecture
from .encoders import make_encoder
from .features import Scores
from .joint import make_projector
from .lean import run_encoder
from .pooling import looked_at, pool
from .scorers import compare, make_scorer, precise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .config import GLiClassConfig

_MASKED_LOGIT = -1e3


class BiEncoder(Architecture):
    """Two backbones (or one shared), projections and scorer.

    The backbones may differ in width: the labels' vectors are projected to the texts'.

    Parameters
    ----------
    config : GLiClassConfig
        What they are like.
    encoder : nn.Module, optional
        The backbone of the texts; by default one of `config` without weights.
    """

    has_label_encoder: ClassVar[bool] = True
    encodes_labels_apart: ClassVar[bool] = True

    def __init__(self, config: GLiClassConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__()
        if config.label_model_config is None:
            raise ValueError(
                f"architecture_type={config.architecture_type!r} needs label_model_name and "
                "label_model_config, the encoder of the labels."
            )
        if config.pooling_strategy == "pass":
            raise ValueError(
                "A bi-encoder cannot have pooling_strategy='pass': a label needs one vector. "
                "Choose another pooling, or architecture_type='uni-encoder'."
            )
        self.config = config
        self.encoder_model = make_encoder(config.encoder_config) if encoder is None else encoder
        if not config.share_encoders:
            self.label_encoder = make_encoder(config.label_model_config)
        width = config.encoder_config.hidden_size
        label_width = config.label_model_config.hidden_size
        self.biencoder_projector = make_projector(config, label_width, dropout=False)
        self.text_projector = make_projector(config, width)
        self.classes_projector = make_projector(config, width)
        self.scorer = make_scorer(config)
        self.dropout = nn.Dropout(config.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        labels_mask: Tensor | None = None,
        label_vectors: Tensor | None = None,
        max_num_classes: int | None = None,
    ) -> Scores:
        """Score labels against texts.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            The texts, padded on the right.
        class_input_ids, class_attention_mask : Tensor
            The labels: (n_labels, length) for labels that all texts share, or
            (batch, n_labels, length).
        labels_mask : Tensor of shape (batch, n_labels), optional
            Zero where a text has fewer labels; such logits are -1000.
        label_vectors : Tensor of shape (n_labels, width) or (batch, n_labels, width), optional
            What :meth:`encode_labels` gave, in place of the labels' tokens.
        max_num_classes : int, optional
            No influence: there are as many columns as labels.
        """
        text = self.encode_texts(input_ids, attention_mask)
        classes = self.label_vectors(class_input_ids, class_attention_mask, label_vectors)
        logits = self.score_vectors(text, classes, labels_mask)
        if labels_mask is None:
            labels_mask = torch.ones_like(logits, dtype=torch.bool)
        else:
            logits = logits.masked_fill(labels_mask == 0, _MASKED_LOGIT)
        return Scores(logits, text, classes, labels_mask.bool())

    def label_vectors(
        self, input_ids: Tensor | None, attention_mask: Tensor | None, given: Tensor | None
    ) -> Tensor:
        """Encode labels of shape (n_labels, length) or (batch, n_labels, length), if not given."""
        if given is not None:
            return given
        if input_ids is None or attention_mask is None:
            raise ValueError(
                f"A {self.config.architecture_type} needs class_input_ids, the tokens of the "
                "labels, or label_vectors."
            )
        shape = input_ids.shape[:-1]
        flat = self.encode_labels(input_ids.flatten(0, -2), attention_mask.flatten(0, -2))
        return flat.unflatten(0, shape)

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give the texts' vectors, of shape (batch, width)."""
        return self.project_texts(self.pool_texts(input_ids, attention_mask))

    def encode_labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give the labels' vectors, of shape (n_labels, width)."""
        return self.project_labels(self.pool_labels(input_ids, attention_mask))

    def pool_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the text encoder and pool, without the projections."""
        return self._pooled(self.encoder_model, input_ids, attention_mask)

    def pool_labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the label encoder and pool, without the projections."""
        encoder = self.encoder_model if self.config.share_encoders else self.label_encoder
        return self._pooled(encoder, input_ids, attention_mask)

    def project_texts(self, pooled: Tensor) -> Tensor:
        """Make text vectors of what :meth:`pool_texts` gives."""
        return self._finish(self.dropout(self.text_projector(pooled)))

    def project_labels(self, pooled: Tensor) -> Tensor:
        """Make label vectors of what :meth:`pool_labels` gives."""
        return self._finish(self.classes_projector(self.biencoder_projector(pooled)))

    def score_vectors(
        self, text: Tensor, labels: Tensor, label_mask: Tensor | None = None
    ) -> Tensor:
        """Compare vectors of shape (batch, width) with shared or own label vectors."""
        if labels.dim() == 2 and self.config.scorer_type != "simple":
            labels = labels.expand(len(text), *labels.shape)
        logits = compare(self.scorer, text, labels, label_mask=label_mask) * self.logit_scale
        if self.config.logit_bias is not None:
            logits = logits + self.config.logit_bias
        return logits

    def _pooled(self, encoder: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> Tensor:
        strategy = self.config.pooling_strategy
        hidden = run_encoder(encoder, input_ids, mask, looked_at(mask, strategy))
        return pool(hidden, mask, strategy)

    def _finish(self, vectors: Tensor) -> Tensor:
        if not self.config.normalize_features:
            return vectors
        return F.normalize(precise(vectors), eps=1e-8, dim=-1)
