"""Read and write the tokenizers of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .sources import Source

_SPECIAL = (
    "pad_token",
    "unk_token",
    "cls_token",
    "sep_token",
    "mask_token",
    "bos_token",
    "eos_token",
)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read a tokenizer without truncation and padding."""
    path = folder / "tokenizer.json"
    if path.is_file():
        # AutoTokenizer rebuilds some normalisers instead of reading them, and then tokenises
        # otherwise than the checkpoint was trained, so the file is read as it is.
        tokenizer = Tokenizer.from_file(str(path))
    else:
        from transformers import AutoTokenizer

        wrapped = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Write a tokenizer with what AutoTokenizer needs besides."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = settings or {"tokenizer_class": "PreTrainedTokenizerFast"}
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def plain_tokenizer_config(source: Source) -> dict[str, Any]:
    """Keep what AutoTokenizer needs, but let it read tokenizer.json as it is."""
    settings = source.read_json("tokenizer_config.json") or {}
    special = {name: settings[name] for name in _SPECIAL if settings.get(name) is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **special}
