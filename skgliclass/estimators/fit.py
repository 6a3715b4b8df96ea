"""What a classifier's ``fit`` does: read the data, train, calibrate; it changes no estimator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from . import fitting
from .callbacks import FitCallbacks
from .fitting import Examples, FitState
from .labels import LabelSet
from .scoring_options import ScoringOptions
from .targets import Targets

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.retrieval import ExampleStore
    from ..training.data import TrainingSet
    from ..training.loop import TrainingResult
    from ..training.options import TrainingOptions
    from ..training.tuned_weights import TunedWeights
    from .classifier import BaseGLiClassClassifier


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learnt.

    Attributes
    ----------
    label_set : LabelSet
        The classes and their label texts.
    training : Examples
        What to learn from.
    validation : Examples or None
        What to judge by.
    label_weights : ndarray of shape (n_classes,) or None
        How much each class's text-label pairs weigh.
    n_set_aside : int
        How many of the texts to learn from became validation data.
    """

    label_set: LabelSet
    training: Examples
    validation: Examples | None
    label_weights: NDArray[np.float32] | None
    n_set_aside: int = 0


@dataclass(frozen=True, eq=False)
class FitOutcome:
    """What a fit found, by the names of the classifiers' attributes."""

    state: FitState
    n_iter: int
    loss_curve: list[float]
    validation_scores: list[float] | None
    interrupted: bool


def prepare(
    classifier: BaseGLiClassClassifier,
    X: Any,
    y: Any,
    sample_weight: Any,
    X_val: Any,
    y_val: Any,
    *,
    labels: Any,
    one_epoch: bool,
) -> Problem:
    """Read what the user gave to ``fit``.

    Parameters
    ----------
    classifier : classifier
        Whose parameters count.
    X, y, sample_weight, X_val, y_val
        As in ``fit``.
    labels : Any
        The `labels` parameter to read `y` by.
    one_epoch : bool
        Whether this is a ``partial_fit``, which sets no examples aside.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError, TypeError
        If a text, a label or a weight is at fault.
    """
    goes_on = one_epoch and classifier._fit_state is not None
    texts = classifier._texts(X, reset=not goes_on)
    targets = classifier._targets(y, labels)
    _check_same_length(texts, targets, "X", "y")
    weights, label_weights = fitting.example_weights(
        targets, sample_weight, classifier.class_weight, classifier._multi_label
    )
    training = Examples(texts, targets.matrix, weights)
    validation = _given_validation(classifier, X_val, y_val, targets.label_set)
    if validation is None and not one_epoch and _needs_validation(classifier):
        training, validation = fitting.split_off_validation(
            training,
            classifier.validation_fraction,
            classifier._multi_label,
            check_random_state(classifier.random_state),
        )
    n_set_aside = len(texts) - len(training.texts)
    return Problem(targets.label_set, training, validation, label_weights, n_set_aside)


def fine_tune(
    classifier: BaseGLiClassClassifier, problem: Problem, *, one_epoch: bool
) -> FitOutcome:
    """Train as a classifier's parameters say, and tune what comes after the logits.

    Parameters
    ----------
    classifier : classifier
        Whose parameters and, where it goes on from them, tuned weights count.
    problem : Problem
        What to learn.
    one_epoch : bool
        Train one epoch from where the last fit stopped, whatever the parameters say.

    Returns
    -------
    FitOutcome
        For the classifier to store.
    """
    goes_on = one_epoch or classifier.warm_start
    last = classifier._fit_state
    before = last.weights if goes_on and last else None
    engine = classifier._make_engine(tuned=goes_on)
    options = training_options(classifier, len(problem.training.texts), one_epoch)
    goes_on_keeping = one_epoch and last and last.label_set.texts == problem.label_set.texts
    earlier = last.store if last and goes_on_keeping else None
    prompts = _Prompts.of(classifier, engine, problem, earlier)
    if prompts.store is not None and not one_epoch:
        _check_enough(prompts, problem, trains=options.max_epochs > 0)
    if options.max_epochs == 0:
        state = _finished_state(classifier, engine, problem, prompts, before)
        return FitOutcome(state, 0, [], None, False)
    result = _train(classifier, engine, problem, prompts, options, before)
    changed = _what_changed(result, engine, problem)
    if changed is not None:
        engine = _tuned(classifier, engine, changed)
        prompts = prompts.encoded_by(engine)
    state = _finished_state(classifier, engine, problem, prompts, _together(before, changed))
    scores = None if problem.validation is None else result.validation_scores
    return FitOutcome(state, result.n_iter, result.loss_curve, scores, result.interrupted)


