"""The fields of a model's configuration with their defaults, without transformers."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

MODEL_TYPE = "GLiClass"
"""What a ``config.json`` calls the type of such a model."""

DEFAULTS: dict[str, Any] = {
    "class_token_index": -1,
    "text_token_index": -1,
    "example_token_index": -1,
    "ignore_index": -100,
    "hidden_size": None,
    "projector_hidden_act": "gelu",
    "vocab_size": None,
    "problem_type": "single_label_classification",
    "max_num_classes": 25,
    "use_lstm": False,
    "initializer_range": 0.03,
    "scorer_type": "simple",
    "scorer_num_heads": 16,
    "scorer_mlp_hidden_size": 1024,
    "scorer_attn_dropout": 0.1,
    "pooling_strategy": "first",
    "class_token_pooling": "first",
    "focal_loss_alpha": 0.5,
    "focal_loss_gamma": 2,
    "focal_loss_reduction": None,
    "logit_scale_init_value": 2.6592,
    "normalize_features": False,
    "extract_text_features": False,
    "max_labels_alloc": "dynamic",
    "contrastive_loss_coef": 0,
    "architecture_type": "uni-encoder",
    "prompt_first": False,
    "squeeze_layers": False,
    "layer_wise": False,
    "encoder_layer_id": -1,
    "embed_class_token": True,
    "dropout": 0.1,
    "use_segment_embeddings": False,
    "scorer_encoder_num_layers": 2,
}
"""Those of the ``gliclass`` package, and what they are where a checkpoint does not say."""

EXTENSIONS: dict[str, Any] = {
    "logit_bias": None,
    "share_encoders": False,
    "n_squeezed_layers": None,
    "sep_token_index": None,
    "max_prompt_length": None,
}
"""Those that it does not know: it keeps them as plain attributes."""


def plain_config(table: Mapping[str, Any]) -> Any:
    """Give a configuration as an object with attributes that needs no transformers.

    Parameters
    ----------
    table : mapping
        What a ``config.json`` holds, with all fields of the backbone.
    """
    return _namespace({**DEFAULTS, **EXTENSIONS, **table})


def config_table(config: Any) -> dict[str, Any]:
    """Give back what :func:`plain_config` was made of."""
    return {
        name: config_table(value) if isinstance(value, SimpleNamespace) else value
        for name, value in vars(config).items()
    }


def _namespace(table: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            name: _namespace(value) if name.endswith("_config") and value else value
            for name, value in table.items()
        }
    )
