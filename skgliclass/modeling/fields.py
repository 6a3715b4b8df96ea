"""The fields of a model's configuration with their defaults, without transformers."""

from __future__ import annotations

import math
import re
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

_NUMBERS: dict[str, tuple[Any, float, float]] = {
    "class_token_index": (int, -1, 2**31),
    "text_token_index": (int, -1, 2**31),
    "example_token_index": (int, -1, 2**31),
    "sep_token_index": (int, 0, 2**31),
    "hidden_size": (int, 1, 2**20),
    "vocab_size": (int, 1, 2**31),
    "max_num_classes": (int, 1, 2**31),
    "initializer_range": ((int, float), 0, 1e3),
    "scorer_num_heads": (int, 1, 2**12),
    "scorer_mlp_hidden_size": (int, 1, 2**20),
    "scorer_attn_dropout": ((int, float), 0, 1),
    "focal_loss_alpha": ((int, float), -1, 1),
    "focal_loss_gamma": ((int, float), -1, 1e3),
    "logit_scale_init_value": ((int, float), -1e6, 1e6),
    "contrastive_loss_coef": ((int, float), 0, 1e6),
    "encoder_layer_id": (int, -(2**12), 2**12),
    "dropout": ((int, float), 0, 1),
    "scorer_encoder_num_layers": (int, 0, 2**12),
    "logit_bias": ((int, float), -1e6, 1e6),
    "n_squeezed_layers": (int, 1, 2**12),
    "max_prompt_length": (int, 1, 2**31),
}
_OPTIONAL = {
    "hidden_size",
    "vocab_size",
    "sep_token_index",
    "logit_bias",
    "n_squeezed_layers",
    "max_prompt_length",
}
_FLAGS = (
    "use_lstm",
    "normalize_features",
    "extract_text_features",
    "prompt_first",
    "squeeze_layers",
    "layer_wise",
    "embed_class_token",
    "use_segment_embeddings",
    "share_encoders",
)
_NAMES = (
    "projector_hidden_act",
    "scorer_type",
    "pooling_strategy",
    "class_token_pooling",
    "architecture_type",
)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse fields of a GLiClass configuration that are of another type or out of range.

    Parameters
    ----------
    fields : mapping
        All of them.

    Raises
    ------
    ValueError
        If one is; the message names it.
    """
    for name, (kinds, low, high) in _NUMBERS.items():
        value: Any = fields[name]
        if value is None and name in _OPTIONAL:
            continue
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if kinds is int else "a number"
            raise ValueError(f"{name} is {value!r}, not {kind} from {low} to {high}.")
    for name in _FLAGS:
        if not isinstance(fields[name], bool):
            raise ValueError(f"{name} is {fields[name]!r}, not true or false.")
    for name in _NAMES:
        if not isinstance(fields[name], str):
            raise ValueError(f"{name} is {fields[name]!r}, not a name.")


# What would make transformers import, fetch or look for something, or is about a call and not about
# the model. Names with a leading underscore are its own too.
_IGNORED = {
    "attn_implementation",
    "auto_map",
    "backbone",
    "backbone_kwargs",
    "base_model_ep_plan",
    "base_model_fsdp_plan",
    "base_model_pp_plan",
    "base_model_tp_plan",
    "configuration_files",
    "custom_generate",
    "custom_pipelines",
    "distributed_config",
    "experts_implementation",
    "extra_config_files",
    "extra_files",
    "fusion_config",
    "gguf_file",
    "kernel_config",
    "name_or_path",
    # Derived from `id2label`, and as a number alone it makes a table of that length.
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "timm_kwargs",
    "torchscript",
    "transformers_weights",
    "use_kernels",
    "use_pretrained_backbone",
    "use_timm_backbone",
}
_QUANTISED = ("quantization_config", "compression_config")
_DTYPES = {"float16", "bfloat16", "float32", "float64"}
_COUNTS = re.compile(r"(layers?|depths?|blocks?|groups|stages|experts|heads|steps)$")
_LARGEST_COUNT = 2**12
# Layers may share their weights.
_FEWEST_LAYERS = 2**7


def clean_fields(table: Mapping[str, Any], n_layers: int | None = None) -> dict[str, Any]:
    """Keep of a configuration, as it was read from a file, what describes the model.

    Parameters
    ----------
    table : mapping
        From JSON, with what it nests.
    n_layers : int, optional
        More layers than this cannot be: so many weights there are.

    Returns
    -------
    dict
        A copy without what would make transformers run, fetch or look for something.

    Raises
    ------
    ValueError
        If the weights are quantised, a number is none, or parts are more than there can be.
    """
    fields = {}
    for name, value in table.items():
        if name in _QUANTISED and value:
            raise ValueError(
                f"{name} is set: quantised weights need code of other packages. Save the model "
                "with plain weights."
            )
        if not (name.startswith("_") or name in _IGNORED or name in _QUANTISED):
            fields[name] = _clean(name, value, n_layers)
    return fields


def _clean(name: str, value: Any, n_layers: int | None) -> Any:
    if isinstance(value, Mapping):
        return clean_fields({str(key): item for key, item in value.items()}, n_layers)
    if isinstance(value, list):
        return [_clean("", item, n_layers) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, not a finite number")
    if isinstance(value, int) and _COUNTS.search(name):
        _check_count(name, value, n_layers)
    if name in ("dtype", "torch_dtype") and value is not None:
        _check_dtype(name, value)
    return value


def _check_count(name: str, value: int, n_layers: int | None) -> None:
    """Refuse more parts than there can be, as each is built before its weights are looked for."""
    largest = _LARGEST_COUNT
    if name.endswith(("layers", "layer", "depth")) and n_layers is not None:
        largest = max(_FEWEST_LAYERS, n_layers)
    if abs(value) > largest:
        raise ValueError(f"{name} is {value}, but at most {largest} makes sense here")


def _check_dtype(name: str, value: Any) -> None:
    if str(value).removeprefix("torch.") not in _DTYPES:
        raise ValueError(f"{name} is {value!r}; known are {', '.join(sorted(_DTYPES))}")


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
