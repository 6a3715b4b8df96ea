"""What training changed in a model: kept apart from the weights that it started from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from ..loading.loaded import Prepared

if TYPE_CHECKING:
    from ..loading.loaded import LoadedModel

_LEFT, _RIGHT = "low_rank.left.", "low_rank.right."


@dataclass(eq=False)
class TunedWeights:
    """The weights that a training changed, on the CPU.

    Attributes
    ----------
    replaced : dict of str to Tensor
        New values by parameter name.
    low_rank : dict of str to pair of Tensors
        For a matrix that was adapted by a low-rank update, the factors of what is added to it.
    """

    replaced: dict[str, Tensor] = field(default_factory=dict)
    low_rank: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Give a model with these weights; `loaded` is not modified and shares all others."""
        state = self.full_values(loaded.model)
        model = copy_sharing(loaded.model, set(state))
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                parameters[name].copy_(value)
        return replace(loaded, model=model.eval(), zero_shot=True, prepared=Prepared())

    def then(self, later: TunedWeights) -> TunedWeights:
        """Give the sum of these changes and of later ones, made to the model that these gave."""
        replaced = {**self.replaced, **later.replaced}
        low_rank = {k: v for k, v in self.low_rank.items() if k not in later.replaced}
        for name, (left, right) in later.low_rank.items():
            if name in replaced:
                replaced[name] = replaced[name] + left @ right
            elif name in low_rank:
                low_rank[name] = _sum_of_products(low_rank[name], (left, right))
            else:
                low_rank[name] = left, right
        return TunedWeights(replaced, low_rank)

    def full_values(self, model: nn.Module) -> dict[str, Tensor]:
        """Give the new value of every changed parameter of `model`."""
        before = dict(model.named_parameters())
        values = dict(self.replaced)
        for name, (left, right) in self.low_rank.items():
            old = before[name].detach()
            values[name] = old + (left @ right).to(old.device, old.dtype)
        return values

    def __getstate__(self) -> dict[str, Any]:
        tensors = dict(self.replaced)
        for name, (left, right) in self.low_rank.items():
            tensors[_LEFT + name], tensors[_RIGHT + name] = left, right
        return {"safetensors": save_safetensors({k: v.contiguous() for k, v in tensors.items()})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = load_safetensors(state["safetensors"])
        factors = {k: v for k, v in tensors.items() if k.startswith((_LEFT, _RIGHT))}
        self.replaced = {k: v for k, v in tensors.items() if k not in factors}
        self.low_rank = {
            name.removeprefix(_LEFT): (left, factors[_RIGHT + name.removeprefix(_LEFT)])
            for name, left in factors.items()
            if name.startswith(_LEFT)
        }


def _sum_of_products(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Give the factors of ``a[0] @ a[1] + b[0] @ b[1]``, never of a higher rank than a matrix has.

    The factors of the sum are those of its parts side by side, so repeated sums would grow.
    """
    left, right = torch.cat([a[0], b[0]], dim=1), torch.cat([a[1], b[1]])
    n_rows, n_columns = left.shape[0], right.shape[1]
    if left.shape[1] <= min(n_rows, n_columns):
        return left, right
    product = left @ right
    if n_rows <= n_columns:
        return torch.eye(n_rows), product
    return product, torch.eye(n_columns)


def copy_sharing(model: nn.Module, changed: set[str]) -> Any:
    """Copy a module, but share the parameters and buffers that will not change."""
    shared: Mapping[int, Tensor] = {
        id(value): value
        for named in (model.named_parameters(), model.named_buffers())
        for name, value in named
        if name not in changed
    }
    return copy.deepcopy(model, dict(shared))
