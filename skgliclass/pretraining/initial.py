"""The model that a pre-training starts from."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from tokenizers import Tokenizer

from ..loading.backbones import add_markers
from ..loading.embedded import embedded_architecture
from ..loading.loaded import LoadedModel
from ..loading.loader import load_model
from ..loading.sources import EMBEDDED, find_source
from ..modeling.architecture import Architecture
from ..modeling.fields import MODEL_TYPE
from ..modeling.heads import FeaturesProjector, draw_scorer
from ..modeling.randomness import own_randomness
from ..modeling.scorers import make_scorer
from ..prompts.tokens import EXAMPLE_MARKER, LABEL_MARKER, TEXT_MARKER
from .config import ModelConfig


def initial_model(config: ModelConfig, seed: int, device: str = "auto") -> LoadedModel:
    """Build a new GLiClass around a backbone, or take one that is to be trained further.

    Parameters
    ----------
    config : ModelConfig
        What it is like. The projections start as the identity, so that with the scorer
        ``"simple"`` the logits are scaled cosines of the backbone's pooled vectors.
    seed : int
        Of a scorer that starts from random weights.
    device : str, default="auto"
        Where to.

    Returns
    -------
    LoadedModel
        A copy that may be modified.

    Raises
    ------
    OSError, ValueError
        If the backbone cannot be loaded, or is a GLiClass and there are other settings for it.
    """
    if is_gliclass(config):
        return _trained_model(config, device)
    shared = load_model(
        config.backbone, architecture=config.new_architecture, device=device, dtype="float32"
    )
    if not hasattr(shared.network, "logit_scale"):
        raise ValueError(
            f"model.architecture is {config.new_architecture!r}, whose logits are no scaled "
            "cosines; choose one that compares vectors of texts and labels."
        )
    tokenizer = Tokenizer.from_str(shared.raw_text_tokenizer.to_str())
    # What load_model gives is shared with all who ask for the same model.
    network = copy.deepcopy(shared.network)
    _set_up(network, config, seed)
    if network.encodes_labels_apart:
        # Only the examples after a text need them.
        add_markers(network, tokenizer)
    loaded = replace(
        shared, network=network, raw_text_tokenizer=tokenizer, raw_label_tokenizer=tokenizer
    )
    _set_markers(loaded, config.markers)
    return loaded


def _set_up(network: Architecture, config: ModelConfig, seed: int) -> None:
    """Give a new network the settings of the pre-training, and a scorer to train."""
    settings, heads = network.config, cast("Any", network)
    settings.pooling_strategy = config.pooling
    settings.class_token_pooling = config.class_token_pooling
    settings.prompt_first = config.prompt_first
    settings.extract_text_features = config.extract_text_features
    settings.normalize_features = config.normalize_features
    settings.logit_scale_init_value = config.logit_scale
    settings.logit_bias = config.logit_bias
    settings.dropout = config.dropout
    settings.scorer_type = config.scorer
    # Building a scorer draws random numbers, before draw_scorer replaces them.
    with own_randomness(seed), torch.no_grad():
        heads.logit_scale.fill_(config.logit_scale)
        heads.scorer = make_scorer(settings)
        draw_scorer(network, seed)
        heads.scorer.to(network.device).eval().requires_grad_(False)
    projectors = [module for module in network.modules() if isinstance(module, FeaturesProjector)]
    for dropout in (heads.dropout, *(projector.dropout for projector in projectors)):
        dropout.p = config.dropout


def is_gliclass(config: ModelConfig) -> bool:
    """Tell whether the backbone is a GLiClass to train further, and not that of a new one."""
    if config.backbone == EMBEDDED:
        return config.architecture in ("auto", embedded_architecture())
    kind = (find_source(config.backbone).read_json("config.json") or {}).get("model_type")
    return bool(kind == MODEL_TYPE)


def _trained_model(config: ModelConfig, device: str) -> LoadedModel:
    """Go on with a GLiClass as it is."""
    default = ModelConfig()
    for name, value in asdict(config).items():
        used = name in ("backbone", "architecture", "max_length")
        if not used and value != getattr(default, name):
            raise ValueError(
                f"model.{name} has no effect: model.backbone is {config.backbone!r}, a GLiClass "
                "that is trained further as it is. Leave it out."
            )
    loaded = load_model(
        config.backbone, architecture=config.architecture, device=device, dtype="float32"
    )
    return replace(loaded, network=copy.deepcopy(loaded.network))


@torch.no_grad()
def _set_markers(loaded: LoadedModel, kind: str) -> None:
    """Let the markers start from the embedding of a word; they begin near the words' mean."""
    if kind == "mean":
        return
    tokenizer = loaded.text_tokenizer
    if kind == "label":
        source = tokenizer.encode(["label"], after_marker=True)[0]
    else:
        source = tokenizer.suffix[-1:]
    if not len(source):
        raise ValueError(
            f"model.markers is {kind!r}, but the tokenizer of {loaded.name!r} has no token for it."
        )
    weight = loaded.network.backbone.get_input_embeddings().weight
    value = weight[source].mean(dim=0)
    for marker in (LABEL_MARKER, TEXT_MARKER, EXAMPLE_MARKER):
        index = tokenizer.marker_id(marker)
        if index is not None:
            weight[index] = value
