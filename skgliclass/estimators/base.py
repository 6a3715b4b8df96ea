"""What all estimators share: the labels in use, the engine, and the road to logits."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils._param_validation import validate_parameter_constraints
from typing_extensions import Self

from ..exceptions import UntrainedModelError, warn
from ..files import readable_folder
from ..loading.cache import RecentlyUsed
from .callbacks import scoring_bar
from .labels import LabelSet
from .parameters import (
    check_device,
    check_model,
    default_values,
    is_unchanging,
    plain_number,
    unchanging_key,
    without_views,
)
from .persistence import FILE as SAVED_FILE
from .rows import Row
from .scores import Alternatives, RowScores, Scores
from .scoring import ScoringPlan
from .state import FitState, Snapshot
from .texts import as_texts

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..loading.carried import CarriedModel
    from ..loading.loaded import LoadedModel
    from ..training.tuned_weights import TunedWeights


_VALID: RecentlyUsed[bool] = RecentlyUsed(256)
"""What fulfilled the constraints of parameters: not in an estimator, which predicting must not
change, and by the values, however they were set."""


class BaseGLiClass(BaseEstimator):
    """The base of the classifiers and the transformer."""

    # Those that the code here reads by name; the others reach their options by the names of the
    # options' fields.
    model: str | PathLike[str]
    labels: Any
    architecture: str
    revision: str | None
    task_description: str | None
    shortlist: int | None
    shortlist_model: str | PathLike[str] | None
    max_length: int | None
    device: Any
    dtype: str
    n_jobs: int | None
    verbose: int | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _fit_state: FitState | None = None
    # What from_pretrained loaded, as long as the parameters name it.
    _carried: CarriedModel | None = None

    @property
    def _multi_label(self) -> bool:
        """Whether a text may have any number of classes."""
        raise NotImplementedError

    def _validate_params(self) -> None:
        check_model(self.model, type(self).__name__)
        check_device(self.device)
        constraints = self._parameter_constraints
        values = {name: v for name, v in vars(self).items() if name in constraints}
        key = type(self), unchanging_key(values)
        if len(values) < len(constraints) or _VALID.find(key) is None:
            super()._validate_params()
            _VALID.keep(key, True)
            return
        # The others, each time: asking for all, and reading the signature for them, takes longer
        # than all else that comes before a service's model reads a text.
        others = {name: v for name, v in values.items() if not is_unchanging(v)}
        asked = {name: constraints[name] for name in others}
        validate_parameter_constraints(asked, others, caller_name=type(self).__name__)

    # Parameters stay what was passed until somebody copies them, which views of dicts cannot be.

    def __getstate__(self) -> dict[str, Any]:
        return {name: without_views(value) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # What an earlier version pickled lacks the parameters that came later.
        for cls in type(self).__mro__:
            if issubclass(cls, BaseGLiClass) and "__init__" in vars(cls):
                for name, value in default_values(cls).items():
                    self.__dict__.setdefault(name, value)

    def __sklearn_clone__(self) -> Self:
        # Of a copy, which is made by way of the state.
        clone: Self = super(BaseGLiClass, copy.copy(self)).__sklearn_clone__()
        return clone

    # The labels in use.

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, in the order of the columns of every score."""
        return self._snapshot_for_attribute("classes_").label_set.classes

    def _snapshot_for_attribute(self, name: str) -> Snapshot:
        snapshot = self._snapshot()
        if not snapshot.label_set:
            # hasattr asks for this error.
            raise AttributeError(
                f"{type(self).__name__} has no {name} before fit unless labels= is given."
            )
        return snapshot

    def _snapshot(self) -> Snapshot:
        """Give what a call uses to its end; taken once, so that labels are parsed once a call."""
        # Each attribute is read once: another thread may set it between two readings.
        labels = self.labels
        return Snapshot.of(self._fit_state, self._read_labels(labels), labels)

    def _snapshot_with_labels(self) -> Snapshot:
        """Check the parameters, and refuse to go on without labels."""
        self._validate_params()
        snapshot = self._snapshot()
        if not snapshot.label_set:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet and has no labels. "
                "Call fit(X, y) first, or give labels=[...] to classify without fitting."
                + _hint_of_saved(self.model, type(self).__name__)
            )
        return snapshot

    def _read_labels(self, labels: Any) -> LabelSet | None:
        if labels is None:
            return None
        return LabelSet.from_labels(labels, sort=not self._multi_label)

    def __sklearn_is_fitted__(self) -> bool:
        state = self._fit_state
        # Labels alone make a zero-shot classifier, which check_is_fitted must let through.
        return self.labels is not None or (state is not None and bool(state.label_set))

    # The engine.

    def _engine(
        self, weights: TunedWeights | None, *, trains: bool = False, exact: bool = False
    ) -> Engine:
        """Give an engine of the model with tuned weights; it is cheap to make.

        Unless it is to be trained, a model whose heads never were is refused. What is to be trained
        or to be exact is in float32 on a processor, whatever the parameter says.
        """
        from ..engine.engine import Engine

        loaded = self._base_model(exact=trains or exact)
        if weights is not None:
            loaded = weights.apply(loaded)
        if not trains:
            self._check_trained(loaded)
        return Engine(
            loaded, max_length=plain_number(self.max_length), n_jobs=plain_number(self.n_jobs)
        )

    def _base_model(self, *, exact: bool = False) -> LoadedModel:
        """Give the model that the parameters name, without tuned weights."""
        from ..loading.loaded import exact_dtype

        dtype = exact_dtype(self.dtype, self.device) if exact else self.dtype
        # Each stays in memory beside the other.
        role = "exact model" if dtype != self.dtype else "model"
        carried = self._carried
        if carried is not None and carried.asked_for == self._asked_for():
            return carried.on(self.device, dtype, self, role)
        from ..loading.loader import load_model

        # Not kept in the estimator: predicting must not change it, and neither pickles nor clones
        # should carry a model that can be loaded again.
        return load_model(
            self.model,
            revision=self.revision,
            architecture=self.architecture,
            device=self.device,
            dtype=dtype,
            user=self,
            role=role,
        )

    def _asked_for(self) -> tuple[str | None, ...]:
        return str(self.model), self.revision, self.architecture

    def _check_trained(self, loaded: LoadedModel) -> None:
        if not loaded.zero_shot:
            raise UntrainedModelError(
                f"model={str(self.model)!r} with architecture={self.architecture!r} is an encoder "
                "without trained classification heads, so its predictions would be arbitrary. "
                "Call fit(X, y) first, or choose a GLiClass checkpoint or, with "
                'architecture="auto", a sentence-transformers model or model="mini".'
            )

    def _embedder(self) -> Engine | None:
        """Give what embeds texts and labels for the shortlist; None if the model itself does."""
        if self.shortlist is None or self.shortlist_model is None:
            return None
        from ..engine.engine import Engine
        from ..loading.loader import load_model

        with _errors_naming("shortlist_model"):
            loaded = load_model(
                self.shortlist_model,
                device=self.device,
                dtype=self.dtype,
                user=self,
                role="shortlist_model",
            )
        return Engine(loaded, n_jobs=plain_number(self.n_jobs))

    # The road to scores.

    def _texts(self, X: Any, *, name: str = "X", reset: bool = False) -> list[str]:
        """Read the rows of `X`; the one place where the input becomes texts.

        A subclass whose rows are not texts overrides it; `reset` tells, as scikit-learn does, the
        rows of a fit, which those of later calls have to be like.
        """
        return as_texts(X, name=name)

    def _plan(self, snapshot: Snapshot) -> ScoringPlan:
        """Read how texts are scored, as the parameters say."""
        # Not get_params, which reads the signature of `__init__` anew for every call.
        return ScoringPlan.of(
            vars(self), snapshot, multi_label=self._multi_label, embedder=self._embedder()
        )

    def _rows(self, X: Any, labels: Any) -> Sequence[Row] | None:
        """Read texts that have labels of their own; None where all share the classes."""
        return None

    def _row_scores(self, rows: Sequence[Row], *, chooses: bool, exact: bool = False) -> RowScores:
        """Score texts that have labels of their own."""
        raise NotImplementedError

    def _cutoff(self, snapshot: Snapshot) -> NDArray[np.float32] | None:
        """Give the probabilities from which on classes are chosen, where there are any."""
        return None

    def _other(self) -> Any:
        """Give the value that stands for none of the classes, where there is one."""
        return None

    def _among(self, snapshot: Snapshot, *, chooses: bool = False) -> Alternatives:
        """Give the classes of a snapshot and, where one is to be chosen, by what."""
        return Alternatives(
            snapshot.label_set.classes,
            self._multi_label,
            snapshot.temperature,
            self._cutoff(snapshot) if chooses else None,
            self._other(),
        )

    def _warn_of_one_class(self, label_set: LabelSet) -> None:
        if len(label_set) == 1 and not self._multi_label:
            name = label_set.classes.tolist()[0]
            warn(
                f"{name!r} is the only class, so that every text gets it with a probability of 1. "
                "To ask whether it holds use GLiClassMultiLabelClassifier or, in a transformer, "
                "multi_label=True; or give another class to choose from."
            )

    def _scores(
        self,
        X: Any,
        labels: Any = None,
        *,
        snapshot: Snapshot | None = None,
        texts: list[str] | None = None,
        chooses: bool = False,
        warns: bool = True,
        exact: bool = False,
    ) -> Scores | RowScores:
        """Score texts: the one road, whatever is made of the scores.

        With a snapshot, whose classes all texts have, `X` may have been read as texts already.
        Without warnings it does not say again what was said of other forms of the same texts. Where
        a processor rounds, texts of which that might decide are scored again, exactly.
        """
        rows = None if snapshot else self._rows(X, labels)
        if rows is not None:
            return self._row_scores(rows, chooses=chooses)
        if snapshot is None:
            snapshot = self._snapshot_with_labels()
        # What is wrong with texts or parameters is said before a model is loaded.
        among = self._among(snapshot, chooses=chooses)
        texts = self._texts(X) if texts is None else texts
        plan = self._plan(snapshot)
        if self._fit_state is None and warns:
            # Where there was a fit, that told.
            self._warn_of_one_class(snapshot.label_set)
        store = snapshot.store_for(plan.n_retrieved)
        engine = self._engine(snapshot.weights, exact=exact)
        engine = engine if warns else engine.without_warnings()
        examples = plan.examples_for(engine, texts, store)
        count = plan.voted_by(store).counted(texts)
        arguments = plan.arguments(examples, count)
        with scoring_bar(len(texts), self.verbose and not exact) as on_progress:
            logits = engine.logits(texts, **arguments, on_progress=on_progress)
        logits = plan.class_logits(logits, count)
        if engine.rounding:
            # By the choice also where probabilities alone are asked for, which agree with it.
            scores = Scores(logits, self._among(snapshot, chooses=True))
            close = scores.close_calls(engine.rounding)
            if len(close):
                of_close = [texts[i] for i in close]
                again = self._scores(X, snapshot=snapshot, texts=of_close, warns=False, exact=True)
                assert isinstance(again, Scores)
                logits[close] = again.logits
        return Scores(logits, among)

    def _text_vectors(self, X: Any) -> NDArray[np.float32]:
        self._validate_params()
        texts, state = self._texts(X), self._fit_state
        return self._engine(None if state is None else state.weights).text_vectors(
            texts, task_description=self.task_description or "", warn_truncated=True
        )

    def _class_vectors(self) -> NDArray[np.float32]:
        """Give for each class the vector with which texts are compared, of length one."""
        from ..engine.neighbours import unit_vectors

        snapshot = self._snapshot_with_labels()
        plan, engine = self._plan(snapshot), self._engine(snapshot.weights)
        vectors = unit_vectors(engine.compared_vectors(plan.class_texts, plan.options))
        if plan.change is not None and engine.cosine_scale is not None:
            # Both are multiplied by the same vector of a text, of length one.
            learnt = plan.change.of_texts(plan.class_texts).vectors
            vectors = unit_vectors(np.float32(engine.cosine_scale) * vectors + learnt)
        return vectors

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
        # Not the error's own class: a UnicodeDecodeError, for one, cannot be made of a message.
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(re.sub(r"\bmodel=", f"{parameter}=", str(error))) from error


def _hint_of_saved(model: str | PathLike[str], kind: str) -> str:
    """Say how to read a saved classifier, where a model is the folder of one."""
    if not (readable_folder(Path(model)) / SAVED_FILE).is_file():
        return ""
    return f" {str(model)!r} holds a saved classifier: read it with {kind}.from_pretrained."
