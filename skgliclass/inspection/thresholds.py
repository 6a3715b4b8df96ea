"""What a threshold does to each label: precision, recall and F1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from ..estimators.multi_label import GLiClassMultiLabelClassifier
from ..estimators.texts import as_texts
from .inputs import JudgedTexts, score_texts
from .plotting import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    add_title,
    check_matplotlib,
    despine,
    names_of,
    one_line,
    open_axes,
    style,
)

if TYPE_CHECKING:
    from .plotting import Axes, Figure


class ThresholdDisplay:
    """Precision, recall and F1 of each label against the threshold on its probability.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create it. All
    parameters are stored as attributes.

    Parameters
    ----------
    thresholds : list of ndarray of shape (n_thresholds,)
        For each label its distinct probabilities, ascending. A text has the label where its
        probability is at least the threshold.
    precision, recall, f1 : list of ndarray of shape (n_thresholds,)
        For each label what comes of each threshold. Recall and F1 are NaN for a label that no text
        has.
    support : ndarray of shape (n_labels,)
        How many texts have each label.
    chosen : ndarray of shape (n_labels,), default=None
        The threshold in use of each label.
    display_labels : sequence of length n_labels, default=None
        What to call the labels.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for each label that is shown.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure

    See Also
    --------
    ReliabilityDisplay : How far the probabilities are to be trusted.

    Examples
    --------
    >>> from skgliclass.inspection import ThresholdDisplay
    >>> y_true = [["food"], ["food", "travel"], ["travel"]]
    >>> y_prob = [[0.9, 0.2], [0.6, 0.7], [0.3, 0.4]]
    >>> display = ThresholdDisplay.from_predictions(y_true, y_prob, labels=["food", "travel"])
    >>> display.best_thresholds.tolist()
    [0.6, 0.4]
    """

    def __init__(
        self,
        thresholds: Sequence[NDArray[Any]],
        precision: Sequence[NDArray[Any]],
        recall: Sequence[NDArray[Any]],
        f1: Sequence[NDArray[Any]],
        *,
        support: NDArray[Any],
        chosen: NDArray[Any] | None = None,
        display_labels: Sequence[Any] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.precision = precision
        self.recall = recall
        self.f1 = f1
        self.support = support
        self.chosen = chosen
        self.display_labels = display_labels

    @property
    def best_thresholds(self) -> NDArray[np.float64]:
        """The threshold of each label with the highest F1 here; NaN where no text has it.

        On the texts that they were found on they look better than they are.
        """
        return np.asarray(
            [
                t[np.nanargmax(f1)] if len(t) and not np.isnan(f1).all() else np.nan
                for t, f1 in zip(self.thresholds, self.f1, strict=True)
            ]
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        display_labels: Sequence[Any] | None = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> Self:
        """Try all thresholds on a classifier's probabilities.

        Parameters
        ----------
        estimator : classifier
            One of this package, fitted or with ``labels=``, or any other fitted one of texts. The
            thresholds in use are marked where it has any, in ``thresholds_``.
        X : list, tuple, ndarray, Series or one-column frame of shape (n_texts,)
            Texts that it was not fitted on.
        y : array-like
            What is true of them: an indicator matrix or lists of classes, in which what nobody
            knows does not count; or a class each, where every class is judged against the rest.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default the classes.
        ax : matplotlib Axes or array of them, default=None
            What to draw on: one, in whose place there will be some, or one for each label; by
            default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : ThresholdDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If a text, a class or a parameter is at fault.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        scored = score_texts(estimator, as_texts(X))
        # Of other classifiers the attribute may mean anything.
        has_thresholds = isinstance(estimator, GLiClassMultiLabelClassifier)
        return cls.from_predictions(
            y,
            scored.values,
            thresholds=estimator.thresholds_ if has_thresholds else None,
            labels=scored.classes,
            display_labels=display_labels,
            ax=ax,
            **plot_options,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_prob: ArrayLike,
        *,
        thresholds: ArrayLike | float | None = None,
        labels: Sequence[Any] | None = None,
        display_labels: Sequence[Any] | None = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> Self:
        """Try all thresholds on probabilities that are there already.

        Parameters
        ----------
        y_true : array-like
            What is true, as `y` of :meth:`from_estimator`.
        y_prob : array-like or DataFrame of shape (n_texts, n_labels), or (n_texts,)
            What ``predict_proba`` or ``predict_frame`` gave.
        thresholds : float or array-like of shape (n_labels,), default=None
            Those in use, to be marked.
        labels : sequence of length n_labels, default=None
            The class of each column; by default the columns of a frame, or the classes of `y_true`.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default `labels`.
        ax : matplotlib Axes or array of them, default=None
            As in :meth:`from_estimator`.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : ThresholdDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the shapes do not go together, or a value is no probability.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        judged = JudgedTexts.of(y_true, y_prob, labels)
        n_labels = len(judged.classes)
        curves = [_curve(judged.probabilities[:, k], judged.truth[:, k]) for k in range(n_labels)]
        if thresholds is not None:
            if np.ndim(thresholds) and len(np.atleast_1d(thresholds)) != n_labels:
                raise ValueError(
                    f"thresholds has {len(np.atleast_1d(thresholds))} values for {n_labels} "
                    "labels; give one number, or one for each label."
                )
            thresholds = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), n_labels)
        return cls(
            *map(list, zip(*curves, strict=True)),
            support=np.nansum(judged.truth > 0.5, axis=0),
            chosen=thresholds,
            display_labels=judged.classes if display_labels is None else list(display_labels),
        ).plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        n_labels: int = 12,
        n_cols: int = 3,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw a small diagram for each label.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            What to draw on: one, in whose place there will be some, or one for each label that is
            shown; by default a new figure.
        n_labels : int, default=12
            How many labels to show at most: those whose F1 another threshold would raise most,
            where thresholds are in use, and those with the lowest F1 otherwise.
        n_cols : int, default=3
            How many diagrams stand side by side.
        line_kw : dict, default=None
            Keywords of the curves' ``plot``.

        Returns
        -------
        display : ThresholdDisplay

        Raises
        ------
        ValueError
            If there is another number of axes than of labels to show.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        labels = self._labels_to_show(n_labels)
        self.axes_, self.figure_ = _open_grid(ax, len(labels), n_cols, type(self).__name__)
        for axes, k in zip(self.axes_, labels, strict=True):
            self._draw(axes, k, line_kw)
        handles, names = self.axes_[0].get_legend_handles_labels()
        self.axes_[0].legend(handles, names, fontsize="x-small", loc="lower left", framealpha=0.7)
        if len(labels) < len(self.thresholds):
            left_out = f"{len(labels)} of {len(self.thresholds)} labels"
            last = self.axes_[-1]
            last.set_xlabel(f"{last.get_xlabel()}\n{left_out}", fontsize="small")
        self.ax_ = self.axes_[0]
        return self

    def _labels_to_show(self, n_labels: int) -> list[int]:
        labels = range(len(self.thresholds))
        best = np.asarray([self._best_f1(k) for k in labels])
        now = np.asarray([self._f1_in_use(k) for k in labels])
        # Without thresholds in use the lowest come first, and where no text has a label the last.
        gain = np.nan_to_num(best - now if self.chosen is not None else -best, nan=-np.inf)
        return sorted(np.argsort(-gain, kind="stable")[:n_labels].tolist())

    def _best_f1(self, k: int) -> float:
        return float(np.nanmax(self.f1[k])) if self.support[k] else math.nan

    def _f1_in_use(self, k: int) -> float:
        if self.chosen is None:
            return math.nan
        return _at(self.thresholds[k], self.f1[k], self.chosen[k])

    def _draw(self, ax: Axes, k: int, line_kw: Mapping[str, Any] | None) -> None:
        t = np.concatenate([[0.0], self.thresholds[k]])
        for values, colour, name in (
            (self.precision[k], GREY, "precision"),
            (self.recall[k], BLUE, "recall"),
            (self.f1[k], GREEN, "F1"),
        ):
            usual = {"color": colour, "lw": 2 if name == "F1" else 1.2, "label": name}
            # What holds at a probability holds from the one below it on.
            steps = np.concatenate([values[:1], values])
            ax.plot(t, steps, drawstyle="steps-pre", **style(usual, line_kw, "Line2D"))
        self._mark(ax, k)
        names, n = names_of(self.display_labels, len(self.thresholds)), int(self.support[k])
        add_title(ax, one_line(names[k], 26))
        ax.set_title(
            f"{n:,} text{'' if n == 1 else 's'}", loc="right", fontsize="x-small", color=GREY
        )
        ax.set(xlim=(0, 1), ylim=(-0.02, 1.05), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        ax.set_xlabel(self._what_comes(k), fontsize="small", color="#555a61")
        ax.tick_params(labelsize="small")
        despine(ax)

    def _mark(self, ax: Axes, k: int) -> None:
        """Mark the threshold in use, and what comes of it."""
        if not self.support[k]:
            ax.text(0.5, 0.5, "no text has it", ha="center", fontsize="small", color=GREY)
        if self.chosen is None:
            return
        limit = float(self.chosen[k])
        ax.axvline(limit, color=ORANGE, lw=1.2, ls=(0, (4, 2)), zorder=1, label="in use")
        f1 = self._f1_in_use(k)
        if not np.isnan(f1):
            ax.plot(limit, f1, "o", ms=6, color=ORANGE, mec="white", zorder=4)

    def _what_comes(self, k: int) -> str:
        """Say what the threshold in use gives, and what the best one does."""
        if not self.support[k] or not len(self.f1[k]):
            return "threshold"
        best, at = self._best_f1(k), self.best_thresholds[k]
        best_f1 = f"best {best:.2f} at {at:.2f}"
        if self.chosen is None:
            return f"threshold ({best_f1})"
        return f"threshold (F1 {self._f1_in_use(k):.2f}, {best_f1})"


def _curve(
    said: NDArray[Any], truth: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give the distinct probabilities, and precision, recall and F1 with each as a threshold."""
    known = ~np.isnan(truth)
    values, place = np.unique(said[known], return_inverse=True)
    is_true = truth[known] > 0.5
    hits, n_chosen = (
        np.bincount(place, weights=weights, minlength=len(values))[::-1].cumsum()[::-1]
        for weights in (is_true.astype(np.float64), np.ones(len(is_true)))
    )
    n_true = is_true.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / n_true
        f1 = np.where(n_true > 0, 2 * hits / (n_chosen + n_true), np.nan)
    return values, hits / np.maximum(n_chosen, 1), recall, f1


def _at(thresholds: NDArray[Any], f1: NDArray[Any], limit: float) -> float:
    """Give F1 with any threshold."""
    place = int(np.searchsorted(thresholds, thresholds.dtype.type(limit)))
    if place < len(f1):
        return float(f1[place])
    # No text reaches it.
    return 0.0 if len(f1) and not np.isnan(f1).all() else math.nan


def _open_grid(ax: Any, n: int, n_cols: int, caller: str) -> tuple[NDArray[Any], Figure]:
    """Give axes for some diagrams, in the place of those that the user has."""
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    if ax is not None and np.ndim(ax):
        given = np.ravel(np.asarray(ax, dtype=object))
        if len(given) != n:
            raise ValueError(f"ax holds {len(given)} axes, but there are {n} labels to show.")
        return given, given[0].figure
    n_cols = min(n_cols, n)
    n_rows = -(-n // n_cols)
    size = (max(2.9 * n_cols, 4.2), 2.4 * n_rows + 0.2)
    ax, figure = open_axes(ax, f"{caller}.plot", size)
    spec = ax.get_subplotspec()
    if n == 1:
        return np.asarray([ax], dtype=object), figure
    if spec is None:
        raise ValueError("ax must be made by subplots, so that it can be divided for the labels.")
    ax.set_axis_off()
    grid = GridSpecFromSubplotSpec(n_rows, n_cols, subplot_spec=spec)
    axes = [figure.add_subplot(grid[i // n_cols, i % n_cols]) for i in range(n)]
    return np.asarray(axes, dtype=object), figure
