"""The model that a pre-training starts from."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..loading.backbones import add_markers
from ..loading.checkpoints import load_model
from ..loading.embedded import embedded_architecture
from ..loading.loaded import LoadedModel
from ..loading.sources import EMBEDDED, find_source
from ..modeling.config import GLiClassConfig
from ..modeling.heads import FeaturesProjector
from ..modeling.scorers import make_scorer
from ..prompts.tokens import EXAMPLE_MARKER, LABEL_MARKER, TEXT_MARKER, PieceTokenizer
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
    architecture = config.new_architecture
    shared = load_model(config.backbone, architecture=architecture, device=device, dtype="float32")
    tokenizer = Tokenizer.from_str(shared.tokenizer.to_str())
    loaded = replace(
        shared,
        model=copy.deepcopy(shared.model),
        tokenizer=tokenizer,
        label_tokenizer=tokenizer,
    )
    model, heads = loaded.model, loaded.model.model
    if not hasattr(heads, "logit_scale"):
        raise ValueError(
            f"model.architecture is {architecture!r}, whose logits are no scaled cosines; choose "
            "one that compares vectors of texts and labels."
        )
    _configure(model.config, config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        cast("Tensor", heads.logit_scale).fill_(config.logit_scale)
        heads.scorer = make_scorer(model.config).to(model.device).eval()
        for module in heads.scorer.modules():
            model._init_weights(module)
    projectors = [module for module in model.modules() if isinstance(module, FeaturesProjector)]
    for dropout in (heads.dropout, *(projector.dropout for projector in projectors)):
        cast("nn.Dropout", dropout).p = config.dropout
    if heads.encodes_labels_apart:
        # Only the examples after a text need them.
        add_markers(model, loaded.tokenizer)
    _set_markers(loaded, config.markers)
    return loaded


def _configure(settings: GLiClassConfig, config: ModelConfig) -> None:
    settings.pooling_strategy = config.pooling
    settings.class_token_pooling = config.class_token_pooling
    settings.prompt_first = config.prompt_first
    settings.extract_text_features = config.extract_text_features
    settings.normalize_features = config.normalize_features
    settings.logit_scale_init_value = config.logit_scale
    settings.logit_bias = config.logit_bias
    settings.dropout = config.dropout
    settings.scorer_type = config.scorer


def is_gliclass(config: ModelConfig) -> bool:
    """Tell whether the backbone is a GLiClass to train further, and not that of a new one."""
    if config.backbone == EMBEDDED:
        return config.architecture in ("auto", embedded_architecture())
    kind = (find_source(config.backbone).read_json("config.json") or {}).get("model_type")
    return bool(kind == GLiClassConfig.model_type)


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
    return replace(loaded, model=copy.deepcopy(loaded.model))


@torch.no_grad()
def _set_markers(loaded: LoadedModel, kind: str) -> None:
    """Let the markers start from the embedding of a word; they begin near the words' mean."""
    if kind == "mean":
        return
    tokenizer = PieceTokenizer(loaded.tokenizer)
    if kind == "label":
        source = tokenizer.encode(["label"], after_marker=True)[0]
    else:
        source = tokenizer.suffix[-1:]
    if not len(source):
        raise ValueError(
            f"model.markers is {kind!r}, but the tokenizer of {loaded.name!r} has no token for it."
        )
    weight = cast("Tensor", loaded.model.get_input_embeddings().weight)
    value = weight[source].mean(dim=0)
    for marker in (LABEL_MARKER, TEXT_MARKER, EXAMPLE_MARKER):
        index = tokenizer.marker_id(marker)
        if index is not None:
            weight[index] = value
