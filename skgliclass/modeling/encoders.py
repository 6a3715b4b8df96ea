"""Build backbones without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def encoder_class(model_type: str) -> Any:
    """Give the transformers class of an encoder; of a T5 that of its encoder half."""
    # Not at the top: a model that is put together without transformers does not wait for it.
    from transformers import AutoModel, T5EncoderModel, UMT5EncoderModel

    halves = {"t5": T5EncoderModel, "mt5": T5EncoderModel, "umt5": UMT5EncoderModel}
    return halves.get(model_type, AutoModel)


def make_encoder(config: object) -> PreTrainedModel:
    """Build a backbone without weights; only the encoder half of a T5."""
    kind = encoder_class(getattr(config, "model_type", ""))
    build = getattr(kind, "from_config", None) or kind._from_config
    encoder: PreTrainedModel = build(config)
    return encoder
