"""All that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from ..training.checkpoint import (
    NAME,
    check_count,
    damage_named,
    read_tensors,
    restore_state,
    state_of,
    write_tensors,
)
from ..training.loop import Run
from .averaging import WeightAverage
from .config import PretrainingConfig, config_from_table

_KIND = "pretraining"


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
        Weights, their average and the optimizer's moments.
    path : Path
        The file that it was read from.
    """

    path: Path
    step: int
    config: PretrainingConfig
    sets: dict[str, int]
    tensors: dict[str, Tensor]

    def restore(self, run: Run, average: WeightAverage) -> None:
        """Put weights, their average, optimizer and learning rate in the checkpoint's state.

        Raises
        ------
        ValueError
            If it is not that of such a run.
        """
        with damage_named(self.path):
            restore_state(run, self.tensors, self.step)
            average.restore(self.tensors)


def write_checkpoint(
    folder: Path,
    run: Run,
    average: WeightAverage,
    step: int,
    config: PretrainingConfig,
    sets: dict[str, int],
) -> None:
    """Replace the checkpoint of a folder; whenever it is interrupted, one of both is whole."""
    facts = {"step": step, "config": asdict(config), "sets": sets}
    write_tensors(folder / NAME, _KIND, facts, state_of(run) | average.tensors())


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
    facts, tensors = read_tensors(path, _KIND)
    with damage_named(path):
        config = config_from_table(facts["config"])
        for name, count in {"step": facts["step"], **facts["sets"]}.items():
            check_count(name, count)
        return Checkpoint(path, facts["step"], config, facts["sets"], tensors)
