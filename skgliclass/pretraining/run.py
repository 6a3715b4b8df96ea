"""One pre-training: from folders of labelled sets to a checkpoint folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..engine.engine import Engine
from ..files import replacing
from ..loading.checkpoints import save_checkpoint
from ..loading.loaded import LoadedModel, resolve_device, resolve_dtype
from ..loading.loader import load_model
from ..modeling.losses import LossOptions
from ..training.checkpoint import NAME
from ..training.data import LabelledRows, make_training_set
from ..training.loop import Run
from ..training.options import TrainingOptions
from .averaging import WeightAverage
from .checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from .chunks import Chunks, needs_teacher
from .config import PretrainingConfig
from .initial import initial_model, is_gliclass
from .mixture import LabelledSet, Mixture, make_mixture, read_sets
from .scores import sample_rows, score_sets
from .wordings import read_wordings

MODEL_FOLDER = "model"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Outcome:
    """How a pre-training ended.

    Attributes
    ----------
    step : int
        How many steps were made in all.
    finished : bool
        Whether that was all of them, so that the model was written.
    loss : float or None
        That of the log's last entry; None if there was none.
    """

    step: int
    finished: bool
    loss: float | None


def pretrain(
    config: PretrainingConfig,
    data: str | Path,
    output: str | Path,
    *,
    resume: bool = False,
    evaluate: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    on_step: Callable[[int, float], object] | None = None,
) -> Outcome:
    """Train a new model on a mixture of sets.

    Parameters
    ----------
    config : PretrainingConfig
        How.
    data : str or path
        A folder whose folder ``pretrain`` holds the sets, and ``eval`` those to evaluate on.
    output : str or path
        Where the log, the checkpoint and in the end the model are written; a new or empty folder.
    resume : bool, default=False
        Go on from the checkpoint in `output`. The result is that of a run that was never stopped,
        to the bit, on the same machine with the same number of threads.
    evaluate : bool, default=False
        Whether to score the sets of ``eval`` too, without any influence on the training.
    max_minutes : float, optional
        Stop with a checkpoint after so long; the learning rate still follows ``n_steps``.
    device : str, default="auto"
        Where to train.
    on_step : callable, optional
        Told the number of steps made and the loss of each.

    Returns
    -------
    Outcome

    Raises
    ------
    OSError
        If a folder is missing, or `output` is not empty without `resume`.
    ValueError
        If a row or a field of the configuration is at fault, or does not go with the checkpoint.
    """
    output = Path(output)
    checkpoint = _prepare_output(output, config, resume)
    mixture = _read_mixture(config, Path(data))
    evaluation = _read_evaluation(config, Path(data)) if evaluate else []
    training = _Pretraining(config, mixture, evaluation, output, device)
    if checkpoint is not None:
        training.restore(checkpoint)
    return training.loop(max_minutes, on_step)


def finish(output: str | Path, device: str = "cpu") -> Path:
    """Write the model of a checkpoint, whether or not its training has ended.

    Parameters
    ----------
    output : str or path
        The folder of a pre-training.
    device : str, default="cpu"
        Where the model is built.

    Returns
    -------
    Path
        The folder to pass as ``model=``.
    """
    output = Path(output)
    checkpoint = read_checkpoint(output)
    # The checkpoint holds what is trained; all else is built again.
    loaded = initial_model(checkpoint.config.model, checkpoint.config.training.seed, device)
    run = _make_run(loaded, checkpoint.config)
    average = WeightAverage(run, checkpoint.config.training.averaging)
    checkpoint.restore(run, average)
    with average.in_use():
        return _write_model(output / MODEL_FOLDER, run, loaded)


class _Pretraining:
    """The state of one pre-training."""

    def __init__(
        self,
        config: PretrainingConfig,
        mixture: Mixture,
        evaluation: list[LabelledSet],
        output: Path,
        device: str,
    ) -> None:
        self.config = config
        self.mixture = mixture
        self.evaluation = evaluation
        self.output = output
        self.sizes = {source.name: len(source.rows) for source in mixture.sets}
        self.loaded = initial_model(config.model, config.training.seed, device)
        teacher = _teacher(config, device) if needs_teacher(config) else None
        self.run = _make_run(self.loaded, config)
        self.average = WeightAverage(self.run, config.training.averaging)
        self.chunks = Chunks(self.run.engine, mixture, config, teacher)
        self.chunk = -1
        self.step = 0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        if checkpoint.sets != self.sizes:
            raise ValueError(
                "The sets have changed since the checkpoint was written: it knows "
                f"{checkpoint.sets}, but the folder gives {self.sizes}."
            )
        checkpoint.restore(self.run, self.average)
        self.step = checkpoint.step
        _forget_after(self.output / LOG, self.step)

    def loop(
        self, max_minutes: float | None, on_step: Callable[[int, float], object] | None
    ) -> Outcome:
        """Make the steps that are left, as far as the time allows."""
        record, n_steps = self.config.record, self.config.training.n_steps
        clock = _Clock(max_minutes, record.checkpoint_minutes)
        meter = _Meter(self.run)
        if not (self.output / NAME).exists():
            # Whatever happens next, the run can be resumed.
            self._write_checkpoint()
            self._score()
        while self.step < n_steps and not clock.is_over():
            loss = self._make_step()
            self.step += 1
            self.average.add(self.step)
            meter.note(loss, self.config.training.batch_size)
            if on_step is not None:
                on_step(self.step, loss)
            last = self.step == n_steps
            if last or self.step % record.log_steps == 0:
                rate = self.run.scheduler.get_last_lr()[-1]
                self._log({"step": self.step, **meter.read(), "learning_rate": rate})
            if last or self.step % record.score_steps == 0:
                self._score()
            if self.step in record.kept_steps:
                self._write_model(f"step-{self.step}")
            if last or self.step % record.checkpoint_steps == 0 or clock.wants_checkpoint():
                self._write_checkpoint()
                clock.checkpoint_written()
        if self.step < n_steps:
            self._write_checkpoint()
        else:
            self._write_model(MODEL_FOLDER)
        return Outcome(self.step, self.step == n_steps, meter.last_loss)

    def _make_step(self) -> float:
        training = self.config.training
        chunk, place = divmod(self.step, training.chunk_steps)
        if chunk != self.chunk:
            self.run.use(self.chunks.training_set(chunk))
            self.chunk = chunk
        start = place * training.batch_size
        return self.run.step(np.arange(start, start + training.batch_size))

    def _score(self) -> None:
        """Log how good the model is on what it does not learn from."""
        entry: dict[str, Any] = {"step": self.step}
        with self.average.in_use():
            engine = self.run.engine_to_judge()
            for name, sets in (("held_out", self.mixture.held_out), ("eval", self.evaluation)):
                if sets:
                    scores = score_sets(engine, sets)
                    entry[f"{name}_mean"] = float(np.mean(list(scores.values())))
                    entry[name] = scores
        if len(entry) > 1:
            self._log(entry)

    def _write_checkpoint(self) -> None:
        write_checkpoint(self.output, self.run, self.average, self.step, self.config, self.sizes)

    def _write_model(self, name: str) -> None:
        with self.average.in_use():
            _write_model(self.output / name, self.run, self.loaded)

    def _log(self, entry: Mapping[str, Any]) -> None:
        with (self.output / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_rounded(entry)) + "\n")


class _Clock:
    """Tells when the time is over, and when the last checkpoint is old."""

    def __init__(self, max_minutes: float | None, checkpoint_minutes: float) -> None:
        self._start = self._written = time.monotonic()
        self._max_seconds = float("inf") if max_minutes is None else 60 * max_minutes
        self._checkpoint_seconds = 60 * checkpoint_minutes

    def is_over(self) -> bool:
        return time.monotonic() - self._start >= self._max_seconds

    def wants_checkpoint(self) -> bool:
        return time.monotonic() - self._written >= self._checkpoint_seconds

    def checkpoint_written(self) -> None:
        self._written = time.monotonic()


class _Meter:
    """The mean loss and the speed since it was last read."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.last_loss: float | None = None
        self._start_again()

    def note(self, loss: float, n_rows: int) -> None:
        self._losses.append(loss)
        self._n_rows += n_rows

    def read(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._start, 1e-9)
        self.last_loss = float(np.mean(self._losses))
        values = {
            "loss": self.last_loss,
            "tokens_per_second": (self._run.n_tokens - self._n_tokens) / seconds,
            "rows_per_second": self._n_rows / seconds,
        }
        self._start_again()
        return values

    def _start_again(self) -> None:
        self._losses: list[float] = []
        self._n_rows, self._n_tokens = 0, self._run.n_tokens
        self._start = time.perf_counter()


