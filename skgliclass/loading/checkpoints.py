"""Read and write GLiClass checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from ..files import checked_folder, replaced_folder
from ..modeling.architecture import Architecture
from ..prompts.tokens import LABEL_MARKER, MARKERS, TEXT_MARKER
from .loaded import LoadedModel, default_length
from .model import MODEL_FILES, GLiClassModel, read_gliclass
from .quiet import quiet
from .sources import Source, download_tokenizer, is_hub_id
from .tokenizer_files import (
    VOCABULARIES,
    check_vocabulary,
    read_tokenizer,
    read_tokenizer_config,
    write_tokenizer,
)

_LABEL_TOKENIZER_FOLDER = "label_tokenizer"

CHECKPOINT_FILES = (
    *MODEL_FILES,
    "tokenizer.json",
    "tokenizer_config.json",
    *VOCABULARIES,
    f"{_LABEL_TOKENIZER_FOLDER}/*",
)
"""What belongs to a checkpoint, whoever wrote it; one of these beside another's files would mislead
whoever reads it."""


def load_checkpoint(
    source: Source, architecture: str, device: torch.device, dtype: torch.dtype
) -> LoadedModel:
    """Load a GLiClass checkpoint.

    Raises
    ------
    ValueError
        If it is incomplete, is of another architecture than was asked for, or has the tokenizer of
        another checkpoint.
    """
    network = _read_network(source, architecture, dtype)
    tokenizer = read_tokenizer(source)
    check_vocabulary(tokenizer, _n_words(network.backbone), source)
    label_tokenizer = tokenizer
    if network.has_label_encoder:
        label_tokenizer = _label_tokenizer(source, network.config, tokenizer)
        _check_label_vocabulary(label_tokenizer, network.config.label_model_config, source)
    if not network.encodes_labels_apart:
        _check_markers(tokenizer, network.config, source)
    return LoadedModel.of(
        network.to(device),
        tokenizer,
        label_tokenizer,
        zero_shot=True,
        name=source.name,
        tokenizer_config=read_tokenizer_config(source),
    )


def save_checkpoint(
    folder: str | Path, loaded: LoadedModel, *, gliclass_compatible: bool = True
) -> None:
    """Replace a checkpoint by another one, whole or not at all.

    Parameters
    ----------
    folder : str or path
        Where to; made if missing.
    loaded : LoadedModel
        The model and its tokenizers.
    gliclass_compatible : bool, default=True
        As in :func:`write_checkpoint`.

    Raises
    ------
    OSError
        If it cannot be written; what was there is as it was.
    """
    with replaced_folder(folder, CHECKPOINT_FILES) as written:
        place = checked_folder(folder)
        write_checkpoint(written, loaded, place=place, gliclass_compatible=gliclass_compatible)


def write_checkpoint(
    folder: Path, loaded: LoadedModel, *, place: Path | str, gliclass_compatible: bool = True
) -> None:
    """Write the files of a checkpoint.

    Parameters
    ----------
    folder : Path
        Where to.
    loaded : LoadedModel
        The model and its tokenizers.
    place : Path or str
        Where the checkpoint will be in the end: a folder, or a repository on the hub by its name.
    gliclass_compatible : bool, default=True
        Whether the ``gliclass`` package loads it, too: this takes a shared encoder's weights twice,
        and the tokenizer of the labels by a path in ``config.json``.
    """
    is_shorter = loaded.max_length < default_length(loaded.position_limit)
    length = loaded.max_length if is_shorter else None
    fields: dict[str, Any] = {"max_prompt_length": length}
    network = loaded.network
    # A shared encoder reads both with one tokenizer, which lies in the folder itself.
    has_two = network.has_label_encoder and not network.config.share_encoders
    if gliclass_compatible and network.has_label_encoder:
        fields["label_model_name"] = _label_model_name(network.config, place, has_two)
    if isinstance(place, str):
        fields = {**_names_elsewhere(network.config), **fields}
    with quiet():
        model = GLiClassModel.around(network, **fields)
        model.write_files(folder, gliclass_compatible=gliclass_compatible)
    write_tokenizer(folder, loaded.raw_text_tokenizer, loaded.tokenizer_config)
    if has_two:
        tokenizer = loaded.raw_label_tokenizer
        padding = getattr(network.config.label_model_config, "pad_token_id", None)
        # What the gliclass package pads with; nothing here asks for it.
        word = None if padding is None else tokenizer.id_to_token(padding)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": word}
        write_tokenizer(folder / _LABEL_TOKENIZER_FOLDER, tokenizer, settings if word else {})


def _label_model_name(config: Any, place: Path | str, has_two: bool) -> str:
    """Name what the ``gliclass`` package is to read the labels' tokenizer from."""
    if not has_two:
        return str(place)
    # It knows no folder within a repository.
    within_hub = isinstance(place, str)
    return (
        _name_elsewhere(config.label_model_name)
        if within_hub
        else str(Path(place) / _LABEL_TOKENIZER_FOLDER)
    )


