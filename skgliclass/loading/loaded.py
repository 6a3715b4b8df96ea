"""A model that is ready to run, and the choices that loading makes; without transformers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer

from ..prompts.tokens import PieceTokenizer
from .sources import Source

if TYPE_CHECKING:
    from ..modeling.architecture import Architecture
    from ..modeling.model import GLiClassModel

_ROBERTA_LIKE = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "longformer"}
_RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "deberta-v2", "deberta", "xlnet"}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Prepared:
    """What is kept with a model from call to call: the values of the keys that were used last."""

    def __init__(self, n_most: int = 16) -> None:
        self._values: OrderedDict[Any, Any] = OrderedDict()
        self._n_most = n_most
        self._lock = Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Give the value of a key, making it if it is not kept."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                if len(self._values) > self._n_most:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to run, with what prepares its input.

    Attributes
    ----------
    model : GLiClassModel
        In evaluation mode, on its device. It may be shared: never modify it.
    tokenizer, label_tokenizer : tokenizers.Tokenizer
        For prompts and texts, and for the labels of a bi-encoder; without truncation and padding.
    zero_shot : bool
        Whether the heads are trained, so that predictions mean something.
    max_length : int
        The longest prompt in tokens that the model was made for.
    position_limit : int or None
        The longest prompt that the backbone can read at all.
    label_position_limit : int or None
        The longest label that a label encoder of its own can read at all.
    name : str
        The model's name for messages.
    tokenizer_config : dict
        What goes with the tokenizer into a checkpoint.
    """

    model: GLiClassModel
    tokenizer: Tokenizer
    label_tokenizer: Tokenizer
    zero_shot: bool
    max_length: int
    position_limit: int | None
    name: str
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    label_position_limit: int | None = None

    prepared: Prepared = field(default_factory=Prepared)

    @cached_property
    def text_pieces(self) -> PieceTokenizer:
        return PieceTokenizer(self.tokenizer)

    @cached_property
    def label_pieces(self) -> PieceTokenizer:
        return PieceTokenizer(self.label_tokenizer)

    @property
    def network(self) -> Architecture:
        """The architecture's own module, without what transformers puts around it."""
        return self.model.model


def resolve_device(device: str) -> torch.device:
    """Choose the device that a name stands for."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f'device={device!r} is not available here ({error}). Use device="auto" or "cpu".'
        ) from error
    return resolved


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Choose the precision that a name stands for."""
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise ValueError(f"dtype={dtype!r} is unknown; choose from auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


def position_limit(backbone: Any) -> int | None:
    """Give the number of tokens beyond which a backbone has no positions."""
    if backbone.model_type in _RELATIVE_POSITIONS and not getattr(
        backbone, "position_biased_input", False
    ):
        return None
    positions = getattr(backbone, "max_position_embeddings", None)
    if positions is None or positions < 0:
        return None
    if backbone.model_type in _ROBERTA_LIKE:
        # Positions are counted from the one after the padding token's id.
        return int(positions) - int(backbone.pad_token_id or 0) - 1
    return int(positions)


def read_tokenizer_file(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json`` without truncation and padding."""
    return without_limits(Tokenizer.from_file(str(path)))


def without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """Switch truncation and padding off."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def plain_tokenizer_config(source: Source) -> dict[str, Any]:
    """Keep what AutoTokenizer needs, but let it read tokenizer.json as it is."""
    settings = source.read_json("tokenizer_config.json") or {}
    names = (
        "pad_token",
        "unk_token",
        "cls_token",
        "sep_token",
        "mask_token",
        "bos_token",
        "eos_token",
    )
    kept = {name: settings[name] for name in names if settings.get(name) is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **kept}
