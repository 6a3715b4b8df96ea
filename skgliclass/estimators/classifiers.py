"""The two classifiers: one class a text, or any number of classes a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from .classifier import BaseGLiClassClassifier
from .labels import LabelSet
from .parameters import store_parameters, with_parameters
from .targets import Targets, multi_label_targets, single_label_targets


@with_parameters
class GLiClassClassifier(BaseGLiClassClassifier):
    """Choose one class for each text.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted. They are there without fitting when `labels` is given.
    n_iter_ : int
        How many epochs the last fit ran.
    loss_curve_ : list of float
        The mean training loss of each epoch.
    best_loss_ : float or None
        The lowest of them.
    validation_scores_ : list of float or None
        The accuracy on the validation data, before training and after each epoch.
    temperature_ : float
        What logits are divided by before they become probabilities.

    See Also
    --------
    GLiClassMultiLabelClassifier : Any number of classes a text.

    Notes
    -----
    GLiClass reads all labels together with the text, in the order of ``classes_`` (Stepanov et
    al. 2025, arXiv:2508.07662). A row's result depends on that row and the labels alone.

    Examples
    --------
    >>> from skgliclass import GLiClassClassifier
    >>> clf = GLiClassClassifier(labels=["travel", "cooking", "sport"])
    >>> clf.predict(["The match went to extra time."])
    array(['sport'], dtype='<U7')
    """

    def __init__(
        self,
        model: str = "mini",
        labels: Any = None,
        *,
        architecture: str = "auto",
        revision: str | None = None,
        task_description: str | None = None,
        examples: Any = None,
        example_format: str = "marker",
        n_retrieved: int = 0,
        retrieval_backend: str = "sklearn",
        long_texts: str = "truncate",
        chunk_overlap: int = 32,
        chunk_pooling: str = "max",
        n_permutations: int = 1,
        shortlist: int | None = None,
        shortlist_model: str | None = None,
        hierarchy: str = "leaves",
        max_length: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        trainable: str = "all",
        max_epochs: int | str = "auto",
        batch_size: int = 8,
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
        store_parameters(self, locals())

    @property
    def _multi_label(self) -> bool:
        return False

    def _targets(self, y: Any, labels: Any, name: str = "y") -> Targets:
        return single_label_targets(y, labels, name=name)

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Give the logits.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            The logits, in the order of ``classes_``; for two classes how much the second exceeds
            the first, as scikit-learn's scorers expect.

        Raises
        ------
        NotFittedError
            If there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a row is missing or not a text.
        """
        logits = self._logits(X)
        if logits.shape[1] == 2:
            difference: NDArray[np.float32] = logits[:, 1] - logits[:, 0]
            return difference
        return logits

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Give the probability of every class.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The softmax of the logits, in the order of ``classes_``.
        """
        return np.asarray(softmax(self._calibrated_logits(X), axis=1), dtype=np.float32)

    def predict(self, X: Any) -> NDArray[Any]:
        """Give the most probable class of each text.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples,)
            The classes.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]