@dataclass(frozen=True, eq=False)
class _Prompts:
    """What prompts hold besides texts and labels, and the labelled texts to retrieve from."""

    options: ScoringOptions
    store: ExampleStore | None

    @classmethod
    def of(
        cls,
        classifier: BaseGLiClassClassifier,
        engine: Engine,
        problem: Problem,
        earlier: ExampleStore | None,
    ) -> _Prompts:
        """Read a classifier's parameters and, where it retrieves, keep the training texts."""
        options = ScoringOptions.of(classifier, problem.label_set)
        if not options.n_retrieved:
            return cls(options, None)
        from ..engine.retrieval import ExampleStore
        from ..prompts.examples import ExampleEncoder

        # It refuses a model that has no place for examples before any work is done.
        ExampleEncoder(engine.composer, classifier.example_format)
        kept = [] if earlier is None else earlier.examples
        new = fitting.labelled_examples(problem.training, problem.label_set.texts)
        store = ExampleStore.embed(engine, [*kept, *new], backend=classifier.retrieval_backend)
        return cls(options, store)

    def encoded_by(self, engine: Engine) -> _Prompts:
        """Give the same with vectors of another model."""
        if self.store is None:
            return self
        examples, backend = self.store.examples, self.store.backend
        return _Prompts(self.options, type(self.store).embed(engine, examples, backend=backend))

    def logits(self, engine: Engine, texts: Sequence[str]) -> NDArray[np.float32]:
        """Score texts as the fitted classifier would; the engine is of the store's model."""
        return self.options.logits(engine, texts, self.options.shown(engine, texts, self.store))


def _check_enough(prompts: _Prompts, problem: Problem, *, trains: bool) -> None:
    """Refuse fewer texts than are to be retrieved; where it trains, besides the text itself."""
    assert prompts.store is not None
    store, k = prompts.store, prompts.options.n_retrieved
    try:
        store.check_size(k, exclude_self=trains)
    except ValueError as error:
        if k > len(store) - trains + problem.n_set_aside:
            raise
        raise ValueError(
            f"{error} {problem.n_set_aside} texts were set aside for validation "
            "(validation_fraction); with X_val and y_val none are."
        ) from error


def _what_changed(result: TrainingResult, engine: Engine, problem: Problem) -> TunedWeights | None:
    """Give the weights to keep: none where the ones before training were the best."""
    nothing_better = problem.validation is not None and result.best_iter == 0
    # Heads that came fresh from the random generator are not there to be loaded again.
    return None if nothing_better and engine.loaded.zero_shot else result.weights


def _together(before: TunedWeights | None, changed: TunedWeights | None) -> TunedWeights | None:
    """Give all that differs from the pretrained weights."""
    return before.then(changed) if before is not None and changed is not None else changed or before


def _given_validation(
    classifier: BaseGLiClassClassifier, X_val: Any, y_val: Any, label_set: LabelSet
) -> Examples | None:
    if (X_val is None) != (y_val is None):
        missing = "y_val" if y_val is None else "X_val"
        raise ValueError(f"{missing} is missing: X_val and y_val have to be given together.")
    if X_val is None:
        return None
    texts = classifier._texts(X_val, name="X_val")
    targets = classifier._targets(y_val, label_set.as_labels(), "y_val")
    _check_same_length(texts, targets, "X_val", "y_val")
    return Examples(texts, targets.matrix)


def _needs_validation(classifier: BaseGLiClassClassifier) -> bool:
    return classifier.early_stopping or classifier.calibrate or classifier._wants_thresholds()


