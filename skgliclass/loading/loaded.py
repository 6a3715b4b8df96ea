"""A model that is ready to run, and the choices that loading makes; without transformers."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ..modeling.architecture import Architecture
from ..prompts.composer import PromptComposer
from ..prompts.layouts import make_composer
from ..prompts.tokens import PieceTokenizer
from .cache import RecentlyUsed

_MOST_SAMPLED, _TAIL = 1 << 16, 1 << 12

DEFAULT_MAX_LENGTH = 1024
"""The longest prompt in tokens of a model that does not say otherwise and could read more."""

_ROBERTA_LIKE = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "longformer"}
_RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "deberta-v2", "deberta", "xlnet"}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to run, with what prepares its input.

    Attributes
    ----------
    network : Architecture
        In evaluation mode, on its device, without gradients. It may be shared: never modify it.
    raw_text_tokenizer, raw_label_tokenizer : tokenizers.Tokenizer
        For prompts and texts, and for the labels of a bi-encoder; without truncation and padding.
        The same object where labels have no tokenizer of their own.
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
    text_tokenizer, label_tokenizer : PieceTokenizer
        What the engine tokenises with.
    warned_of : RecentlyUsed
        The labels that users were told of, for this model and those that are made of it.
    prepared : RecentlyUsed
        What is kept for the label sets seen last; each model has its own.
    """

    network: Architecture
    raw_text_tokenizer: Tokenizer
    raw_label_tokenizer: Tokenizer
    zero_shot: bool
    max_length: int
    position_limit: int | None
    label_position_limit: int | None
    name: str
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    warned_of: RecentlyUsed[bool] = field(default_factory=lambda: RecentlyUsed(1024))
    # Not arguments, so that `dataclasses.replace` with another network starts with nothing kept.
    text_tokenizer: PieceTokenizer = field(init=False)
    label_tokenizer: PieceTokenizer = field(init=False)
    prepared: RecentlyUsed[Any] = field(init=False, default_factory=RecentlyUsed)

    @cached_property
    def digest(self) -> str:
        """What the model is, by the names, shapes and content of its trained weights."""
        return digest_of(self)

    def __post_init__(self) -> None:
        text = PieceTokenizer(self.raw_text_tokenizer)
        shared = self.raw_label_tokenizer is self.raw_text_tokenizer
        label = text if shared else PieceTokenizer(self.raw_label_tokenizer)
        object.__setattr__(self, "text_tokenizer", text)
        object.__setattr__(self, "label_tokenizer", label)

    @classmethod
    def of(
        cls,
        network: Architecture,
        raw_text_tokenizer: Tokenizer,
        raw_label_tokenizer: Tokenizer,
        *,
        zero_shot: bool,
        name: str,
        tokenizer_config: dict[str, Any],
    ) -> LoadedModel:
        """Put together what was loaded; the lengths follow from the network's configuration."""
        config = network.config
        limit = position_limit(config.encoder_config)
        longest = default_length(limit)
        of_labels = config.label_model_config if network.has_label_encoder else None
        return cls(
            network=network.eval().requires_grad_(False),
            raw_text_tokenizer=raw_text_tokenizer,
            raw_label_tokenizer=raw_label_tokenizer,
            zero_shot=zero_shot,
            max_length=min(longest, config.max_prompt_length or longest),
            position_limit=limit,
            label_position_limit=None if of_labels is None else position_limit(of_labels),
            name=name,
            tokenizer_config=tokenizer_config,
        )

    def composer(self, max_length: int) -> PromptComposer:
        """Give what arranges the model's prompts, up to a number of tokens."""
        config = self.network.config
        return make_composer(
            config.architecture_type,
            self.text_tokenizer,
            max_length,
            prompt_first=config.prompt_first,
            vocabulary_size=config.encoder_config.vocab_size,
            label_id=config.class_token_index,
            text_id=config.text_token_index,
        )


def digest_of(loaded: LoadedModel) -> str:
    """Give a text that is the same for the same weights, on any device and in any precision.

    Of large tensors a part is read, evenly over all of it: training changes them everywhere.
    """
    content = hashlib.sha256()
    network = loaded.network
    for name, value in sorted(network.named_parameters(), key=lambda pair: pair[0]):
        content.update(f"{name}{tuple(value.shape)}".encode())
        # Heads that were never trained are drawn anew whenever the model is loaded.
        if loaded.zero_shot or not network.is_head(name):
            content.update(_sample(value.detach()))
    return content.hexdigest()


def _sample(values: Tensor) -> bytes:
    flat = values.reshape(-1)
    # Odd, or of a table with an even number of columns some were never looked at.
    step = -(-flat.numel() // _MOST_SAMPLED) | 1
    # The last rows of a table of words may be all that two models differ in: their markers.
    some = torch.cat([flat[::step], flat[-_TAIL:]])
    # float32 and bfloat16 of the same checkpoint are the same in this.
    return some.to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().tobytes()


def default_length(limit: int | None) -> int:
    """Give the longest prompt of a model that was made for no certain length."""
    return min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)


def resolve_device(device: str | int | torch.device) -> torch.device:
    """Choose the device that a name, or the number of a GPU, stands for."""
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(device, str) and device.isdecimal():
        # As the command line has it.
        device = int(device)
    try:
        # A number of numpy's is none to torch.
        resolved = torch.device(
            device if isinstance(device, str | torch.device) else operator.index(device)
        )
        # Only using a device shows that it is there.
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={_shown(device)} is not available here ({error!s:.160}). Use "
            'device="auto" or "cpu".'
        ) from error
    return resolved


def _shown(device: str | int | torch.device) -> str:
    return repr(str(device)) if isinstance(device, str | torch.device) else str(device)


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Choose the precision that a name stands for."""
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise ValueError(f"dtype={dtype!r} is unknown; choose from auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


def exact_dtype(dtype: str, device: str | int | torch.device) -> str:
    """Name the precision that is used where `dtype` may round too much: float32 on a processor."""
    on_cpu = resolve_device(device).type == "cpu"
    return "float32" if on_cpu and dtype != "auto" else dtype


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
