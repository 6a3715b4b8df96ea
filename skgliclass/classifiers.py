"""The two classifiers: one class a text, or any number of classes a text."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.utils._param_validation import Interval

from .base import BaseGLiClassClassifier
from .labels import LabelSet


class GLiClassClassifier(BaseGLiClassClassifier):
    """Choose one class for each text.

    Parameters
    ----------
    model : str, default="mini"
        ``"mini"`` is the embedded model, which works offline. Otherwise the name of a hub
        repository or of a folder: a GLiClass checkpoint is used as it is, a
        sentence-transformers model becomes a zero-shot bi-encoder, and a plain encoder becomes a
        new GLiClass that has to be fitted before it predicts.
    labels : list of classes, dict of class to label text, or nested dict, default=None
        What to choose from. A list shows each class to the model as ``str(class)``; a dict gives
        the text that the model reads for each class; a dict of lists or dicts is a hierarchy
        whose leaves are the classes, under dotted names. With None the classes come from ``fit``.
    architecture : {"auto", "uni-encoder", "bi-encoder"}, default="auto"
        How a new GLiClass is built around a plain encoder or a sentence-transformers model.
        A checkpoint has its own.
    revision : str, default=None
        The branch, tag or commit of a hub repository.
    task_description : str, default=None
        A sentence put in the prompt before the text, such as
        ``"Classify the sentiment of this review: "``.
    max_length : int, default=None
        The longest prompt in tokens; None means what the model was made for. Labels are never
        cut: those that do not fit beside the text are scored in several passes. A longer text is
        cut, with a warning.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"`` and so on; ``"auto"`` takes a GPU where there is one.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        The precision of the weights; ``"auto"`` is float32 on a CPU.
    n_jobs : int, default=None
        How many micro-batches are scored at a time, sharing the threads. None means 1.
    verbose : int, default=0
        Show a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted. They are there without fitting when `labels` is given.

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

    _multi_label = False

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
        return np.asarray(softmax(self._logits(X), axis=1), dtype=np.float32)

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


class GLiClassMultiLabelClassifier(BaseGLiClassClassifier):
    """Choose any number of classes for each text.

    Parameters
    ----------
    model : str, default="mini"
        ``"mini"`` is the embedded model, which works offline. Otherwise the name of a hub
        repository or of a folder: a GLiClass checkpoint is used as it is, a
        sentence-transformers model becomes a zero-shot bi-encoder, and a plain encoder becomes a
        new GLiClass that has to be fitted before it predicts.
    labels : list of classes, dict of class to label text, or nested dict, default=None
        What to choose from. A list shows each class to the model as ``str(class)``; a dict gives
        the text that the model reads for each class; a dict of lists or dicts is a hierarchy
        whose leaves are the classes, under dotted names. With None the classes come from ``fit``.
    threshold : float, list of float or dict of class to float, default=0.5
        The probability from which on a class is chosen: one for all, or one for each class.
    architecture : {"auto", "uni-encoder", "bi-encoder"}, default="auto"
        How a new GLiClass is built around a plain encoder or a sentence-transformers model.
        A checkpoint has its own.
    revision : str, default=None
        The branch, tag or commit of a hub repository.
    task_description : str, default=None
        A sentence put in the prompt before the text.
    max_length : int, default=None
        The longest prompt in tokens; None means what the model was made for. Labels are never
        cut: those that do not fit beside the text are scored in several passes. A longer text is
        cut, with a warning.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"`` and so on; ``"auto"`` takes a GPU where there is one.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        The precision of the weights; ``"auto"`` is float32 on a CPU.
    n_jobs : int, default=None
        How many micro-batches are scored at a time, sharing the threads. None means 1.
    verbose : int, default=0
        Show a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in the order given, which the columns of an indicator matrix follow. They are
        there without fitting when `labels` is given.

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

    _multi_label = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseGLiClassClassifier._parameter_constraints,
        "threshold": [Interval(Real, 0, 1, closed="both"), "array-like", dict],
    }

    def __init__(
        self,
        model: str = "mini",
        labels: Any = None,
        *,
        threshold: Any = 0.5,
        architecture: str = "auto",
        revision: str | None = None,
        task_description: str | None = None,
        max_length: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            model,
            labels,
            architecture=architecture,
            revision=revision,
            task_description=task_description,
            max_length=max_length,
            device=device,
            dtype=dtype,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.threshold = threshold

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
        return np.asarray(expit(self._logits(X)), dtype=np.float32)

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

    def _thresholds(self, label_set: LabelSet) -> NDArray[np.float32]:
        self._validate_params()
        return thresholds_of_classes(self.threshold, label_set)


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
