"""Build a new GLiClass around a plain backbone or a sentence-transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from ..modeling.bi_encoder import BiEncoder
from ..modeling.config import GLiClassConfig
from ..modeling.decoder_kv import CAUSAL_BACKBONES, DecoderKV
from ..modeling.encoders import encoder_class
from ..modeling.heads import FeaturesProjector, identity, marker_vectors, set_linear_map
from ..modeling.model import GLiClassModel
from ..prompts.architectures import SUPPORTED_ARCHITECTURES
from ..prompts.tokens import EXAMPLE_MARKER, LABEL_MARKER, MARKERS, TEXT_MARKER, add_marker_tokens
from .sources import Source

SIMILARITY_SCALE = 15.0
"""What a sentence encoder's cosines are multiplied by to give logits.

With it the softmax over all-MiniLM-L6-v2's cosines has the lowest calibration error on average over
17 single-label data sets, none of them used to measure zero-shot quality; found by
``benchmarks/calibrate_similarity.py``.
"""

SIMILARITY_BIAS = -3.75
"""What is added after scaling, so that a probability of one half lies at a cosine of 0.25.

As a threshold, that cosine gives the highest mean micro-F1 on six multi-label data sets; found by
the same command.
"""

_POOLINGS = {"cls": "first", "mean": "avg", "max": "max", "lasttoken": "last"}
_SMALL = 1e-3


def build_from_sentence_transformer(source: Source, dtype: torch.dtype) -> GLiClassModel:
    """Make a zero-shot bi-encoder whose logits are scaled cosines.

    Raises
    ------
    ValueError
        If the model has a module or a pooling that a GLiClass checkpoint cannot express.
    """
    folder = source.folder / _module_path(source, "Transformer")
    encoder = _load_encoder(folder, dtype)
    config = _new_config(
        encoder.config,
        source.name,
        architecture_type="bi-encoder",
        pooling_strategy=_sentence_pooling(source),
        logit_bias=SIMILARITY_BIAS,
        label_model_config=encoder.config,
        label_model_name=source.name,
        share_encoders=True,
    )
    dense = _dense_layers(source)
    if any(layer["activation"] == "tanh" for layer in dense):
        config.projector_hidden_act = "tanh"
    model = _assemble(config, encoder, dtype)
    _set_identity_heads(model)
    if dense:
        _fold_dense_layers(model.model, dense, source)
    return model


def build_from_encoder(
    source: Source, architecture: str, tokenizer: Tokenizer, dtype: torch.dtype
) -> GLiClassModel:
    """Make a GLiClass whose heads still have to be trained.

    Raises
    ------
    ValueError
        If the architecture is unknown or needs another kind of backbone.
    """
    architecture = "uni-encoder" if architecture == "auto" else architecture
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise ValueError(
            f"architecture={architecture!r} is unknown; choose from auto, "
            f"{', '.join(SUPPORTED_ARCHITECTURES)}."
        )
    encoder = _load_encoder(_encoder_folder(source), dtype, architecture)
    fields: dict[str, Any] = {}
    if architecture != "bi-encoder":
        fields = _marker_fields(_add_markers(encoder, tokenizer))
    if architecture in ("bi-encoder", "bi-encoder-fused"):
        fields |= {
            "label_model_config": encoder.config,
            "label_model_name": source.name,
            "share_encoders": True,
        }
    if architecture == "bi-encoder":
        fields["logit_bias"] = SIMILARITY_BIAS
    if architecture in ("uni-encoder", "encoder-decoder", "encoder-decoder-cls"):
        fields["class_token_pooling"] = "average"
    if architecture == "decoder-kv":
        fields |= {
            "scorer_type": "decoder-kv",
            "hidden_size": encoder.config.hidden_size,
            "normalize_features": False,
        }
    config = _new_config(
        encoder.config,
        source.name,
        architecture_type=architecture,
        prompt_first=architecture in ("uni-encoder", "bi-encoder-fused"),
        pooling_strategy="avg",
        **fields,
    )
    model = _assemble(config, encoder, dtype)
    _set_identity_heads(model)
    if isinstance(model.model, DecoderKV):
        _set_fresh_scorer(model)
    return model


def build_for_config(config: GLiClassConfig, source: Source, tokenizer: Tokenizer) -> GLiClassModel:
    """Make the GLiClass of a configuration around a backbone, as it is before any training.

    Parameters
    ----------
    config : GLiClassConfig
        Its backbone's configuration is replaced by the one that belongs to the weights.
    source : Source
        The backbone's files.
    tokenizer : tokenizers.Tokenizer
        The backbone's; where the configuration knows markers, they are added to it.
    """
    has_markers = config.class_token_index < config.encoder_config.vocab_size
    encoder = _load_encoder(_encoder_folder(source), torch.float32, config.architecture_type)
    if has_markers:
        _add_markers(encoder, tokenizer)
    _describe_backbone(config, encoder)
    model = _assemble(config, encoder, torch.float32)
    _set_identity_heads(model)
    return model


def _describe_backbone(config: GLiClassConfig, encoder: PreTrainedModel) -> None:
    """Let a configuration say what its backbone, and so a shared label encoder, is like."""
    config.encoder_config = encoder.config
    if config.share_encoders:
        config.label_model_config = encoder.config


def _marker_fields(marker_ids: dict[str, int]) -> dict[str, int]:
    return {
        "class_token_index": marker_ids[LABEL_MARKER],
        "text_token_index": marker_ids[TEXT_MARKER],
        "example_token_index": marker_ids[EXAMPLE_MARKER],
    }


def _new_config(backbone: PretrainedConfig, name: str, **fields: Any) -> GLiClassConfig:
    defaults = {
        "encoder_config": backbone,
        "encoder_model_name": name,
        # Twice the width, so that the projections can start as the identity.
        "hidden_size": 2 * backbone.hidden_size,
        "scorer_type": "simple",
        "normalize_features": True,
        "logit_scale_init_value": SIMILARITY_SCALE,
        "problem_type": "multi_label_classification",
        "max_labels_alloc": "dynamic",
        "dropout": 0.0,
    }
    return GLiClassConfig(**{**defaults, **fields})


def _load_encoder(
    folder: Any, dtype: torch.dtype, architecture: str = "uni-encoder"
) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    whole = architecture.startswith("encoder-decoder")
    loader = AutoModel if whole else encoder_class(config.model_type)
    if whole and not config.is_encoder_decoder:
        raise ValueError(
            f"architecture={architecture!r} needs an encoder-decoder backbone such as T5; "
            f"{config.model_type!r} is none."
        )
    if architecture == "decoder-kv" and config.model_type not in CAUSAL_BACKBONES:
        raise ValueError(
            f"architecture='decoder-kv' needs a causal language model; {config.model_type!r} is "
            f"not one of those supported: {', '.join(CAUSAL_BACKBONES)}."
        )
    encoder: PreTrainedModel = loader.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    # A checkpoint is for others too, so it does not tell where this machine keeps its files.
    encoder.config._name_or_path = ""
    return encoder


def _assemble(
    config: GLiClassConfig, encoder: PreTrainedModel, dtype: torch.dtype
) -> GLiClassModel:
    with no_init_weights():
        model = GLiClassModel(config)
    setattr(model.model, model.model.backbone_name, encoder)
    return model.to(dtype).eval()


@torch.no_grad()
def _set_fresh_scorer(model: GLiClassModel) -> None:
    """Give a scorer that has to be trained the same random weights each time."""
    torch.manual_seed(0)
    for module in model.model.scorer.modules():
        model._init_weights(module)


def _set_identity_heads(model: GLiClassModel) -> None:
    for module in model.modules():
        if isinstance(module, FeaturesProjector) and model.config.projector_hidden_act == "gelu":
            identity(module)


def add_markers(model: GLiClassModel, tokenizer: Tokenizer) -> None:
    """Let a bi-encoder that was built without markers know them, so that it can be shown examples.

    Parameters
    ----------
    model : GLiClassModel
        Modified in place, as is `tokenizer`.
    tokenizer : tokenizers.Tokenizer
        Of the texts.
    """
    encoder, config = cast("PreTrainedModel", model.model.encoder_model), model.config
    ids = _marker_fields(_add_markers(encoder, tokenizer))
    for name, index in ids.items():
        setattr(config, name, index)
    _describe_backbone(config, encoder)


@torch.no_grad()
def _add_markers(encoder: PreTrainedModel, tokenizer: Tokenizer) -> dict[str, int]:
    """Give the markers ids and embeddings near the mean of the words'."""
    add_marker_tokens(tokenizer)
    ids = {marker: tokenizer.token_to_id(marker) or 0 for marker in MARKERS}
    words: nn.Embedding = encoder.get_input_embeddings()
    n_words = words.num_embeddings
    rows = marker_vectors(words.weight)
    encoder.resize_token_embeddings(max(n_words, max(ids.values()) + 1), mean_resizing=False)
    for index, row in zip(sorted(ids.values()), rows, strict=True):
        encoder.get_input_embeddings().weight[index] = row
    return ids


