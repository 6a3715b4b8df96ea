"""The decoder: a causal language model reads the text, then the labels, and a small encoder scores.

The sequence is ``text<<SEP>>label1<<LABEL>>label2<<LABEL>><<SEP>>``. As the text comes first and
attention is causal, what the backbone computed for a text can be kept and used with many label
sets; only the labels' part goes through the scorer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .architecture import Architecture
from .encoders import causal_class, make_backbone
from .features import Markers, Scores
from .pooling import pool

if TYPE_CHECKING:
    from .config import GLiClassConfig

# Fixed in the reference too, so that no configuration tells them.
_HEAD_SIZE = 64
_MAX_DISTANCE = 512


@dataclass
class LabelSection:
    """What the scorer works on: the part of each sequence that holds the labels.

    Attributes
    ----------
    hidden : Tensor of shape (batch, length, width)
        The backbone's token vectors.
    mask : Tensor of shape (batch, length)
        Nonzero at real tokens.
    is_end : Tensor of shape (batch, length)
        Whether a position holds ``<<SEP>>``.
    markers : Markers
        Where the labels' markers are.
    """

    hidden: Tensor
    mask: Tensor
    is_end: Tensor
    markers: Markers


@dataclass(frozen=True)
class TextCache:
    """What the backbone computed for one text, to be scored with any labels.

    Attributes
    ----------
    states : transformers.Cache
        Keys and values of every layer. Scoring does not change them.
    length : int
        The tokens of the text.
    """

    states: Any
    length: int


class DecoderKVScorer(nn.Module):
    """A bidirectional encoder over the labels' part, then a small network for each label."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        width, inner = config.encoder_config.hidden_size, config.scorer_mlp_hidden_size
        self.scorer_encoder = _make_scorer_encoder(width, config.scorer_encoder_num_layers)
        self.text_projector = nn.Linear(width, width)
        self.label_projector = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.mlp = nn.Sequential(
            nn.Linear(2 * width, inner),
            nn.ReLU(),
            nn.Linear(inner, inner // 2),
            nn.ReLU(),
            nn.Linear(inner // 2, 1),
        )
        self.normalize = config.normalize_features

    def forward(self, section: LabelSection) -> Scores:
        """Score the labels of each row against the text before them."""
        hidden = self.scorer_encoder(section.hidden, section.mask).last_hidden_state
        # The last <<SEP>> has read the text and all labels.
        ends = section.is_end & section.mask.bool()
        text = pool(hidden, ends, "last") * ends.any(dim=1, keepdim=True)
        text = self.dropout(self.text_projector(text))
        labels = self.label_projector(section.markers.pick(hidden))
        if self.normalize:
            text = text / (text.norm(dim=-1, keepdim=True) + 1e-8)
            labels = labels / (labels.norm(dim=-1, keepdim=True) + 1e-8)
        pairs = torch.cat([text[:, None].expand_as(labels), labels], dim=-1)
        logits = self.mlp(pairs).squeeze(-1)
        return Scores(logits, text, labels, section.markers.class_mask)


def _make_scorer_encoder(width: int, n_layers: int) -> nn.Module:
    # Not at the top: the other architectures do not wait for transformers.
    from transformers import DebertaV2Config
    from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Encoder

    encoder: nn.Module = DebertaV2Encoder(
        DebertaV2Config(
            hidden_size=width,
            num_hidden_layers=n_layers,
            num_attention_heads=max(1, width // _HEAD_SIZE),
            intermediate_size=4 * width,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            max_relative_positions=_MAX_DISTANCE,
        )
    )
    return encoder


class DecoderKV(Architecture):
    """A causal backbone and the scorer."""

    name: ClassVar[str] = "decoder-kv"
    backbone_name: ClassVar[str] = "decoder_model"

    def __init__(self, config: GLiClassConfig, backbone: Any = None) -> None:
        super().__init__()
        self.config = config
        kind, settings = self.backbone_class, config.encoder_config
        if backbone is None:
            backbone = make_backbone(kind(settings), settings, config.vocab_size)
        self.decoder_model = backbone
        self.scorer = DecoderKVScorer(config)

    @classmethod
    def _backbone_class(cls, config: Any) -> Any:
        return causal_class(config)

    @classmethod
    def new_fields(cls, backbone: Any) -> dict[str, Any]:
        """Give the fields of a new model's configuration that are particular to its kind."""
        return {
            "scorer_type": "decoder-kv",
            "hidden_size": backbone.hidden_size,
            "normalize_features": False,
        }

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> Scores:
        """Score the labels that each sequence ends with; arguments as in :meth:`features`."""
        return self.score(self.features(input_ids, attention_mask, max_num_classes))

    def features(
        self, input_ids: Tensor, attention_mask: Tensor, max_num_classes: int | None = None
    ) -> LabelSection:
        """Run the backbone and cut out the labels' part.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            Texts with the labels after them, padded on the right.
        max_num_classes : int, optional
            How many columns to give; by default the most markers that a row has.
        """
        hidden = self.decoder_model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        )[0]
        start = self._section_start(input_ids, attention_mask)
        n_tokens = attention_mask.sum(dim=1) - start
        offsets = torch.arange(int(n_tokens.max()), device=input_ids.device)
        mask = (offsets < n_tokens[:, None]).to(attention_mask.dtype)
        # A row with a shorter section than others reads on behind its end, which the mask hides.
        positions = (start[:, None] + offsets).clamp_max(input_ids.shape[1] - 1)
        hidden = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[2]))
        return self._section(hidden, input_ids.gather(1, positions), mask, max_num_classes)

    def score(self, features: LabelSection) -> Scores:
        """Score what :meth:`features` gives."""
        scores: Scores = self.scorer(features)
        if self.config.logit_bias is not None:
            scores.logits = scores.logits + self.config.logit_bias
        return scores

    def read_text(self, input_ids: Tensor) -> TextCache:
        """Run the backbone over one text, without labels.

        Parameters
        ----------
        input_ids : Tensor of shape (1, length)
            The text with the ``<<SEP>>`` that ends it.

        Returns
        -------
        TextCache

        Raises
        ------
        ValueError
            If there is not exactly one text.
        """
        if input_ids.dim() != 2 or len(input_ids) != 1:
            raise ValueError(
                f"input_ids has the shape {tuple(input_ids.shape)}; a cache is made of one text, "
                "(1, length)."
            )
        output = self.decoder_model(input_ids=input_ids, use_cache=True)
        return TextCache(output.past_key_values, input_ids.shape[1])

    def score_cached(
        self,
        cache: TextCache,
        class_input_ids: Tensor,
        class_attention_mask: Tensor,
        max_num_classes: int | None = None,
    ) -> Scores:
        """Score many label sets against one text that was read before.

        Parameters
        ----------
        cache : TextCache
            What :meth:`read_text` gave.
        class_input_ids, class_attention_mask : Tensor of shape (n_sets, length)
            Each set's labels with their markers and the last ``<<SEP>>``, padded on the right.
        max_num_classes : int, optional
            How many columns to give; by default the most markers that a row has.

        Returns
        -------
        Scores
            Of as many rows as label sets; the same as those of the joined sequences.
        """
        n_sets, length = class_input_ids.shape
        # The backbone appends to a cache that it is given. What repeats it for every set is the
        # one operation that all kinds of layers have: a beam search picks the same row again.
        states = copy.deepcopy(cache.states)
        states.reorder_cache(torch.zeros(n_sets, dtype=torch.long, device=class_input_ids.device))
        before = class_attention_mask.new_ones(n_sets, cache.length)
        positions = cache.length + torch.arange(length, device=class_input_ids.device)
        hidden = self.decoder_model(
            input_ids=class_input_ids,
            attention_mask=torch.cat([before, class_attention_mask], dim=1),
            position_ids=positions.expand(n_sets, -1),
            past_key_values=states,
            use_cache=True,
        )[0]
        return self.score(
            self._section(hidden, class_input_ids, class_attention_mask, max_num_classes)
        )

    def _section(
        self, hidden: Tensor, input_ids: Tensor, mask: Tensor, n_columns: int | None
    ) -> LabelSection:
        markers = Markers.of(input_ids, mask, self.config.class_token_index, n_columns)
        return LabelSection(hidden, mask, input_ids.eq(self.config.sep_token_index), markers)

    def _section_start(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Find the position after the last ``<<SEP>>`` before the first ``<<LABEL>>``."""
        is_label = input_ids.eq(self.config.class_token_index) & attention_mask.bool()
        before_labels = is_label.long().cumsum(dim=1).eq(0) & is_label.any(dim=1, keepdim=True)
        ends = input_ids.eq(self.config.sep_token_index) & before_labels
        # Counted from one, so that a row without such an end has 0: like the reference, it is read
        # whole.
        positions = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        return (positions * ends).amax(dim=1)
