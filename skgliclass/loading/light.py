"""The embedded model for prediction, put together without transformers.

Importing transformers takes longer than all else that comes before a first prediction. What is read
here are the same weights, with the same arithmetic (see ``lean.py``).
"""

from __future__ import annotations

from threading import Lock
from types import SimpleNamespace
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..modeling.bi_encoder import BiEncoder
from ..modeling.features import Scores
from ..modeling.heads import FeaturesProjector, identity, marker_vectors
from ..modeling.lean import lean_forward
from ..prompts.tokens import add_marker_tokens
from .embedded import (
    FOLDER,
    add_changes,
    as_loaded,
    embedded_architecture,
    read_embedded_config,
)
from .loaded import (
    LoadedModel,
    read_tokenizer_file,
    resolve_device,
    resolve_dtype,
)
from .sources import EMBEDDED, Source, find_source

_WEIGHTS = "model.safetensors"

_kept: dict[Any, LoadedModel] = {}
_lock = Lock()


class LightModel(nn.Module):
    """What the engine needs of a bi-encoder to predict; its parameters are named as GLiClass's.

    Parameters
    ----------
    config : namespace
        With the fields of a :class:`GLiClassConfig`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.model = BiEncoder(config, cast("Any", BertLayers(config.encoder_config)))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.logit_scale.dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **labels: Any) -> Scores:
        """Score labels against texts; the arguments are those of :class:`BiEncoder`."""
        scores: Scores = self.model(input_ids, attention_mask, **labels)
        return scores

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give the texts' vectors, of shape (batch, width)."""
        return self.model.encode_texts(input_ids, attention_mask)

    def encode_labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give the labels' vectors, of shape (n_labels, width)."""
        return self.model.encode_labels(input_ids, attention_mask)


def load_light(
    model: str, *, revision: str | None, architecture: str, device: str, dtype: str
) -> LoadedModel | None:
    """Load a model for prediction, if it can be done without transformers.

    Parameters
    ----------
    model, revision, architecture, device, dtype
        As for :func:`load_model`.

    Returns
    -------
    LoadedModel or None
        None for another model than the embedded one, or on another device than a CPU.

    Raises
    ------
    OSError, ValueError
        As :func:`load_model` does.
    """
    own = embedded_architecture() if model == EMBEDDED and revision is None else None
    if own != "bi-encoder" or architecture not in ("auto", own):
        return None
    torch_device = resolve_device(device)
    if torch_device.type != "cpu":
        return None
    source = find_source(model)
    if not (source.folder / "tokenizer.json").is_file():
        return None
    key = source, source.fingerprint(), resolve_dtype(dtype, torch_device)
    with _lock:
        if key not in _kept:
            _kept.clear()
            _kept[key] = _load(source, key[-1])
        return _kept[key]


def _load(source: Source, dtype: torch.dtype) -> LoadedModel:
    config = _namespace(read_embedded_config(FOLDER))
    with torch.device("meta"):
        model = LightModel(config)
    model.to_empty(device="cpu").requires_grad_(False).eval()
    for module in model.modules():
        if isinstance(module, FeaturesProjector):
            identity(module)
    model.model.logit_scale.fill_(config.logit_scale_init_value)
    _set_backbone(model.model.encoder_model, load_file(source.folder / _WEIGHTS))
    add_changes(model, FOLDER)
    tokenizer = read_tokenizer_file(source.folder / "tokenizer.json")
    add_marker_tokens(tokenizer)
    return as_loaded(model.to(dtype), tokenizer, source)


def _set_backbone(encoder: nn.Module, stored: dict[str, Tensor]) -> None:
    words = "embeddings.word_embeddings.weight"
    stored[words] = torch.cat([stored[words], marker_vectors(stored[words])])
    parameters = dict(encoder.named_parameters())
    for name, value in parameters.items():
        value.copy_(stored[name])


def _namespace(table: dict[str, Any]) -> Any:
    return SimpleNamespace(
        **{
            name: _namespace(value) if name.endswith("_config") and value else value
            for name, value in table.items()
        }
    )


# The layers of a BERT, with the names that its checkpoints give them.


class BertLayers(nn.Module):
    """The weights of a BERT encoder, for :func:`lean_forward`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = _modules(layer=nn.ModuleList(layers))
        # Of no use here; a fitted classifier may carry its weights.
        self.pooler = _modules(dense=nn.Linear(config.hidden_size, config.hidden_size))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Give the token vectors, in a tuple as transformers does."""
        return (lean_forward(self, input_ids, attention_mask),)


class _Embeddings(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = _table(config.vocab_size, width)
        self.position_embeddings = _table(config.max_position_embeddings, width)
        self.token_type_embeddings = _table(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Add up the vectors of words, kinds and positions, in this order as transformers does."""
        summed = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0]
        summed = summed + self.position_embeddings.weight[: input_ids.shape[1]]
        normalized: Tensor = self.LayerNorm(summed)
        return normalized


def _table(n_rows: int, width: int) -> nn.Embedding:
    # A table with random values, on the device that stands for none, would import torch's compiler.
    return nn.Embedding.from_pretrained(torch.empty(n_rows, width))


class _Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        own = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        self.attention = _modules(self=_modules(**own), output=_output(config, width))
        self.intermediate = _modules(dense=nn.Linear(width, inner))
        self.output = _output(config, inner)


def _output(config: Any, in_size: int) -> nn.Module:
    dense = nn.Linear(in_size, config.hidden_size)
    return _modules(
        dense=dense, LayerNorm=nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
    )


def _modules(**children: nn.Module) -> nn.Module:
    parent = nn.Module()
    for name, child in children.items():
        parent.add_module(name, child)
    return parent