# The parts of a sentence-transformers model.


def _modules(source: Source) -> list[dict[str, Any]]:
    modules: list[dict[str, Any]] = source.read_json("modules.json") or []
    return modules


def _kind(module: dict[str, Any]) -> str:
    return str(module["type"]).rsplit(".", 1)[-1]


def _module_path(source: Source, kind: str) -> str:
    for module in _modules(source):
        if _kind(module) == kind:
            return str(module["path"])
    raise ValueError(
        f"model={source.name!r}: modules.json lists no {kind} module, so that it is no "
        "transformer-based sentence encoder."
    )


def _encoder_folder(source: Source) -> Path:
    path = _module_path(source, "Transformer") if source.read_json("modules.json") else ""
    return source.folder / path


def _sentence_pooling(source: Source) -> str:
    unknown = {_kind(m) for m in _modules(source)} - {
        "Transformer",
        "Pooling",
        "Dense",
        "Normalize",
    }
    if unknown:
        raise ValueError(
            f"model={source.name!r} has the sentence-transformers module(s) "
            f"{', '.join(sorted(unknown))}, which a GLiClass model cannot express."
        )
    path = _module_path(source, "Pooling")
    settings = source.read_json(f"{path}/config.json") or {}
    modes = settings.get("pooling_mode")
    if not modes:
        modes = [
            key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for key, value in settings.items()
            if key.startswith("pooling_mode_") and value
        ]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(
            f"model={source.name!r} pools by {' and '.join(modes) or 'nothing'}; supported are "
            f"{', '.join(_POOLINGS)}, one at a time."
        )
    return _POOLINGS[modes[0]]


