"""Compare text vectors with label vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .config import GLiClassConfig


_MLP_HIDDEN_SIZE = 256  # whatever the configuration says: the reference ignores it here


def precise(vectors: Tensor) -> Tensor:
    """Go on in float32 with vectors of fewer digits: what decides must not be rounded again."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


class Scorer(nn.Module):
    """Compares a text with its labels; the base of all scorers.

    Attributes
    ----------
    makes_pairs : bool
        Whether it needs a vector for every pair of a text and a label, and so the labels' vectors
        for each text.
    attends : bool
        Whether it reads the text's tokens, so that nothing pools them.
    """

    makes_pairs: ClassVar[bool] = True
    attends: ClassVar[bool] = False

    @classmethod
    def of_config(cls, config: GLiClassConfig) -> Scorer:
        """Build it for vectors as wide as the backbone's."""
        return cls(config.encoder_config.hidden_size)


def compare(scorer: nn.Module, text: Tensor, labels: Tensor, **masks: Tensor | None) -> Tensor:
    """Score labels, in the precision of the scorer's weights, or precisely if it has none."""
    weight = next(scorer.parameters(), None)
    if weight is None:
        text, labels = precise(text), precise(labels)
    else:
        text, labels = text.to(weight.dtype), labels.to(weight.dtype)
    scores: Tensor = scorer(text, labels, **masks)
    return scores


class DotScorer(Scorer):
    """The dot product."""

    makes_pairs: ClassVar[bool] = False

    @classmethod
    def of_config(cls, config: GLiClassConfig) -> Scorer:
        """Build it; it has no weights."""
        return cls()

    def forward(self, text: Tensor, labels: Tensor, **_: Tensor | None) -> Tensor:
        """Score labels of shape (batch, n_labels, width) or, shared, (n_labels, width)."""
        if labels.dim() == 2:
            return text @ labels.T
        return torch.einsum("bd,bkd->bk", text, labels)


class WeightedDotScorer(Scorer):
    """A small network over both vectors and their product."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.proj_text = nn.Linear(hidden_size, hidden_size * 2)
        self.proj_label = nn.Linear(hidden_size, hidden_size * 2)
        self.out_mlp = nn.Sequential(
            nn.Linear(hidden_size * 3, hidden_size * 4),
            nn.Dropout(0.1),
            nn.ReLU(),
            nn.Linear(hidden_size * 4, 1),
        )

    def forward(self, text: Tensor, labels: Tensor, **_: Tensor | None) -> Tensor:
        """Score labels of shape (batch, n_labels, width)."""
        text_add, text_multiply = self.proj_text(text)[:, None].chunk(2, dim=-1)
        label_add, label_multiply = self.proj_label(labels).chunk(2, dim=-1)
        features = torch.cat(
            [text_add.expand_as(label_add), label_add, text_multiply * label_multiply], dim=-1
        )
        scores: Tensor = self.out_mlp(features)
        return scores.squeeze(-1)


def _score_mlp(in_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_size, _MLP_HIDDEN_SIZE),
        nn.ReLU(),
        nn.Linear(_MLP_HIDDEN_SIZE, _MLP_HIDDEN_SIZE // 2),
        nn.ReLU(),
        nn.Linear(_MLP_HIDDEN_SIZE // 2, 1),
    )


class MLPScorer(Scorer):
    """A small network over both vectors."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.mlp = _score_mlp(hidden_size * 2)

    def forward(self, text: Tensor, labels: Tensor, **_: Tensor | None) -> Tensor:
        """Score labels of shape (batch, n_labels, width)."""
        # The first layer acts on text and label apart, so the text's share is computed once.
        first = cast("nn.Linear", self.mlp[0])
        weight, bias = first.weight, first.bias
        width = text.shape[-1]
        hidden = F.linear(labels, weight[:, width:], bias)
        hidden = hidden + F.linear(text, weight[:, :width])[:, None]
        scores: Tensor = self.mlp[1:](hidden)
        return scores.squeeze(-1)


