"""Tiny models whose weights are the same with every version of torch and numpy.

They are made of raw bits: a generator's bits are promised to stay, its distributions are not.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import MARKERS, backbone_config, wrapped_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

_PASS = {"scorer_type": "cross-attn", "pooling_strategy": "pass"}
_LABELS_FIRST = {"prompt_first": True}
_BI = {"architecture_type": "bi-encoder"}
_FUSED = {"architecture_type": "bi-encoder-fused"}
_HALVES = {"architecture_type": "encoder-decoder"}
_HALVES_TURNED = {"architecture_type": "encoder-decoder-cls"}
_KV = {"architecture_type": "decoder-kv"}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "uni first": ("bert", _LABELS_FIRST | {"scorer_type": "mlp"}),
    "uni text first": ("bert", {"scorer_type": "simple", "pooling_strategy": "avg"}),
    "uni last": ("roberta", {"scorer_type": "weighted-dot", "pooling_strategy": "last"}),
    "uni max": (
        "modernbert",
        _LABELS_FIRST | {"scorer_type": "hopfield", "pooling_strategy": "max"},
    ),
    "uni sum": (
        "deberta-v2",
        _LABELS_FIRST | {"pooling_strategy": "sum", "class_token_pooling": "average"},
    ),
    "uni rms": (
        "bert",
        {"pooling_strategy": "rms", "embed_class_token": False, "normalize_features": True},
    ),
    "uni last of text": (
        "bert",
        _LABELS_FIRST | {"pooling_strategy": "last", "extract_text_features": True},
    ),
    "uni abs_max": (
        "modernbert",
        _LABELS_FIRST | {"pooling_strategy": "abs_max", "extract_text_features": True},
    ),
    "uni abs_avg": ("bert", {"pooling_strategy": "abs_avg", "use_segment_embeddings": True}),
    "uni cross-attention": (
        "deberta-v2",
        _LABELS_FIRST
        | _PASS
        | {
            "class_token_pooling": "average",
            "extract_text_features": True,
            "use_segment_embeddings": True,
        },
    ),
    "uni lstm": ("bert", _LABELS_FIRST | {"pooling_strategy": "avg", "use_lstm": True}),
    "bi avg": ("bert", _BI | {"pooling_strategy": "avg", "normalize_features": True}),
    "bi first": ("modernbert", _BI | {"scorer_type": "mlp"}),
    "bi hopfield": ("bert", _BI | {"pooling_strategy": "avg", "scorer_type": "hopfield"}),
    "fused": ("bert", _FUSED | _LABELS_FIRST | {"pooling_strategy": "avg"}),
    "fused text first": ("deberta-v2", _FUSED | {"scorer_type": "weighted-dot"}),
    "halves t5": ("t5", _HALVES | {"scorer_type": "mlp"}),
    "halves bart": ("bart", _HALVES | {"pooling_strategy": "avg"}),
    "halves turned t5": ("t5", _HALVES_TURNED),
    "halves turned bart": ("bart", _HALVES_TURNED | {"scorer_type": "mlp"}),
    "kv qwen3": ("qwen3", _KV),
    "kv llama": ("llama", _KV),
}
"""The backbone and the fields of the configuration of each model, by the name of the model."""


def write_model(folder: Path, name: str, tokenizer: PreTrainedTokenizerFast | None = None) -> str:
    """Write the checkpoint of a model; give the name of its folder."""
    from skgliclass import GLiClassConfig, GLiClassModel

    tokenizer = tokenizer or wrapped_tokenizer(MODELS[name][0])
    model = GLiClassModel(GLiClassConfig(**config_fields(name, tokenizer))).eval()
    seed_weights(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def config_fields(name: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Give the configuration of a model, for this package and for the reference alike."""
    kind, fields = MODELS[name]
    label, text, example = tokenizer.convert_tokens_to_ids(MARKERS)
    of_architecture: dict[str, Any] = {}
    if fields.get("architecture_type", "").startswith("bi-encoder"):
        of_labels = backbone_config(kind, len(tokenizer)).to_dict()
        of_architecture = {"label_model_config": of_labels, "label_model_name": "none"}
    if fields.get("architecture_type") == "decoder-kv":
        of_architecture = {"sep_token_index": text}
    return {
        "encoder_config": backbone_config(kind, len(tokenizer)),
        "encoder_model": "none",
        "class_token_index": label,
        "text_token_index": text,
        "example_token_index": example,
        "vocab_size": len(tokenizer),
        "problem_type": "multi_label_classification",
        "scorer_num_heads": 4,
        **of_architecture,
        **fields,
    }


@torch.no_grad()
def seed_weights(model: nn.Module) -> None:
    """Give every weight the numbers that belong to its name."""
    for name, weight in model.named_parameters():
        weight.copy_(torch.as_tensor(_numbers(name, tuple(weight.shape))))


def _numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    # The 53 bits that a float holds, from -1 to 1.
    uniform = ((bits >> np.uint64(11)) * 2.0**-52 - 1).reshape(shape)
    if len(shape) < 2:
        # Weights of norms stay near one, and biases are small.
        return 0.2 * uniform + (name.endswith("weight") or not shape)
    # As wide as keeps the variance of what goes through.
    return uniform * np.sqrt(3 / shape[-1]) * _gain(name)


def _gain(name: str) -> float:
    if "embed" in name:
        return 4
    # A Hopfield network's softmax is of four times a sum, whose rounding would show in the logits.
    return 0.1 if name.endswith("scorer.q_proj.weight") else 1.3


# Words for whose ids no vocabulary has to be learnt.
N_WORDS = 60
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


@cache
def numbered_words() -> PreTrainedTokenizerFast:
    """Give a tokenizer whose words are w0, w1, ...: versions of trainers cannot change it."""
    words = [*_SPECIAL, *(f"w{i}" for i in range(N_WORDS)), *MARKERS]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([*_SPECIAL, *MARKERS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
