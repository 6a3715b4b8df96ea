"""The classifier that chooses any number of classes for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, cast, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .classifier import BaseGLiClassClassifier
from .containers import values_in
from .labels import LabelSet, plain_class
from .parameters import store_parameters, with_parameters
from .state import Snapshot
from .targets import Targets, is_number, multi_label_targets


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
        How many epochs the last fit ran; with ``trainable="labels"``, the steps of the search.
    trainable_ : str
        What the last fit changed, in the words of `trainable`: where that is ``"auto"``, what was
        chosen, ``"labels"`` or ``"all"``.
    loss_curve_ : list of float
        The mean training loss of each epoch, or of each step of the search.
    best_loss_ : float or None
        The lowest of them.
    validation_scores_ : list of float or None
        Micro-F1 at one half on the validation data, before training and after each epoch.
    temperature_ : float
        What logits are divided by before they become probabilities: 1, unless `calibrate` fitted
        another to these classes.
    vote_share_ : float
        How much the votes of `n_retrieved` neighbours count beside the scores of labels where there
        are many texts, from 0 to 0.75, as the texts that ``fit`` keeps tell; 0 where none vote.
    thresholds_ : ndarray of shape (n_classes,)
        The threshold of each class; one half with ``threshold="auto"`` for classes that no
        ``fit`` tuned it for.

    See Also
    --------
    GLiClassClassifier : One class a text.

    Examples
    --------
    >>> from skgliclass import GLiClassMultiLabelClassifier
    >>> clf = GLiClassMultiLabelClassifier(labels=["travel", "food", "sport"])
    >>> clf.predict_labels(["Travelling through Japan to eat: a food lover's itinerary."])
    [['travel', 'food']]
    """

    threshold: Any

    def __init__(
        self,
        model: str | PathLike[str] = "mini",
        labels: Any = None,
        *,
        threshold: Any = 0.5,
        architecture: str = "auto",
        revision: str | None = None,
        task_description: str | None = None,
        label_template: str | None = None,
        examples: Any = None,
        example_format: str = "marker",
        n_retrieved: int = 0,
        retrieval_backend: str = "numpy",
        long_texts: str = "truncate",
        chunk_overlap: int = 32,
        chunk_pooling: str = "max",
        n_permutations: int = 1,
        shortlist: int | None = None,
        shortlist_model: str | PathLike[str] | None = None,
        hierarchy: str = "leaves",
        max_length: int | None = None,
        device: Any = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        trainable: str = "auto",
        label_penalty: float | str = "auto",
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
        calibrate: bool | str = "auto",
        gradient_checkpointing: bool = False,
        warm_start: bool = False,
        checkpoint_folder: str | PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int | None = None,
    ) -> None:
        store_parameters(self, locals())

    @property
    def _multi_label(self) -> bool:
        return True

    def _targets(
        self, y: Any, label_set: LabelSet | None, name: str = "y", *, unseen: bool = False
    ) -> Targets:
        return multi_label_targets(y, label_set, name=name, unseen=unseen)

    def _agrees(
        self, chosen: NDArray[np.bool_], targets: Targets
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        known = ~np.isnan(targets.matrix)
        # Classes that only y has are never predicted.
        n_unseen = known.shape[1] - chosen.shape[1]
        wrong = (np.pad(chosen, [(0, 0), (0, n_unseen)]) != (targets.matrix > 0.5)) & known
        return ~np.asarray(wrong.any(axis=1)), np.asarray(known.any(axis=1))

    def _wants_thresholds(self) -> bool:
        return isinstance(self.threshold, str)

    def _cutoff(self, snapshot: Snapshot) -> NDArray[np.float32]:
        if not self._wants_thresholds():
            return _spread(self.threshold, snapshot.label_set)
        if snapshot.thresholds is None:
            return np.full(len(snapshot.label_set), 0.5, dtype=np.float32)
        return snapshot.thresholds

    @overload
    def decision_function(self, X: Any, labels: None = None) -> NDArray[np.float32]: ...

    @overload
    def decision_function(self, X: Any, labels: Sequence[Any]) -> list[NDArray[np.float32]]: ...

    def decision_function(self, X: Any, labels: Any = None) -> Any:
        """Give the logits.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logits, in the order of ``classes_``. With `labels` a list of arrays of shape
            (n_labels of the text,), in the order of its labels.

        Raises
        ------
        NotFittedError
            If there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a row is missing or not a text, or a label set is none.
        """
        return self._scores(X, labels).each(lambda scores: scores.logits)

    @overload
    def predict(self, X: Any, labels: None = None) -> NDArray[np.int64]: ...

    @overload
    def predict(self, X: Any, labels: Sequence[Any]) -> list[NDArray[np.int64]]: ...

    def predict(self, X: Any, labels: Any = None) -> Any:
        """Tell for every class whether it is chosen.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts; or a list of :class:`skgliclass.datasets.Example`, which bring along their
            labels, and maybe a task description and labelled texts to show.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, in any form of the parameter `labels`; its result is
            what it would be with that set to them. None stands for the classes, and so do all of
            them in any order: what was tuned for the classes, such as a temperature, serves these
            alone. A class keeps its label text, unless a dict gives another.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), int
            1 where the probability reaches the class's threshold, else 0. With `labels` a list of
            arrays of shape (n_labels of the text,), in the order of its labels.
        """
        scores = self._scores(X, labels, chooses=True)
        return scores.each(lambda scores: scores.chosen().astype(np.int64))

    def predict_labels(self, X: Any, labels: Sequence[Any] | None = None) -> list[list[Any]]:
        """Give the chosen classes of each text by name.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`.

        Returns
        -------
        list of length n_samples of lists of classes
            In the order of ``classes_``, or with `labels` in theirs; empty where no class reaches
            its threshold.
        """
        scores = self._scores(X, labels, chooses=True)
        return cast("list[list[Any]]", scores.each(lambda scores: scores.chosen_classes()))

    @property
    def thresholds_(self) -> NDArray[np.float32]:
        """The threshold of each class, in the order of ``classes_``."""
        self._validate_params()
        return self._cutoff(self._snapshot_for_attribute("thresholds_"))


def _spread(threshold: Any, label_set: LabelSet) -> NDArray[np.float32]:
    """Give each class its threshold, as the `threshold` parameter says."""
    classes = label_set.classes.tolist()
    if isinstance(threshold, pd.Series) and not isinstance(threshold.index, pd.RangeIndex):
        # A column of numbers is in the order of the classes; one with names goes by these.
        if not threshold.index.is_unique:
            raise ValueError("threshold is a Series with several values for one class.")
        threshold = threshold.to_dict()
    if isinstance(threshold, Mapping):
        threshold = {
            plain_class(key, f"a class of threshold, {key!r},"): value
            for key, value in threshold.items()
        }
        _check_names(threshold, classes)
        threshold = [threshold[value] for value in classes]
    if is_number(threshold):
        values = [threshold] * len(classes)
    else:
        values = values_in(threshold, "threshold", of="numbers", each="0.5, 0.4")
    if len(values) != len(classes):
        raise ValueError(
            f"threshold has {len(values)} values, but there are {len(classes)} classes. "
            "Give one number, or one for each class in the order of classes_."
        )
    for value, limit in zip(classes, values, strict=True):
        # Turned round, so that NaN, which compares with nothing, is outside.
        if not (is_number(limit) and 0 <= limit <= 1):
            raise ValueError(
                f"threshold of class {value!r} is {limit!r}; a threshold is a probability between "
                "0 and 1."
            )
    # As probabilities are: one of 0.7 in float32 lies below 0.7 in double precision.
    return np.asarray(values, dtype=np.float32)


def _check_names(threshold: Mapping[Any, Any], classes: list[Any]) -> None:
    unknown = [key for key in threshold if key not in classes]
    missing = [value for value in classes if value not in threshold]
    if unknown or missing:
        raise ValueError(
            "threshold must name every class once"
            + (f"; unknown: {unknown[:5]}" if unknown else "")
            + (f"; missing: {missing[:5]}" if missing else "")
            + "."
        )
