"""The base of both classifiers: fitting, saving and loading."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from typing_extensions import Self

from .base import BaseGLiClass
from .callbacks import CallbackSupportMixin, with_callbacks
from .fit import FitOutcome, fine_tune, prepare
from .hierarchy import Hierarchy, nest
from .labels import LabelSet
from .persistence import load_estimator, save_estimator
from .targets import Targets, check_classes
from .texts import row_index


class BaseGLiClassClassifier(CallbackSupportMixin, ClassifierMixin, BaseGLiClass):
    """What the single-label and the multi-label classifier share."""

    retrieval_backend: str
    trainable: str
    max_epochs: int | str
    batch_size: int
    learning_rate: float
    head_learning_rate: float | None
    weight_decay: float
    warmup_fraction: float
    max_grad_norm: float
    focal_gamma: float
    focal_alpha: float | None
    label_smoothing: float
    class_weight: Any
    lora_rank: int
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    calibrate: bool
    gradient_checkpointing: bool
    warm_start: bool
    random_state: Any

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

    def predict_nested(self, X: Any) -> list[dict[str, Any]]:
        """Give the probability of every class, nested as the hierarchy in ``labels=`` is.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        list of dict of length n_samples
            For ``labels={"topic": ["sport", "travel"]}`` dicts such as
            ``{"topic": {"sport": 0.9, "travel": 0.1}}``.

        Raises
        ------
        ValueError
            If ``labels=`` is no hierarchy.
        """
        tree = self._hierarchy()
        names = [tree.names[i] for i in tree.leaves]
        rows = self.predict_proba(X).tolist()
        return [nest(self.labels, dict(zip(names, row, strict=True))) for row in rows]

    def predict_branches(self, X: Any) -> pd.DataFrame:
        """Give the probability of every branch of the hierarchy in ``labels=``.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        DataFrame of shape (n_samples, n_branches)
            With the index of `X` where it is a pandas object, and a column for each branch by its
            dotted name. A branch's probability is the sum of its classes' where a text has one
            class. Where it may have any number, it is the largest of theirs, which is the least
            that the probability of "any of them" can be.

        Raises
        ------
        ValueError
            If ``labels=`` is no hierarchy.
        """
        tree = self._hierarchy()
        found = tree.node_probabilities(self.predict_proba(X), self._multi_label)
        columns = [tree.names[i] for i in tree.branches]
        return pd.DataFrame(found[:, tree.branches], index=row_index(X), columns=columns)

    def _hierarchy(self) -> Hierarchy:
        self._validate_params()
        tree = Hierarchy.of(self.labels, self._require_label_set().texts)
        if tree is None:
            raise ValueError(
                "labels is no hierarchy, so that there are no branches. Give a dict of lists or "
                'dicts, such as labels={"topic": ["sport", "travel"]}, or use predict_frame.'
            )
        return tree

    def embed(self, X: Any) -> NDArray[np.float32]:
        """Give the vector by which the model represents each text, for clustering or search.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts; of one that does not fit, the beginning is read.

        Returns
        -------
        ndarray of shape (n_samples, width)
            The pooled and projected representations, without labels in the prompt, so that they
            compare by their cosine whatever the labels are.
        """
        return self._text_vectors(X)

    def predict_proba(self, X: Any) -> NDArray[np.float32]:  # noqa: D102
        raise NotImplementedError

    # Fitting.

    def _targets(self, y: Any, labels: Any, name: str = "y") -> Targets:
        raise NotImplementedError

    def _wants_thresholds(self) -> bool:
        return False

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
        """Fine-tune the model on labelled texts.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like
            Needed. One class a text, or for the multi-label classifier an indicator matrix, a
            sparse matrix, a frame whose columns are the classes, or a list of label sets. Numbers
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

        Warns
        -----
        TruncationWarning
            Once, with a count, if texts do not fit, so that training reads the beginning of each.
        """
        self._validate_params()
        return self._fit(X, y, sample_weight, X_val, y_val, labels=self.labels)

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train one epoch on more labelled texts, from where the last call stopped.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like
            The labels, as in :meth:`fit`.
        classes : array-like, default=None
            All classes that any call will bring. Needed in the first call unless ``labels=`` was
            given, which has to name all of them; may be left out afterwards.
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
            if self.labels is None:
                _check_same_classes(classes, known)
            labels = known.as_labels()
        elif labels is None:
            if classes is None:
                raise ValueError(
                    "classes must be passed on the first call to partial_fit, unless labels= is "
                    "given."
                )
            labels = np.unique(classes) if not self._multi_label else classes
        if classes is not None:
            check_classes(classes, labels, multi_label=self._multi_label)
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
        problem = prepare(
            self, X, y, sample_weight, X_val, y_val, labels=labels, one_epoch=one_epoch
        )
        self._store(fine_tune(self, problem, one_epoch=one_epoch))
        return self

    def _store(self, outcome: FitOutcome) -> None:
        """Set everything that a fit leaves, once nothing can fail any more."""
        self._fit_state = outcome.state
        self.n_iter_ = outcome.n_iter
        self.loss_curve_ = outcome.loss_curve
        self.best_loss_ = min(outcome.loss_curve, default=None)
        self.validation_scores_ = outcome.validation_scores
        self.temperature_ = outcome.state.temperature
        if outcome.interrupted:
            warnings.warn(
                f"fit was interrupted after {outcome.n_iter} epoch(s); the best weights so far are "
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

        Raises
        ------
        FileExistsError
            If there is a file of this name.
        """
        self._validate_params()
        label_set = self._current_label_set()
        engine = self._make_engine()
        self._check_trained(engine)
        save_estimator(self, engine.loaded, label_set, folder)

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
        tags.classifier_tags.multi_label = self._multi_label
        tags.classifier_tags.multi_class = not self._multi_label
        tags.target_tags.multi_output = self._multi_label
        tags.target_tags.single_output = not self._multi_label
        return tags


def _check_same_classes(classes: Any, known: LabelSet) -> None:
    if classes is not None and sorted(map(str, classes)) != sorted(map(str, known.classes)):
        raise ValueError(
            f"classes={list(classes)!r} is not the same as on the last call to partial_fit: "
            f"{known.classes.tolist()!r}."
        )
