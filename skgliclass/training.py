"""One training loop, used by ``fit`` and by pre-training alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .inference import Engine, plan_batches
from .modeling.bi_encoder import BiEncoder
from .modeling.losses import focal_loss, loss_weight
from .modeling.uni_encoder import UniEncoder
from .trainable import Trainable, make_trainable
from .training_data import TrainingSet, batches, choose_labels
from .weights import TunedWeights

MAX_LABELS_A_STEP = 512
"""How many labels a bi-encoder compares in one step; of more, a random part with the true ones."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; the names are those of the classifiers' parameters."""

    multi_label: bool
    max_epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1
    decay: bool = True
    max_grad_norm: float = 1.0
    focal_gamma: float = 0.0
    focal_alpha: float | None = None
    label_smoothing: float = 0.0
    trainable: str = "all"
    lora_rank: int = 16
    max_batch_tokens: int = 4096
    precision: str = "auto"
    gradient_checkpointing: bool = False
    shuffle_labels: bool = True
    n_iter_no_change: int | None = None
    tol: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class Validation:
    """How good a model is on held-out texts: the score decides, the loss breaks ties."""

    score: float
    loss: float


@dataclass(frozen=True)
class Progress:
    """Where a training stands after an epoch (0: before the first)."""

    epoch: int
    loss: float | None
    validation: Validation | None
    engine: Engine
    weights: Callable[[], TunedWeights]


@dataclass
class TrainingResult:
    """What a training gives.

    Attributes
    ----------
    weights : TunedWeights
        The best weights seen; without validation data the last.
    loss_curve : list of float
        The mean training loss of each epoch.
    validation_scores : list of float
        The validation score before training and after each epoch.
    n_iter : int
        How many epochs were run.
    best_iter : int
        After which of them the weights were taken; 0 if the pretrained ones were best.
    interrupted : bool
        Whether the user stopped it.
    """

    weights: TunedWeights
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    n_iter: int = 0
    best_iter: int = 0
    interrupted: bool = False


class NonFiniteLossError(FloatingPointError, ValueError):
    """The loss became infinite or not a number."""


def train(
    engine: Engine,
    data: TrainingSet,
    options: TrainingOptions,
    *,
    task_description: str = "",
    validate: Callable[[Engine], Validation] | None = None,
    on_epoch: Callable[[Progress], bool | None] | None = None,
    on_step: Callable[[float], object] | None = None,
) -> TrainingResult:
    """Train a model on examples.

    Parameters
    ----------
    engine : Engine
        Of the model to start from, which is not modified.
    data : TrainingSet
        What to learn from.
    options : TrainingOptions
        How.
    task_description : str, default=""
        The sentence that `data` was tokenised with.
    validate : callable, optional
        Judges an engine with the current weights: before training and after every epoch.
    on_epoch : callable, optional
        Told after every epoch; training stops where it returns True.
    on_step : callable, optional
        Told the loss of every optimizer step.

    Returns
    -------
    TrainingResult

    Raises
    ------
    NonFiniteLossError
        If the loss is not finite; nothing was modified.
    """
    devices = [engine.loaded.model.device] if engine.loaded.model.device.type == "cuda" else []
    # Dropout draws from the global generator: seed a copy of it, and give the original back.
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed)
        run = _Run(engine, data, options, task_description)
        return run.loop(validate, on_epoch, on_step)