class HopfieldScorer(Scorer):
    """Let the labels compete for the text, then score each with what it won.

    One step of a modern Hopfield network (Ramsauer et al. 2021) with the inverse temperature 4.
    """

    inverse_temperature = 4

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.mlp = _score_mlp(hidden_size)

    def forward(
        self, text: Tensor, labels: Tensor, label_mask: Tensor | None = None, **_: Tensor | None
    ) -> Tensor:
        """Score labels of shape (batch, n_labels, width); masked labels do not compete."""
        key, value = self.k_proj(text), self.v_proj(text)
        strength = torch.einsum("bkd,bd->bk", self.q_proj(labels), key)
        strength = strength * self.inverse_temperature
        if label_mask is not None:
            # Not minus infinity: the softmax of a row without labels would be no number.
            strength = strength.masked_fill(~label_mask.bool(), torch.finfo(strength.dtype).min)
        share = strength.softmax(dim=1)
        scores: Tensor = self.mlp(labels + share[..., None] * value[:, None])
        return scores.squeeze(-1)


class CrossAttentionScorer(Scorer):
    """Let every label attend to the text's tokens."""

    attends: ClassVar[bool] = True

    @classmethod
    def of_config(cls, config: GLiClassConfig) -> Scorer:
        """Build it as the configuration says."""
        return cls(
            config.encoder_config.hidden_size,
            config.scorer_num_heads,
            config.scorer_mlp_hidden_size,
            config.scorer_attn_dropout,
        )

    def __init__(self, hidden_size: int, n_heads: int, mlp_size: int, dropout: float) -> None:
        super().__init__()
        if hidden_size % n_heads:
            raise ValueError(
                f"scorer_num_heads={n_heads} does not divide the hidden size {hidden_size}."
            )
        self.n_heads = n_heads
        self.attention_dropout = dropout
        self.q_norm = nn.LayerNorm(hidden_size)
        self.kv_norm = nn.LayerNorm(hidden_size)
        self.q = nn.Linear(hidden_size, hidden_size)
        self.k = nn.Linear(hidden_size, hidden_size)
        self.v = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.score_mlp = nn.Sequential(
            nn.Linear(hidden_size * 2, mlp_size),
            nn.GELU(),
            nn.Linear(mlp_size, mlp_size // 2),
            nn.GELU(),
            nn.Linear(mlp_size // 2, 1),
        )

    def forward(
        self, text: Tensor, labels: Tensor, text_mask: Tensor | None = None, **_: Tensor | None
    ) -> Tensor:
        """Score labels (batch, n_labels, width) against tokens (batch, length, width)."""
        query = self._split_heads(self.q(self.q_norm(labels)))
        # The values are taken before normalisation: checkpoints were trained so.
        key, value = self._split_heads(self.k(self.kv_norm(text))), self._split_heads(self.v(text))
        mask = None if text_mask is None else text_mask.bool()[:, None, None, :]
        dropout = self.attention_dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
        context = self.norm(self.out(context.transpose(1, 2).flatten(2)))
        scores: Tensor = self.score_mlp(torch.cat([context, labels], dim=-1))
        return scores.squeeze(-1)

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


SCORERS: dict[str, type[Scorer]] = {
    "simple": DotScorer,
    "cross-attn": CrossAttentionScorer,
    "weighted-dot": WeightedDotScorer,
    "mlp": MLPScorer,
    "hopfield": HopfieldScorer,
}


def make_scorer(config: GLiClassConfig, *, pooling_is_fixed: bool = False) -> Scorer:
    """Build the scorer that a configuration asks for.

    Parameters
    ----------
    config : GLiClassConfig
        What the model is like.
    pooling_is_fixed : bool, default=False
        Whether the text has one vector, whatever pooling the configuration names.

    Raises
    ------
    ValueError
        If the scorer is unknown or does not go with the pooling.
    """
    kind = SCORERS.get(config.scorer_type)
    if kind is None:
        raise ValueError(
            f"Unknown scorer_type {config.scorer_type!r}; choose from {', '.join(SCORERS)}."
        )
    if not pooling_is_fixed and kind.attends != (config.pooling_strategy == "pass"):
        raise ValueError(
            f"scorer_type={config.scorer_type!r} does not go with pooling_strategy="
            f"{config.pooling_strategy!r}: 'cross-attn' and 'pass' need each other."
        )
    return kind.of_config(config)
