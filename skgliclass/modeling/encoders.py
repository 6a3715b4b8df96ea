"""Build backbones without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CAUSAL_BACKBONES = ("qwen3", "qwen3_5_text", "qwen2", "llama", "mistral")
"""The types of backbone that are known to be causal and to keep a cache."""


def encoder_class(config: Any) -> Any:
    """Give the transformers class of an encoder; of a T5 that of its encoder half."""
    # Not at the top: a model that is put together without transformers does not wait for it.
    from transformers import AutoModel, T5EncoderModel, UMT5EncoderModel

    halves = {"t5": T5EncoderModel, "mt5": T5EncoderModel, "umt5": UMT5EncoderModel}
    return halves.get(config.model_type, AutoModel)


def encoder_decoder_class(config: Any) -> Any:
    """Give the transformers class of an encoder-decoder.

    Raises
    ------
    ValueError
        If the backbone has no decoder.
    """
    from transformers import AutoModel

    if not config.is_encoder_decoder:
        raise ValueError(
            f"needs an encoder-decoder backbone such as T5; {config.model_type!r} is none."
        )
    return AutoModel


def causal_class(config: Any) -> Any:
    """Give the transformers class of a causal language model.

    Raises
    ------
    ValueError
        If the backbone is not known to be causal.
    """
    from transformers import AutoModel

    if config.model_type not in CAUSAL_BACKBONES:
        raise ValueError(
            f"needs a causal language model; {config.model_type!r} is not one of those supported: "
            f"{', '.join(CAUSAL_BACKBONES)}."
        )
    return AutoModel


def make_backbone(kind: Any, config: Any, vocab_size: int | None = None) -> PreTrainedModel:
    """Build a backbone without weights.

    Parameters
    ----------
    kind : class
        A class of transformers that one of the functions above gave.
    config : PretrainedConfig
        The backbone's configuration.
    vocab_size : int, optional
        How many words it is to know, where these are not as many as its configuration says.
    """
    # The public name is one of the Auto classes only, which alone could run code.
    if hasattr(kind, "from_config"):
        backbone: PreTrainedModel = kind.from_config(config, trust_remote_code=False)
    else:
        backbone = kind._from_config(config)
    if vocab_size is not None and backbone.config.vocab_size != vocab_size:
        # Rows drawn like the others' mean would cost time, and a checkpoint replaces them anyway.
        backbone.resize_token_embeddings(vocab_size, mean_resizing=False)
    return backbone


def tied_weights(backbone: nn.Module) -> dict[str, str]:
    """Tell which weights of a backbone are others under a second name."""
    return dict(getattr(backbone, "all_tied_weights_keys", {}))
