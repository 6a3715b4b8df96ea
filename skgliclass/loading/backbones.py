"""Build a new GLiClass around a plain backbone or a sentence-transformers model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ..modeling.architecture import Architecture
from ..modeling.architectures import ARCHITECTURES, make_network
from ..modeling.bi_encoder import BiEncoder
from ..modeling.config import GLiClassConfig, backbone_config
from ..modeling.encoders import make_backbone
from ..modeling.fields import clean_fields
from ..modeling.heads import draw_scorer, marker_vectors, set_identity_heads
from ..prompts.tokens import EXAMPLE_MARKER, LABEL_MARKER, MARKERS, TEXT_MARKER, add_marker_tokens
from .loaded import LoadedModel, default_length, position_limit
from .quiet import quiet
from .sentence_encoders import fold_dense_layers, read_dense_layers, read_pooling
from .sources import Source, check_no_adapter, join, module_path, read_modules
from .tokenizer_files import check_vocabulary, plain_tokenizer_config, read_tokenizer
from .weights import check_complete, check_no_surplus, load_pretrained, read_headers

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
    is_sentence_encoder = bool(read_modules(source))
    tokenizer = read_tokenizer(source)
    zero_shot = is_sentence_encoder and architecture in ("auto", BiEncoder.name)
    with quiet():
        if zero_shot:
            network = _around_sentence_encoder(source, tokenizer, dtype)
        else:
            network = _around_encoder(source, architecture, tokenizer, dtype)
    if network.has_label_encoder:
        longest = default_length(position_limit(network.config.encoder_config))
        length = _longest_text(source) or longest
        network.config.max_prompt_length = length if length < longest else None
    return LoadedModel.of(
        network.to(device),
        tokenizer,
        tokenizer,
        zero_shot=zero_shot,
        name=source.name,
        tokenizer_config=plain_tokenizer_config(source),
    )


def _longest_text(source: Source) -> int | None:
    settings = source.read_json("sentence_bert_config.json") or {}
    length = settings.get("max_seq_length")
    if not (length is None or (type(length) is int and length > 0)):
        raise ValueError(
            f"model={source.name!r}: sentence_bert_config.json says max_seq_length={length!r}, "
            "which is no number of tokens."
        )
    return length


def _around_sentence_encoder(
    source: Source, tokenizer: Tokenizer, dtype: torch.dtype
) -> Architecture:
    """Make a zero-shot bi-encoder whose logits are scaled cosines."""
    encoder = _load_encoder(BiEncoder, source, tokenizer, dtype)
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
    encoder = _load_encoder(kind, source, tokenizer, dtype)
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


def _load_encoder(
    kind: type[Architecture], source: Source, tokenizer: Tokenizer, dtype: torch.dtype
) -> PreTrainedModel:
    below = module_path(source, "Transformer") if read_modules(source) else ""
    weights = read_headers(source.weight_files(below))
    check_no_adapter(source, below)
    table = source.read_json(join(below, "config.json")) or {}
    if "model_type" not in table:
        raise ValueError(f"model={source.name!r}: its config.json names no model_type.")
    config = backbone_config(clean_fields(table, n_layers=len(weights)))
    encoder, info = load_pretrained(
        make_backbone, kind.backbone_class(config), config, weights, source, dtype=dtype
    )
    _check_encoder(encoder, info, source)
    check_vocabulary(tokenizer, encoder.get_input_embeddings().num_embeddings, source)
    # A checkpoint is for others too, so it does not tell where this machine keeps its files.
    encoder.config._name_or_path = ""
    return encoder


def _check_encoder(encoder: PreTrainedModel, info: Mapping[str, Any], source: Source) -> None:
    """Refuse weights that do not belong to the configuration; heads of other tasks may be there."""
    parts = {name for name, _ in encoder.named_children()}
    prefix = f"{encoder.base_model_prefix}."
    surplus = [name.removeprefix(prefix) for name in info["unexpected_keys"]]
    check_no_surplus([name for name in surplus if name.partition(".")[0] in parts], source)
    # Nothing reads what a pooler gives, and a model that was trained on words has none.
    missing = [name for name in info["missing_keys"] if "pooler" not in name.split(".")]
    check_complete({"missing_keys": missing}, source)


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
