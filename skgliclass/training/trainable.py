"""Which weights a training changes, in a copy of the model that shares all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..exceptions import missing_extra
from ..modeling.architecture import Architecture
from .tuned_weights import TunedWeights, copy_with


class Trainable:
    """A network together with the choice of the weights that change.

    Parameters
    ----------
    network : Architecture
        A copy that is trained in place.
    parameters : dict of str to Parameter
        Those that the optimizer changes, by name; all others are left alone.
    """

    def __init__(self, network: Architecture, parameters: dict[str, nn.Parameter]) -> None:
        self.network = network
        self._parameters = parameters
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters.values():
            parameter.requires_grad_(True)

    def parameters(self) -> list[nn.Parameter]:
        """Give the parameters that change."""
        return list(self._parameters.values())

    def with_role(self) -> Iterator[tuple[nn.Parameter, bool]]:
        """Give each parameter that changes, and whether it belongs to the heads."""
        for name, parameter in self._parameters.items():
            # The factors lie within the backbone, but are new like the heads and learn at their
            # rate.
            yield parameter, self.network.is_head(name) or _is_factor(name)

    def encoders(self) -> list[nn.Module]:
        """Give the backbones."""
        return list(self.network.encoders().values())

    def train(self) -> None:
        """Switch dropout on where weights change; a frozen backbone stays as it is."""
        self.network.train()
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

    def __init__(self, network: Architecture, rank: int) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError(missing_extra('trainable="lora"', "peft", "lora")) from error
        # By identity and before peft puts its own modules around the matrices, which changes names.
        self._names = {id(p): name for name, p in network.named_parameters()}
        for encoder in network.encoders().values():
            targets = [n for n, module in encoder.named_modules() if isinstance(module, nn.Linear)]
            # Twice the rank, as the published models were tuned.
            config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
            inject_adapter_in_model(config, encoder)
        super().__init__(
            network,
            {
                name: parameter
                for name, parameter in network.named_parameters()
                if _is_factor(name) or network.is_head(name)
            },
        )

    def snapshot(self) -> TunedWeights:
        """Copy the heads and, for each adapted matrix, the factors of its update."""
        heads = {n: _copied(p) for n, p in self._parameters.items() if not _is_factor(n)}
        factors = {}
        module: Any
        for module in self.network.modules():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                name = self._names[id(module.get_base_layer().weight)]
                # The scale goes into one factor, so that the product alone is what is added.
                left = module.lora_B["default"].weight * module.scaling["default"]
                factors[name] = (_copied(left), _copied(module.lora_A["default"].weight))
        return TunedWeights(heads, factors)


def training_copy(network: Architecture, which: str, lora_rank: int) -> Trainable:
    """Copy a network in float32 for training, and choose the weights that change.

    Parameters
    ----------
    network : Architecture
        It is not modified, and shares with the copy whatever training does not change and is in
        float32 already.
    which : {"all", "layers", "head", "lora"}
        Everything; all but the embedding tables, and but the projection that makes a label
        encoder's vectors as wide as the texts' where they are so already; all but the backbones;
        or heads and low-rank updates of the backbones.
    lora_rank : int
        The rank of the updates.
    """
    if which == "lora":
        # Of the backbones nothing changes but what is injected.
        return LowRankTrainable(_copy(network, _heads(network)), lora_rank)
    choose: dict[str, Callable[[Architecture], set[str]]] = {
        "all": _everything,
        "layers": _layers,
        "head": _heads,
    }
    chosen = choose[which](network)
    copied = _copy(network, chosen)
    return Trainable(copied, {n: p for n, p in copied.named_parameters() if n in chosen})


def _everything(network: Architecture) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def _layers(network: Architecture) -> set[str]:
    # By identity, since what is fixed may be tied to what has another name.
    fixed = {id(p) for module in network.fixed_modules() for p in module.parameters()}
    return {name for name, p in network.named_parameters() if id(p) not in fixed}


def _heads(network: Architecture) -> set[str]:
    return {name for name, _ in network.named_parameters() if network.is_head(name)}


def _copy(network: Architecture, changing: set[str]) -> Architecture:
    """Copy what changes, and share the numbers of the rest."""

    def parameter(name: str, value: Tensor) -> Tensor:
        # An object of its own in any case, so that no flag of the shared one is ever set.
        value = value.detach().float()
        return nn.Parameter(value.clone() if name in changing else value, requires_grad=False)

    # What is left are the buffers: their own objects in the copy too, once they are cast.
    return copy_with(network, parameter).float()


def _is_factor(name: str) -> bool:
    return "lora_" in name


def _copied(tensor: Tensor) -> Tensor:
    copied: Tensor = tensor.detach().to("cpu", torch.float32, copy=True)
    return copied
