"""The classifier that chooses one class for each text."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .classifier import BaseGLiClassClassifier
from .labels import LabelSet, plain_class
from .parameters import store_parameters, with_parameters
from .state import Snapshot
from .targets import Targets, check_other, single_label_targets


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
        How many epochs the last fit ran; with ``trainable="labels"``, the steps of the search.
    trainable_ : str
        What the last fit changed, in the words of `trainable`: where that is ``"auto"``, what was
        chosen, ``"labels"`` or ``"all"``.
    loss_curve_ : list of float
        The mean training loss of each epoch, or of each step of the search.
    best_loss_ : float or None
        The lowest of them.
    validation_scores_ : list of float or None
        The accuracy on the validation data, before training and after each epoch.
    temperature_ : float
        What logits are divided by before they become probabilities: 1, unless `calibrate` fitted
        another to these classes.
    vote_share_ : float
        How much the votes of `n_retrieved` neighbours count beside the scores of labels where there
        are many texts, from 0 to 0.75, as the texts that ``fit`` keeps tell; 0 where none vote.
    min_probability_ : float
        With `other`, the probability below which no class is predicted; one half with
        ``min_probability="auto"`` for classes that no ``fit`` tuned it for.

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

    min_probability: Any
    other: Any

    def __init__(
        self,
        model: str | PathLike[str] = "mini",
        labels: Any = None,
        *,
        min_probability: Any = "auto",
        other: Any = None,
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
        return False

    def _targets(
        self, y: Any, label_set: LabelSet | None, name: str = "y", *, unseen: bool = False
    ) -> Targets:
        other = self._other()
        targets = single_label_targets(y, label_set, name=name, unseen=unseen, other=other)
        if other is not None:
            check_other(other, targets.label_set)
        return targets

    def _other(self) -> Any:
        """Give the value that stands for none of the classes; None where there is none."""
        if self.other is None and self.min_probability != "auto":
            raise ValueError(
                f"min_probability={self.min_probability} needs other=..., the value that predict "
                'returns where no class is as probable, such as other="other".'
            )
        return plain_class(self.other, "other")

    def _is_other(self, targets: Targets) -> NDArray[np.bool_]:
        return ~np.asarray(targets.matrix.any(axis=1))

    def _wants_min_probability(self) -> bool:
        return self.other is not None and isinstance(self.min_probability, str)

    def _cutoff(self, snapshot: Snapshot) -> NDArray[np.float32] | None:
        other = self._other()
        if other is None:
            return None
        check_other(other, snapshot.label_set)
        # As probabilities are: one of 0.7 in float32 lies below 0.7 in double precision.
        return np.asarray(self._limit(snapshot), dtype=np.float32)

    def _limit(self, snapshot: Snapshot) -> float:
        if not self._wants_min_probability():
            return float(self.min_probability)
        return 0.5 if snapshot.min_probability is None else snapshot.min_probability

    @property
    def min_probability_(self) -> float:
        """The probability below which no class is predicted."""
        self._validate_params()
        if self._other() is None:
            raise AttributeError("There is no min_probability_ without other=.")
        return self._limit(self._snapshot_for_attribute("min_probability_"))

    def _agrees(
        self, chosen: NDArray[np.bool_], targets: Targets
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        # By their places: integers in y may stand for the classes that are predicted.
        predicted = np.where(chosen.any(axis=1), chosen.argmax(axis=1), -1)
        true = np.where(self._is_other(targets), -1, targets.matrix.argmax(axis=1))
        right = true == predicted
        return right, np.ones(len(right), dtype=np.bool_)

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
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            The logits, in the order of ``classes_``; for two classes how much the second exceeds
            the first, as scikit-learn's scorers expect. With `labels` a list of arrays of shape
            (n_labels of the text,) with the logits, in the order of its labels.

        Raises
        ------
        NotFittedError
            If there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a row is missing or not a text, or a label set is none.
        """
        logits = self._scores(X, labels).each(lambda scores: scores.logits)
        if isinstance(logits, np.ndarray) and logits.shape[1] == 2:
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict(self, X: Any, labels: Sequence[Any] | None = None) -> NDArray[Any]:
        """Give the most probable class of each text.

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
        ndarray of shape (n_samples,)
            The classes; `other`, where that is given, for a text whose most probable class has a
            probability below `min_probability`.
        """
        return self._scores(X, labels, chooses=True).one_class()
