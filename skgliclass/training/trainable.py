"""Which weights a training changes: all, the heads, or low-rank updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..modeling.bi_encoder import BiEncoder
from ..modeling.model import GLiClassModel
from .tuned_weights import TunedWeights

_ENCODERS = ("encoder_model", "label_encoder", "encoder_decoder_model", "decoder_model")


class Trainable:
    """A model together with the choice of the weights that change.

    Parameters
    ----------
    model : GLiClassModel
        The copy that is trained, in place.
    parameters : dict of str to Parameter
        Those that the optimizer changes, by name.
    """

    def __init__(self, model: GLiClassModel, parameters: dict[str, nn.Parameter]) -> None:
        self.model = model
        self._parameters = parameters
        chosen = {id(parameter) for parameter in parameters.values()}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)

    def parameters(self) -> list[nn.Parameter]:
        """Give the parameters that change."""
        return list(self._parameters.values())

    def with_role(self) -> Iterator[tuple[nn.Parameter, bool]]:
        """Give each parameter that changes, and whether it belongs to the heads."""
        for name, parameter in self._parameters.items():
            yield parameter, is_head(name) or "lora_" in name

    def encoders(self) -> list[nn.Module]:
        """Give the backbones."""
        found = (getattr(self.model.model, name, None) for name in _ENCODERS)
        return [encoder for encoder in found if encoder is not None]

    def train(self) -> None:
        """Switch dropout on where weights change; a frozen backbone stays as it is."""
        self.model.train()
        for encoder in self.encoders():
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                encoder.eval()

    def snapshot(self) -> TunedWeights:
        """Copy the current values of what changes."""
        return TunedWeights(
            {name: _copied(parameter) for name, parameter in self._parameters.items()}
        )


class LowRankTrainable(Trainable):
    """Heads in full, and a low-rank update for each matrix of the backbones (Hu et al. 2022)."""

    def __init__(self, model: GLiClassModel, rank: int) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError(
                'trainable="lora" needs peft. Install it with: pip install "skgliclass[lora]"'
            ) from error
        self._names = {id(p): name for name, p in model.named_parameters()}
        for name in _ENCODERS:
            encoder = getattr(model.model, name, None)
            if encoder is not None:
                targets = _linear_names(encoder)
                config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
                inject_adapter_in_model(config, encoder)
        super().__init__(
            model,
            {
                name: parameter
                for name, parameter in model.named_parameters()
                if "lora_" in name or is_head(name)
            },
        )

    def snapshot(self) -> TunedWeights:
        """Copy the heads and, for each adapted matrix, the factors of its update."""
        heads = {n: _copied(p) for n, p in self._parameters.items() if "lora_" not in n}
        factors = {}
        for module in self.model.modules():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                name = self._names[id(module.get_base_layer().weight)]
                left = module.lora_B["default"].weight * module.scaling["default"]
                factors[name] = (_copied(left), _copied(module.lora_A["default"].weight))
        return TunedWeights(heads, factors)


def make_trainable(model: GLiClassModel, which: str, lora_rank: int) -> Trainable:
    """Choose the weights that change.

    Parameters
    ----------
    model : GLiClassModel
        A copy that may be modified.
    which : {"all", "layers", "head", "lora"}
        Everything; all but the embedding tables, and but the projection that makes a label
        encoder's vectors as wide as the texts' where they are so already; all but the backbones;
        or heads and low-rank updates of the backbones.
    lora_rank : int
        The rank of the updates.
    """
    if which == "lora":
        return LowRankTrainable(model, lora_rank)
    named: dict[str, Any] = dict(model.named_parameters())
    if which == "head":
        named = {name: parameter for name, parameter in named.items() if is_head(name)}
    elif which == "layers":
        fixed = {
            id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
        }
        if model.config.share_encoders and isinstance(model.model, BiEncoder):
            fixed |= {id(parameter) for parameter in model.model.biencoder_projector.parameters()}
        named = {name: parameter for name, parameter in named.items() if id(parameter) not in fixed}
    return Trainable(model, named)


def is_head(name: str) -> bool:
    """Tell whether a parameter lies outside the backbones."""
    return not name.startswith(tuple(f"model.{encoder}." for encoder in _ENCODERS))


def _linear_names(encoder: nn.Module) -> list[str]:
    return [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]


def _copied(tensor: Tensor) -> Tensor:
    copied: Tensor = tensor.detach().to("cpu", torch.float32, copy=True)
    return copied
