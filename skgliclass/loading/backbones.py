"""Build a new GLiClass around a plain backbone or a sentence-transformers model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from ..modeling.architecture import Architecture
from ..modeling.architectures import ARCHITECTURES, make_network
from ..modeling.bi_encoder import BiEncoder
from ..modeling.config import GLiClassConfig
from ..modeling.heads import draw_scorer, marker_vectors, set_identity_heads
from ..prompts.tokens import EXAMPLE_MARKER, LABEL_MARKER, MARKERS, TEXT_MARKER, add_marker_tokens
from .loaded import LoadedModel, default_length, position_limit
from .quiet import quiet
from .sentence_encoders import fold_dense_layers, module_path, read_dense_layers, read_pooling
from .sources import Source
from .tokenizer_files import plain_tokenizer_config, read_tokenizer

SIMILARITY_SCALE = 15.0
"""What a sentence encoder's cosines are multiplied by to give logits.

With it the softmax over all-MiniLM-L6-v2's cosines has the lowest calibration error on average over
17 single-label data sets, none of them used to measure zero-shot quality; found by
``benchmarks/calibrate_similarity.py``.
"""


def load_backbone(
    source: Source, architecture: str, device: torch.device, dtype: torch.dtype
) -> LoadedModel:
    """Load a backbone and build a GLiClass around it.

    Parameters
    ----------
    source : Source
        The files of a plain encoder, a language model or a sentence-transformers model.
    architecture : str
        How labels and text meet; ``"auto"`` is a bi-encoder for a sentence-transformers model and
        a uni-encoder otherwise.
    device, dtype
        Where the weights go, and in which precision.

    Raises
    ------
    ValueError
        If the architecture is unknown or needs another kind of backbone, or the model has a part
        that a GLiClass checkpoint cannot express.
    """
    is_sentence_encoder = source.read_json("modules.json") is not None
    tokenizer = read_tokenizer(source.folder)
    zero_shot = is_sentence_encoder and architecture in ("auto", BiEncoder.name)
    with quiet():
        if zero_shot:
            network = _around_sentence_encoder(source, dtype)
        else:
            network = _around_encoder(source, architecture, tokenizer, dtype)
    if network.has_label_encoder:
        settings = source.read_json("sentence_bert_config.json") or {}
        longest = default_length(position_limit(network.config.encoder_config))
        length = settings.get("max_seq_length") or longest
        network.config.max_prompt_length = length if length < longest else None
    return LoadedModel.of(
        network.to(device),
        tokenizer,
        tokenizer,
        zero_shot=zero_shot,
        name=source.name,
        tokenizer_config=plain_tokenizer_config(source),
    )


def _around_sentence_encoder(source: Source, dtype: torch.dtype) -> Architecture:
    """Make a zero-shot bi-encoder whose logits are scaled cosines."""
    encoder = _load_encoder(BiEncoder, source.folder / module_path(source, "Transformer"), dtype)
    config = _new_config(
        BiEncoder, encoder.config, source.name, pooling_strategy=read_pooling(source)
    )
    dense = read_dense_layers(source)
    if any(layer.activation == "tanh" for layer in dense):
        config.projector_hidden_act = "tanh"
    network = _assemble(config, encoder, dtype)
    if dense:
        fold_dense_layers(cast("BiEncoder", network), dense, source)
    return network


def _around_encoder(
    source: Source, architecture: str, tokenizer: Tokenizer, dtype: torch.dtype
) -> Architecture:
    """Make a GLiClass whose heads still have to be trained."""
    name = "uni-encoder" if architecture == "auto" else architecture
    if name not in ARCHITECTURES:
        raise ValueError(
            f"architecture={name!r} is unknown; choose from auto, {', '.join(ARCHITECTURES)}."
        )
    kind = ARCHITECTURES[name]
    encoder = _load_encoder(kind, _encoder_folder(source), dtype)
    # A bi-encoder's prompt holds no marker, so its tokenizer stays as it is.
    markers = {} if kind.encodes_labels_apart else _add_markers(encoder, tokenizer)
    config = _new_config(kind, encoder.config, source.name, pooling_strategy="avg", **markers)
    return _assemble(config, encoder, dtype)


def _new_config(
    kind: type[Architecture], backbone: PretrainedConfig, name: str, **fields: Any
) -> GLiClassConfig:
    # A configuration resets how the models that it holds attend, and this one's runs already.
    backbone = copy.deepcopy(backbone)
    defaults = {
        "architecture_type": kind.name,
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
    if kind.has_label_encoder:
        defaults |= {
            "label_model_config": backbone,
            "label_model_name": name,
            "share_encoders": True,
        }
    return GLiClassConfig(**{**defaults, **kind.new_fields(backbone), **fields})


def _load_encoder(kind: type[Architecture], folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    encoder: PreTrainedModel = kind.backbone_class(config).from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    # A checkpoint is for others too, so it does not tell where this machine keeps its files.
    encoder.config._name_or_path = ""
    return encoder


def _assemble(config: GLiClassConfig, encoder: PreTrainedModel, dtype: torch.dtype) -> Architecture:
    network = make_network(config, encoder)
    set_identity_heads(network)
    draw_scorer(network)
    return network.to(dtype)


def add_markers(network: Architecture, tokenizer: Tokenizer) -> None:
    """Let a bi-encoder that was built without markers know them, so that it can be shown examples.

    Parameters
    ----------
    network : Architecture
        Modified in place, as is `tokenizer`.
    tokenizer : tokenizers.Tokenizer
        Of the texts.
    """
    encoder, config = network.backbone, network.config
    for name, index in _add_markers(encoder, tokenizer).items():
        setattr(config, name, index)
    config.encoder_config = encoder.config
    if config.share_encoders:
        config.label_model_config = encoder.config


@torch.no_grad()
def _add_markers(encoder: PreTrainedModel, tokenizer: Tokenizer) -> dict[str, int]:
    """Give the markers ids, and embeddings near the mean of the words'.

    Returns
    -------
    dict of str to int
        Their ids, by the fields of a configuration.
    """
    add_marker_tokens(tokenizer)
    ids = {marker: tokenizer.token_to_id(marker) or 0 for marker in MARKERS}
    words: nn.Embedding = encoder.get_input_embeddings()
    n_words = words.num_embeddings
    rows = marker_vectors(words.weight)
    # Many backbones have more rows than their tokenizer has words, which must not be cut off. What
    # `mean_resizing` would put in new rows is replaced at once.
    encoder.resize_token_embeddings(max(n_words, max(ids.values()) + 1), mean_resizing=False)
    for index, row in zip(sorted(ids.values()), rows, strict=True):
        encoder.get_input_embeddings().weight[index] = row
    return {
        "class_token_index": ids[LABEL_MARKER],
        "text_token_index": ids[TEXT_MARKER],
        "example_token_index": ids[EXAMPLE_MARKER],
    }


def _encoder_folder(source: Source) -> Path:
    path = module_path(source, "Transformer") if source.read_json("modules.json") else ""
    return source.folder / path
