"""How a fit went: the loss, and the score on the validation data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError
from typing_extensions import Self

from .plotting import BLUE, GREEN, GREY, check_matplotlib, despine, open_axes, style

if TYPE_CHECKING:
    from .plotting import Axes


class TrainingDisplay:
    """Curves of the training loss and of the score on the validation data.

    It is recommended to use :meth:`from_estimator` to create it. All parameters are stored as
    attributes.

    Parameters
    ----------
    loss_curve : sequence of float
        The mean loss of each epoch, or of each step.
    validation_scores : sequence of float, default=None
        The score after each of them, and maybe one before the first.
    score_name : str, default="score"
        What the scores are.
    step_name : str, default="epoch"
        What the loss is the mean of.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The loss and, if there are any, the scores.
    ax_ : matplotlib Axes
        Those of the loss.
    score_ax_ : matplotlib Axes or None
        Those of the scores.
    figure_ : matplotlib Figure

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores by the number of labelled texts.

    Examples
    --------
    >>> from skgliclass.inspection import TrainingDisplay
    >>> display = TrainingDisplay([0.9, 0.5, 0.4], [0.6, 0.7, 0.8, 0.75]).plot()
    >>> display.best_step
    2
    """

    def __init__(
        self,
        loss_curve: Sequence[float],
        validation_scores: Sequence[float] | None = None,
        *,
        score_name: str = "score",
        step_name: str = "epoch",
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_scores = validation_scores
        self.score_name = score_name
        self.step_name = step_name

    @property
    def best_step(self) -> int | None:
        """After which step the score is highest, 0 being before the first; None without scores."""
        scores = self.validation_scores
        if scores is None or not len(scores):
            return None
        return self._first_scored + int(np.argmax(scores))

    @property
    def _first_scored(self) -> int:
        """The step after which the first score was: 0 where one is from before training."""
        return len(self.loss_curve) + 1 - len(self.validation_scores or ())

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None, **plot_options: Any) -> Self:
        """Draw what a fit left in an estimator.

        Parameters
        ----------
        estimator : classifier, Pipeline or search
            A fitted one with ``loss_curve_``; of a pipeline its last step, of a search its best
            estimator.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : TrainingDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If nothing was fitted.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        estimator = getattr(estimator, "best_estimator_", estimator)
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        loss_curve = getattr(estimator, "loss_curve_", None)
        if loss_curve is None:
            raise NotFittedError(
                f"This {type(estimator).__name__} has no loss_curve_. Call fit(X, y) first; only "
                "what is learnt step by step has one."
            )
        is_micro = getattr(estimator, "_multi_label", None)
        names = {True: "micro-F1", False: "accuracy", None: "score"}
        return cls(
            loss_curve,
            getattr(estimator, "validation_scores_", None),
            score_name=f"validation {names[is_micro]}",
            step_name="step" if getattr(estimator, "trainable_", None) == "labels" else "epoch",
        ).plot(ax=ax, **plot_options)

    def plot(self, *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **kwargs
            Keywords of the loss's ``plot``.

        Returns
        -------
        display : TrainingDisplay
        """
        ax, figure = open_axes(ax, f"{type(self).__name__}.plot", (6, 3.6))
        from matplotlib.ticker import MaxNLocator

        steps = np.arange(1, len(self.loss_curve) + 1)
        marker = "o" if len(steps) <= 30 else None
        look = style({"color": BLUE, "marker": marker, "ms": 4, "lw": 1.8}, kwargs, "Line2D")
        self.lines_ = ax.plot(steps, self.loss_curve, **look)
        self.score_ax_ = self._draw_scores(ax)
        ax.set(xlabel=self.step_name, ylabel="training loss")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        despine(ax)
        ax.yaxis.label.set_color(self.lines_[0].get_color())
        if not len(steps):
            ax.set(xlim=(-0.5, 0.5), xticks=[0], yticks=[])
        self.ax_, self.figure_ = ax, figure
        return self

    def _draw_scores(self, ax: Axes) -> Axes | None:
        scores, best = self.validation_scores, self.best_step
        if scores is None or best is None:
            return None
        beside = ax.twinx()
        steps = self._first_scored + np.arange(len(scores))
        marker = "s" if len(steps) <= 30 else None
        self.lines_ += beside.plot(steps, scores, color=GREEN, marker=marker, ms=4, lw=1.8)
        beside.axvline(best, color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
        beside.plot(best, max(scores), "o", ms=11, mfc="none", mec=GREEN, mew=1.5)
        beside.annotate(
            f"{max(scores):.3f}",
            (best, max(scores)),
            xytext=(0, -16),
            textcoords="offset points",
            ha="center",
            fontsize="small",
            color=GREEN,
        )
        beside.set_ylabel(self.score_name, color=GREEN)
        beside.spines[["top", "left"]].set_visible(False)
        return beside
