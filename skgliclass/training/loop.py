"""One training loop, used by ``fit`` and by pre-training alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..engine.batching import computing_here
from ..engine.engine import Engine
from ..loading.loaded import resolve_dtype
from ..modeling.memory import is_out_of_memory
from ..modeling.randomness import own_randomness, recomputation
from .apart import ApartSteps
from .data import TrainingSet, Windows, batches
from .joint import FusedSteps, JointSteps
from .optimizer import RowwiseAdamW, clip_gradients
from .options import TrainingOptions
from .processes import Workers
from .steps import Steps
from .trainable import Trainable, training_copy
from .tuned_weights import TunedWeights

MANY_ROWS = 4096
"""From how many rows on the gradients of an embedding table are kept sparse."""

# They tell the seeds of a training's parts apart.
_BEGINNING, _STEPPING, _DEALING = 1, 2, 3


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


@dataclass
class Place:
    """Where in its epochs a training is.

    `epoch` counts from 1 and `window`, that of its data, from 0; `n_batches` are those of the
    window that were made, and `loss` is the sum of the losses of the epoch's rows so far.
    """

    epoch: int = 1
    window: int = 0
    n_batches: int = 0
    loss: float = 0.0

    def note(self, loss: float, n_rows: int) -> None:
        """Note a step."""
        self.n_batches += 1
        self.loss += loss * n_rows

    def end_window(self) -> None:
        """Begin the next window."""
        self.window, self.n_batches = self.window + 1, 0

    def go_on(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.window, self.n_batches, self.loss = self.epoch + 1, 0, 0, 0.0


class Keeper(Protocol):
    """Keeps what a training needs to go on after its process has ended."""

    def restore(self, run: Run, best: BestWeights, place: Place) -> bool:
        """Go on from what was kept; False where there is nothing."""

    def keep(self, run: Run, best: BestWeights, place: Place, *, now: bool = True) -> None:
        """Keep it: now, or if it is long ago."""


class NonFiniteLossError(FloatingPointError, ValueError):
    """The loss or the weights became infinite or not a number."""


@computing_here()
def train(
    engine: Engine,
    data: Windows,
    options: TrainingOptions,
    *,
    validate: Callable[[Engine], Validation] | None = None,
    on_epoch: Callable[[Progress], bool | None] | None = None,
    on_step: Callable[[float], object] | None = None,
    keeper: Keeper | None = None,
) -> TrainingResult:
    """Train a model until the epochs are over, nothing gets better, or somebody stops it.

    Parameters
    ----------
    engine : Engine
        Of the model to start from, which is not modified.
    data : Windows
        What to learn from: a training set, or windows of what does not fit into memory.
    options : TrainingOptions
        How.
    validate : callable, optional
        Judges an engine with the current weights: before training and after every epoch.
    on_epoch : callable, optional
        Told after every epoch; training stops where it returns True.
    on_step : callable, optional
        Told the loss of every optimizer step.
    keeper : Keeper, optional
        Keeps checkpoints, and gives the one to go on from.

    Raises
    ------
    NonFiniteLossError
        If the loss or the weights are not finite; nothing was modified.
    KeyboardInterrupt
        If the user stopped it before there was anything to keep.
    """
    run = Run(engine, data, options)
    best, place = BestWeights(run, validate), Place()
    if keeper is None or not keeper.restore(run, best, place):
        best.begin()
        run.tell(on_epoch, 0, None, best.last)
    try:
        while place.epoch <= options.max_epochs and not best.is_stale():
            for rows in run.batches(place):
                loss = run.step(rows)
                place.note(loss, len(rows))
                if on_step is not None:
                    on_step(loss)
                if keeper is not None:
                    keeper.keep(run, best, place, now=False)
            best.judge(place.epoch, place.loss / sum(data.sizes))
            stop = run.tell(on_epoch, place.epoch, best.result.loss_curve[-1], best.last)
            place.go_on()
            if keeper is not None:
                keeper.keep(run, best, place)
            if stop:
                break
    except KeyboardInterrupt:
        return best.interrupted()
    return best.finished()


class Run:
    """The state of one training.

    Parameters
    ----------
    engine : Engine
        Of the model to start from, which is not modified.
    data : Windows
        What :meth:`batches` deals. A training set is at hand from the beginning, until :meth:`use`
        gives something else.
    options : TrainingOptions
        How.

    Attributes
    ----------
    n_tokens : int
        How many tokens the backbone has read.
    n_done : int
        How many optimizer steps were made.
    """

    def __init__(self, engine: Engine, data: Windows, options: TrainingOptions) -> None:
        self.n_tokens = self.n_done = 0
        self.workers = Workers.joined()
        self.options = options
        network = engine.loaded.network
        # The factors of low-rank updates begin at random.
        with own_randomness(self._seed(_BEGINNING), network.device):
            self.trainable: Trainable = training_copy(network, options.trainable, options.lora_rank)
        model = self.trainable.network
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                # A batch reads few of the rows: they cost less than whole tables.
                module.sparse = module.num_embeddings >= MANY_ROWS
        if options.gradient_checkpointing:
            for encoder in self.trainable.encoders():
                _checkpoint_activations(encoder, network.device)
        # Heads that are being trained may predict, whatever the model was that they came from.
        self.engine = engine.around(replace(engine.loaded, network=model, zero_shot=True))
        self.model = model
        self.windows = data
        self._in_use: TrainingSet | None = None
        self._last_rows: NDArray[np.intp] | None = None
        if isinstance(data, TrainingSet):
            self.use(data)
        n_batches = sum(math.ceil(size / options.batch_size) for size in data.sizes)
        epochs = options.max_epochs * n_batches
        self.n_steps = epochs if options.n_steps is None else options.n_steps
        self.optimizer = self._make_optimizer()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.autocast = _autocast(model.device, options.precision)

    def use(self, data: TrainingSet) -> None:
        """Go on with other examples."""
        if data is self._in_use:
            # What was computed for them is not computed anew in every epoch.
            return
        self._in_use, self._last_rows = data, None
        self.steps = make_steps(self.engine, data, self.options, self._rng(_BEGINNING))

    def _release(self) -> None:
        """Let the examples in use go, so that others have their place in memory."""
        # Without them nothing could judge the last step any more.
        self.check_last_step()
        self._in_use = self._last_rows = None
        del self.steps

    def _sequence(self, *place: int) -> np.random.SeedSequence:
        # Every part of a training has a seed of its own, so that one that is resumed draws the same
        # numbers, whatever was drawn before.
        return np.random.SeedSequence([self.options.seed, *place])

    def _seed(self, *place: int) -> int:
        return int(self._sequence(*place).generate_state(1)[0])

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng(self._sequence(*place))

    def batches(self, place: Place) -> Iterator[NDArray[np.intp]]:
        """Deal the rows of what is left of an epoch, window by window, each in random order."""
        for data in self.windows.read(place.window):
            self.use(data)
            # Or it would stay in memory beside the next one.
            del data
            assert self._in_use is not None
            rng = self._rng(_DEALING, place.epoch, place.window)
            dealt = batches(len(self._in_use), self.options.batch_size, rng)
            yield from islice(dealt, place.n_batches, None)
            place.end_window()
            if len(self.windows.sizes) > 1:
                self._release()

    def go_to(self, step: int) -> None:
        """Continue the learning-rate schedule, and the random numbers, after so many steps."""
        self.n_done = step
        # By hand, as `scheduler.step(epoch)` is deprecated and warns.
        self.scheduler.last_epoch = step
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            group["lr"] = rate * self._rate(step)

    def step(self, rows: NDArray[np.intp]) -> float:
        """Make one optimizer step from a batch, in as many micro-batches as its length needs.

        Raises
        ------
        MemoryError
            If memory does not suffice for one row at a time.
        """
        self.trainable.train()
        loss = self._try_batch(rows)
        while loss is None:
            loss = self._try_batch(rows)
        clip_gradients(self.trainable.parameters(), self.options.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.n_done += 1
        self._last_rows = rows
        return loss

    def _try_batch(self, rows: NDArray[np.intp]) -> float | None:
        """Back-propagate a batch; None where memory asks for smaller micro-batches first."""
        self.optimizer.zero_grad(set_to_none=True)
        # The same numbers each time, so that the labels of the rows are the same.
        self.steps.begin(self._rng(_STEPPING, self.n_done))
        total = None
        try:
            seed = self._seed(_STEPPING, self.n_done)
            # Autocast once, so that weights are rounded once a batch and not once a micro-batch.
            with own_randomness(seed, self.model.device), self.autocast():
                total = self._add_gradients(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.steps.check_divisible(error)
        # All processes divide a batch alike, whichever of them is short of memory.
        if self.workers.any(total is None):
            self.steps.halve_micro_batches()
            return None
        self.workers.sum_gradients(self.trainable.parameters())
        return self.workers.sum(cast("Tensor", total)).item()

    def _add_gradients(self, rows: NDArray[np.intp]) -> Tensor:
        """Leave the gradient of the batch's loss in the parameters, and give the loss."""
        micro_batches = [part for part in self.steps.prepare(rows) if part.has_weight()]
        if not micro_batches:
            return torch.zeros((), device=self.model.device)
        # Over the micro-batches of all processes: each divides its part of the loss by the whole,
        # so that gradients need only be added up.
        normalizer = torch.stack([part.total_weight() for part in micro_batches]).sum()
        total = torch.zeros_like(normalizer)
        for part in self.workers.share(micro_batches):
            loss = self.steps.loss(part, normalizer)
            with torch.autocast(self.model.device.type, enabled=False):
                loss.backward()
            total += loss.detach()
        # Once, as a GPU that is asked has to finish first what it was given.
        self._check_finite(total)
        # Before gradients are added up over processes: what one sends back through a shared encoder
        # is its part, and going back is linear.
        with torch.autocast(self.model.device.type, enabled=False):
            self.steps.finish()
        # Elsewhere than on one CPU whole tables are added up faster than rows are found.
        keep_sparse = self.workers.size == 1 and self.model.device.type == "cpu"
        for parameter in self.trainable.parameters():
            if parameter.grad is not None and parameter.grad.is_sparse:
                sparse = parameter.grad
                parameter.grad = sparse.coalesce() if keep_sparse else sparse.to_dense()
        self.n_tokens += sum(map(self.steps.n_tokens, micro_batches))
        return total

    def check_weights(self) -> None:
        """Refuse weights that are infinite or no numbers."""
        # In one pass that makes no copy: both extremes of what holds a NaN are NaN.
        extremes = [torch.stack(p.detach().aminmax()) for p in self.trainable.parameters()]
        if not all(torch.isfinite(pair).all() for pair in extremes):
            raise self.diverged("Weights became infinite or not a number in training.")

    def check_last_step(self) -> None:
        """Refuse weights with which the last batch has no finite loss any more.

        Every other step is judged by the loss of the next; weights that are huge but finite are no
        better than infinite ones.
        """
        self.check_weights()
        if self._last_rows is None:
            return
        self.model.eval()
        with torch.no_grad(), self.autocast():
            parts = (part for part in self.steps.prepare(self._last_rows) if part.has_weight())
            # One of them is enough: all go through the same weights.
            part = next(parts, None)
            if part is not None:
                self._check_finite(self.steps.loss(part, part.total_weight()))

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise self.diverged(f"The training loss became {loss.item()}.")

    def diverged(self, what: str) -> NonFiniteLossError:
        """Make the error that says so, and what to do."""
        return NonFiniteLossError(
            f"{what} Nothing was changed: the weights are those from before. Lower learning_rate "
            f"(now {self.options.learning_rate:g}) or head_learning_rate "
            f"(now {self.options.head_learning_rate:g}), or look for extreme weights."
        )

    def engine_to_judge(self) -> Engine:
        """Give an engine with the current weights that predicts as later ones will."""
        self.model.eval()
        # A model of its own each time: what was prepared for the labels is of other weights.
        loaded = replace(self.engine.loaded)
        return self.engine.around(loaded)

    def tell(
        self,
        on_epoch: Callable[[Progress], bool | None] | None,
        epoch: int,
        loss: float | None,
        validation: Validation | None,
    ) -> bool:
        """Tell where the training stands; True asks to stop."""
        if on_epoch is None:
            return False
        engine = self.engine_to_judge()
        return bool(on_epoch(Progress(epoch, loss, validation, engine, self.trainable.snapshot)))

    def _make_optimizer(self) -> RowwiseAdamW:
        options = self.options
        rates = {True: options.head_learning_rate, False: options.learning_rate}
        # Biases and normalisation gains are not shrunk towards zero, and neither are the vectors
        # of words, most of which no training text has.
        tables = {id(m.weight) for m in self.model.modules() if isinstance(m, nn.Embedding)}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter, is_head in self.trainable.with_role():
            shrinks = parameter.ndim > 1 and id(parameter) not in tables
            groups.setdefault((is_head, shrinks), []).append(parameter)
        return RowwiseAdamW(
            [
                {
                    "params": parameters,
                    "lr": rates[is_head],
                    "weight_decay": options.weight_decay if shrinks else 0.0,
                }
                for (is_head, shrinks), parameters in groups.items()
            ],
            fused=self.model.device.type in ("cpu", "cuda"),
        )

    def _rate(self, step: int) -> float:
        """Rise to the full rate, then fall to zero, both linearly."""
        warmup = max(1, round(self.options.warmup_fraction * self.n_steps))
        if step < warmup:
            # Not from zero: the first step would change nothing.
            return (step + 1) / warmup
        if not self.options.decay:
            return 1.0
        return max(0.0, (self.n_steps - step) / max(1, self.n_steps - warmup))


