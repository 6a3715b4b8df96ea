"""The heads of the architectures whose backbone reads the labels together with the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .architecture import Architecture
from .features import Features, Scores
from .heads import BidirectionalLSTM, FeaturesProjector
from .pooling import pool
from .scorers import compare, make_scorer, precise

if TYPE_CHECKING:
    from .config import GLiClassConfig


class JointModel(Architecture):
    """Projections and scorer; a subclass adds the backbone and :meth:`features`."""

    # As in the `gliclass` package, only where the labels' vectors depend on the text.
    has_contrastive_loss: ClassVar[bool] = True

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        self.config = config
        width = config.encoder_config.hidden_size
        self.text_projector = make_projector(config, width)
        self.classes_projector = make_projector(config, width)
        self.scorer = make_scorer(config, pooling_is_fixed=self.pooling_is_fixed)
        self.dropout = nn.Dropout(config.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        if config.use_lstm:
            self.lstm = BidirectionalLSTM(width)

    def forward(self, *args: Any, **kwargs: Any) -> Scores:
        """Score labels against texts; the arguments are those of :meth:`features`."""
        return self.score(self.features(*args, **kwargs))

    def features(self, *args: Any, **kwargs: Any) -> Features:
        """Run the backbone and pool."""
        raise NotImplementedError

    def score(self, features: Features) -> Scores:
        """Project and compare what :meth:`features` gives."""
        text = self.dropout(self.text_projector(features.text))
        classes = self.classes_projector(features.classes)
        if self.config.normalize_features:
            text, classes = _to_unit_length(text), _to_unit_length(classes)
        logits = compare(
            self.scorer, text, classes, text_mask=features.text_mask, label_mask=features.class_mask
        )
        if self.config.normalize_features:
            logits = logits * self.logit_scale
        if self.config.logit_bias is not None:
            logits = logits + self.config.logit_bias
        return Scores(logits, text, classes, features.class_mask, features.text_mask)

    def pool_text(
        self, hidden: Tensor, mask: Tensor, n_zeros: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Make the text's vector of its tokens'; give the mask of what it was made of too."""
        if self.config.use_lstm:
            hidden, mask = self.lstm(hidden, mask)
        return pool(hidden, mask, self.config.pooling_strategy, n_zeros), mask


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
    vectors = precise(vectors)
    # The reference adds eps to the norm here; a bi-encoder takes the larger of the two.
    return vectors / (vectors.norm(p=2, dim=-1, keepdim=True) + 1e-8)
