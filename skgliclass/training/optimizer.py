"""AdamW that spends nothing on the rows of an embedding table that no text has used yet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

DENSE_FROM = 0.25
"""The share of a table's rows from which on all of them are updated, which is then cheaper."""

# What the state of a parameter is made of: moments of all rows, or of some.
_DENSE = {"step", "exp_avg", "exp_avg_sq"}
_OF_ROWS = {"step", "rows", "slots", "row_avg", "row_avg_sq"}


class RowwiseAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019) with the same result for dense and sparse gradients.

    A parameter whose gradients are sparse has moments for the rows only that ever had a gradient;
    the others would not change. Such a parameter must be in a group without weight decay.

    Parameters
    ----------
    params : iterable
        Parameters or groups of them, as for :class:`torch.optim.AdamW`.
    **options
        Those of :class:`torch.optim.AdamW`, without ``amsgrad``, ``maximize`` and
        ``differentiable``.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters once; sparse gradients must be coalesced and are used up."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not parameter.grad.is_sparse:
                    self._become_dense(parameter)
                elif "exp_avg" in self.state.get(parameter, {}):
                    # All rows have moments by now, and all of them have to move.
                    parameter.grad = parameter.grad.to_dense()
                else:
                    self._step_rows(parameter, parameter.grad, group)
                    # Done: AdamW skips what has no gradient.
                    parameter.grad = None
        return super().step(closure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the state of another optimizer.

        Raises
        ------
        ValueError
            If it is not the state of these parameters; nothing is changed.
        """
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, state in state_dict["state"].items():
            if not 0 <= index < len(parameters):
                raise ValueError(f"there is no parameter {index} of {len(parameters)}")
            _check_state(parameters[index], state, f"the optimizer's state of parameter {index}")
        super().load_state_dict(state_dict)
        for index, state in state_dict["state"].items():
            # Torch makes all state of the parameter's type, and these are positions.
            for name in ("rows", "slots"):
                if name in state:
                    parameter = parameters[index]
                    self.state[parameter][name] = state[name].to(parameter.device, copy=True)

    def _step_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        # It would move all rows at every step, those without moments too.
        if group["weight_decay"]:
            raise ValueError("A parameter with sparse gradients cannot have weight decay.")
        state = self.state[parameter]
        if not state:
            state.update(_empty_state(parameter))
        touched, values = gradient.indices()[0], gradient.values()
        _add_rows(parameter, state, touched)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        # One count for all rows: one that is new has had moments of zero so far, as in a dense
        # table.
        step, slots = float(state["step"]), state["slots"][touched]
        # All rows that have moments, not only those touched now: in AdamW a weight goes on moving
        # after its gradient has become zero.
        mean = state["row_avg"].mul_(beta1).index_add_(0, slots, values, alpha=1 - beta1)
        square = state["row_avg_sq"].mul_(beta2)
        square.index_add_(0, slots, values.square(), alpha=1 - beta2)
        scale = square.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        change = mean.div(scale).mul_(-group["lr"] / (1 - beta1**step))
        parameter.index_add_(0, state["rows"], change)
        if len(mean) > DENSE_FROM * len(parameter):
            self._become_dense(parameter)

    def _become_dense(self, parameter: Tensor) -> None:
        """Turn the moments of some rows into those of all."""
        state = self.state.get(parameter, {})
        if "slots" not in state:
            return
        dense: dict[str, Any] = {"step": state["step"]}
        for name in ("avg", "avg_sq"):
            dense[f"exp_{name}"] = torch.zeros_like(parameter)
            dense[f"exp_{name}"][state["rows"]] = state[f"row_{name}"]
        self.state[parameter] = dense


def _empty_state(parameter: Tensor) -> dict[str, Any]:
    device = parameter.device
    return {
        "step": torch.zeros((), dtype=torch.float32),
        "rows": torch.empty(0, dtype=torch.long, device=device),
        "slots": torch.full((len(parameter),), -1, dtype=torch.long, device=device),
        "row_avg": parameter.new_empty(0, *parameter.shape[1:]),
        "row_avg_sq": parameter.new_empty(0, *parameter.shape[1:]),
    }


def _check_state(parameter: Tensor, state: dict[str, Tensor], what: str) -> None:
    """Refuse what cannot be the state of a parameter."""
    if state.keys() not in (_DENSE, _OF_ROWS):
        raise ValueError(f"{what} consists of {', '.join(sorted(state))}")
    shapes = _shapes_of(parameter, state)
    for name, value in state.items():
        # Squares, counts and positions are never negative; a slot of -1 is none.
        least = {"exp_avg": -math.inf, "row_avg": -math.inf, "slots": -1}.get(name, 0)
        is_possible = bool((value.isfinite() & (value >= least)).all())
        is_of_type = value.is_floating_point() != (name in ("rows", "slots"))
        if not (is_possible and is_of_type and tuple(value.shape) == shapes[name]):
            raise ValueError(f"{name} in {what} belongs elsewhere, or is damaged")
    if "rows" in state and not torch.equal(_slots_of(state["rows"], parameter), state["slots"]):
        raise ValueError(f"rows and slots in {what} belong to different tables")


def _shapes_of(parameter: Tensor, state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    whole = tuple(parameter.shape)
    if "rows" not in state:
        return {"step": (), "exp_avg": whole, "exp_avg_sq": whole}
    n_rows = len(state["rows"])
    of_rows = (n_rows, *whole[1:])
    table = {"rows": (n_rows,), "slots": whole[:1]}
    return {"step": (), **table, "row_avg": of_rows, "row_avg_sq": of_rows}


def _slots_of(rows: Tensor, parameter: Tensor) -> Tensor:
    """Give the place of each of a table's rows among some of them; -1 for the others."""
    slots = torch.full((len(parameter),), -1, dtype=torch.long, device=rows.device)
    slots[rows] = torch.arange(len(rows), device=rows.device)
    return slots


def _add_rows(parameter: Tensor, state: dict[str, Any], touched: Tensor) -> None:
    """Give moments to the rows that are used for the first time."""
    new = touched[state["slots"][touched] < 0]
    n_before = len(state["rows"])
    state["slots"][new] = torch.arange(n_before, n_before + len(new), device=new.device)
    state["rows"] = torch.cat([state["rows"], new])
    zeros = parameter.new_zeros(len(new), *parameter.shape[1:])
    for name in ("row_avg", "row_avg_sq"):
        state[name] = torch.cat([state[name], zeros])


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale gradients, dense or sparse and coalesced, so that their common norm has a limit.

    Parameters
    ----------
    parameters : iterable of Parameter
        Whose gradients are scaled in place.
    max_norm : float
        The largest Euclidean norm that they may have together.
    """
    gradients = list(_values(parameters))
    if not gradients:
        return
    norm = torch.nn.utils.get_total_norm(gradients)
    # As in torch.nn.utils.clip_grad_norm_: no division by zero, and no branch on the value.
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))


def _values(parameters: Iterable[nn.Parameter]) -> Iterator[Tensor]:
    for parameter in parameters:
        if parameter.grad is not None:
            sparse = parameter.grad.is_sparse
            # Only because they are coalesced: with a row in several parts the norm would be
            # another.
            yield parameter.grad.values() if sparse else parameter.grad