# What a run is made of.


def _make_run(loaded: LoadedModel, config: PretrainingConfig) -> Run:
    training = config.training
    options = TrainingOptions(
        # Unused: every row says for itself whether its labels hold independently.
        multi_label=True,
        max_epochs=1,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        head_learning_rate=training.head_learning_rate,
        weight_decay=training.weight_decay,
        warmup_fraction=training.warmup_fraction,
        decay=training.decay,
        max_grad_norm=training.max_grad_norm,
        loss=LossOptions(
            focal_gamma=training.focal_gamma, label_smoothing=training.label_smoothing
        ),
        trainable=training.trainable,
        lora_rank=training.lora_rank,
        max_batch_tokens=training.max_batch_tokens or None,
        precision=_precision(config, loaded.network.device),
        gradient_checkpointing=training.gradient_checkpointing,
        seed=training.seed,
        n_steps=training.n_steps,
    )
    engine = Engine(loaded, max_length=config.model.max_length)
    nothing = make_training_set(engine, [], [], LabelledRows.ragged([], []))
    run = Run(engine, nothing, options)
    for encoder in run.trainable.encoders():
        _freeze_layers(encoder, training.frozen_layers)
        if training.backbone_dropout is not None:
            _set_dropout(encoder, training.backbone_dropout)
    return run


