"""A model that was loaded and goes wherever its estimator goes, without the files it came from."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from tokenizers import Tokenizer
from torch import Tensor

from ..modeling.randomness import own_randomness
from .embedded import read_embedded_config
from .loaded import LoadedModel, resolve_device, resolve_dtype
from .loader import MODELS, load_model
from .quiet import quiet
from .sources import EMBEDDED, EMBEDDED_HUB_ID

_SMALL = 1 << 20
_OF_THE_BACKBONE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")


@dataclass(eq=False)
class CarriedModel:
    """A model in memory, which a pickle holds.

    Weights that are those of the embedded model, which every installation has, are not in a
    pickle; it names the embedded model by its content.

    Attributes
    ----------
    asked_for : tuple of str or None
        The name, revision and architecture by which it was loaded.
    digest : str
        What the model is, as :attr:`LoadedModel.digest` says.
    """

    asked_for: tuple[str | None, ...]
    digest: str
    _loaded: LoadedModel | None = field(repr=False)
    _packed: dict[str, Any] | None = field(default=None, repr=False)
    _content: str | None = field(default=None, repr=False)
    _small: dict[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, loaded: LoadedModel, *asked_for: str | None) -> CarriedModel:
        """Carry a model from now on."""
        return cls(asked_for, loaded.digest, loaded)

    def on(
        self, device: str | int | torch.device, dtype: str, user: object, role: str = ""
    ) -> LoadedModel:
        """Give the model on a device and in a precision.

        Parameters
        ----------
        device, dtype, user, role
            As in :func:`load_model`.

        Raises
        ------
        ValueError, OSError
            If it comes out of a pickle and needs an embedded model that is not there.
        """
        torch_device = resolve_device(device)
        torch_dtype = resolve_dtype(dtype, torch_device)
        loaded = self._unpacked(user)
        # Not by equality of devices: "cuda" is one of several.
        same_device = loaded.network.device.type == torch_device.type and torch_device.index in (
            None,
            loaded.network.device.index,
        )
        if same_device and loaded.network.dtype == torch_dtype:
            return loaded
        key = (self._key(), torch_device, torch_dtype)
        return MODELS.get(key, lambda: _converted(loaded, torch_device, torch_dtype), user, role)

    def _unpacked(self, user: object) -> LoadedModel:
        # Read once: another thread may unpack it now.
        packed = self._packed
        if packed is not None:
            embedded = _embedded_of(packed)
            # Under their content: of a model that many pickles hold, a process has one.
            self._loaded = MODELS.get(self._key(), lambda: _unpack(packed, embedded), user)
            self._packed = None
        assert self._loaded is not None
        return self._loaded

    def _key(self) -> str:
        if self._content is None:
            content = hashlib.sha256()
            for name, value in sorted(self._in_pieces().items()):
                content.update(f"{name}\0".encode())
                content.update(value if isinstance(value, bytes) else repr(value).encode())
            self._content = content.hexdigest()
        return self._content

    def _in_pieces(self) -> dict[str, Any]:
        packed = self._packed or self._small
        if packed is not None:
            return packed
        assert self._loaded is not None
        packed = _pack(self._loaded)
        if len(packed["tensors"]) < _SMALL:
            # What is mostly the embedded model takes longer to compare than to keep.
            self._small = packed
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return {"asked_for": self.asked_for, "digest": self.digest, "packed": self._in_pieces()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["asked_for"], state["digest"], None, state["packed"])  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> CarriedModel:
        # Nobody modifies it.
        return self


def _converted(loaded: LoadedModel, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    return replace(loaded, network=copy.deepcopy(loaded.network).to(device, dtype))


# Packing.


def _pack(loaded: LoadedModel) -> dict[str, Any]:
    """Give what a model can be made of again, without what the embedded model has, too."""
    dtype = str(loaded.network.dtype).removeprefix("torch.")
    is_embedded = loaded.name == EMBEDDED_HUB_ID and loaded.network.device.type == "cpu"
    if is_embedded and loaded is load_model(EMBEDDED, device="cpu", dtype=dtype):
        # Without waiting for transformers.
        return {"embedded": loaded.digest, "dtype": dtype, "config": None, "tensors": b""}
    from .model import GLiClassModel

    config = GLiClassModel.around(loaded.network).config
    tensors = {n: v.detach().cpu().contiguous() for n, v in loaded.network.state_dict().items()}
    packed: dict[str, Any] = {
        "config": config.to_json_string(),
        "dtype": dtype,
        "tokenizer": loaded.raw_text_tokenizer.to_str(),
        "label_tokenizer": None,
        "zero_shot": loaded.zero_shot,
        "max_length": loaded.max_length,
        "name": loaded.name,
        "tokenizer_config": json.dumps(loaded.tokenizer_config),
        "embedded": None,
    }
    if loaded.raw_label_tokenizer is not loaded.raw_text_tokenizer:
        packed["label_tokenizer"] = loaded.raw_label_tokenizer.to_str()
    embedded = _embedded_like(config, dtype)
    if embedded is not None:
        theirs = embedded.network.state_dict()
        own = {name: v for name, v in tensors.items() if not _is_equal(v, theirs.get(name))}
        if len(own) < len(tensors):
            tensors, packed["embedded"] = own, embedded.digest
            if packed["tokenizer"] == embedded.raw_text_tokenizer.to_str():
                packed["tokenizer"] = None
    return {**packed, "tensors": save_safetensors(_apart(tensors))}


def _embedded_like(config: Any, dtype: str) -> LoadedModel | None:
    """Give the embedded model, where a model of this configuration may be made of it."""
    embedded, backbone = read_embedded_config(), config.encoder_config
    if embedded["architecture_type"] != config.architecture_type:
        return None
    if any(
        getattr(backbone, name, None) != embedded["encoder_config"].get(name)
        for name in _OF_THE_BACKBONE
    ):
        return None
    try:
        return load_model(EMBEDDED, device="cpu", dtype=dtype)
    except OSError:
        # It is not installed here, nor to be had.
        return None


def _is_equal(value: Tensor, other: Tensor | None) -> bool:
    same_kind = other is not None and value.shape == other.shape and value.dtype == other.dtype
    return bool(same_kind and torch.equal(value, other))  # type: ignore[arg-type]


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors that share no memory, as safetensors wants them: tied weights come twice."""
    seen: set[int] = set()
    apart = {}
    for name, value in tensors.items():
        apart[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return apart


# Unpacking.


def _embedded_of(packed: Mapping[str, Any]) -> LoadedModel | None:
    """Give the embedded model that a packed one is made of."""
    if packed["embedded"] is None:
        return None
    embedded = load_model(EMBEDDED, device="cpu", dtype=packed["dtype"])
    if embedded.digest != packed["embedded"]:
        raise ValueError(
            "This classifier was pickled with another version of the embedded model than is "
            "installed here. Install the version of skgliclass that wrote the pickle, or load the "
            "folder that save_pretrained writes, which holds all weights."
        )
    return embedded


def _unpack(packed: Mapping[str, Any], embedded: LoadedModel | None) -> LoadedModel:
    if packed["config"] is None:
        assert embedded is not None
        return embedded
    from ..modeling.config import GLiClassConfig
    from .model import GLiClassModel

    tensors = {} if embedded is None else dict(embedded.network.state_dict())
    tensors |= load_safetensors(packed["tensors"])
    config = GLiClassConfig.from_dict(json.loads(packed["config"]))
    dtype = resolve_dtype(packed["dtype"], torch.device("cpu"))
    with own_randomness(0), quiet():
        model = GLiClassModel.from_pretrained(
            None,
            config=config,
            state_dict={f"model.{name}": value for name, value in tensors.items()},
            dtype=dtype,
        )
    if packed["tokenizer"] is None:
        assert embedded is not None
        tokenizer = embedded.raw_text_tokenizer
    else:
        tokenizer = Tokenizer.from_str(packed["tokenizer"])
    of_labels = packed["label_tokenizer"]
    loaded = LoadedModel.of(
        model.model,
        tokenizer,
        tokenizer if of_labels is None else Tokenizer.from_str(of_labels),
        zero_shot=packed["zero_shot"],
        name=packed["name"],
        tokenizer_config=json.loads(packed["tokenizer_config"]),
    )
    return replace(loaded, max_length=packed["max_length"])
