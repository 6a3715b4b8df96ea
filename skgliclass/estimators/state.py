"""What a fit leaves in an estimator, and what one call uses from its beginning to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .labels import LabelSet

if TYPE_CHECKING:
    from ..engine.change import LogitChange
    from ..engine.votes import Store
    from ..training.tuned_weights import TunedWeights
    from .learnt_rows import LearntRows

NO_LABELS = LabelSet(np.empty(0, dtype=object), ())
"""Stands for the classes of an estimator that has none."""


@dataclass(frozen=True, eq=False)
class FitState:
    """What a fit leaves in an estimator, set all at once when everything worked.

    Attributes
    ----------
    label_set : LabelSet
        The classes and their label texts; empty where every row had labels of its own.
    labels_parameter : LabelSet or None
        What the `labels` parameter meant then, by which a later change of it is noticed.
    weights : TunedWeights or None
        What training changed; None if nothing was trained.
    temperature : float
        What logits of these classes are divided by before they become probabilities.
    thresholds : ndarray of shape (n_classes,) or None
        Those of these classes that were tuned on validation data.
    store : ExampleStore, VoteStore or None
        The labelled texts to retrieve from, where they are wanted.
    min_probability : float or None
        Below which none of these classes is predicted, where it was tuned on validation data.
    change : LogitChange or None
        What was learnt without touching the model, by label texts.
    rows : LearntRows or None
        The labelled rows that it was learnt from, as further ones are learnt with them.
    comes_tuned : bool
        Whether the model as it was loaded is one whose weights an earlier fit trained.
    """

    label_set: LabelSet
    labels_parameter: LabelSet | None = None
    weights: TunedWeights | None = None
    temperature: float = 1.0
    thresholds: NDArray[np.float32] | None = None
    store: Store | None = None
    min_probability: float | None = None
    change: LogitChange | None = None
    rows: LearntRows | None = None
    comes_tuned: bool = False

    @property
    def is_tuned(self) -> bool:
        """Whether weights of the model were trained."""
        return self.comes_tuned or (self.weights is not None and self.weights.changes_any)

    def check_keeps_rows(self) -> None:
        """Refuse to learn further rows where those before are not there any more.

        Raises
        ------
        ValueError
            If label vectors were learnt of a model that stayed as it was, and the rows left out.
        """
        if self.change is not None and self.rows is None and not self.is_tuned:
            raise ValueError(
                "partial_fit goes on from the rows that label vectors were learnt from, which this "
                "classifier was saved without (keep_rows=False). Instead call fit with all rows."
            )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What one call uses: taken at its beginning, so that a refit meanwhile cannot mix into it.

    Attributes
    ----------
    label_set : LabelSet
        The classes in use, in the order of the columns of every score; empty if there are none.
    labels_parameter : LabelSet or None
        What the `labels` parameter means, by which examples name classes.
    labels : Any
        The `labels` parameter as the user gave it.
    weights : TunedWeights or None
        What training changed in the model.
    temperature : float
        That of the classes in use: 1 unless it was tuned on them.
    thresholds : ndarray of shape (n_classes,) or None
        Those of the classes in use, where they were tuned on them.
    store : ExampleStore, VoteStore or None
        The labelled texts that fit kept.
    store_is_stale : bool
        Whether the labels of those texts are others than those in use.
    min_probability : float or None
        Below which none of the classes in use is predicted, where it was tuned on them.
    change : LogitChange or None
        What was learnt without touching the model, by label texts: it serves the labels that are
        among them.
    rows : LearntRows or None
        What that was learnt from, for the classes of the last fit.
    fitted_texts : tuple of str
        The label texts of these.
    is_tuned : bool
        Whether weights of the model were trained.
    """

    label_set: LabelSet
    labels_parameter: LabelSet | None
    labels: Any
    weights: TunedWeights | None = None
    temperature: float = 1.0
    thresholds: NDArray[np.float32] | None = None
    store: Store | None = None
    store_is_stale: bool = False
    min_probability: float | None = None
    change: LogitChange | None = None
    rows: LearntRows | None = None
    fitted_texts: tuple[str, ...] = ()
    is_tuned: bool = False

    @classmethod
    def of(cls, state: FitState | None, labels_parameter: LabelSet | None, labels: Any) -> Snapshot:
        """Give what is in use: the labels of the last fit, unless others were set since.

        What was tuned for some labels says nothing about others, so a temperature, thresholds
        and labelled texts stay behind with theirs; the weights serve any.
        """
        if state is None:
            return cls(labels_parameter or NO_LABELS, labels_parameter, labels)
        # By what labels mean and not by the object: set_params may set an equal list.
        if labels_parameter is None or labels_parameter.same_as(state.labels_parameter):
            return cls(
                state.label_set,
                labels_parameter,
                labels,
                state.weights,
                state.temperature,
                state.thresholds,
                state.store,
                min_probability=state.min_probability,
                change=state.change,
                rows=state.rows,
                fitted_texts=state.label_set.texts,
                is_tuned=state.is_tuned,
            )
        return cls(
            labels_parameter,
            labels_parameter,
            labels,
            state.weights,
            store=state.store,
            store_is_stale=True,
            change=state.change,
            rows=state.rows,
            fitted_texts=state.label_set.texts,
            is_tuned=state.is_tuned,
        )

    def store_for(self, n_retrieved: int) -> Store | None:
        """Give the labelled texts to retrieve from, where any are to be retrieved.

        Raises
        ------
        ValueError
            If their labels are others than those in use, and prompts show them. Votes on other
            labels do not count.
        """
        if not n_retrieved or self.store is None:
            return None
        from ..engine.votes import VoteStore

        if self.store_is_stale and not isinstance(self.store, VoteStore):
            raise ValueError(
                f"n_retrieved={n_retrieved} shows the model labelled texts from fit, but "
                "labels was changed since, so that theirs are others. Call fit(X, y) again, or set "
                "n_retrieved=0."
            )
        return self.store
