"""Weights: what their files say of them, and how they get into a model that transformers knows.

Nothing but numbers comes from the files, and transformers sees none of them: it gets a
configuration and tensors. What a model then holds is its own memory, whatever happens to the files
later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..modeling.memory import is_out_of_memory
from .cache import RecentlyUsed
from .model_file import ModelFile
from .sources import Source

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_FLOATS = {"F64", "F32", "F16", "BF16"}
# Old files hold what a model computes by itself.
_COMPUTED = re.compile(r"(position_ids|inv_freq|masked_bias|attn\.bias|num_batches_tracked)$")
# A model computes tables (of positions, say) and may lack a part that nobody uses (a pooler).
_ROOM = 2**22


@dataclass(frozen=True)
class Weight:
    """What a file says of a tensor."""

    file: ModelFile
    shape: tuple[int, ...]
    dtype: str


def read_headers(files: Sequence[ModelFile]) -> dict[str, Weight]:
    """Read what safetensors files hold, without the weights themselves.

    Raises
    ------
    ValueError
        If a file is damaged, or two hold the same weight.
    """
    weights: dict[str, Weight] = {}
    for file in files:
        with _opened(file) as content:
            for name in content.keys():  # noqa: SIM118
                if name in weights:
                    raise ValueError(f"{file} and {weights[name].file} both hold {name!r}.")
                part = content.get_slice(name)
                weights[name] = Weight(file, tuple(part.get_shape()), part.get_dtype())
    return weights


def read_tensors(weights: Mapping[str, Weight]) -> dict[str, Tensor]:
    """Read weights into memory of their own.

    Raises
    ------
    ValueError
        If one is not made of finite numbers.
    """
    tensors: dict[str, Tensor] = {}
    for file in dict.fromkeys(weight.file for weight in weights.values()):
        with _opened(file) as content:
            for name, weight in weights.items():
                if weight.file == file:
                    # A copy: the original is a view of the file, and changes or ends with it.
                    tensors[name] = content.get_tensor(name).clone()
                    _check_finite(name, tensors[name], file)
    return tensors


@dataclass(frozen=True)
class _Outline:
    """What a configuration describes."""

    kind: type[PreTrainedModel]
    n_numbers: int
    largest: str
    largest_shape: tuple[int, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> _Outline:
        described = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        name, largest = max(described.items(), key=lambda item: item[1].numel())
        n_numbers = sum(tensor.numel() for tensor in described.values())
        return cls(type(model), n_numbers, name, tuple(largest.shape))


_outlines: RecentlyUsed[_Outline] = RecentlyUsed()
"""Of the models built last, since building one takes as long as reading the weights of another."""


def load_pretrained(
    build: Callable[[Any, Any], PreTrainedModel],
    kind: type,
    config: PretrainedConfig,
    weights: Mapping[str, Weight],
    source: Source,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """Load weights into a new model of transformers.

    Parameters
    ----------
    build : callable
        Builds a model of `kind` and `config`; called where tensors take no memory.
    kind : type
        A class of transformers, or one that chooses among them.
    config : PretrainedConfig
        The model's configuration.
    weights : mapping of str to Weight
        By the names in the files.
    source : Source
        For messages.
    **options
        As for ``from_pretrained``.

    Returns
    -------
    model : PreTrainedModel
    info : dict
        The ``missing_keys`` and ``unexpected_keys``, as transformers tells them.

    Raises
    ------
    ValueError
        If the configuration cannot be built or describes other weights than the files hold.
    """
    # Older files hold numbers that a model counts up by itself.
    weights = {name: w for name, w in weights.items() if not _COMPUTED.search(name)}
    _check_types(weights, source)
    outline = _outline(build, kind, config)
    _check_size(outline, weights, source)
    model, info = outline.kind.from_pretrained(
        None,
        config=config,
        state_dict=read_tensors(weights),
        output_loading_info=True,
        # Told apart below, with the name of the model.
        ignore_mismatched_sizes=True,
        **options,
    )
    _check_shapes(info, source)
    return model, info


def check_complete(info: Mapping[str, Any], source: Source) -> None:
    """Refuse a checkpoint that lacks weights.

    Parameters
    ----------
    info : mapping
        As :func:`load_pretrained` gives it.
    source : Source
        For the message.
    """
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"model={source.name!r} lacks {len(missing)} weights, such as {missing[0]!r}. "
            "The checkpoint is incomplete, or its config.json belongs to another."
        )


def check_no_surplus(names: Sequence[str], source: Source) -> None:
    """Refuse a checkpoint with weights that nothing in the model reads.

    Parameters
    ----------
    names : sequence of str
        Of these weights.
    source : Source
        For the message.
    """
    if names:
        raise ValueError(
            f"model={source.name!r} holds {len(names)} weights that its config.json does not "
            f"describe, such as {min(names)!r}. The configuration belongs to another checkpoint."
        )


@contextmanager
def described_errors(source: Source) -> Iterator[None]:
    """Name the model where its files, once they are read, make no model.

    What libraries say of a configuration is as manifold as what can be wrong with it.
    """
    try:
        yield
    except (OSError, NotImplementedError):
        raise
    except ValueError as error:
        if str(source.folder) in str(error) or f"model={source.name!r}" in str(error):
            raise
        raise ValueError(f"model={source.name!r} cannot be loaded: {error}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"model={source.name!r} cannot be loaded: its config.json does not describe a model "
            f"that works ({type(error).__name__}: {error})."
        ) from error


@contextmanager
def _opened(file: ModelFile) -> Iterator[Any]:
    try:
        with file.opened() as name, safe_open(name, framework="pt") as content:
            yield content
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"The weights in {file} are damaged ({error}). Download or save the checkpoint again."
        ) from error


def _check_finite(name: str, tensor: Tensor, file: ModelFile) -> None:
    # A sum is finite only if all of it is, and takes a fifth of the time of asking each number;
    # only where numbers are that large can their sum alone be infinite.
    if tensor.is_floating_point() and not math.isfinite(tensor.sum(dtype=torch.float32).item()):
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise ValueError(
                f"{bad} of the {tensor.numel()} numbers of the weight {name!r} in {file} are NaN "
                "or infinite. The checkpoint is damaged, or its training diverged."
            )


def _check_types(weights: Mapping[str, Weight], source: Source) -> None:
    for name, weight in weights.items():
        if weight.dtype not in _FLOATS:
            raise ValueError(
                f"model={source.name!r}: the weight {name!r} is of the type {weight.dtype}; read "
                f"are {', '.join(sorted(_FLOATS))}. Save the model with plain weights."
            )


def _outline(build: Callable[[Any, Any], PreTrainedModel], kind: type, config: Any) -> _Outline:
    key = kind, config.to_json_string(use_diff=False)
    outline = _outlines.find(key)
    if outline is None:
        with torch.device("meta"):
            outline = _Outline.of(build(kind, config))
        _outlines.keep(key, outline)
    return outline


def _check_size(outline: _Outline, weights: Mapping[str, Weight], source: Source) -> None:
    """Refuse a configuration of more weights than there are, before they take any memory."""
    n_stored = sum(math.prod(weight.shape) for weight in weights.values())
    if outline.n_numbers > 2 * n_stored + _ROOM:
        raise ValueError(
            f"model={source.name!r}: its config.json describes {outline.n_numbers} weights, such "
            f"as {outline.largest!r} of shape {outline.largest_shape}, but its files hold "
            f"{n_stored} in all. The files belong to different checkpoints."
        )


def _check_shapes(info: Mapping[str, Any], source: Source) -> None:
    for name, stored, described in sorted(info["mismatched_keys"]):
        raise ValueError(
            f"model={source.name!r}: the weight {name!r} has the shape {tuple(stored)}, but its "
            f"config.json describes {tuple(described)}. The files belong to different checkpoints."
        )
    # What it takes for a model of several old parts, transformers tells as text only.
    for message in info.get("error_msgs") or ():
        raise ValueError(f"model={source.name!r}: {message}")
