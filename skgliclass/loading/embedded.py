"""The embedded model: a backbone that is installed apart, and what training changed in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from .loaded import LoadedModel, plain_tokenizer_config, position_limit
from .sources import Source

if TYPE_CHECKING:
    from ..modeling.config import GLiClassConfig
    from ..modeling.model import GLiClassModel

FOLDER = Path(__file__).parents[1] / "weights" / "mini"
"""Where the package keeps the embedded model's changes."""

EMBEDDED_MAX_LENGTH = 256
"""What the embedded model's backbone was made for, in tokens."""

_WEIGHTS = "changes.safetensors"
_STEP = ".step"
_LARGEST = 127


def build_embedded(
    source: Source, tokenizer: Tokenizer, dtype: torch.dtype, folder: Path = FOLDER
) -> GLiClassModel:
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
    GLiClassModel
    """
    from ..modeling.config import GLiClassConfig
    from .backbones import build_for_config

    config = GLiClassConfig.from_pretrained(folder, local_files_only=True)
    model = build_for_config(config, source, tokenizer)
    add_changes(model, folder)
    return model.to(dtype).eval()


def as_loaded(model: Any, tokenizer: Tokenizer, source: Source) -> LoadedModel:
    """Give the embedded model, however it was put together, with what prepares its input."""
    config = model.config
    limit = position_limit(config.encoder_config)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        label_tokenizer=tokenizer,
        zero_shot=True,
        max_length=min(EMBEDDED_MAX_LENGTH, limit or EMBEDDED_MAX_LENGTH),
        position_limit=limit,
        label_position_limit=limit if config.share_encoders else None,
        name=source.name,
        tokenizer_config=plain_tokenizer_config(source),
    )


@torch.no_grad()
def add_changes(model: nn.Module, folder: Path = FOLDER) -> None:
    """Make the embedded model of a model as it was before training."""
    parameters = dict(model.named_parameters())
    for name, change in _unpacked(load_file(folder / _WEIGHTS)).items():
        parameters[name].add_(change)


def embedded_architecture(folder: Path = FOLDER) -> str | None:
    """Tell how labels and text meet in the embedded model; None if the package has none."""
    path = folder / "config.json"
    return read_embedded_config(folder)["architecture_type"] if path.is_file() else None


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
        The trained weights by parameter name; those that are missing did not change.
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
    from .backbones import build_for_config

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    packed: dict[str, Tensor] = {}
    for name, before in build_for_config(config, source, tokenizer).named_parameters():
        if name not in trained or torch.equal(trained[name].float(), before):
            continue
        if trained[name].shape != before.shape:
            raise ValueError(
                f"{name} has the shape {tuple(trained[name].shape)}, but the backbone's is "
                f"{tuple(before.shape)}."
            )
        packed |= _packed(name, trained[name].float() - before.detach())
    save_file(packed, folder / _WEIGHTS)
    config.save_pretrained(folder)


def _packed(name: str, change: Tensor) -> dict[str, Tensor]:
    if change.ndim < 2:
        return {name: change.to(torch.bfloat16) if change.ndim else change}
    step = change.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / _LARGEST
    return {name: (change / step).round().to(torch.int8), name + _STEP: step}


def _unpacked(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.float() * packed[name + _STEP] if value.dtype == torch.int8 else value.float()
        for name, value in packed.items()
        if not name.endswith(_STEP)
    }