class _Run:
    """The state of one training."""

    def __init__(
        self, engine: Engine, data: TrainingSet, options: TrainingOptions, task_description: str
    ) -> None:
        self.data = data
        self.options = options
        self.rng = np.random.default_rng(options.seed)
        model = copy.deepcopy(engine.loaded.model).float()
        self.trainable: Trainable = make_trainable(model, options.trainable, options.lora_rank)
        if options.gradient_checkpointing:
            for encoder in self.trainable.encoders():
                _checkpoint_activations(encoder)
        self.engine = Engine(
            replace(engine.loaded, model=model, zero_shot=True),
            max_length=engine.max_length,
            batch_tokens=engine.batch_tokens,
            n_jobs=engine.n_jobs,
        )
        self.steps: _Steps = (
            _BiEncoderSteps(self.engine, data, options, self.rng)
            if engine.encodes_labels_apart
            else _UniEncoderSteps(self.engine, data, options, self.rng, task_description)
        )
        self.model = model
        self.n_steps = options.max_epochs * math.ceil(len(data) / options.batch_size)
        self.optimizer = self._make_optimizer()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.autocast = _autocast(model.device, options.precision)

    def loop(
        self,
        validate: Callable[[Engine], Validation] | None,
        on_epoch: Callable[[Progress], bool | None] | None,
        on_step: Callable[[float], object] | None,
    ) -> TrainingResult:
        """Train until the epochs are over, nothing gets better, or somebody stops it."""
        best = self.trainable.snapshot()
        result = TrainingResult(best)
        best_validation = self._validate(validate, result)
        stale = 0
        self._tell(on_epoch, 0, None, best_validation)
        try:
            for epoch in range(1, self.options.max_epochs + 1):
                loss = self._epoch(on_step)
                result.loss_curve.append(loss)
                result.n_iter = epoch
                validation = self._validate(validate, result)
                if validation is None or best_validation is None:
                    result.best_iter = epoch
                else:
                    clearly = _is_better(validation, best_validation, self.options.tol)
                    stale = 0 if clearly else stale + 1
                    if _is_better(validation, best_validation):
                        best, best_validation = self.trainable.snapshot(), validation
                        result.best_iter = epoch
                stop = self._tell(on_epoch, epoch, loss, validation)
                patience = self.options.n_iter_no_change
                if stop or (patience is not None and stale >= patience):
                    break
        except KeyboardInterrupt:
            result.interrupted = True
        if best_validation is None:
            best = self.trainable.snapshot()
        result.weights = best
        return result

    def _epoch(self, on_step: Callable[[float], object] | None) -> float:
        total = count = 0.0
        for rows in batches(len(self.data), self.options.batch_size, self.rng):
            loss = self._step(rows)
            total, count = total + loss * len(rows), count + len(rows)
            if on_step is not None:
                on_step(loss)
        return total / count

    def _step(self, rows: NDArray[np.intp]) -> float:
        """Make one optimizer step from a batch, in as many micro-batches as its length needs."""
        self.trainable.train()
        self.optimizer.zero_grad(set_to_none=True)
        micro_batches = [part for part in self.steps.prepare(rows) if part.has_weight()]
        normalizer = sum(part.total_weight() for part in micro_batches)
        loss = 0.0
        for part in micro_batches:
            with self.autocast():
                logits = self.steps.logits(part)
            partial = part.loss(logits, self.options, normalizer)
            if not torch.isfinite(partial):
                raise NonFiniteLossError(
                    f"The training loss became {partial.item()}. The weights are unchanged. Lower "
                    f"learning_rate (now {self.options.learning_rate:g}) or head_learning_rate "
                    f"(now {self.options.head_learning_rate:g}), or look for extreme weights."
                )
            partial.backward()
            loss += partial.item()
        if micro_batches:
            nn.utils.clip_grad_norm_(self.trainable.parameters(), self.options.max_grad_norm)
            self.optimizer.step()
        self.scheduler.step()
        return loss

    def _validate(
        self, validate: Callable[[Engine], Validation] | None, result: TrainingResult
    ) -> Validation | None:
        if validate is None:
            return None
        self.model.eval()
        validation = validate(
            Engine(self.engine.loaded, max_length=self.engine.max_length, n_jobs=self.engine.n_jobs)
        )
        result.validation_scores.append(validation.score)
        return validation

    def _tell(
        self,
        on_epoch: Callable[[Progress], bool | None] | None,
        epoch: int,
        loss: float | None,
        validation: Validation | None,
    ) -> bool:
        if on_epoch is None:
            return False
        self.model.eval()
        return bool(
            on_epoch(Progress(epoch, loss, validation, self.engine, self.trainable.snapshot))
        )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        options = self.options
        rates = {True: options.head_learning_rate, False: options.learning_rate}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter, is_head in self.trainable.with_role():
            groups.setdefault((is_head, parameter.ndim > 1), []).append(parameter)
        return torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": rates[is_head],
                    # Biases and normalisation gains are not shrunk towards zero.
                    "weight_decay": options.weight_decay if is_matrix else 0.0,
                }
                for (is_head, is_matrix), parameters in groups.items()
            ],
            fused=self.model.device.type in ("cpu", "cuda"),
        )

    def _rate(self, step: int) -> float:
        """Rise to the full rate, then fall to zero, both linearly."""
        warmup = max(1, round(self.options.warmup_fraction * self.n_steps))
        if step < warmup:
            return (step + 1) / warmup
        if not self.options.decay:
            return 1.0
        return max(0.0, (self.n_steps - step) / max(1, self.n_steps - warmup))


# From rows to logits.


@dataclass
class _MicroBatch:
    """Rows that go through the model together."""

    rows: NDArray[np.intp]
    inputs: dict[str, Tensor]
    targets: Tensor
    mask: Tensor
    weight: Tensor
    multi_label: bool

    def total_weight(self) -> Tensor:
        return loss_weight(self.mask, multi_label=self.multi_label, weight=self.weight)

    def has_weight(self) -> bool:
        """Whether anything in it counts; an example of weight zero is left out of the pass."""
        return bool((self.weight > 0).any())

    def loss(self, logits: Tensor, options: TrainingOptions, normalizer: Tensor | float) -> Tensor:
        return focal_loss(
            logits,
            self.targets,
            multi_label=options.multi_label,
            gamma=options.focal_gamma,
            alpha=options.focal_alpha,
            label_smoothing=options.label_smoothing,
            mask=self.mask,
            weight=self.weight,
            normalizer=normalizer,
        )


