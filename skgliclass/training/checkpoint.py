"""All that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files import errors_of_the_disk
from ..modeling.memory import is_out_of_memory
from .loop import BestWeights, Place, Run, Validation
from .tuned_weights import TunedWeights

NAME = "checkpoint.safetensors"
SECONDS = 600.0
"""How long a fit goes on within an epoch until it writes a checkpoint."""

_WEIGHT, _MOMENT = "weight.", "optimizer."
_BEST, _LEFT, _RIGHT = "best.", "best left.", "best right."
_NAMES = "tensors"
_RESULT = ("loss_curve", "validation_scores", "n_iter", "best_iter")


# What every training has.


def state_of(run: Run) -> dict[str, Tensor]:
    """Give the weights that a run changes, and the optimizer's moments."""
    tensors = {
        _WEIGHT + name: parameter.detach()
        for name, parameter in run.trainable.network.named_parameters()
        if parameter.requires_grad
    }
    for index, moments in run.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{_MOMENT}{index}.{name}"] = value
    return tensors


@torch.no_grad()
def restore_state(run: Run, tensors: Mapping[str, Tensor], step: int) -> None:
    """Put weights, optimizer and learning rate in the state that they had after a step.

    Random numbers need no state: every step has a seed of its own.

    Raises
    ------
    ValueError
        If the tensors are not those of such a run, or not finite.
    """
    check_count("step", step)
    # Frozen weights are not in the file: they are those that the model starts from.
    named = run.trainable.network.named_parameters()
    parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
    stored = tensors_under(_WEIGHT, tensors)
    check_like(stored, parameters)
    for name, parameter in parameters.items():
        parameter.copy_(stored[name])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors_under(_MOMENT, tensors).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    # Rates and decays follow from the settings, which are checked to be the same.
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": state, "param_groups": groups})
    run.go_to(step)


def tensors_under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors whose names begin with a prefix, by the rest of their names."""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def check_like(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that cannot take the place of others.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or a tensor is of another shape or type, or not finite.
    """
    for name in sorted(stored.keys() ^ expected.keys()):
        raise ValueError(f"it {'lacks' if name in expected else 'knows of a'} weight {name!r}")
    for name, value in stored.items():
        wanted = expected[name]
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"the weight {name!r} is of shape {tuple(value.shape)} and {value.dtype}, that of "
                f"the model of shape {tuple(wanted.shape)} and {wanted.dtype}"
            )
        if not bool(value.isfinite().all()):
            raise ValueError(f"the weight {name!r} holds NaN or infinity")


