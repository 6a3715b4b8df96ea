"""What both classifiers share: the labels in use, the engine, the road to scores, and fitting."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from tqdm import tqdm
from typing_extensions import Self

from . import fitting
from .callbacks import CallbackSupportMixin, FitCallbacks, with_callbacks
from .exceptions import UntrainedModelError
from .fitting import Examples, FitState
from .labels import LabelSet
from .persistence import load_estimator, save_estimator
from .targets import Targets
from .texts import as_texts, row_index

if TYPE_CHECKING:
    from .inference import Engine
    from .training import TrainingOptions, TrainingResult

# Engines hold tensors and caches, which have no place in an estimator's state: predicting must not
# change `__dict__`, and neither pickles nor clones should carry a model that can be loaded again.
_ENGINES: WeakKeyDictionary[BaseEstimator, tuple[Any, Engine]] = WeakKeyDictionary()


class BaseGLiClassClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """The base of the single-label and the multi-label classifier."""

    _multi_label: ClassVar[bool]
    _fit_state: FitState | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str],
        "labels": ["array-like", dict, None],
        "architecture": [StrOptions({"auto", "uni-encoder", "bi-encoder"})],
        "revision": [str, None],
        "task_description": [str, None],
        "max_length": [Interval(Integral, 8, None, closed="left"), None],
        "device": [str],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "n_jobs": [Integral, None],
        "trainable": [StrOptions({"all", "head", "lora"})],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "head_learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_fraction": [Interval(Real, 0, 1, closed="both")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither")],
        "focal_gamma": [Interval(Real, 0, None, closed="left")],
        "focal_alpha": [Interval(Real, 0, 1, closed="both"), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "lora_rank": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "calibrate": ["boolean"],
        "gradient_checkpointing": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model: str = "mini",
        labels: Any = None,
        *,
        architecture: str = "auto",
        revision: str | None = None,
        task_description: str | None = None,
        max_length: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        trainable: str = "all",
        max_epochs: int | str = "auto",
        batch_size: int = 16,
        learning_rate: float = 5e-5,
        head_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup_fraction: float = 0.1,
        max_grad_norm: float = 1.0,
        focal_gamma: float = 0.0,
        focal_alpha: float | None = None,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        lora_rank: int = 16,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        tol: float = 1e-4,
        calibrate: bool = False,
        gradient_checkpointing: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.labels = labels
        self.architecture = architecture
        self.revision = revision
        self.task_description = task_description
        self.max_length = max_length
        self.device = device
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.trainable = trainable
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.max_grad_norm = max_grad_norm
        self.focal_gamma = focal_gamma
        self.focal_alpha = focal_alpha
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.lora_rank = lora_rank
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.calibrate = calibrate
        self.gradient_checkpointing = gradient_checkpointing
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # The label set in use.

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, in the order of the columns of every score."""
        label_set = self._current_label_set()
        if label_set is None:
            raise AttributeError(
                f"{type(self).__name__} has no classes_ before fit unless labels= is given."
            )
        return label_set.classes

    def _current_label_set(self) -> LabelSet | None:
        """Give the labels of the last fit, unless others were set since."""
        given = self._given_label_set()
        fitted = self._fit_state
        if fitted is None:
            return given
        unchanged = given is None or given.same_as(fitted.given_labels)
        return fitted.label_set if unchanged else given

    def _given_label_set(self) -> LabelSet | None:
        if self.labels is None:
            return None
        return LabelSet.from_labels(self.labels, sort=not self._multi_label)

    def _require_label_set(self) -> LabelSet:
        label_set = self._current_label_set()
        if label_set is None:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet and has no labels. "
                "Call fit(X, y) first, or give labels=[...] to classify without fitting."
            )
        return label_set

    def __sklearn_is_fitted__(self) -> bool:
        return self._fit_state is not None or self.labels is not None

    # The engine.

    def _engine(self) -> Engine:
        """Give this estimator's engine, loading the model where no engine is kept yet."""
        key = self._engine_key()
        kept = _ENGINES.get(self)
        if kept is None or kept[0] != key:
            engine = self._make_engine()
            if not engine.loaded.zero_shot:
                raise UntrainedModelError(
                    f"model={self.model!r} is an encoder without trained classification heads, so "
                    "its predictions would be arbitrary. Call fit(X, y) first, or choose a "
                    'GLiClass checkpoint, a sentence-transformers model or model="mini".'
                )
            kept = (key, engine)
            _ENGINES[self] = kept
        return kept[1]

    def _engine_key(self) -> tuple[Any, ...]:
        names = "model", "architecture", "revision", "max_length", "device", "dtype", "n_jobs"
        weights = None if self._fit_state is None else self._fit_state.weights
        return (weights, *(getattr(self, name) for name in names))

    def _make_engine(self, *, tuned: bool = True) -> Engine:
        from .inference import Engine
        from .modeling.checkpoints import load_model

        loaded = load_model(
            self.model,
            revision=self.revision,
            architecture=self.architecture,
            device=self.device,
            dtype=self.dtype,
        )
        if tuned and self._fit_state is not None and self._fit_state.weights is not None:
            loaded = self._fit_state.weights.apply(loaded)
        return Engine(loaded, max_length=self.max_length, n_jobs=self.n_jobs)

    # The road to scores.

    def _texts(self, X: Any, name: str = "X") -> list[str]:
        """Read the rows of `X`; the one place where the input becomes texts."""
        return as_texts(X, name=name)

    def _logits(self, X: Any) -> NDArray[np.float32]:
        """Score the texts; the one way from this layer to the engine."""
        self._validate_params()
        label_set = self._require_label_set()
        texts = self._texts(X)
        engine = self._engine()
        with tqdm(total=len(texts), unit="text", disable=not self.verbose) as bar:
            return engine.logits(
                texts,
                label_set.texts,
                task_description=self.task_description or "",
                on_progress=whole_steps(bar.update),
            )

    def _calibrated_logits(self, X: Any) -> NDArray[np.float32]:
        logits = self._logits(X)
        temperature = 1.0 if self._fit_state is None else self._fit_state.temperature
        return logits if temperature == 1.0 else logits / np.float32(temperature)

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """Give the probability of every class as a frame.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        DataFrame of shape (n_samples, n_classes)
            The probabilities. The rows have the index of `X` where it is a pandas object; the
            columns are the classes.
        """
        scores = self.predict_proba(X)
        return pd.DataFrame(scores, index=row_index(X), columns=list(self.classes_))

    def predict_proba(self, X: Any) -> NDArray[np.float32]:  # noqa: D102
        raise NotImplementedError

    # Fitting.

    def _targets(self, y: Any, labels: Any) -> Targets:
        raise NotImplementedError

    def _wants_thresholds(self) -> bool:
        return False

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fine-tune the model on labelled texts.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like
            One class a text, or for the multi-label classifier an indicator matrix, a sparse
            matrix, a frame whose columns are the classes, or a list of label sets. Numbers
            between 0 and 1 in a matrix are soft targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each text counts.
        X_val, y_val : default=None
            Held-out texts and labels to choose the best epoch, to stop early, to calibrate and to
            tune thresholds on, in place of a part of `X`.

        Returns
        -------
        self
            The fitted classifier. If anything fails, it is left as it was before.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a text or a label is at fault; the message names it.
        FloatingPointError
            If the loss becomes infinite or not a number.
        """
        self._validate_params()
        return self._fit(X, y, sample_weight, X_val, y_val, labels=self.labels)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on more labelled texts, from where the last call stopped.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like
            The labels, as in :meth:`fit`.
        classes : array-like, default=None
            All classes that any call will bring. Needed in the first call unless ``labels=`` was
            given; may be left out afterwards.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each text counts.

        Returns
        -------
        self
        """
        self._validate_params()
        labels = self.labels
        if self._fit_state is not None:
            known = self._require_label_set()
            _check_same_classes(classes, known)
            labels = known.as_labels()
        elif labels is None:
            if classes is None:
                raise ValueError(
                    "classes must be passed on the first call to partial_fit, unless labels= is "
                    "given."
                )
            labels = np.unique(classes) if not self._multi_label else classes
        return self._fit(X, y, sample_weight, None, None, labels=labels, one_epoch=True)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        *,
        labels: Any,
        one_epoch: bool = False,
    ) -> Self:
        texts = self._texts(X)
        targets = self._targets(y, labels)
        _check_same_length(texts, targets, "X", "y")
        label_set = targets.label_set
        weights, label_weights = fitting.example_weights(
            targets, sample_weight, self.class_weight, self._multi_label
        )
        training = Examples(texts, targets.matrix, weights)
        training, validation = self._validation_data(training, label_set, X_val, y_val, one_epoch)

        goes_on = one_epoch or self.warm_start
        engine = self._make_engine(tuned=goes_on)
        options = self._training_options(len(training.texts), one_epoch)
        result = None
        if options.max_epochs:
            result = self._train(engine, training, validation, label_set, label_weights, options)
        before = self._fit_state if goes_on else None
        tuned = result.weights if result is not None else (before.weights if before else None)
        state = self._finished_state(engine, tuned, label_set, validation)
        self._store(state, result, validation is not None)
        return self

    def _validation_data(
        self,
        training: Examples,
        label_set: LabelSet,
        X_val: Any,
        y_val: Any,
        one_epoch: bool,
    ) -> tuple[Examples, Examples | None]:
        if (X_val is None) != (y_val is None):
            missing = "y_val" if y_val is None else "X_val"
            raise ValueError(f"{missing} is missing: X_val and y_val have to be given together.")
        if X_val is not None:
            texts = self._texts(X_val, "X_val")
            targets = self._targets(y_val, label_set.as_labels())
            _check_same_length(texts, targets, "X_val", "y_val")
            return training, Examples(texts, targets.matrix)
        needed = self.early_stopping or self.calibrate or self._wants_thresholds()
        if not needed or one_epoch:
            return training, None
        return fitting.split_off_validation(
            training,
            self.validation_fraction,
            self._multi_label,
            check_random_state(self.random_state),
        )

    def _training_options(self, n_samples: int, one_epoch: bool) -> TrainingOptions:
        from .training import TrainingOptions

        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        epochs = (
            fitting.automatic_epochs(n_samples, self.batch_size)
            if isinstance(self.max_epochs, str)
            else int(self.max_epochs)
        )
        return TrainingOptions(
            multi_label=self._multi_label,
            max_epochs=1 if one_epoch else epochs,
            decay=not one_epoch,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            head_learning_rate=self.head_learning_rate or self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_fraction=0.0 if one_epoch else self.warmup_fraction,
            max_grad_norm=self.max_grad_norm,
            focal_gamma=self.focal_gamma,
            focal_alpha=self.focal_alpha,
            label_smoothing=self.label_smoothing,
            trainable=self.trainable,
            lora_rank=self.lora_rank,
            gradient_checkpointing=self.gradient_checkpointing,
            n_iter_no_change=self.n_iter_no_change if self.early_stopping else None,
            tol=self.tol,
            seed=seed,
        )

    def _train(
        self,
        engine: Engine,
        training: Examples,
        validation: Examples | None,
        label_set: LabelSet,
        label_weights: NDArray[np.float32] | None,
        options: TrainingOptions,
    ) -> TrainingResult:
        from .training import train
        from .training_data import LabelledRows, make_training_set

        task = self.task_description or ""
        data = make_training_set(
            engine,
            training.texts,
            label_set.texts,
            LabelledRows.shared(training.matrix),
            weights=training.weights,
            label_weights=label_weights,
            task_description=task,
        )
        validate = None
        if validation is not None:
            validate = fitting.make_validator(validation, label_set.texts, self._multi_label, task)
        callbacks = FitCallbacks(self, options, len(training.texts), self._state_of(label_set))
        with callbacks:
            return train(
                engine,
                data,
                options,
                validate=validate,
                on_epoch=callbacks.on_epoch,
                on_step=callbacks.on_step,
            )

    def _state_of(self, label_set: LabelSet) -> Callable[[Any], FitState]:
        given = self._given_label_set()
        return lambda weights: FitState(label_set, given, weights, 1.0, None)

    def _finished_state(
        self, engine: Engine, weights: Any, label_set: LabelSet, validation: Examples | None
    ) -> FitState:
        temperature, thresholds = 1.0, None
        if validation is not None and (self.calibrate or self._wants_thresholds()):
            from .inference import Engine

            tuned = engine.loaded if weights is None else weights.apply(engine.loaded)
            logits = Engine(tuned, max_length=self.max_length, n_jobs=self.n_jobs).logits(
                validation.texts, label_set.texts, task_description=self.task_description or ""
            )
            if self.calibrate:
                temperature = fitting.best_temperature(logits, validation.matrix, self._multi_label)
            if self._wants_thresholds():
                thresholds = fitting.best_thresholds(logits / temperature, validation.matrix)
        return FitState(label_set, self._given_label_set(), weights, temperature, thresholds)

    def _store(self, state: FitState, result: TrainingResult | None, was_validated: bool) -> None:
        """Set everything that a fit leaves, once nothing can fail any more."""
        self._fit_state = state
        self.n_iter_ = 0 if result is None else result.n_iter
        self.loss_curve_ = [] if result is None else result.loss_curve
        self.best_loss_ = min(self.loss_curve_, default=None)
        self.validation_scores_ = (
            result.validation_scores if result is not None and was_validated else None
        )
        self.temperature_ = state.temperature
        if result is not None and result.interrupted:
            warnings.warn(
                f"fit was interrupted after {result.n_iter} epoch(s); the best weights so far are "
                "kept and the classifier can be used.",
                UserWarning,
                stacklevel=2,
            )

    # Saving and loading.

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and this classifier to a folder.

        The folder is a checkpoint that the ``gliclass`` package loads too, with one file beside
        it for the classes, label texts, thresholds and parameters.

        Parameters
        ----------
        folder : str or path
            Where to; made if missing.
        """
        self._validate_params()
        label_set = self._current_label_set()
        save_estimator(self, self._engine().loaded, label_set, folder)

    @classmethod
    def from_pretrained(
        cls, model: str | Path, *, revision: str | None = None, **parameters: Any
    ) -> Self:
        """Load a classifier that :meth:`save_pretrained` wrote, or any other checkpoint.

        Parameters
        ----------
        model : str or path
            A folder or a hub id.
        revision : str, optional
            The branch, tag or commit of a hub repository.
        **parameters
            Parameters of the classifier to set anew.

        Returns
        -------
        classifier
            It predicts as the one that was saved.
        """
        return load_estimator(cls, str(model), revision, parameters)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = self.labels is None
        tags.classifier_tags.multi_label = self._multi_label
        tags.classifier_tags.multi_class = not self._multi_label
        return tags


def whole_steps(update: Callable[[int], object]) -> Callable[[float], None]:
    """Pass on progress that comes in fractions once it adds up to whole texts."""
    seen = shown = 0.0

    def advance(amount: float) -> None:
        nonlocal seen, shown
        seen += amount
        step = round(seen) - shown
        if step:
            update(int(step))
            shown += step

    return advance


def _check_same_length(texts: list[str], targets: Targets, X: str, y: str) -> None:
    if len(texts) != len(targets.matrix):
        raise ValueError(
            f"{X} and {y} have inconsistent numbers of samples: {len(texts)} texts, but "
            f"{len(targets.matrix)} labels."
        )


def _check_same_classes(classes: Any, known: LabelSet) -> None:
    if classes is not None and sorted(map(str, classes)) != sorted(map(str, known.classes)):
        raise ValueError(
            f"classes={list(classes)!r} is not the same as on the last call to partial_fit: "
            f"{known.classes.tolist()!r}."
        )
