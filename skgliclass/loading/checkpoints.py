"""Load models of every kind, share them within the process, and write checkpoints."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor
from transformers.utils import logging as transformers_logging

from ..modeling.config import GLiClassConfig
from ..modeling.model import GLiClassModel
from ..prompts.tokens import LABEL_MARKER, MARKERS, TEXT_MARKER
from .backbones import build_from_encoder, build_from_sentence_transformer
from .embedded import as_loaded, build_embedded, embedded_architecture
from .loaded import (
    LoadedModel,
    plain_tokenizer_config,
    position_limit,
    read_tokenizer_file,
    resolve_device,
    resolve_dtype,
    without_limits,
)
from .sources import EMBEDDED, Source, download, find_source

MAX_CACHED_MODELS = 4
DEFAULT_MAX_LENGTH = 1024

_WITH_LABEL_ENCODER = ("bi-encoder", "bi-encoder-fused")
_LABEL_TOKENIZER_FOLDER = "label_tokenizer"

_cache: OrderedDict[tuple[Any, ...], LoadedModel] = OrderedDict()
_cache_lock = RLock()


def load_model(
    model: str,
    *,
    revision: str | None = None,
    architecture: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
) -> LoadedModel:
    """Load a model, or give the one that this process has loaded before.

    Parameters
    ----------
    model : str
        ``"mini"``, a folder, or a hub id: of a GLiClass checkpoint, a sentence-transformers model
        or a plain encoder.
    revision : str, optional
        The branch, tag or commit of a hub repository.
    architecture : str, default="auto"
        How a new GLiClass is built, one of ``SUPPORTED_ARCHITECTURES``; a checkpoint has its own.
    device : str, default="auto"
        ``"auto"`` takes a GPU where there is one.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is float32 on a CPU and bfloat16 on a GPU that has it.

    Returns
    -------
    LoadedModel

    Raises
    ------
    OSError
        If the model cannot be found.
    ValueError
        If its files are damaged, incomplete, unsafe or not supported.
    """
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    source = find_source(model, revision)
    embedded = model == EMBEDDED
    key = (embedded, source, source.fingerprint(), architecture, torch_device, torch_dtype)
    with _cache_lock:
        if key not in _cache:
            _cache[key] = _load(source, architecture, torch_device, torch_dtype, embedded)
            while len(_cache) > MAX_CACHED_MODELS:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
        return _cache[key]


def clear_cache() -> None:
    """Forget the loaded models, so that their memory can be freed."""
    with _cache_lock:
        _cache.clear()


def save_checkpoint(
    folder: str | Path, loaded: LoadedModel, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write a checkpoint that the ``gliclass`` package loads too.

    Parameters
    ----------
    folder : str or path
        Where to; made if missing.
    loaded : LoadedModel
        The model and its tokenizers.
    weights : mapping of str to Tensor, optional
        Weights to write instead of the model's own, by their names in a checkpoint.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = loaded.model.checkpoint_state_dict(weights)
    with _quiet():
        loaded.model.save_pretrained(folder, state_dict=state)
    _write_tokenizer(folder, loaded.tokenizer, loaded.tokenizer_config)
    if loaded.label_tokenizer is not loaded.tokenizer:
        _write_tokenizer(folder / _LABEL_TOKENIZER_FOLDER, loaded.label_tokenizer, {})


def _load(
    source: Source,
    architecture: str,
    device: torch.device,
    dtype: torch.dtype,
    embedded: bool,
) -> LoadedModel:
    config = source.read_json("config.json") or {}
    # Building modules draws random numbers before the weights replace them.
    with _quiet(), torch.random.fork_rng(devices=[]), _clear_errors(source):
        if config.get("model_type") == GLiClassConfig.model_type:
            return _load_gliclass(source, architecture, device, dtype)
        own = embedded_architecture() if embedded else None
        if own is not None and architecture in ("auto", own):
            return _load_embedded(source, device, dtype)
        return _load_backbone(source, architecture, device, dtype)


def _load_gliclass(
    source: Source, architecture: str, device: torch.device, dtype: torch.dtype
) -> LoadedModel:
    model, info = GLiClassModel.from_pretrained(
        source.folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(
            f"model={source.name!r} lacks {len(missing)} weights, such as {missing[0]!r}. "
            "The checkpoint is incomplete, or its config.json belongs to another."
        )
    own = model.config.architecture_type
    if architecture not in ("auto", own):
        raise ValueError(
            f"architecture={architecture!r}, but the checkpoint {source.name!r} is a {own}. "
            'A checkpoint cannot change its architecture: use architecture="auto".'
        )
    tokenizer = _read_tokenizer(source.folder)
    label_tokenizer = _label_tokenizer(source, model.config, tokenizer)
    if own != "bi-encoder":
        _check_markers(tokenizer, model.config, source)
    if own in _WITH_LABEL_ENCODER:
        _check_vocabulary(label_tokenizer, model.config.label_model_config, source)
    limit = position_limit(model.config.encoder_config)
    return LoadedModel(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        label_tokenizer=label_tokenizer,
        zero_shot=True,
        max_length=min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH),
        position_limit=limit,
        label_position_limit=_label_position_limit(model.config),
        name=source.name,
        tokenizer_config=source.read_json("tokenizer_config.json") or {},
    )


def _load_embedded(source: Source, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    tokenizer = _read_tokenizer(source.folder)
    return as_loaded(build_embedded(source, tokenizer, dtype).to(device), tokenizer, source)


def _load_backbone(
    source: Source, architecture: str, device: torch.device, dtype: torch.dtype
) -> LoadedModel:
    is_sentence_encoder = source.read_json("modules.json") is not None
    tokenizer = _read_tokenizer(source.folder)
    zero_shot = is_sentence_encoder and architecture in ("auto", "bi-encoder")
    if zero_shot:
        model = build_from_sentence_transformer(source, dtype)
    else:
        model = build_from_encoder(source, architecture, tokenizer, dtype)
    backbone = model.config.encoder_config
    limit = position_limit(backbone)
    length = min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
    if model.config.architecture_type in _WITH_LABEL_ENCODER:
        settings = source.read_json("sentence_bert_config.json") or {}
        length = min(length, settings.get("max_seq_length") or length)
    return LoadedModel(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        label_tokenizer=tokenizer,
        zero_shot=zero_shot,
        max_length=length,
        position_limit=limit,
        label_position_limit=_label_position_limit(model.config),
        name=source.name,
        tokenizer_config=plain_tokenizer_config(source),
    )


def _label_position_limit(config: GLiClassConfig) -> int | None:
    apart = config.architecture_type in _WITH_LABEL_ENCODER
    return position_limit(config.label_model_config) if apart else None


# Tokenizers.


def _read_tokenizer(folder: Path) -> Tokenizer:
    # AutoTokenizer rebuilds some normalisers instead of reading them, and then tokenises otherwise
    # than the checkpoint was trained, so the file is read as it is.
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer_file(folder / "tokenizer.json")
    from transformers import AutoTokenizer

    wrapped = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return without_limits(Tokenizer.from_str(wrapped.backend_tokenizer.to_str()))


def _check_markers(tokenizer: Tokenizer, config: GLiClassConfig, source: Source) -> None:
    expected = [
        (LABEL_MARKER, config.class_token_index),
        # A decoder-kv goes by an id of its own.
        (TEXT_MARKER, config.sep_token_index or config.text_token_index),
    ]
    for marker, index in expected:
        found = tokenizer.token_to_id(marker)
        if found != index:
            raise ValueError(
                f"model={source.name!r}: its tokenizer gives {marker} the id {found}, but its "
                f"config.json says {index}. The files belong to different checkpoints."
            )


def _check_vocabulary(tokenizer: Tokenizer, backbone: Any, source: Source) -> None:
    words = tokenizer.get_vocab(with_added_tokens=True)
    # The markers never occur in a label.
    largest = max(index for word, index in words.items() if word not in MARKERS)
    if largest >= backbone.vocab_size:
        raise ValueError(
            f"model={source.name!r}: the tokenizer of its labels knows the id {largest}, but the "
            f"label encoder only {backbone.vocab_size} words. Put the right tokenizer in the "
            f"checkpoint's folder {_LABEL_TOKENIZER_FOLDER!r}."
        )


def _label_tokenizer(source: Source, config: GLiClassConfig, tokenizer: Tokenizer) -> Tokenizer:
    if config.architecture_type not in _WITH_LABEL_ENCODER or config.share_encoders:
        return tokenizer
    beside = source.folder / _LABEL_TOKENIZER_FOLDER
    if beside.is_dir():
        return _read_tokenizer(beside)
    name = config.label_model_name or ""
    named = Path(name)
    if not named.is_dir():
        try:
            named = download(name)
        except OSError:
            same_size = config.label_model_config.vocab_size == config.encoder_config.vocab_size
            if same_size or name == config.encoder_model_name:
                return tokenizer
            raise
    return _read_tokenizer(named)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = settings or {"tokenizer_class": "PreTrainedTokenizerFast"}
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


# What loading must not do to its surroundings.


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and loading reports from the user's screen."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _clear_errors(source: Source) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"The weights of model={source.name!r} in {source.folder} are damaged ({error}). "
            "Download or save the checkpoint again."
        ) from error