def check_count(name: str, value: Any) -> None:
    """Refuse what is no number of things."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}")


def write_tensors(path: Path, kind: str, facts: Any, tensors: Mapping[str, Tensor]) -> None:
    """Replace a file; whenever it is interrupted, the old or the new one is whole.

    Raises
    ------
    OSError
        If it cannot be written; the message names it.
    """
    # safetensors refuses what has gaps.
    whole = {name: value.cpu().contiguous() for name, value in tensors.items()}
    unfinished = path.with_name(f"{path.name}.unfinished")
    metadata = {kind: json.dumps(facts), _NAMES: json.dumps(sorted(whole))}
    try:
        with errors_of_the_disk(path):
            save_file(whole, unfinished, metadata=metadata)
            with unfinished.open("rb") as file:
                # Or after a power cut the new name may lead to nothing.
                os.fsync(file.fileno())
            # Within one folder this is a single step: no reader sees half of a file.
            os.replace(unfinished, path)
    finally:
        # What a killed process leaves, the next one replaces.
        unfinished.unlink(missing_ok=True)


def read_tensors(path: Path, kind: str) -> tuple[Any, dict[str, Tensor]]:
    """Read what :func:`write_tensors` wrote.

    Raises
    ------
    ValueError
        If it is damaged, or something else.
    """
    with damage_named(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        facts = json.loads(metadata[kind])
        # The file can be asked for its keys, but is nothing to iterate over. What it gives is
        # copied: it would change with the file.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        # Files of earlier versions do not say what they hold.
        names = set(json.loads(metadata[_NAMES])) if _NAMES in metadata else tensors.keys()
        if different := sorted(names ^ tensors.keys()):
            raise ValueError(f"{different[0]!r} is missing, or was added")
        return facts, tensors


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Say of what cannot be made of a checkpoint which file it is."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{path} is not a checkpoint of this program, or is damaged "
            f"({type(error).__name__}: {error}). Restore the file, or remove it to begin anew."
        ) from error


# A fit.


class FitCheckpoint:
    """The checkpoint of one fit: written after every epoch, and now and then within one.

    Parameters
    ----------
    folder : str or path
        Where it is; made if missing.
    identity : mapping of str to str
        What the fit depends on, by names that the user knows. A checkpoint of another fit is
        refused.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, str]) -> None:
        self._path = Path(folder) / NAME
        self._identity = dict(identity)
        self._written = time.monotonic()

    def restore(self, run: Run, best: BestWeights, place: Place) -> bool:
        """Go on from the checkpoint; False where there is none.

        Raises
        ------
        ValueError
            If it is damaged, or belongs to another fit.
        """
        if not self._path.is_file():
            # Before any work: a folder that cannot be made is an error of the parameters.
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return False
        facts, tensors = read_tensors(self._path, "fit")
        with damage_named(self._path):
            identity = dict(facts["identity"])
        self._check_same(identity)
        with damage_named(self._path):
            _restore_fit(run, best, place, facts, tensors)
        return True

    def keep(self, run: Run, best: BestWeights, place: Place, *, now: bool = True) -> None:
        """Write the checkpoint: now, or if it is long ago that it was written."""
        is_due = now or time.monotonic() - self._written >= SECONDS
        if not is_due or not run.workers.is_first:
            return
        result = best.result
        facts = {
            "identity": self._identity,
            "step": run.n_done,
            "place": asdict(place),
            "result": {name: getattr(result, name) for name in _RESULT},
            "n_stale": best.n_stale,
            "validations": [
                None if v is None else [v.score, v.loss] for v in (best.best, best.last)
            ],
        }
        tensors = state_of(run)
        if best.best is not None:
            tensors |= {_BEST + name: value for name, value in result.weights.replaced.items()}
            for name, (left, right) in result.weights.low_rank.items():
                tensors |= {_LEFT + name: left, _RIGHT + name: right}
        write_tensors(self._path, "fit", facts, tensors)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the checkpoint of a fit that has ended."""
        self._path.unlink(missing_ok=True)

    def _check_same(self, stored: Mapping[str, str]) -> None:
        names = [*self._identity, *(name for name in stored if name not in self._identity)]
        different = [n for n in names if stored.get(n) != self._identity.get(n)]
        if different:
            raise ValueError(
                f"{self._path} is the checkpoint of another fit, which differs in "
                f"{', '.join(different)}. Fit as before to go on from it, give another "
                "checkpoint_folder, or remove the file to begin anew."
            )


def _restore_fit(
    run: Run, best: BestWeights, place: Place, facts: Mapping[str, Any], tensors: Any
) -> None:
    then, result = Place(**facts["place"]), {name: facts["result"][name] for name in _RESULT}
    counts = {"n_stale": facts["n_stale"], **result, **vars(then)}
    for name in ("n_stale", "n_iter", "best_iter", "epoch", "window", "n_batches"):
        check_count(name, counts[name])
    numbers = [then.loss, *result["loss_curve"], *result["validation_scores"]]
    validations = [v and Validation(*v) for v in facts["validations"]]
    for validation in filter(None, validations):
        numbers += [validation.score, validation.loss]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("a loss or a score is no number")
    best.best, best.last = validations
    if best.best is not None:
        best.result.weights = _best_weights(best.result.weights, tensors)
    restore_state(run, tensors, facts["step"])
    vars(place).update(vars(then))
    vars(best.result).update(result)
    best.n_stale = counts["n_stale"]


def _best_weights(before: TunedWeights, tensors: Mapping[str, Tensor]) -> TunedWeights:
    replaced, left, right = (tensors_under(prefix, tensors) for prefix in (_BEST, _LEFT, _RIGHT))
    check_like(replaced, before.replaced)
    check_like(left, {name: factors[0] for name, factors in before.low_rank.items()})
    check_like(right, {name: factors[1] for name, factors in before.low_rank.items()})
    low_rank = {name: (factor, right[name]) for name, factor in left.items()}
    return replace(before, replaced=replaced, low_rank=low_rank)


def fingerprint(value: Any) -> str:
    """Give a short text that is the same for equal arrays, tensors, numbers and texts.

    Parameters
    ----------
    value : Any
        One of these, or a mapping, sequence or dataclass of them; of all else its kind counts.
    """
    digest = hashlib.blake2b(digest_size=16)
    for piece in _bytes_of(value):
        digest.update(piece)
    return digest.hexdigest()


def _bytes_of(value: Any) -> Iterator[bytes]:
    # The kind and the length before each, so that no two values have the same bytes.
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield array.tobytes()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        yield from _bytes_of(list(value.items()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _bytes_of([(f.name, getattr(value, f.name)) for f in fields(value)])
    elif isinstance(value, str | bytes | int | float | bool | np.generic) or value is None:
        yield repr(value).encode("utf-8", "surrogatepass")
        yield b"\0"
    elif isinstance(value, Sequence | np.ndarray):
        yield f"{len(value)}:".encode()
        for item in value:
            yield from _bytes_of(item)
    else:
        yield type(value).__qualname__.encode()
