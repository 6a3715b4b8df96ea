"""Read and write the tokenizers of models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer

from ..prompts.tokens import MARKERS
from .sources import Source, join

_FILE = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_SPECIAL = (
    "pad_token",
    "unk_token",
    "cls_token",
    "sep_token",
    "mask_token",
    "bos_token",
    "eos_token",
)
# What tokenizers were kept in before tokenizer.json.
VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "added_tokens.json",
    "special_tokens_map.json",
)
# Special tokens for other tasks may lie beyond the words that a model knows, but not far.
_N_UNUSED = 1024
# Normalisers put few characters in the place of one, unless they are there to fill the memory.
_MOST_GROWTH = 1000
_PROBES = ("a", "\N{LATIN SMALL LETTER E WITH ACUTE} \U0010ffff\u4f60", "")


def read_tokenizer(source: Source, below: str = "") -> Tokenizer:
    """Read a tokenizer without truncation and padding.

    Parameters
    ----------
    source : Source
        The files of a model.
    below : str, default=""
        The folder in it that holds the tokenizer.

    Raises
    ------
    ValueError
        If there is none, it is damaged, or it needs code of its own.
    """
    file = source.file(join(below, _FILE))
    with _clear_errors(source, join(below, _FILE)):
        # AutoTokenizer rebuilds some normalisers instead of reading them, and then tokenises
        # otherwise than the checkpoint was trained, so the file is read as it is.
        tokenizer = Tokenizer.from_buffer(file.read()) if file else _convert(source, below)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        _check_growth(tokenizer)
        # Some faults show only when it is used.
        tokenizer.encode_batch(list(_PROBES))
    return tokenizer


def _check_growth(tokenizer: Tokenizer) -> None:
    """Refuse a normaliser that could make a short text fill the memory."""
    if tokenizer.normalizer is not None:
        growth = _growth(json.loads(tokenizer.normalizer.__getstate__()))
        if growth > _MOST_GROWTH:
            raise ValueError(f"its normalizer may make a text {growth:.2g} times as long")


def _growth(normalizer: Mapping[str, Any]) -> float:
    """Give how many characters a normaliser may put in the place of one."""
    growth = 1.0
    if normalizer["type"] == "Sequence":
        for part in normalizer["normalizers"]:
            growth = min(growth * _growth(part), 1e300)
    elif normalizer["type"] == "Replace":
        pattern, length = normalizer["pattern"], len(normalizer["content"])
        # A regular expression may also match between two characters.
        times = length / max(1, len(pattern["String"])) if "String" in pattern else 1 + length
        growth = max(1.0, times)
    return growth


def check_vocabulary(tokenizer: Tokenizer, n_words: int, source: Source) -> None:
    """Refuse a tokenizer that gives ids that a model has no vectors for.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Of the texts.
    n_words : int
        How many ids the model knows.
    source : Source
        For the message.

    Raises
    ------
    ValueError
        If it does.
    """
    special = {
        index
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.special or token.content in MARKERS
    }
    # A special token is never found in a text, but it may be put around one.
    special -= set(tokenizer.encode("a").ids)
    for word, index in tokenizer.get_vocab(with_added_tokens=True).items():
        if index >= n_words + (_N_UNUSED if index in special else 0):
            raise ValueError(
                f"model={source.name!r}: {_FILE} gives {word!r} the id {index}, but the model "
                f"knows only {n_words} words. The files belong to different checkpoints."
            )


def write_tokenizer(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Write a tokenizer with what AutoTokenizer needs besides."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / _FILE))
    settings = settings or {"tokenizer_class": "PreTrainedTokenizerFast"}
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")


def read_tokenizer_config(source: Source, below: str = "") -> dict[str, Any]:
    """Read what goes with a tokenizer, without what would run or look for something."""
    settings = source.read_json(join(below, _CONFIG)) or {}
    return {name: value for name, value in settings.items() if not _leads_elsewhere(name)}


def plain_tokenizer_config(source: Source) -> dict[str, Any]:
    """Keep what AutoTokenizer needs, but let it read tokenizer.json as it is."""
    settings = source.read_json(_CONFIG) or {}
    special = {name: settings[name] for name in _SPECIAL if settings.get(name) is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **special}


def _leads_elsewhere(name: str) -> bool:
    return (
        name.startswith("_")
        or name.endswith(("_file", "_files", "_path", "_dir"))
        or name in ("auto_map", "custom_pipelines", "processor_class", "name_or_path")
    )


def _convert(source: Source, below: str) -> Tokenizer:
    """Let transformers build a tokenizer from older files, of which it sees copies alone."""
    kind = _tokenizer_class(source, below)
    with TemporaryDirectory() as folder:
        for name in VOCABULARIES:
            file = source.file(join(below, name))
            if file is not None:
                (Path(folder) / name).write_bytes(file.read())
        settings = read_tokenizer_config(source, below)
        (Path(folder) / _CONFIG).write_text(json.dumps(settings), encoding="utf-8")
        wrapped = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return Tokenizer.from_str(wrapped.backend_tokenizer.to_str())


def _tokenizer_class(source: Source, below: str) -> Any:
    """Find the class of a tokenizer among those that transformers itself knows."""
    from transformers.models.auto.tokenization_auto import (
        TOKENIZER_MAPPING_NAMES,
        tokenizer_class_from_name,
    )

    config: Mapping[str, Any] = source.read_json(join(below, "config.json")) or {}
    settings: Mapping[str, Any] = source.read_json(join(below, _CONFIG)) or {}
    name = settings.get("tokenizer_class")
    if name is None:
        name = TOKENIZER_MAPPING_NAMES.get(str(config.get("model_type")))
    if name is None and "auto_map" not in settings:
        raise ValueError(
            f"model={source.name!r} has no tokenizer: {join(below, _FILE)} is missing. Write it "
            "there with tokenizer.save_pretrained(folder), as transformers' Trainer does where it "
            "is given processing_class=tokenizer."
        )
    kind = tokenizer_class_from_name(name) if isinstance(name, str) else None
    if kind is None or not kind.__module__.startswith("transformers."):
        raise ValueError(
            f"model={source.name!r} has no {join(below, _FILE)}, and transformers itself knows no "
            f"tokenizer {settings['auto_map'] if name is None else name!r}. Code from checkpoints "
            f"is never run: save the tokenizer as {_FILE} on a machine where you trust it."
        )
    return kind


@contextmanager
def _clear_errors(source: Source, name: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except ValueError as error:
        if f"model={source.name!r}" in str(error) or str(source.folder) in str(error):
            raise
        raise _damaged(source, name, error) from error
    except BaseException as error:
        # What fails in Rust is a plain exception, or a panic that is not even that.
        raise _damaged(source, name, error) from error


def _damaged(source: Source, name: str, error: BaseException) -> ValueError:
    return ValueError(
        f"model={source.name!r}: the tokenizer in {source.folder / name} cannot be read "
        f"({type(error).__name__}: {error}). Download or save the checkpoint again."
    )