class _Steps:
    """What differs between architectures: preparing a batch and scoring it."""

    def __init__(
        self,
        engine: Engine,
        data: TrainingSet,
        options: TrainingOptions,
        rng: np.random.Generator,
    ) -> None:
        self.engine = engine
        self.data = data
        self.options = options
        self.rng = rng
        self.label_lengths = data.labels.lengths
        self.frozen = options.trainable == "head"

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[_MicroBatch]:
        raise NotImplementedError

    def logits(self, part: _MicroBatch) -> Tensor:
        raise NotImplementedError

    def _tensors(
        self,
        rows: NDArray[np.intp],
        labels: Sequence[NDArray[np.int32]],
        targets: Sequence[NDArray[np.float32]],
    ) -> dict[str, Tensor]:
        """Put ragged targets in a matrix, with a mask and weights of its shape."""
        width = max(map(len, labels))
        values = np.zeros((len(rows), width), dtype=np.float32)
        mask = np.zeros((len(rows), width), dtype=np.bool_)
        weight = np.repeat(self.data.weights[rows, None], width, axis=1)
        for i, (own, wanted) in enumerate(zip(labels, targets, strict=True)):
            values[i, : len(own)], mask[i, : len(own)] = wanted, True
            if self.data.label_weights is not None:
                weight[i, : len(own)] *= self.data.label_weights[own]
        device = self.engine.loaded.model.device
        weight_tensor = torch.from_numpy(weight).to(device)
        if self.data.label_weights is None:
            weight_tensor = weight_tensor[:, 0]
        return {
            "targets": torch.from_numpy(values).to(device),
            "mask": torch.from_numpy(mask).to(device),
            "weight": weight_tensor,
        }


class _UniEncoderSteps(_Steps):
    def __init__(
        self,
        engine: Engine,
        data: TrainingSet,
        options: TrainingOptions,
        rng: np.random.Generator,
        task_description: str,
    ) -> None:
        super().__init__(engine, data, options, rng)
        self.composer = engine.composer()
        self.task = self.composer.encode_task(task_description)
        fixed = self.composer.frame_length() + len(self.task)
        self.label_room = engine.max_length - fixed - engine.max_length // 4
        self.text_room = engine.max_length - fixed
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[_MicroBatch]:
        prompts, labels, targets = [], [], []
        for i in rows:
            own, wanted = self.data.rows.row(i)
            chosen = choose_labels(
                own,
                wanted,
                self.label_lengths,
                self.label_room,
                self.rng,
                # Frozen features are computed once, so their order has to be fixed.
                shuffle=self.options.shuffle_labels and not self.frozen,
            )
            label_ids = [self.data.labels[k] for k in own[chosen]]
            room = self.text_room - sum(map(len, label_ids))
            prompt = self.composer.compose(label_ids, self.data.texts[i][:room], self.task)
            prompts.append(prompt["input_ids"])
            labels.append(own[chosen])
            targets.append(wanted[chosen])
        lengths = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts))
        for part in plan_batches(lengths, self.options.max_batch_tokens):
            input_ids, mask = self.engine.to_tensors([prompts[i] for i in part])
            tensors = self._tensors(
                rows[part], [labels[i] for i in part], [targets[i] for i in part]
            )
            yield _MicroBatch(
                rows[part],
                {"input_ids": input_ids, "attention_mask": mask},
                multi_label=self.options.multi_label,
                **tensors,
            )

    def logits(self, part: _MicroBatch) -> Tensor:
        model = cast("UniEncoder", self.engine.loaded.model.model)
        n_columns = part.mask.shape[1]
        if not self.frozen:
            scores: Tensor = model(**part.inputs, max_num_classes=n_columns).logits
            return scores
        with torch.no_grad():
            features = model.features(**part.inputs, max_num_classes=n_columns)
        logits: Tensor = model.score(features).logits
        return logits


