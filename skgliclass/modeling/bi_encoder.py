"""The bi-encoder: texts and labels are encoded apart and compared."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import Architecture
from .encoders import make_backbone
from .features import MASKED_LOGIT, Scores
from .joint import make_projector
from .passes import run_encoder
from .pooling import looked_at, pool
from .scorers import DotScorer, compare, make_scorer, precise

if TYPE_CHECKING:
    from .config import GLiClassConfig

SIMILARITY_BIAS = -3.75
"""What is added after scaling, so that a probability of one half lies at a cosine of 0.25.

As a threshold, that cosine gives the highest mean micro-F1 on six multi-label data sets, none of
them used to measure zero-shot quality; found by ``benchmarks/calibrate_similarity.py``.
"""

COMPARED_PAIRS = 1 << 16
"""How many text-label pairs are compared at a time where each needs a vector of its own."""


class BiEncoder(Architecture):
    """Two backbones (or one shared), projections and scorer.

    The backbones may differ in width: the labels' vectors are projected to the texts'.

    Parameters
    ----------
    config : GLiClassConfig
        What they are like.
    backbone : nn.Module, optional
        The backbone of the texts; by default one of `config` without weights.
    """

    name: ClassVar[str] = "bi-encoder"
    inputs: ClassVar[tuple[str, ...]] = (
        *Architecture.inputs,
        "class_input_ids",
        "class_attention_mask",
        "labels_mask",
        "label_vectors",
    )
    has_label_encoder: ClassVar[bool] = True
    encodes_labels_apart: ClassVar[bool] = True

    def __init__(self, config: GLiClassConfig, backbone: Any = None) -> None:
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
        self.encoder_model = backbone or self._make_encoder(config.encoder_config)
        if not config.share_encoders:
            self.label_encoder = self._make_encoder(config.label_model_config)
        width = config.encoder_config.hidden_size
        label_width = config.label_model_config.hidden_size
        # In the reference this projection has no dropout, and only the texts' vectors get some.
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
        # Not by `encode_texts`, nor labels by `pool_labels`: the roads of predictions are kept
        # short, as whoever looks for something goes along them.
        read = looked_at(attention_mask, self.config.pooling_strategy)
        hidden = run_encoder(self.encoder_model, input_ids, attention_mask, read)
        text = self.project_texts(pool(hidden, attention_mask, self.config.pooling_strategy))
        if label_vectors is None:
            label_vectors = self._encode_shaped(class_input_ids, class_attention_mask)
        logits = self.score_vectors(text, label_vectors, labels_mask)
        if labels_mask is None:
            labels_mask = torch.ones_like(logits, dtype=torch.bool)
        else:
            logits = logits.masked_fill(labels_mask == 0, MASKED_LOGIT)
        return Scores(logits, text, label_vectors, labels_mask.bool())

    def _encode_shaped(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Tensor:
        """Encode labels of shape (n_labels, length) or (batch, n_labels, length)."""
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
        strategy = self.config.pooling_strategy
        read = looked_at(attention_mask, strategy)
        hidden = run_encoder(self._label_backbone, input_ids, attention_mask, read)
        return self.project_labels(pool(hidden, attention_mask, strategy))

    def pool_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the text encoder and pool, without the projections."""
        return self._pooled(self.encoder_model, input_ids, attention_mask)

    def pool_labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the label encoder and pool, without the projections."""
        return self._pooled(self._label_backbone, input_ids, attention_mask)

    def project_texts(self, pooled: Tensor) -> Tensor:
        """Make text vectors of what :meth:`pool_texts` gives."""
        return self._finish(self.dropout(self.text_projector(pooled)))

    def project_labels(self, pooled: Tensor) -> Tensor:
        """Make label vectors of what :meth:`pool_labels` gives."""
        return self._finish(self.classes_projector(self.biencoder_projector(pooled)))

    def score_vectors(
        self, text: Tensor, labels: Tensor, label_mask: Tensor | None = None
    ) -> Tensor:
        """Compare texts with labels.

        Parameters
        ----------
        text : Tensor of shape (batch, width)
            What :meth:`encode_texts` gave.
        labels : Tensor of shape (n_labels, width) or (batch, n_labels, width)
            What :meth:`encode_labels` gave, for all texts or for each.
        label_mask : Tensor of shape (batch, n_labels), optional
            Zero where a text has fewer labels; these have no influence on others.

        Returns
        -------
        Tensor of shape (batch, n_labels)
        """
        if self.scorer.makes_pairs and labels.dim() == 2:
            # A view of the same labels for every text: comparing copies them, a part at a time.
            labels = labels.expand(text.shape[0], *labels.shape)
        n_texts = max(1, COMPARED_PAIRS // max(1, labels.shape[-2]))
        # Gradients need all of it anyway, and a graph cannot depend on how many texts there are.
        at_once = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if at_once or not self.scorer.makes_pairs or len(text) <= n_texts:
            logits = compare(self.scorer, text, labels, label_mask=label_mask)
        else:
            masks = repeat(None) if label_mask is None else label_mask.split(n_texts)
            # Not strict, as `repeat` has no end.
            parts = zip(text.split(n_texts), labels.split(n_texts), masks, strict=False)
            logits = torch.cat(
                [compare(self.scorer, some, pairs, label_mask=mask) for some, pairs, mask in parts]
            )
        # In the reference a bi-encoder scales its logits in any case, the architectures with labels
        # in the prompt only where they compare cosines.
        logits = logits * self.logit_scale
        if self.config.logit_bias is not None:
            logits = logits + self.config.logit_bias
        return logits

    @property
    def cosine_scale(self) -> float | None:
        """What logits are cosines of text and label vectors times, where they are that."""
        is_cosine = self.config.normalize_features and isinstance(self.scorer, DotScorer)
        return float(self.logit_scale.detach()) if is_cosine else None

    def encoders(self) -> dict[str, nn.Module]:
        """Give the pretrained models by the names of their attributes."""
        if self.config.share_encoders:
            return super().encoders()
        return {**super().encoders(), "label_encoder": self.label_encoder}

    def fixed_modules(self) -> list[nn.Module]:
        """Give the embedding tables, and a projection that has no width to change."""
        fixed = super().fixed_modules()
        return [*fixed, self.biencoder_projector] if self.config.share_encoders else fixed

    def duplicates(self) -> dict[str, str]:
        """Let a checkpoint hold a shared encoder twice: the ``gliclass`` package loads two."""
        if not self.config.share_encoders:
            return {}
        names = self.encoder_model.state_dict()
        return {f"label_encoder.{name}": f"encoder_model.{name}" for name in names}

    @classmethod
    def new_fields(cls, backbone: Any) -> dict[str, Any]:
        """Give the fields of a new model's configuration that are particular to its kind."""
        return {"logit_bias": SIMILARITY_BIAS}

    def _make_encoder(self, config: Any) -> Any:
        return make_backbone(self.backbone_class(config), config)

    @property
    def _label_backbone(self) -> Any:
        return self.encoder_model if self.config.share_encoders else self.label_encoder

    def _pooled(self, encoder: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
        strategy = self.config.pooling_strategy
        hidden = run_encoder(encoder, input_ids, mask, looked_at(mask, strategy))
        return pool(hidden, mask, strategy)

    def _finish(self, vectors: Tensor) -> Tensor:
        if not self.config.normalize_features:
            return vectors
        # Here the reference divides by the norm or, if it is larger, eps; elsewhere by their sum.
        return F.normalize(precise(vectors), eps=1e-8, dim=-1)