class BestWeights:
    """The best weights of a training so far, the ones before it included.

    Parameters
    ----------
    run : Run
        The training.
    validate : callable or None
        Judges an engine; without it the last weights are taken for the best.

    Attributes
    ----------
    result : TrainingResult
        What the training gives, as far as it is.
    best, last : Validation or None
        Of the best weights, and of the last ones.
    n_stale : int
        For how many epochs nothing has got clearly better.
    """

    def __init__(self, run: Run, validate: Callable[[Engine], Validation] | None) -> None:
        self._run = run
        self._validate = validate
        self.n_stale = 0
        self.result = TrainingResult(run.trainable.snapshot())
        self.best: Validation | None = None
        self.last: Validation | None = None

    def begin(self) -> None:
        """Judge the weights before training."""
        self.last = self.best = self._validation()

    def judge(self, epoch: int, loss: float) -> None:
        """Compare the current weights with the best ones, after an epoch with such a mean loss."""
        self.result.loss_curve.append(loss)
        self.result.n_iter = epoch
        self._run.check_weights()
        self.last = self._validation()
        if self.last is None or self.best is None:
            self.result.best_iter = epoch
            return
        if math.isfinite(self.best.loss) and not math.isfinite(self.last.loss):
            raise self._run.diverged(f"The validation loss became {self.last.loss}.")
        # What counts as getting better may ask for more than what is kept.
        clearly = _is_better(self.last, self.best, self._run.options.tol)
        self.n_stale = 0 if clearly else self.n_stale + 1
        if _is_better(self.last, self.best):
            # Copied first: an interruption may come between any two lines.
            weights = self._run.trainable.snapshot()
            self.result.weights, self.result.best_iter, self.best = weights, epoch, self.last

    def is_stale(self) -> bool:
        """Tell whether nothing has got better for as long as the options allow."""
        patience = self._run.options.n_iter_no_change
        return patience is not None and self.n_stale >= patience

    def finished(self) -> TrainingResult:
        """Give the result of the training."""
        if self.best is None:
            self._run.check_last_step()
            self.result.weights = self._run.trainable.snapshot()
        return self.result

    def interrupted(self) -> TrainingResult:
        """Give the result of a training that the user stopped."""
        self.result.interrupted = True
        try:
            return self.finished()
        except NonFiniteLossError as error:
            # An error in its place would be taken for a failed fit, after which others go on.
            raise KeyboardInterrupt(f"Interrupted, and nothing is kept. {error}") from error

    def _validation(self) -> Validation | None:
        if self._validate is None:
            return None
        validation = self._validate(self._run.engine_to_judge())
        self.result.validation_scores.append(validation.score)
        return validation


