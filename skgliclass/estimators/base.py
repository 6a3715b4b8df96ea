"""What all estimators share: the labels in use, the engine, and the road to logits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from tqdm import tqdm

from ..exceptions import UntrainedModelError
from .fitting import FitState
from .labels import LabelSet
from .persistence import FILE as SAVED_FILE
from .scoring_options import ScoringOptions
from .texts import as_texts

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.retrieval import ExampleStore

# Engines hold tensors and caches, which have no place in an estimator's state: predicting must not
# change `__dict__`, and neither pickles nor clones should carry a model that can be loaded again.
_ENGINES: WeakKeyDictionary[BaseEstimator, tuple[Any, Engine]] = WeakKeyDictionary()
_EMBEDDERS: WeakKeyDictionary[BaseEstimator, tuple[Any, Engine]] = WeakKeyDictionary()


class BaseGLiClass(BaseEstimator):
    """The base of the classifiers and the transformer."""

    model: str
    labels: Any
    architecture: str
    revision: str | None
    task_description: str | None
    examples: Any
    example_format: str
    long_texts: str
    chunk_overlap: int
    chunk_pooling: str
    n_permutations: int
    shortlist: int | None
    shortlist_model: str | None
    hierarchy: str
    # Estimators that do not keep labelled texts have no parameter of this name.
    n_retrieved: int = 0
    max_length: int | None
    device: str
    dtype: str
    n_jobs: int | None
    verbose: int

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _fit_state: FitState | None = None

    @property
    def _multi_label(self) -> bool:
        """Whether a text may have any number of classes."""
        raise NotImplementedError

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
                + _hint_of_saved(self.model, type(self).__name__)
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
            self._check_trained(engine)
            kept = (key, engine)
            _ENGINES[self] = kept
        return kept[1]

    def _check_trained(self, engine: Engine) -> None:
        if not engine.loaded.zero_shot:
            raise UntrainedModelError(
                f"model={self.model!r} with architecture={self.architecture!r} is an encoder "
                "without trained classification heads, so its predictions would be arbitrary. "
                "Call fit(X, y) first, or choose a GLiClass checkpoint or, with "
                'architecture="auto", a sentence-transformers model or model="mini".'
            )

    def _engine_key(self) -> tuple[Any, ...]:
        names = "model", "architecture", "revision", "max_length", "device", "dtype", "n_jobs"
        weights = None if self._fit_state is None else self._fit_state.weights
        return (weights, *(getattr(self, name) for name in names))

    def _make_engine(self, *, tuned: bool = True) -> Engine:
        """Make an engine of the model, with what training changed if it is to be `tuned`."""
        from ..engine.engine import Engine
        from ..loading.loader import load_model

        loaded = load_model(
            self.model,
            revision=self.revision,
            architecture=self.architecture,
            device=self.device,
            dtype=self.dtype,
            user=self,
        )
        if tuned and self._fit_state is not None and self._fit_state.weights is not None:
            loaded = self._fit_state.weights.apply(loaded)
        return Engine(loaded, max_length=self.max_length, n_jobs=self.n_jobs)

    def _embedder(self) -> Engine | None:
        """Give what embeds texts and labels for the shortlist; None if the model itself does."""
        if self.shortlist_model is None:
            return None
        names = "shortlist_model", "device", "dtype", "n_jobs"
        key = tuple(getattr(self, name) for name in names)
        kept = _EMBEDDERS.get(self)
        if kept is None or kept[0] != key:
            from ..engine.engine import Engine
            from ..loading.loader import load_model

            with _errors_naming("shortlist_model"):
                loaded = load_model(
                    self.shortlist_model,
                    device=self.device,
                    dtype=self.dtype,
                    user=self,
                    role="shortlist",
                )
            kept = (key, Engine(loaded, n_jobs=self.n_jobs))
            _EMBEDDERS[self] = kept
        return kept[1]

    # The road to scores.

    def _texts(self, X: Any, *, name: str = "X", reset: bool = False) -> list[str]:
        """Read the rows of `X`; the one place where the input becomes texts.

        A subclass whose rows are not texts overrides it; `reset` tells, as scikit-learn does, the
        rows of a fit, which those of later calls have to be like.
        """
        return as_texts(X, name=name)

    def _logits(self, X: Any) -> NDArray[np.float32]:
        """Score the texts; the one way from this layer to the engine."""
        self._validate_params()
        label_set = self._require_label_set()
        texts = self._texts(X)
        options = ScoringOptions.of(self, label_set)
        store = self._store_of(label_set)
        engine = self._engine()
        shown = options.shown(engine, texts, store)
        with tqdm(total=len(texts), unit="text", disable=not self.verbose) as bar:
            return options.logits(engine, texts, shown, on_progress=whole_steps(bar.update))

    def _store_of(self, label_set: LabelSet) -> ExampleStore | None:
        """Give the labelled texts that fit kept, where their labels are those in use."""
        state = self._fit_state
        if state is None or state.store is None or not self.n_retrieved:
            return None
        if label_set is not state.label_set:
            raise ValueError(
                f"n_retrieved={self.n_retrieved} shows the model labelled texts from fit, but "
                "labels was changed since, so that theirs are others. Call fit(X, y) again, or set "
                "n_retrieved=0."
            )
        return state.store

    def _text_vectors(self, X: Any) -> NDArray[np.float32]:
        self._validate_params()
        texts = self._texts(X)
        return self._engine().text_vectors(
            texts, task_description=self.task_description or "", warn_truncated=True
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = self.labels is None
        return tags


@contextmanager
def _errors_naming(parameter: str) -> Iterator[None]:
    """Call the parameter by its name in errors about what the model layer knows as `model`."""
    try:
        yield
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(re.sub(r"\bmodel=", f"{parameter}=", str(error))) from error


def _hint_of_saved(model: str, kind: str) -> str:
    """Say how to read a saved classifier, where a model is the folder of one."""
    if not (Path(model) / SAVED_FILE).is_file():
        return ""
    return f" {model!r} holds a saved classifier: read it with {kind}.from_pretrained."


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
