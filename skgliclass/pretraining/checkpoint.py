"""All that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..training.loop import Run
from .config import PretrainingConfig, config_from_table

NAME = "checkpoint.safetensors"
_WEIGHT, _MOMENT = "weight.", "optimizer."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was written.

    Attributes
    ----------
    step : int
        How many steps were made.
    config : PretrainingConfig
        How.
    sets : dict of str to int
        How many rows each training set had.
    tensors : dict of str to Tensor
        Weights and the optimizer's moments.
    """

    step: int
    config: PretrainingConfig
    sets: dict[str, int]
    tensors: dict[str, Tensor]

    @torch.no_grad()
    def restore(self, run: Run) -> None:
        """Put weights, optimizer and learning rate in the state of the checkpoint.

        Random numbers need no state: every step and every chunk of rows has a seed of its own.
        """
        for name, parameter in run.trainable.network.named_parameters():
            stored = self.tensors.get(_WEIGHT + name)
            # Frozen weights are not in the file: they are those that the model starts from.
            if stored is not None:
                parameter.copy_(stored)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith(_MOMENT):
                index, name = key.removeprefix(_MOMENT).split(".", 1)
                state.setdefault(int(index), {})[name] = value
        # Rates and decays follow from the configuration, which is checked to be the same.
        groups = run.optimizer.state_dict()["param_groups"]
        run.optimizer.load_state_dict({"state": state, "param_groups": groups})
        run.go_to(self.step)


def write_checkpoint(
    folder: Path, run: Run, step: int, config: PretrainingConfig, sets: dict[str, int]
) -> None:
    """Replace the checkpoint of a folder; whenever it is interrupted, one of both is whole."""
    tensors = {
        _WEIGHT + name: parameter.detach()
        for name, parameter in run.trainable.network.named_parameters()
        if parameter.requires_grad
    }
    for index, moments in run.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{_MOMENT}{index}.{name}"] = value
    # safetensors refuses what has gaps.
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    facts = {"step": step, "config": asdict(config), "sets": sets}
    unfinished = folder / f"{NAME}.unfinished"
    save_file(tensors, unfinished, metadata={"pretraining": json.dumps(facts)})
    # Within one folder this is a single step: no reader sees half of a file.
    os.replace(unfinished, folder / NAME)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint of a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint in {folder}: {path} does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["pretraining"])
            # The file can be asked for its keys, but is nothing to iterate over.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = config_from_table(facts["config"])
        return Checkpoint(facts["step"], config, facts["sets"], tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of this program ({error}).") from error