_STEPS: dict[str, type[Steps]] = {
    "uni-encoder": JointSteps,
    "bi-encoder": ApartSteps,
    "bi-encoder-fused": FusedSteps,
    "encoder-decoder": JointSteps,
    "encoder-decoder-cls": JointSteps,
    "decoder-kv": JointSteps,
}
"""What trains each architecture: the registry of this layer."""


def make_steps(
    engine: Engine, data: TrainingSet, options: TrainingOptions, rng: np.random.Generator
) -> Steps:
    """Give what trains the engine's architecture."""
    architecture = engine.loaded.network.config.architecture_type
    return _STEPS[architecture](engine, data, options, rng)


def _is_better(new: Validation, old: Validation, margin: float = 0.0) -> bool:
    if new.score > old.score + margin:
        return True
    # The margin is one of scores; losses are on another scale, and only break ties.
    return margin == 0 and new.score == old.score and new.loss < old.loss


def _checkpoint_activations(encoder: Any, device: torch.device) -> None:
    # Newer versions of transformers have renamed it and warn of the old name.
    new = getattr(encoder, "activation_checkpointing_enable", None)
    (new or encoder.gradient_checkpointing_enable)(recomputation(device))


def _autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    # "auto" as for predictions: a processor that has bfloat16 learns as one that has not.
    if precision == "float32" or (
        precision == "auto" and resolve_dtype("auto", device) is not torch.bfloat16
    ):
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
