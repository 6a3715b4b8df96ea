"""What both classifiers share: the label set in use, the engine, and the road to scores."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from tqdm import tqdm

from .exceptions import UntrainedModelError
from .labels import LabelSet
from .texts import as_texts, row_index

if TYPE_CHECKING:
    from .inference import Engine

# Engines hold tensors and caches, which have no place in an estimator's state: predicting must not
# change `__dict__`, and neither pickles nor clones should carry a model that can be loaded again.
_ENGINES: WeakKeyDictionary[BaseEstimator, tuple[Any, Engine]] = WeakKeyDictionary()


class BaseGLiClassClassifier(ClassifierMixin, BaseEstimator):
    """The base of the single-label and the multi-label classifier."""

    _multi_label: ClassVar[bool]

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
        if self.labels is not None:
            return LabelSet.from_labels(self.labels, sort=not self._multi_label)
        return None

    def _require_label_set(self) -> LabelSet:
        label_set = self._current_label_set()
        if label_set is None:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet and has no labels. "
                "Call fit(X, y) first, or give labels=[...] to classify without fitting."
            )
        return label_set

    def __sklearn_is_fitted__(self) -> bool:
        return self._current_label_set() is not None

    # The engine.

    def _engine(self) -> Engine:
        """Give this estimator's engine, loading the model where no engine is kept yet."""
        key = self._engine_key()
        kept = _ENGINES.get(self)
        if kept is None or kept[0] != key:
            kept = (key, self._make_engine())
            _ENGINES[self] = kept
        return kept[1]

    def _engine_key(self) -> tuple[Any, ...]:
        names = "model", "architecture", "revision", "max_length", "device", "dtype", "n_jobs"
        return tuple(getattr(self, name) for name in names)

    def _make_engine(self) -> Engine:
        from .inference import Engine
        from .modeling.checkpoints import load_model

        loaded = load_model(
            self.model,
            revision=self.revision,
            architecture=self.architecture,
            device=self.device,
            dtype=self.dtype,
        )
        if not loaded.zero_shot:
            raise UntrainedModelError(
                f"model={self.model!r} is an encoder without trained classification heads, so its "
                "predictions would be arbitrary. Call fit(X, y) first, or choose a GLiClass "
                'checkpoint, a sentence-transformers model or model="mini".'
            )
        return Engine(loaded, max_length=self.max_length, n_jobs=self.n_jobs)

    # The road to scores.

    def _texts(self, X: Any) -> list[str]:
        """Read the rows of `X`; the one place where the input becomes texts."""
        return as_texts(X)

    def _logits(self, X: Any) -> NDArray[np.float32]:
        """Score the texts; the one way from this layer to the engine."""
        self._validate_params()
        label_set = self._require_label_set()
        texts = self._texts(X)
        with tqdm(total=len(texts), unit="text", disable=not self.verbose) as bar:
            return self._engine().logits(
                texts,
                label_set.texts,
                task_description=self.task_description or "",
                on_progress=whole_steps(bar.update),
            )

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