class _BiEncoderSteps(_Steps):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._frozen_texts: Tensor | None = None
        self._frozen_labels: Tensor | None = None

    def prepare(self, rows: NDArray[np.intp]) -> Iterator[_MicroBatch]:
        own, wanted = zip(*(self.data.rows.row(i) for i in rows), strict=True)
        labels = self._labels_of_step(own, wanted)
        column = np.full(len(self.data.labels), -1, dtype=np.int64)
        column[labels] = np.arange(len(labels))
        tokenizer = self.engine.text_tokenizer
        room = self.engine.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
        lengths = np.minimum(self.data.texts.lengths[rows], room)
        # Labels are encoded anew for each micro-batch, so a batch is divided only if it is large.
        for part in plan_batches(lengths + 2, 4 * self.options.max_batch_tokens):
            targets = np.zeros((len(part), len(labels)), dtype=np.float32)
            mask = np.zeros((len(part), len(labels)), dtype=np.bool_)
            for i, j in enumerate(part):
                columns = column[own[j]]
                kept = columns >= 0
                targets[i, columns[kept]] = wanted[j][kept]
                mask[i, columns[kept]] = True
            yield self._micro_batch(rows[part], labels, targets, mask)

    def _micro_batch(
        self,
        rows: NDArray[np.intp],
        labels: NDArray[np.int64],
        targets: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> _MicroBatch:
        device = self.engine.loaded.model.device
        weight = torch.from_numpy(self.data.weights[rows]).to(device)
        if self.data.label_weights is not None:
            own = torch.from_numpy(self.data.label_weights[labels]).to(device)
            weight = weight[:, None] * own
        return _MicroBatch(
            rows,
            {"labels": torch.from_numpy(labels)},
            torch.from_numpy(targets).to(device),
            torch.from_numpy(mask).to(device),
            weight,
            self.options.multi_label,
        )

    def _labels_of_step(
        self, own: Sequence[NDArray[np.int32]], wanted: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.int64]:
        labels = np.unique(np.concatenate(own))
        if len(labels) > MAX_LABELS_A_STEP:
            true = np.unique(np.concatenate([k[t > 0] for k, t in zip(own, wanted, strict=True)]))
            others = np.setdiff1d(labels, true)
            n_others = max(0, MAX_LABELS_A_STEP - len(true))
            labels = np.union1d(true, self.rng.choice(others, min(n_others, len(others)), False))
        return labels.astype(np.int64)

    def logits(self, part: _MicroBatch) -> Tensor:
        model = cast("BiEncoder", self.engine.loaded.model.model)
        labels = part.inputs["labels"]
        if self.frozen:
            texts, all_labels = self._frozen()
            pooled_texts, pooled_labels = texts[part.rows], all_labels[labels]
        else:
            pooled_texts = model.pool_texts(*self._text_tensors(part.rows))
            pooled_labels = model.pool_labels(*self._label_tensors(labels.numpy()))
        scores: Tensor = model.score_vectors(
            model.project_texts(pooled_texts), model.project_labels(pooled_labels), part.mask
        )
        return scores

    def _text_tensors(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        tokenizer = self.engine.text_tokenizer
        room = self.engine.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
        return self.engine.to_tensors(
            [[*tokenizer.prefix, *self.data.texts[i][:room], *tokenizer.suffix] for i in rows]
        )

    def _label_tensors(self, labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        tokenizer = self.engine.label_tokenizer
        return self.engine.to_tensors(
            [[*tokenizer.prefix, *self.data.labels[k], *tokenizer.suffix] for k in labels],
            label_side=True,
        )

    @torch.no_grad()
    def _frozen(self) -> tuple[Tensor, Tensor]:
        """Encode everything once, since the backbone does not change."""
        if self._frozen_texts is None or self._frozen_labels is None:
            model = cast("BiEncoder", self.engine.loaded.model.model)
            was_training, _ = model.training, model.eval()
            self._frozen_texts = self._encode(
                self.data.texts.lengths, lambda rows: model.pool_texts(*self._text_tensors(rows))
            )
            self._frozen_labels = self._encode(
                self.label_lengths, lambda rows: model.pool_labels(*self._label_tensors(rows))
            )
            model.train(was_training)
        return self._frozen_texts, self._frozen_labels

    def _encode(
        self, lengths: NDArray[np.int64], encode: Callable[[NDArray[np.intp]], Tensor]
    ) -> Tensor:
        vectors: Tensor | None = None
        for rows in plan_batches(np.minimum(lengths, self.engine.max_length) + 2, 1024):
            batch = encode(rows)
            if vectors is None:
                vectors = batch.new_empty(len(lengths), batch.shape[1])
            vectors[torch.from_numpy(rows)] = batch
        assert vectors is not None
        return vectors


def _is_better(new: Validation, old: Validation, margin: float = 0.0) -> bool:
    if new.score > old.score + margin:
        return True
    return margin == 0 and new.score == old.score and new.loss < old.loss


def _checkpoint_activations(encoder: Any) -> None:
    # Newer versions of transformers have renamed it and warn of the old name.
    new = getattr(encoder, "activation_checkpointing_enable", None)
    (new or encoder.gradient_checkpointing_enable)()


def _autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    """Choose bfloat16 where the processor computes in it natively."""
    if precision == "auto":
        precision = "bfloat16" if _has_native_bfloat16(device) else "float32"
    if precision == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