def _precision(config: PretrainingConfig, device: torch.device) -> str:
    """Choose bfloat16 with "auto" where the processor or the card computes in it natively."""
    if config.training.precision != "auto":
        return config.training.precision
    if device.type == "cpu":
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        # Not every version of torch has them.
        fast = any(getattr(torch.cpu, name, bool)() for name in names)
    else:
        fast = resolve_dtype("auto", device) is torch.bfloat16
    return "bfloat16" if fast else "float32"


def _freeze_layers(encoder: Any, n_layers: int) -> None:
    if not n_layers:
        return
    layers = next((m for m in encoder.modules() if isinstance(m, nn.ModuleList)), nn.ModuleList())
    if n_layers > len(layers):
        raise ValueError(
            f"training.frozen_layers is {n_layers}, but the backbone has {len(layers)} layers."
        )
    for layer in list(layers)[:n_layers]:
        layer.requires_grad_(False)


def _set_dropout(encoder: Any, p: float) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        # Attention takes it as a number where it has no module for it.
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = p


def _teacher(config: PretrainingConfig, device: str) -> Engine:
    architecture = "auto" if is_gliclass(config.model) else "bi-encoder"
    loaded = load_model(
        config.model.backbone,
        architecture=architecture,
        device=device,
        # Its opinion is a part of a target, and neighbours are only ranked.
        dtype=_precision(config, resolve_device(device)),
    )
    return Engine(loaded, max_length=min(config.model.max_length, loaded.max_length))


def _read_mixture(config: PretrainingConfig, data: Path) -> Mixture:
    wordings = read_wordings(config.augmentation.wordings)
    sets = read_sets(data / "pretrain")
    return make_mixture(sets, config.mixture, wordings, config.training.seed)


def _read_evaluation(config: PretrainingConfig, data: Path) -> list[LabelledSet]:
    wordings = read_wordings(config.augmentation.wordings)
    return [
        # The same rows whatever the seed of the run, so that runs compare.
        sample_rows(LabelledSet(name, rows, wordings.of(name)), config.record.eval_rows, seed=0)
        for name, rows in read_sets(data / "eval").items()
    ]


# Files.


def _prepare_output(output: Path, config: PretrainingConfig, resume: bool) -> Checkpoint | None:
    if resume:
        checkpoint = read_checkpoint(output)
        _check_same(checkpoint.config, config)
        return checkpoint
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; give a folder.")
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(
            f"The folder {output} is not empty; give a new one, or go on with its checkpoint."
        )
    output.mkdir(parents=True, exist_ok=True)
    return None


def _check_same(stored: PretrainingConfig, config: PretrainingConfig) -> None:
    """Refuse to go on with other settings, but for what is written while training."""
    old, new = asdict(replace(stored, record=config.record)), asdict(config)
    for table, values in new.items():
        for name, value in values.items():
            if old[table][name] != value:
                raise ValueError(
                    f"{table}.{name} is {value!r}, but the checkpoint was written with "
                    f"{old[table][name]!r}; only [record] may change."
                )


def _write_model(folder: Path, run: Run, loaded: LoadedModel) -> Path:
    save_checkpoint(folder, run.trainable.snapshot().apply(loaded))
    return folder


def _forget_after(log: Path, step: int) -> None:
    """Take from the log what comes after a checkpoint and so will come again."""
    if not log.is_file():
        return
    # Not splitlines, which also splits at what a line may hold.
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    lines_before = [line for line in lines if _step_of(line) <= step]
    # Whenever it is interrupted, the old log or the new one is whole.
    with replacing(log) as written:
        written.write_text("".join(f"{line}\n" for line in lines_before), encoding="utf-8")


def _step_of(line: str) -> float:
    """Give the step of a line of the log; beyond all steps where it is not whole."""
    # Where a process or a machine dies while it writes, half of a line is left.
    try:
        return float(json.loads(line)["step"])
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError):
        return float("inf")


def _rounded(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {name: _rounded(value) for name, value in entry.items()}
    return float(f"{entry:.6g}") if isinstance(entry, float) else entry