def _names_elsewhere(config: Any) -> dict[str, str]:
    names = ("encoder_model_name", "label_model_name")
    return {name: _name_elsewhere(getattr(config, name)) for name in names}


def _name_elsewhere(name: str | None) -> str:
    """Leave out the name of a folder, which means nothing on another machine."""
    return name if name and is_hub_id(name) else ""


def _read_network(source: Source, architecture: str, dtype: torch.dtype) -> Architecture:
    with quiet():
        model, _ = read_gliclass(GLiClassModel, source, dtype=dtype)
    network: Architecture = model.model
    if architecture not in ("auto", network.name):
        raise ValueError(
            f"architecture={architecture!r}, but the checkpoint {source.name!r} is a "
            f"{network.name}. A checkpoint cannot change its architecture: use "
            'architecture="auto".'
        )
    return network


def _check_markers(tokenizer: Tokenizer, config: Any, source: Source) -> None:
    expected = [
        (LABEL_MARKER, config.class_token_index),
        # A decoder-kv goes by an id of its own.
        (TEXT_MARKER, config.sep_token_index or config.text_token_index),
    ]
    for marker, index in expected:
        actual = tokenizer.token_to_id(marker)
        if actual != index:
            raise ValueError(
                f"model={source.name!r}: its tokenizer gives {marker} the id {actual}, but its "
                f"config.json says {index}. The files belong to different checkpoints."
            )


def _n_words(backbone: Any) -> int:
    return int(backbone.get_input_embeddings().num_embeddings)


def _check_label_vocabulary(tokenizer: Tokenizer, backbone: Any, source: Source) -> None:
    words = tokenizer.get_vocab(with_added_tokens=True)
    # The markers never occur in a label.
    largest = max((index for word, index in words.items() if word not in MARKERS), default=0)
    if largest >= backbone.vocab_size:
        raise ValueError(
            f"model={source.name!r}: the tokenizer of its labels knows the id {largest}, but the "
            f"label encoder only {backbone.vocab_size} words. Put the right tokenizer in the "
            f"checkpoint's folder {_LABEL_TOKENIZER_FOLDER!r}."
        )


def _label_tokenizer(source: Source, config: Any, tokenizer: Tokenizer) -> Tokenizer:
    if config.share_encoders:
        return tokenizer
    if source.has_folder(_LABEL_TOKENIZER_FOLDER):
        return read_tokenizer(source, _LABEL_TOKENIZER_FOLDER)
    name = config.label_model_name or ""
    try:
        elsewhere = download_tokenizer(name)
    except OSError as error:
        same_size = config.label_model_config.vocab_size == config.encoder_config.vocab_size
        if same_size or name == config.encoder_model_name:
            return tokenizer
        raise OSError(
            f"model={source.name!r} lacks the tokenizer of its labels. Put its tokenizer.json in "
            f"the folder {_LABEL_TOKENIZER_FOLDER!r} of the checkpoint. ({error})"
        ) from error
    return read_tokenizer(elsewhere)