def training_options(
    classifier: BaseGLiClassClassifier, n_samples: int, one_epoch: bool
) -> TrainingOptions:
    """Give how to train, as a classifier's parameters say.

    Parameters
    ----------
    classifier : classifier
        Whose parameters count.
    n_samples : int
        How many examples there are, which ``max_epochs="auto"`` depends on.
    one_epoch : bool
        Whether to train one epoch without warm-up and decay, whatever the parameters say.
    """
    from ..modeling.losses import LossOptions
    from ..training.options import TrainingOptions

    epochs = (
        fitting.automatic_epochs(n_samples, classifier.batch_size)
        if isinstance(classifier.max_epochs, str)
        else int(classifier.max_epochs)
    )
    return TrainingOptions(
        multi_label=classifier._multi_label,
        max_epochs=1 if one_epoch else epochs,
        decay=not one_epoch,
        batch_size=classifier.batch_size,
        learning_rate=classifier.learning_rate,
        head_learning_rate=classifier.head_learning_rate or classifier.learning_rate,
        weight_decay=classifier.weight_decay,
        warmup_fraction=0.0 if one_epoch else classifier.warmup_fraction,
        max_grad_norm=classifier.max_grad_norm,
        loss=LossOptions(
            **{f.name: getattr(classifier, f.name) for f in dataclasses.fields(LossOptions)}
        ),
        trainable=classifier.trainable,
        lora_rank=classifier.lora_rank,
        gradient_checkpointing=classifier.gradient_checkpointing,
        n_iter_no_change=classifier.n_iter_no_change if classifier.early_stopping else None,
        tol=classifier.tol,
        seed=int(check_random_state(classifier.random_state).randint(2**31 - 1)),
    )


def _train(
    classifier: BaseGLiClassClassifier,
    engine: Engine,
    problem: Problem,
    prompts: _Prompts,
    options: TrainingOptions,
    before: TunedWeights | None,
) -> TrainingResult:
    from ..training.loop import train

    label_set, training, validation = problem.label_set, problem.training, problem.validation
    data = _training_set(classifier, engine, problem, prompts)
    fitting.warn_of_cut_texts(engine, data)
    validate = None
    if validation is not None:
        # Neighbours are those by the vectors before training, as in the training prompts.
        shown = prompts.options.shown(engine, validation.texts, prompts.store)
        validate = fitting.make_validator(
            validation,
            classifier._multi_label,
            lambda now: prompts.options.logits(now, validation.texts, shown),
        )
    given = classifier._given_label_set()

    def state_of(weights: TunedWeights) -> FitState:
        store = prompts.encoded_by(_tuned(classifier, engine, weights)).store
        return FitState(label_set, given, _together(before, weights), 1.0, None, store)

    callbacks = FitCallbacks(classifier, options, len(training.texts), state_of)
    with callbacks:
        return train(
            engine,
            data,
            options,
            validate=validate,
            on_epoch=callbacks.on_epoch,
            on_step=callbacks.on_step,
        )


def _training_set(
    classifier: BaseGLiClassClassifier, engine: Engine, problem: Problem, prompts: _Prompts
) -> TrainingSet:
    from ..training.data import LabelledRows, make_training_set

    training = problem.training
    return make_training_set(
        engine,
        training.texts,
        problem.label_set.texts,
        LabelledRows.shared(training.matrix),
        weights=training.weights,
        label_weights=problem.label_weights,
        task_description=classifier.task_description or "",
        examples=prompts.options.shown(engine, training.texts, prompts.store, exclude_self=True),
        example_format=classifier.example_format,
    )


def _tuned(classifier: BaseGLiClassClassifier, engine: Engine, changed: TunedWeights) -> Engine:
    """Give an engine of the model with the weights that training changed."""
    from ..engine.engine import Engine

    loaded = changed.apply(engine.loaded)
    return Engine(loaded, max_length=classifier.max_length, n_jobs=classifier.n_jobs)


def _finished_state(
    classifier: BaseGLiClassClassifier,
    engine: Engine,
    problem: Problem,
    prompts: _Prompts,
    weights: TunedWeights | None,
) -> FitState:
    """Tune temperature and thresholds on the validation data, where they are wanted."""
    temperature, thresholds = 1.0, None
    validation = problem.validation
    if validation is not None and (classifier.calibrate or classifier._wants_thresholds()):
        logits = prompts.logits(engine, validation.texts)
        if classifier.calibrate:
            temperature = fitting.best_temperature(
                logits, validation.matrix, classifier._multi_label
            )
        if classifier._wants_thresholds():
            thresholds = fitting.best_thresholds(logits / temperature, validation.matrix)
    given = classifier._given_label_set()
    return FitState(problem.label_set, given, weights, temperature, thresholds, prompts.store)


def _check_same_length(texts: list[str], targets: Targets, X: str, y: str) -> None:
    if len(texts) != len(targets.matrix):
        raise ValueError(
            f"{X} and {y} have inconsistent numbers of samples: {len(texts)} texts, but "
            f"{len(targets.matrix)} labels."
        )
