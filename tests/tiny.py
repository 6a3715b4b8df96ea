"""Tiny random tokenizers, backbones and checkpoints, so that no test needs a download."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BartConfig,
    BertConfig,
    DebertaV2Config,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)

MARKERS = ["<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>"]
WIDTH = 32
CORPUS = [
    "One day I will see the world!",
    "travel dreams sport science politics music",
    "The quick brown fox jumps over the lazy dog, twice.",
    "naïve café, 你好 world; it's 20 degrees <outside> [today] / </s> <s>",
    "very positive negative neutral joy anger world news",
] * 4


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = set(_pre_tokens(tokenizer))
    letters = {letter for word in words for letter in word}
    pieces = sorted(words | letters | {f"##{letter}" for letter in letters})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {piece: i for i, piece in enumerate([*special, *pieces])}
    tokenizer.model = models.WordPiece(vocab, unk_token="[UNK]")
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_level(add_prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def unigram(prepend_scheme: str = "always") -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    pieces = _frequent_pieces(_pre_tokens(tokenizer))
    tokenizer.model = models.Unigram([*((name, 0.0) for name in special), *pieces], unk_id=3)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def _pre_tokens(tokenizer: Tokenizer) -> list[str]:
    """Split the corpus as a tokenizer does before its model comes in."""
    split, normalize = tokenizer.pre_tokenizer.pre_tokenize_str, tokenizer.normalizer.normalize_str
    return [word for text in CORPUS for word, _ in split(normalize(text))]


def _frequent_pieces(words: list[str], n_most: int = 150) -> list[tuple[str, float]]:
    """Give the letters, and parts of words that save the most, with their log-probabilities.

    The trainers of WordPiece and Unigram break ties at random, anew in each process.
    """
    counts = Counter(
        word[i:j]
        for word in words
        for i in range(len(word))
        for j in range(i + 1, min(i + 6, len(word)) + 1)
    )
    letters = sorted({letter for word in words for letter in word})
    parts = sorted(
        (part for part in counts if len(part) > 1 and counts[part] > 4),
        key=lambda part: (-counts[part] * (len(part) - 1), part),
    )
    kept = [*letters, *parts[: n_most - len(letters)]]
    total = sum(counts[piece] for piece in kept)
    return [(piece, math.log(counts[piece] / total)) for piece in kept]


def bare_byte_level() -> Tokenizer:
    """As causal language models have it: nothing is put around a sequence."""
    tokenizer = byte_level()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


TOKENIZERS = {
    "wordpiece": wordpiece,
    "byte-level": byte_level,
    "byte-level, prefix space": lambda: byte_level(add_prefix_space=True),
    "byte-level, bare": bare_byte_level,
    "unigram": unigram,
    "unigram, first": lambda: unigram("first"),
    "unigram, never": lambda: unigram("never"),
}


def joined_pieces(prompt):
    """Give the sequences of a composed prompt as lists of ids."""
    return {name: [int(t) for piece in pieces for t in piece] for name, pieces in prompt.items()}


def with_markers(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKERS])
    return tokenizer


def backbone_config(kind: str, vocab_size: int, n_layers: int = 2):
    common = {
        "vocab_size": vocab_size,
        "hidden_size": WIDTH,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
    }
    if kind == "bert":
        return BertConfig(**common, pad_token_id=0)
    if kind == "roberta":
        return RobertaConfig(**{**common, "max_position_embeddings": 514}, pad_token_id=1)
    if kind == "deberta-v2":
        return DebertaV2Config(
            **common,
            pad_token_id=0,
            relative_attention=True,
            position_buckets=32,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
            type_vocab_size=0,
        )
    if kind == "t5":
        return _t5_config(vocab_size)
    if kind == "bart":
        return _bart_config(vocab_size)
    if kind in _CAUSAL:
        # The sliding window of a Mistral is shorter than the prompts.
        own = {
            "mistral": {"sliding_window": 16},
            "qwen3": {"head_dim": 8},
            # One of its layers in four attends, the others have a state of fixed size.
            "qwen3_5_text": {
                "head_dim": 16,
                "num_hidden_layers": 4,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
            },
        }.get(kind, {})
        return _CAUSAL[kind](**{**common, **own}, num_key_value_heads=2, pad_token_id=1)
    return ModernBertConfig(
        **common,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        cls_token_id=0,
        sep_token_id=2,
        initializer_cutoff_factor=2.0,
    )


_CAUSAL = {
    "qwen3": Qwen3Config,
    "qwen3_5_text": Qwen3_5TextConfig,
    "qwen2": Qwen2Config,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
}


def _t5_config(vocab_size: int):
    return T5Config(
        vocab_size=vocab_size,
        d_model=WIDTH,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        initializer_factor=2.0,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )


def _bart_config(vocab_size: int):
    return BartConfig(
        vocab_size=vocab_size,
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=512,
        init_std=0.2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )


_TOKENIZER_OF = {
    "bert": "wordpiece",
    "roberta": "byte-level",
    "deberta-v2": "unigram",
    "modernbert": "byte-level, prefix space",
    "t5": "unigram",
    "bart": "byte-level",
    **dict.fromkeys(_CAUSAL, "byte-level, bare"),
}


@cache
def _tokenizer_json(name: str) -> str:
    return with_markers(TOKENIZERS[name]()).to_str()


def wrapped_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer.from_str(_tokenizer_json(_TOKENIZER_OF[kind]))
    named = (
        {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        if kind == "bert"
        else {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


BACKBONES = {
    "uni-encoder": "bert",
    "bi-encoder": "bert",
    "bi-encoder-fused": "bert",
    "encoder-decoder": "t5",
    "encoder-decoder-cls": "t5",
    "decoder-kv": "qwen3",
}
"""The kind of backbone that each architecture is tried with."""


def reference_checkpoint(
    folder: Path, kind: str = "bert", *, seed: int = 0, n_layers: int = 2, **fields
):
    """Write a checkpoint with the reference package; give its model and tokenizer."""
    pytest.importorskip("gliclass")
    from gliclass import GLiClassModel, GLiClassModelConfig

    tokenizer = wrapped_tokenizer(kind)
    config = backbone_config(kind, len(tokenizer), n_layers)
    architecture = fields.get("architecture_type", "uni-encoder")
    if architecture.startswith("bi-encoder"):
        fields.setdefault("label_model_config", backbone_config(kind, len(tokenizer)).to_dict())
        fields.setdefault("label_model_name", str(folder))
    if architecture == "decoder-kv":
        fields.setdefault("sep_token_index", tokenizer.convert_tokens_to_ids(MARKERS[1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GLiClassModel(
            GLiClassModelConfig(
                encoder_config=config,
                encoder_model=str(folder),
                class_token_index=tokenizer.convert_tokens_to_ids(MARKERS[0]),
                text_token_index=tokenizer.convert_tokens_to_ids(MARKERS[1]),
                example_token_index=tokenizer.convert_tokens_to_ids(MARKERS[2]),
                vocab_size=len(tokenizer),
                initializer_range=0.1,
                problem_type="multi_label_classification",
                **{"scorer_num_heads": 4, **fields},
            )
        ).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def encoder_checkpoint(
    folder: Path, kind: str = "bert", *, seed: int = 0, n_layers: int = 2
) -> Path:
    """Write a plain encoder as transformers does."""
    from transformers import AutoModel

    tokenizer = TOKENIZERS[_TOKENIZER_OF[kind]]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(backbone_config(kind, tokenizer.get_vocab_size(), n_layers))
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=tokenizer.id_to_token(model.config.pad_token_id)
    ).save_pretrained(folder)
    return folder


def sentence_transformer(
    folder: Path, *, pooling: str = "mean", dense=None, seed: int = 0, n_layers: int = 2
) -> Path:
    """Write a sentence-transformers folder; `dense` is a list of (weight, bias, activation)."""
    from safetensors.torch import save_file

    encoder_checkpoint(folder, seed=seed, n_layers=n_layers)
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense or []), "Normalize"]
    paths = ["" if k == "Transformer" else f"{i}_{k}" for i, k in enumerate(kinds)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64}))
    (folder / "1_Pooling").mkdir()
    key = (
        "lasttoken"
        if pooling == "lasttoken"
        else f"{pooling}_token{'' if pooling == 'cls' else 's'}"
    )
    settings = {"word_embedding_dimension": WIDTH, f"pooling_mode_{key}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    for i, (weight, bias, activation) in enumerate(dense or []):
        path = folder / paths[2 + i]
        path.mkdir()
        names = {"identity": "torch.nn.modules.linear.Identity"}
        activation = names.get(activation, f"torch.nn.modules.activation.{activation.title()}")
        (path / "config.json").write_text(json.dumps({"activation_function": activation}))
        save_file({"linear.weight": weight, "linear.bias": bias}, path / "model.safetensors")
    return folder
