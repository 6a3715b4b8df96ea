"""Whether probabilities are as often right as they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from ..estimators.parameters import check_count
from ..estimators.texts import as_texts
from .inputs import JudgedTexts, score_texts
from .plotting import (
    BLUE,
    GREY,
    add_legend,
    check_matplotlib,
    despine,
    names_of,
    one_line,
    open_axes,
    style,
)

if TYPE_CHECKING:
    from .plotting import Axes

KINDS = ("auto", "top-label", "classwise", "pooled")
STRATEGIES = ("uniform", "quantile")

_MOST_COLOURED = 6
_MARGIN = 1.96
_FEWEST = 5


class ReliabilityDisplay:
    """Reliability diagram for any number of classes, or of labels a text.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create it. All
    parameters are stored as attributes.

    Parameters
    ----------
    prob_true : list of ndarray of shape (n_bins,)
        For each curve the share that is true in each bin; NaN in an empty one.
    prob_pred : list of ndarray of shape (n_bins,)
        For each curve the mean probability in each bin.
    counts : list of ndarray of shape (n_bins,)
        For each curve how many probabilities are in each bin.
    edges : list of ndarray of shape (n_bins + 1,)
        For each curve where its bins begin and end.
    kind : {"top-label", "classwise", "pooled"}, default="top-label"
        What a curve is of.
    display_labels : sequence of length n_curves, default=None
        What to call the curves, where there is one for each label.

    Attributes
    ----------
    ece : float
        The expected calibration error: how far, on average over all probabilities, the share that
        is true in a bin lies from their mean (Naeini et al. 2015). With ``kind="classwise"`` the
        mean over the classes (Kull et al. 2019).
    ece_of_curves : ndarray of shape (n_curves,)
        That of each curve.
    lines_ : list of matplotlib Line2D
        The curves.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : The same for two classes.
    ThresholdDisplay : What becomes of probabilities where a threshold chooses.

    Examples
    --------
    >>> from skgliclass.inspection import ReliabilityDisplay
    >>> y_true = ["sport", "travel", "sport", "food"]
    >>> y_prob = [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.2, 0.4, 0.4], [0.2, 0.7, 0.1]]
    >>> display = ReliabilityDisplay.from_predictions(y_true, y_prob, n_bins=2)
    >>> round(display.ece, 3)
    0.175
    """

    def __init__(
        self,
        prob_true: Sequence[NDArray[Any]],
        prob_pred: Sequence[NDArray[Any]],
        counts: Sequence[NDArray[Any]],
        edges: Sequence[NDArray[Any]],
        *,
        kind: str = "top-label",
        display_labels: Sequence[Any] | None = None,
    ) -> None:
        self.prob_true = prob_true
        self.prob_pred = prob_pred
        self.counts = counts
        self.edges = edges
        self.kind = kind
        self.display_labels = display_labels

    @property
    def ece_of_curves(self) -> NDArray[np.float64]:
        """The expected calibration error of each curve."""
        return np.asarray(
            [
                np.nansum(n * np.abs(true - said)) / max(n.sum(), 1)
                for true, said, n in zip(self.prob_true, self.prob_pred, self.counts, strict=True)
            ]
        )

    @property
    def ece(self) -> float:
        """The expected calibration error; over several classes their mean."""
        return float(self.ece_of_curves.mean())

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        kind: str = "auto",
        n_bins: int = 15,
        strategy: str = "uniform",
        display_labels: Sequence[Any] | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Judge a classifier's probabilities by what is true.

        Parameters
        ----------
        estimator : classifier
            One of this package, fitted or with ``labels=``, or any other fitted one of texts.
        X : list, tuple, ndarray, Series or one-column frame of shape (n_texts,)
            Texts that it was not fitted on.
        y : array-like
            What is true of them: a class each, or for several a text an indicator matrix or lists
            of classes. What nobody knows, NaN in a matrix, does not count.
        kind : {"auto", "top-label", "classwise", "pooled"}, default="auto"
            ``"top-label"`` judges the highest probability of each text, ``"classwise"`` those of
            each class, and ``"pooled"`` those of all classes together. ``"auto"`` is the first,
            and ``"pooled"`` where a text may have any number of classes.
        n_bins : int, default=15
            Into how many bins the probabilities go.
        strategy : {"uniform", "quantile"}, default="uniform"
            Whether bins are equally wide, or hold equally many probabilities.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default the classes.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If a text, a class or a parameter is at fault.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        _check_options(kind, n_bins, strategy)
        scored = score_texts(estimator, as_texts(X))
        bins: dict[str, Any] = {"kind": kind, "n_bins": n_bins, "strategy": strategy}
        names: dict[str, Any] = {"labels": scored.classes, "display_labels": display_labels}
        return cls.from_predictions(y, scored.values, **bins, **names, ax=ax, **plot_options)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_prob: ArrayLike,
        *,
        kind: str = "auto",
        n_bins: int = 15,
        strategy: str = "uniform",
        labels: Sequence[Any] | None = None,
        display_labels: Sequence[Any] | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Judge probabilities that are there already.

        Parameters
        ----------
        y_true : array-like
            What is true, as `y` of :meth:`from_estimator`.
        y_prob : array-like or DataFrame of shape (n_texts, n_labels), or (n_texts,)
            What ``predict_proba`` or ``predict_frame`` gave; a vector is of the second of two
            classes.
        kind, n_bins, strategy
            As in :meth:`from_estimator`.
        labels : sequence of length n_labels, default=None
            The class of each column; by default the columns of a frame, or the sorted classes of
            `y_true`.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default `labels`.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the shapes do not go together, or a value is no probability.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        _check_options(kind, n_bins, strategy)
        judged = JudgedTexts.of(y_true, y_prob, labels)
        if kind == "auto":
            kind = "pooled" if judged.multi_label else "top-label"
        curves = [_binned(said, true, n_bins, strategy) for said, true in _pairs(judged, kind)]
        names = judged.classes if display_labels is None else display_labels
        return cls(
            *map(list, zip(*curves, strict=True)),
            kind=kind,
            display_labels=list(names) if kind == "classwise" else None,
        ).plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        name: str | None = None,
        ref_line: bool = True,
        n_labels: int = _MOST_COLOURED,
        **kwargs: Any,
    ) -> Self:
        """Draw the diagram, with the number of probabilities in each bin above it.

        The bars on a single curve are 95 % intervals of the share that is true (Wilson 1927). Of
        the classes, those with the largest calibration error have colours; bins that hold fewer
        than 5 probabilities of a class count in its error, but are not drawn.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        name : str, default=None
            What to call a single curve.
        ref_line : bool, default=True
            Whether to draw where probabilities would be exact.
        n_labels : int, default=6
            How many classes have colours at most.
        **kwargs
            Keywords of the curves' ``plot``.

        Returns
        -------
        display : ReliabilityDisplay
        """
        size = (7.4 if self.kind == "classwise" else 5.2, 5.6)
        ax, figure = open_axes(ax, f"{type(self).__name__}.plot", size)
        if ref_line:
            ax.plot([0, 1], [0, 1], ls=(0, (4, 3)), color=GREY, lw=1, zorder=1)
        self.lines_ = (
            self._draw_classes(ax, n_labels, kwargs)
            if self.kind == "classwise"
            else [self._draw_one(ax, name, kwargs)]
        )
        what = {"top-label": "highest probability of a text", "classwise": "probability of a class"}
        ax.set(
            xlabel=what.get(self.kind, "probability of a label"),
            ylabel="share that is true",
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
        )
        despine(ax)
        self._draw_counts(ax)
        self.ax_, self.figure_ = ax, figure
        return self

    def _draw_one(self, ax: Axes, name: str | None, kwargs: Mapping[str, Any]) -> Any:
        true, said, counts = self.prob_true[0], self.prob_pred[0], self.counts[0]
        is_there = counts > 0
        look = style({"color": BLUE, "marker": "o", "ms": 5, "lw": 1.8}, kwargs, "Line2D")
        (line,) = ax.plot(said[is_there], true[is_there], zorder=3, **look)
        low, high = _wilson(true[is_there], counts[is_there])
        ax.vlines(said[is_there], low, high, color=line.get_color(), lw=1, alpha=0.5, zorder=2)
        shown = f"ECE {self.ece:.3f}"
        add_legend(
            ax, [line], [f"{one_line(name, 40)}, {shown}" if name else shown], loc="upper left"
        )
        return line

    def _draw_classes(self, ax: Axes, n_labels: int, kwargs: Mapping[str, Any]) -> list[Any]:
        errors = self.ece_of_curves
        worst = np.argsort(-errors, kind="stable")[:n_labels].tolist()
        lines = []
        for k, (true, said, counts) in enumerate(
            zip(self.prob_true, self.prob_pred, self.counts, strict=True)
        ):
            behind = {"color": GREY, "lw": 0.7, "alpha": 0.35, "zorder": 1.5}
            usual = {"marker": "o", "ms": 3.5, "lw": 1.5, "zorder": 3} if k in worst else behind
            is_there = counts >= _FEWEST
            lines += ax.plot(said[is_there], true[is_there], **style(usual, kwargs, "Line2D"))
        names = names_of(self.display_labels, len(errors))
        shown = [f"{one_line(names[k], 24)} {errors[k]:.3f}" for k in worst]
        title = f"mean ECE {self.ece:.3f}"
        if len(worst) < len(errors):
            title += f"\nworst {len(worst)} of {len(errors)} labels"
        handles = [lines[k] for k in worst]
        place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "frameon": False}
        legend = add_legend(ax, handles, shown, title=title, fontsize="small", **place)
        legend.set_alignment("left")
        return lines

    def _draw_counts(self, ax: Axes) -> None:
        """Put how many probabilities there are above the diagram."""
        above = ax.inset_axes((0, 1.03, 1, 0.13), sharex=ax)
        edges, counts = self.edges[0], np.sum(self.counts, axis=0)
        if all(np.array_equal(edges, others) for others in self.edges):
            # By their area, as those of bins that hold equally many would all be as high.
            widths = np.maximum(np.diff(edges), 1e-3)
            heights = counts / widths
            above.bar(edges[:-1], heights, widths, align="edge", color=BLUE, alpha=0.35)
            above.set_ylim(0, max(heights.max() * 1.05, 1))
        above.axis("off")
        whose = "texts" if self.kind == "top-label" else "text-label pairs"
        above.set_title(f"{int(counts.sum()):,} {whose}", loc="right", fontsize="small", color=GREY)


def _check_options(kind: str, n_bins: int, strategy: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; choose from {', '.join(KINDS)}.")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy={strategy!r} is unknown; choose from {', '.join(STRATEGIES)}.")
    check_count("n_bins", n_bins)


def _pairs(judged: JudgedTexts, kind: str) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Give the probabilities of each curve, and what is true of them."""
    said, true = judged.probabilities, judged.truth
    if kind == "top-label":
        if judged.multi_label:
            raise ValueError(
                'kind="top-label" needs a class for each text, but y_true may name any number. '
                'Choose "pooled" or "classwise".'
            )
        best = said.argmax(axis=1)[:, None]
        said, true = (np.take_along_axis(values, best, axis=1) for values in (said, true))
    if kind == "pooled":
        said, true = said.reshape(-1, 1), true.reshape(-1, 1)
    known = ~np.isnan(true)
    return [(said[rows, k], true[rows, k]) for k, rows in enumerate(list(known.T))]


def _binned(
    said: NDArray[Any], true: NDArray[Any], n_bins: int, strategy: str
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give for each bin the share that is true, the mean probability and the count; and edges."""
    edges = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile" and len(said):
        edges = np.quantile(said.astype(np.float64), edges)
    place = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(place, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        of_true, of_said = (
            np.bincount(place, weights=values, minlength=n_bins) / counts
            for values in (true.astype(np.float64), said.astype(np.float64))
        )
    return of_true, of_said, counts, edges


def _wilson(share: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the interval in which a share lies by so many observations, at 95 %."""
    z2 = _MARGIN**2
    centre = (share + z2 / (2 * counts)) / (1 + z2 / counts)
    spread = np.sqrt(share * (1 - share) / counts + z2 / (4 * counts**2))
    half = _MARGIN / (1 + z2 / counts) * spread
    return centre - half, centre + half