def _dense_layers(source: Source) -> list[dict[str, Any]]:
    from safetensors.torch import load_file

    layers = []
    for module in _modules(source):
        if _kind(module) != "Dense":
            continue
        settings = source.read_json(f"{module['path']}/config.json")
        activation = str(settings.get("activation_function", "Identity")).rsplit(".", 1)[-1].lower()
        weights = load_file(source.folder / module["path"] / "model.safetensors")
        layers.append(
            {
                "activation": activation,
                "weight": weights["linear.weight"].float(),
                "bias": weights.get("linear.bias"),
            }
        )
    return layers


def _fold_dense_layers(model: Any, layers: list[dict[str, Any]], source: Source) -> None:
    assert isinstance(model, BiEncoder)
    activations = [layer["activation"] for layer in layers]
    n_features = len(layers[-1]["weight"])
    if n_features > model.config.encoder_config.hidden_size:
        raise ValueError(
            f"model={source.name!r} ends with {n_features} features, more than its encoder's "
            f"{model.config.encoder_config.hidden_size}; a GLiClass model cannot express that."
        )
    if set(activations) == {"identity"}:
        matrix, bias = _compose_linear(layers)
        for projector in (model.text_projector, model.classes_projector):
            set_linear_map(projector, matrix, bias)
    elif activations == ["tanh"]:
        _set_tanh(model.text_projector, layers[0])
        _set_tanh(model.classes_projector, layers[0])
        _set_tanh_identity(model.biencoder_projector)
    else:
        raise ValueError(
            f"model={source.name!r} has dense layers with the activations "
            f"{', '.join(activations)}, which a GLiClass model cannot express."
        )


def _compose_linear(layers: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    matrix = torch.eye(layers[0]["weight"].shape[1])
    bias = torch.zeros(len(matrix))
    for layer in layers:
        matrix, bias = layer["weight"] @ matrix, layer["weight"] @ bias
        if layer["bias"] is not None:
            bias = bias + layer["bias"].float()
    return matrix, bias


@torch.no_grad()
def _set_tanh(projector: FeaturesProjector, layer: dict[str, Any]) -> None:
    n = len(layer["weight"])
    for parameter in projector.parameters():
        parameter.zero_()
    projector.linear_1.weight[:n].copy_(layer["weight"])
    if layer["bias"] is not None:
        projector.linear_1.bias[:n].copy_(layer["bias"])
    projector.linear_2.weight[:n, :n].copy_(torch.eye(n))


@torch.no_grad()
def _set_tanh_identity(projector: FeaturesProjector) -> None:
    """Pass the input through where a tanh is nearly linear, around zero."""
    n = projector.linear_1.in_features
    for parameter in projector.parameters():
        parameter.zero_()
    projector.linear_1.weight[:n].copy_(_SMALL * torch.eye(n))
    projector.linear_2.weight[:n, :n].copy_(torch.eye(n) / _SMALL)
