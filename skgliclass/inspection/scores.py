"""A heat map of the scores of texts for labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from ..estimators.texts import as_texts
from .inputs import as_table, holds_several, read_truth, score_texts
from .plotting import (
    BLUE,
    ORANGE,
    check_matplotlib,
    draw_table,
    names_of,
    open_axes,
    style,
    write_values,
)

if TYPE_CHECKING:
    from .plotting import Axes

_TEXT_WIDTH = 56


class ScoresDisplay:
    """Heat map of texts by labels.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create it. All
    parameters are stored as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_texts, n_labels)
        The probabilities, or any scores.
    texts : sequence of str of length n_texts
        What was scored.
    display_labels : sequence of length n_labels, default=None
        What to call the labels; by default they are numbered.
    predicted : ndarray of shape (n_texts, n_labels), bool, default=None
        Which labels are predicted.
    y_true : ndarray of shape (n_texts, n_labels), default=None
        1 where a label is true.
    score_name : str, default="probability"
        What the scores are.

    Attributes
    ----------
    im_ : matplotlib AxesImage
        The cells.
    text_ : ndarray of matplotlib Text, or None
        The values in the cells.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    ReliabilityDisplay : How far the probabilities are to be trusted.

    Examples
    --------
    >>> from skgliclass import GLiClassClassifier
    >>> from skgliclass.inspection import ScoresDisplay
    >>> clf = GLiClassClassifier(labels=["travel", "cooking", "sport"])
    >>> texts = ["The match went to extra time.", "Simmer the tomatoes for an hour."]
    >>> display = ScoresDisplay.from_estimator(clf, texts)
    >>> display.scores.shape
    (2, 3)
    """

    def __init__(
        self,
        scores: NDArray[Any],
        *,
        texts: Sequence[str],
        display_labels: Sequence[Any] | None = None,
        predicted: NDArray[np.bool_] | None = None,
        y_true: NDArray[Any] | None = None,
        score_name: str = "probability",
    ) -> None:
        self.scores = scores
        self.texts = texts
        self.display_labels = display_labels
        self.predicted = predicted
        self.y_true = y_true
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        response_method: str = "predict_proba",
        display_labels: Sequence[Any] | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Score texts with a classifier, and draw what it gives.

        Parameters
        ----------
        estimator : classifier
            One of this package, fitted or with ``labels=``, or any other fitted one of texts.
        X : list, tuple, ndarray, Series or one-column frame of shape (n_texts,)
            The texts.
        y : array-like, default=None
            What is true of them, which a dot marks: a class each, or for several a text an
            indicator matrix or lists of classes.
        response_method : {"predict_proba", "decision_function"}, default="predict_proba"
            Draw probabilities, or logits.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default the classes.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : ScoresDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If a text or a parameter is at fault.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        texts = as_texts(X)
        scored = score_texts(estimator, texts, response_method)
        name = "probability" if response_method == "predict_proba" else "logit"
        return cls(
            scored.values,
            texts=texts,
            display_labels=scored.classes if display_labels is None else display_labels,
            predicted=scored.chosen,
            y_true=_truth(y, scored.classes, len(texts)),
            score_name=name,
        ).plot(ax=ax, **plot_options)

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        *,
        texts: Any,
        y_true: Any = None,
        labels: Sequence[Any] | None = None,
        display_labels: Sequence[Any] | None = None,
        score_name: str = "probability",
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Draw scores that are there already.

        Parameters
        ----------
        scores : array-like or DataFrame of shape (n_texts, n_labels)
            What ``predict_proba``, ``decision_function`` or ``predict_frame`` gave.
        texts : list, tuple, ndarray, Series or one-column frame of shape (n_texts,)
            What was scored.
        y_true : array-like, default=None
            What is true of the texts, as in :meth:`from_estimator`.
        labels : sequence of length n_labels, default=None
            The class of each column, by which `y_true` is read; by default the columns of a frame.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default `labels`.
        score_name : str, default="probability"
            What the scores are.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : ScoresDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If scores and texts do not go together.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        table, rows = as_table(scores, "scores"), as_texts(texts, name="texts")
        if len(table) != len(rows):
            raise ValueError(f"scores has {len(table)} rows, but there are {len(rows)} texts.")
        if labels is None:
            labels = getattr(scores, "columns", range(table.shape[1]))
        classes = np.asarray(labels, dtype=object).tolist()
        return cls(
            table,
            texts=rows,
            display_labels=classes if display_labels is None else display_labels,
            y_true=_truth(y_true, classes, len(rows)),
            score_name=score_name,
        ).plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        n_texts: int = 30,
        n_labels: int = 20,
        include_values: bool = True,
        values_format: str | None = None,
        cmap: Any = "Blues",
        colorbar: bool = False,
        im_kw: Mapping[str, Any] | None = None,
        text_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the heat map.

        A frame marks the labels that are predicted, a dot those that are true; where the two
        differ the frame is broken or the dot hollow, both in orange.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure, as large as it takes.
        n_texts : int, default=30
            How many texts to show at most, the first.
        n_labels : int, default=20
            How many labels to show at most: those with the highest scores for these texts.
        include_values : bool, default=True
            Whether to write the values into the cells.
        values_format : str, default=None
            How; by default with two decimals.
        cmap : str or matplotlib Colormap, default="Blues"
        colorbar : bool, default=False
            Whether to explain the colours.
        im_kw, text_kw : dict, default=None
            Keywords of ``imshow`` and ``text``.

        Returns
        -------
        display : ScoresDisplay
        """
        scores = np.asarray(self.scores)
        columns = _columns_to_show(scores[:n_texts], self.y_true, n_labels)
        values, names = scores[:n_texts, columns], names_of(self.display_labels, scores.shape[1])
        size = (5 + 0.62 * values.shape[1], 1.4 + 0.3 * len(values))
        ax, figure = open_axes(ax, f"{type(self).__name__}.plot", size)
        limits = {"vmin": 0, "vmax": 1} if self.score_name == "probability" else {}
        look = style({"cmap": cmap, **limits}, im_kw, "AxesImage")
        rows, shown = self.texts[: len(values)], [names[j] for j in columns]
        self.im_ = draw_table(ax, values, rows=rows, columns=shown, row_width=_TEXT_WIDTH, **look)
        how = values_format or ".2f"
        self.text_ = write_values(ax, self.im_, values, how, text_kw) if include_values else None
        if colorbar:
            figure.colorbar(self.im_, ax=ax, label=self.score_name)
        self._mark(ax, columns, len(values))
        self.ax_, self.figure_ = ax, figure
        return self

    def _left_out(self, shape: tuple[int, int]) -> str:
        """Say of how many texts and labels these are some."""
        parts = []
        for n_shown, n_all, what in zip(
            shape, np.shape(self.scores), ("texts", "labels"), strict=True
        ):
            if n_shown < n_all:
                parts.append(f"{n_shown} of {n_all:,} {what}")
        return ", ".join(parts)

    def _mark(self, ax: Axes, columns: NDArray[np.intp], n_rows: int) -> None:
        """Frame what is predicted, put a dot where it is true, and say what is left out."""
        from matplotlib.patches import Rectangle

        truth, chosen = (
            None if marks is None else np.asarray(marks)[:n_rows, columns]
            for marks in (self.y_true, self.predicted)
        )
        for i, j in np.argwhere(False if chosen is None else chosen):
            is_wrong = truth is not None and truth[i, j] == 0
            frame = Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, lw=1.8)
            frame.set(edgecolor=ORANGE if is_wrong else BLUE, ls="--" if is_wrong else "-")
            ax.add_patch(frame)
        for i, j in np.argwhere(False if truth is None else truth > 0.5):
            is_missed = chosen is not None and not chosen[i, j]
            (dot,) = ax.plot(j + 0.36, i - 0.27, "o", ms=4.5)
            dot.set_markerfacecolor("white" if is_missed else BLUE)
            dot.set_markeredgecolor(ORANGE if is_missed else "white")
        ax.set_xlabel(self._left_out((n_rows, len(columns))))


def _truth(y: Any, classes: Sequence[Any], n_rows: int) -> NDArray[np.float32] | None:
    if y is None:
        return None
    truth = read_truth(y, classes, holds_several(y, len(classes)))
    if len(truth) != n_rows:
        raise ValueError(f"y has {len(truth)} rows, but there are {n_rows} texts.")
    return truth


def _columns_to_show(
    scores: NDArray[Any], y_true: NDArray[Any] | None, n_labels: int
) -> NDArray[np.intp]:
    """Choose the labels with the highest scores, of true ones first, in their order."""
    highest = scores.max(axis=0)
    if y_true is not None:
        is_true = (np.asarray(y_true)[: len(scores)] > 0.5).any(axis=0)
        # Above every score, yet among themselves still by theirs.
        highest = highest + is_true * (np.ptp(highest) + 1)
    return np.sort(np.argsort(-highest, kind="stable")[:n_labels])
