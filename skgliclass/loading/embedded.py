"""The embedded model: a backbone that is installed apart, and what training changed in it.

It is put together without transformers, whose import takes longer than all else that comes before
a first prediction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..modeling.architecture import Architecture
from ..modeling.architectures import make_network
from ..modeling.bert import Bert
from ..modeling.fields import plain_config
from ..modeling.heads import draw_scorer, marker_vectors, set_identity_heads
from ..prompts.tokens import MARKERS, add_marker_tokens
from .loaded import LoadedModel
from .sources import Source
from .tokenizer_files import plain_tokenizer_config, read_tokenizer

if TYPE_CHECKING:
    from ..modeling.config import GLiClassConfig

FOLDER = Path(__file__).parents[1] / "weights" / "mini"
"""Where the package keeps the embedded model's changes."""

_BACKBONE_WEIGHTS = "model.safetensors"
_WORDS = "embeddings.word_embeddings.weight"
_CHANGES = "changes.safetensors"
_PREFIX = "model."
_STEP = ".step"
_LARGEST = 127


def load_embedded(source: Source, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load the embedded model."""
    tokenizer = read_tokenizer(source)
    network = build_embedded(source, tokenizer, dtype).to(device)
    return LoadedModel.of(
        network,
        tokenizer,
        tokenizer,
        zero_shot=True,
        name=source.name,
        tokenizer_config=plain_tokenizer_config(source),
    )


def build_embedded(
    source: Source, tokenizer: Tokenizer, dtype: torch.dtype, folder: Path = FOLDER
) -> Architecture:
    """Put the embedded model together.

    Parameters
    ----------
    source : Source
        The backbone's files.
    tokenizer : tokenizers.Tokenizer
        The backbone's, to which the markers are added.
    dtype : torch.dtype
        Of the weights.
    folder : Path
        With the configuration and the changes.

    Returns
    -------
    Architecture
    """
    network = untrained(read_embedded_config(folder), source, tokenizer)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, change in _unpacked(load_file(folder / _CHANGES)).items():
            # In float32: the sum is rounded once, whatever precision the model then has.
            parameters[name.removeprefix(_PREFIX)].add_(change)
    return network.to(dtype)


def untrained(config: Mapping[str, Any], source: Source, tokenizer: Tokenizer) -> Architecture:
    """Make the network of a configuration around a BERT, as it is before any training.

    Parameters
    ----------
    config : mapping
        What a ``config.json`` holds.
    source : Source
        The BERT's files.
    tokenizer : tokenizers.Tokenizer
        The BERT's, to which the markers are added if the configuration knows them.
    """
    settings = plain_config(config)
    # Drawing random numbers for weights that are replaced at once would take longer than reading
    # them.
    with torch.device("meta"):
        backbone = Bert(settings.encoder_config)
        network = make_network(settings, backbone)
    _allocate(network).requires_grad_(False).eval()
    set_identity_heads(network)
    draw_scorer(network)
    if hasattr(network, "logit_scale"):
        cast("Tensor", network.logit_scale).fill_(settings.logit_scale_init_value)
    weights = load_file(source.folder / _BACKBONE_WEIGHTS)
    if settings.class_token_index < settings.encoder_config.vocab_size:
        add_marker_tokens(tokenizer)
        weights[_WORDS] = _with_markers(weights[_WORDS], tokenizer)
    for name, parameter in backbone.named_parameters():
        parameter.copy_(weights[name])
    return network


def _allocate(network: Architecture) -> Architecture:
    """Give memory to parameters that have none, whatever it holds."""
    # Not by `Module.to_empty`: to make a tensor like one without memory, torch imports sympy.
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            memory = torch.empty(parameter.shape, dtype=parameter.dtype)
            module.register_parameter(name, nn.Parameter(memory))
    return network


def embedded_architecture() -> str:
    """Tell how labels and text meet in the embedded model."""
    return str(read_embedded_config()["architecture_type"])


def read_embedded_config(folder: Path = FOLDER) -> dict[str, Any]:
    """Read the embedded model's configuration as it is written."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def pack(
    trained: Mapping[str, Tensor],
    config: GLiClassConfig,
    source: Source,
    tokenizer: Tokenizer,
    folder: str | Path,
) -> None:
    """Write what training changed in a backbone, so that :func:`build_embedded` gives it back.

    Matrices are kept in eight bits, with one step size a row (symmetric uniform quantisation), and
    vectors in bfloat16.

    Parameters
    ----------
    trained : mapping of str to Tensor
        The trained weights by the network's parameter names; those that are missing did not change.
    config : GLiClassConfig
        Of the trained model.
    source : Source
        The backbone's files.
    tokenizer : tokenizers.Tokenizer
        The backbone's, without markers.
    folder : str or path
        Where to; made if missing.

    Raises
    ------
    ValueError
        If a weight has another shape than the backbone's.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    packed: dict[str, Tensor] = {}
    for name, before in untrained(config.to_dict(), source, tokenizer).named_parameters():
        if name not in trained or torch.equal(trained[name].float(), before):
            continue
        if trained[name].shape != before.shape:
            raise ValueError(
                f"{name} has the shape {tuple(trained[name].shape)}, but the backbone's is "
                f"{tuple(before.shape)}."
            )
        # Under the names of a checkpoint.
        packed |= _packed(_PREFIX + name, trained[name].float() - before)
    save_file(packed, folder / _CHANGES)
    if config.label_model_name is not None:
        # Not the folder that the trained checkpoint lay in, which is nowhere on another machine.
        config = copy(config)
        config.label_model_name = config.encoder_model_name
    config.save_pretrained(folder)


def _with_markers(words: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Give a table of word vectors rows for the markers."""
    indices = sorted(cast("int", tokenizer.token_to_id(marker)) for marker in MARKERS)
    table = words.new_zeros(max(len(words), indices[-1] + 1), words.shape[1])
    table[: len(words)] = words
    table[indices] = marker_vectors(words)
    return table


def _packed(name: str, change: Tensor) -> dict[str, Tensor]:
    if change.ndim < 2:
        # A single number, such as the scale of all logits, takes no room and stays as it is.
        return {name: change.to(torch.bfloat16) if change.ndim else change}
    step = change.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / _LARGEST
    return {name: (change / step).round().to(torch.int8), name + _STEP: step}


def _unpacked(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.float() * packed[name + _STEP] if value.dtype == torch.int8 else value.float()
        for name, value in packed.items()
        if not name.endswith(_STEP)
    }