@with_parameters
class GLiClassMultiLabelClassifier(BaseGLiClassClassifier):
    """Choose any number of classes for each text.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in the order given, which the columns of an indicator matrix follow. They are
        there without fitting when `labels` is given.
    n_iter_ : int
        How many epochs the last fit ran.
    loss_curve_ : list of float
        The mean training loss of each epoch.
    best_loss_ : float or None
        The lowest of them.
    validation_scores_ : list of float or None
        Micro-F1 at one half on the validation data, before training and after each epoch.
    temperature_ : float
        What logits are divided by before they become probabilities.
    thresholds_ : ndarray of shape (n_classes,)
        The threshold of each class.

    See Also
    --------
    GLiClassClassifier : One class a text.

    Examples
    --------
    >>> from skgliclass import GLiClassMultiLabelClassifier
    >>> clf = GLiClassMultiLabelClassifier(labels=["travel", "food", "sport"])
    >>> clf.predict_labels(["We ate our way through the street markets of Bangkok."])
    [['travel', 'food']]
    """

    def __init__(
        self,
        model: str = "mini",
        labels: Any = None,
        *,
        threshold: Any = 0.5,
        architecture: str = "auto",
        revision: str | None = None,
        task_description: str | None = None,
        examples: Any = None,
        example_format: str = "marker",
        n_retrieved: int = 0,
        retrieval_backend: str = "sklearn",
        long_texts: str = "truncate",
        chunk_overlap: int = 32,
        chunk_pooling: str = "max",
        n_permutations: int = 1,
        shortlist: int | None = None,
        shortlist_model: str | None = None,
        hierarchy: str = "leaves",
        max_length: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        trainable: str = "all",
        max_epochs: int | str = "auto",
        batch_size: int = 8,
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
        store_parameters(self, locals())

    @property
    def _multi_label(self) -> bool:
        return True

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Give the logits.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logits, in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a row is missing or not a text.
        """
        return self._logits(X)

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Give the probability of every class, each on its own.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The sigmoid of the logits, in the order of ``classes_``. Rows do not sum to one.
        """
        return np.asarray(expit(self._calibrated_logits(X)), dtype=np.float32)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Tell for every class whether it is chosen.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), int
            1 where the probability reaches the class's threshold, else 0.
        """
        thresholds = self._thresholds(self._require_label_set())
        return (self.predict_proba(X) >= thresholds).astype(np.int64)

    def predict_labels(self, X: Any) -> list[list[Any]]:
        """Give the chosen classes of each text by name.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        list of length n_samples of lists of classes
            In the order of ``classes_``; empty where no class reaches its threshold.
        """
        chosen = self.predict(X)
        classes = self.classes_.tolist()
        return [[classes[i] for i in np.flatnonzero(row)] for row in chosen]

    @property
    def thresholds_(self) -> NDArray[np.float32]:
        """The threshold of each class, in the order of ``classes_``."""
        label_set = self._current_label_set()
        if label_set is None:
            raise AttributeError("There are no thresholds_ without classes.")
        return self._thresholds(label_set)

    def _targets(self, y: Any, labels: Any, name: str = "y") -> Targets:
        return multi_label_targets(y, labels, name=name)

    def _wants_thresholds(self) -> bool:
        return isinstance(self.threshold, str)

    def _thresholds(self, label_set: LabelSet) -> NDArray[np.float32]:
        self._validate_params()
        if not self._wants_thresholds():
            return thresholds_of_classes(self.threshold, label_set)
        state = self._fit_state
        tuned = None if state is None else state.thresholds
        if tuned is None or label_set is not state.label_set:  # type: ignore[union-attr]
            return np.full(len(label_set), 0.5, dtype=np.float32)
        return tuned


def thresholds_of_classes(threshold: Any, label_set: LabelSet) -> NDArray[np.float32]:
    """Spread the `threshold` parameter over the classes.

    Parameters
    ----------
    threshold : float, sequence of float or dict of class to float
        As the user gave it.
    label_set : LabelSet
        The classes.

    Returns
    -------
    ndarray of shape (n_classes,), float32

    Raises
    ------
    ValueError
        If the number of thresholds is not that of the classes, a class is unknown or missing, or
        a threshold is not in [0, 1].
    """
    classes = label_set.classes.tolist()
    if isinstance(threshold, Mapping):
        _check_same_classes(threshold, classes)
        threshold = [threshold[value] for value in classes]
    values = np.asarray(threshold, dtype=np.float64)
    if values.ndim and values.shape != (len(classes),):
        raise ValueError(
            f"threshold has shape {values.shape}, but there are {len(classes)} classes. "
            "Give one number, or one for each class in the order of classes_."
        )
    values = np.broadcast_to(values, (len(classes),))
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"threshold of class {classes[i]!r} is {values[i]}; a threshold is a probability "
            "between 0 and 1."
        )
    return values.astype(np.float32)


def _check_same_classes(threshold: Mapping[Any, Any], classes: list[Any]) -> None:
    unknown = [key for key in threshold if key not in classes]
    missing = [value for value in classes if value not in threshold]
    if unknown or missing:
        raise ValueError(
            "threshold must name every class once"
            + (f"; unknown: {unknown[:5]}" if unknown else "")
            + (f"; missing: {missing[:5]}" if missing else "")
            + "."
        )
