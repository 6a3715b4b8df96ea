"""What training changed in a model: kept apart from the weights that it started from."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..loading.loaded import LoadedModel

M = TypeVar("M", bound=nn.Module)

_LEFT, _RIGHT = "low_rank.left.", "low_rank.right."
_CONTAINERS = (OrderedDict, dict, list, set)


@dataclass(eq=False)
class TunedWeights:
    """The weights that a training changed, on the CPU; never modify them.

    Attributes
    ----------
    replaced : dict of str to Tensor
        New values by the names of the network's parameters.
    low_rank : dict of str to pair of Tensors
        For a matrix that was adapted by a low-rank update, the factors of what is added to it.
    base : str or None
        The digest of the model that the training began with; no other is given these weights.
        With nothing changed it stands for what else was tuned on that model.
    """

    replaced: dict[str, Tensor] = field(default_factory=dict)
    low_rank: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    base: str | None = None
    _applied: tuple[LoadedModel, LoadedModel] | None = field(default=None, init=False, repr=False)

    @property
    def changes_any(self) -> bool:
        """Whether there is any weight that training changed."""
        return bool(self.replaced or self.low_rank)

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Give a model with these weights; `loaded` is not modified and shares all others.

        Nothing is copied that need not be: on a CPU and in float32 these very tensors become the
        parameters. The last result is kept, and given again for the same model.

        Raises
        ------
        ValueError
            If the model is another than the one that was trained, by its weights.
        """
        last = self._applied
        if last is not None and last[0] is loaded:
            return last[1]
        self._check_fits(loaded)
        if not self.changes_any:
            return loaded
        values = self._new_values(loaded.network)

        def parameter(name: str, before: Tensor) -> Tensor:
            if name not in values:
                return before
            value = values[name].to(before.device, before.dtype)
            return nn.Parameter(value, requires_grad=False)

        network = copy_with(loaded.network, parameter)
        applied = replace(loaded, network=network.eval(), zero_shot=True)
        self._applied = loaded, applied
        return applied

    def then(self, later: TunedWeights) -> TunedWeights:
        """Give the sum of these changes and of later ones, made to the model that these gave."""
        replaced = {**self.replaced, **later.replaced}
        # What replaces a matrix was trained with the earlier update in it.
        low_rank = {k: v for k, v in self.low_rank.items() if k not in later.replaced}
        for name, (left, right) in later.low_rank.items():
            if name in replaced:
                replaced[name] = replaced[name] + left @ right
            elif name in low_rank:
                low_rank[name] = _sum_of_products(low_rank[name], (left, right))
            else:
                low_rank[name] = left, right
        return TunedWeights(replaced, low_rank, self.base)

    def _check_fits(self, loaded: LoadedModel) -> None:
        # Leaving out what has no place would mix two models without a word.
        shapes = {name: value.shape for name, value in loaded.network.named_parameters()}
        tuned = {name: value.shape for name, value in self.replaced.items()}
        for name, (left, right) in self.low_rank.items():
            tuned[name] = torch.Size([left.shape[0], right.shape[1]])
        is_other = any(shapes.get(name) != shape for name, shape in tuned.items())
        # A tuned float16 model is told by its shapes alone: rounding made other numbers of it.
        if self.base is not None and loaded.network.dtype != torch.float16:
            is_other = is_other or self.base != loaded.digest
        if is_other:
            raise ValueError(
                f"What fit tuned belongs to another model than {loaded.name!r} is now: model or "
                "architecture was set to another, or the files were replaced. Set model and "
                "architecture to what they were, or call fit again without warm_start."
            )

    def _new_values(self, network: nn.Module) -> dict[str, Tensor]:
        """Give the new value of every changed parameter of a network."""
        before = dict(network.named_parameters())
        values = dict(self.replaced)
        for name, (left, right) in self.low_rank.items():
            old = before[name].detach()
            values[name] = old + (left @ right).to(old.device, old.dtype)
        return values

    def __getstate__(self) -> dict[str, Any]:
        tensors = dict(self.replaced)
        for name, (left, right) in self.low_rank.items():
            tensors[_LEFT + name], tensors[_RIGHT + name] = left, right
        # Safetensors writes memory as it lies, so it refuses parts and transposes of other tensors.
        packed = save_safetensors({k: v.contiguous() for k, v in tensors.items()})
        return {"safetensors": packed, "base": self.base}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = load_safetensors(state["safetensors"])
        factors = {k: v for k, v in tensors.items() if k.startswith((_LEFT, _RIGHT))}
        self.replaced = {k: v for k, v in tensors.items() if k not in factors}
        self.low_rank = {
            name.removeprefix(_LEFT): (left, factors[_RIGHT + name.removeprefix(_LEFT)])
            for name, left in factors.items()
            if name.startswith(_LEFT)
        }
        self.base = state["base"]
        self._applied = None


def copy_with(module: M, parameter: Callable[[str, Tensor], Tensor]) -> M:
    """Copy a module, with other parameters in the same places and the same buffers.

    Parameters
    ----------
    module : nn.Module
        It is not modified.
    parameter : callable
        Takes the name of a parameter and the parameter, and gives the one of the copy. It is
        called once where several places share one.
    """
    # A deep copy takes from its memo what it finds there in place of copying it.
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    memo |= {id(value): parameter(name, value) for name, value in module.named_parameters()}
    plain = [part for part in module.modules() if not _copies_itself(type(part))]
    memo |= {id(part): part.__new__(type(part)) for part in plain}
    for part in plain:
        memo[id(part)].__dict__.update(_copied_attributes(part, memo))
    copied: M = copy.deepcopy(module, memo)
    return copied


def _copies_itself(kind: type) -> bool:
    """Tell whether a kind of module has a say in how it is copied."""
    own = "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"
    return any(getattr(kind, name, None) is not getattr(nn.Module, name, None) for name in own)


def _copied_attributes(module: nn.Module, memo: dict[int, Any]) -> dict[str, Any]:
    return {name: _deep_copy(value, memo) for name, value in vars(module).items()}


def _deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    # A module has a dozen tables of hooks, nearly always empty; to take them apart and to put them
    # together again is most of the time that a deep copy takes.
    if type(value) in _CONTAINERS and not value:
        return memo.setdefault(id(value), type(value)())
    return copy.deepcopy(value, memo)


def _sum_of_products(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Give the factors of ``a[0] @ a[1] + b[0] @ b[1]``, never of a higher rank than a matrix has.

    The factors of the sum are those of its parts side by side, so repeated sums would grow.
    """
    left, right = torch.cat([a[0], b[0]], dim=1), torch.cat([a[1], b[1]])
    if left.shape[1] > min(left.shape[0], right.shape[1]):
        left, values, right = torch.linalg.svd(left @ right, full_matrices=False)
        left = left * values
    return left, right
