"""Damage to the checkpoints of trainings: what the file says of its tensors stays true."""

from __future__ import annotations

import math

import torch

from skgliclass.training.checkpoint import read_tensors, write_tensors


def change_checkpoint(path, kind, damage):
    """Let a function change the facts and tensors of a checkpoint."""
    facts, tensors = read_tensors(path, kind)
    damage(facts, tensors)
    write_tensors(path, kind, facts, tensors)


def of_first(prefix, suffix, change):
    """Give what changes the first tensor with such a name; None takes it away."""

    def damage(facts, tensors):
        name = next(n for n in tensors if n.startswith(prefix) and n.endswith(suffix))
        value = tensors.pop(name)
        if change is not None:
            tensors[name] = change(value).contiguous()

    return damage


def _with(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


DAMAGE_OF_TENSORS = [
    of_first("weight.", "", None),
    of_first("weight.", "", lambda value: torch.zeros(1)),
    of_first("weight.", "", lambda value: value.double()),
    of_first("weight.", "", lambda value: value.to(torch.int64)),
    of_first("weight.", "", _with(math.nan)),
    of_first("weight.", "", _with(math.inf)),
    lambda facts, tensors: tensors.update({"weight.made.up": torch.zeros(1)}),
    of_first("optimizer.", "exp_avg", None),
    of_first("optimizer.", "exp_avg", lambda value: value.reshape(-1)[:1]),
    of_first("optimizer.", "exp_avg", _with(math.nan)),
    of_first("optimizer.", "exp_avg_sq", _with(-1.0)),
    of_first("optimizer.", "step", None),
    of_first("optimizer.", "step", lambda value: value - 100),
    of_first("optimizer.", "step", lambda value: torch.zeros(3)),
    lambda facts, tensors: tensors.update({"optimizer.x.y": torch.zeros(1)}),
    lambda facts, tensors: tensors.update({"optimizer.99.step": torch.zeros(())}),
    lambda facts, tensors: tensors.update({"optimizer.0": torch.zeros(1)}),
]
