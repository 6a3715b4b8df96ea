"""Which labels a model can hardly tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from ..estimators.base import BaseGLiClass
from .plotting import check_matplotlib, draw_table, names_of, open_axes, style, write_values

if TYPE_CHECKING:
    from .plotting import Axes

_MOST_WITH_VALUES = 20


class LabelSimilarityDisplay:
    """Heat map of how alike labels are to a model.

    It is recommended to use :meth:`from_estimator` or :meth:`from_vectors` to create it. All
    parameters are stored as attributes.

    Parameters
    ----------
    similarity : ndarray of shape (n_labels, n_labels)
        The cosine of the vectors of each two labels.
    display_labels : sequence of length n_labels, default=None
        What to call the labels; by default they are numbered.

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
    sklearn.metrics.ConfusionMatrixDisplay : Which labels are taken for each other, on texts whose
        label is known.

    Examples
    --------
    >>> from skgliclass import GLiClassClassifier
    >>> from skgliclass.inspection import LabelSimilarityDisplay
    >>> clf = GLiClassClassifier(labels=["refund", "return of goods", "weather"])
    >>> display = LabelSimilarityDisplay.from_estimator(clf)
    >>> display.most_similar(1)[["label", "other"]]
        label            other
    0  refund  return of goods
    """

    def __init__(
        self, similarity: NDArray[Any], *, display_labels: Sequence[Any] | None = None
    ) -> None:
        self.similarity = similarity
        self.display_labels = display_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        display_labels: Sequence[Any] | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Compare the labels of a classifier; no text is needed.

        Of a model that encodes labels apart, a bi-encoder such as the embedded one, these are the
        label vectors, with what ``fit`` learnt for them where logits are cosines. Where labels and
        text are read together, the vector of a label depends on both: taken are those of all
        labels in their prompt, with an empty text. Cosines of one model say nothing beside those
        of another.

        Parameters
        ----------
        estimator : GLiClassClassifier, GLiClassMultiLabelClassifier or GLiClassTransformer
            Fitted, or with ``labels=``.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default the classes.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : LabelSimilarityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator is not of this package, so that its labels have no vectors.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if not isinstance(estimator, BaseGLiClass):
            raise TypeError(
                f"{type(estimator).__name__} has no label vectors; give a classifier of "
                "skgliclass, or vectors of your own to from_vectors."
            )
        names = estimator.classes_.tolist() if display_labels is None else display_labels
        vectors = estimator._class_vectors()
        return cls.from_vectors(vectors, display_labels=names, ax=ax, **plot_options)

    @classmethod
    def from_vectors(
        cls,
        vectors: ArrayLike,
        *,
        display_labels: Sequence[Any] | None = None,
        ax: Axes | None = None,
        **plot_options: Any,
    ) -> Self:
        """Compare labels by vectors that are there already.

        Parameters
        ----------
        vectors : array-like of shape (n_labels, width)
            One for each label.
        display_labels : sequence of length n_labels, default=None
            What to call the labels; by default they are numbered.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        **plot_options
            Further parameters of :meth:`plot`.

        Returns
        -------
        display : LabelSimilarityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the vectors are no matrix, or their number is not that of the labels.
        """
        check_matplotlib(f"{cls.__name__}.from_vectors")
        from ..engine.neighbours import unit_vectors

        matrix = np.asarray(vectors, dtype=np.float32)
        if matrix.ndim != 2 or not matrix.size:
            raise ValueError(f"vectors has the shape {matrix.shape}; give a row for each label.")
        if display_labels is not None and len(display_labels) != len(matrix):
            raise ValueError(
                f"display_labels has {len(display_labels)} names for {len(matrix)} labels."
            )
        matrix = unit_vectors(matrix)
        return cls(matrix @ matrix.T, display_labels=display_labels).plot(ax=ax, **plot_options)

    def most_similar(self, k: int | None = None) -> pd.DataFrame:
        """Give the pairs of labels that are most alike.

        Parameters
        ----------
        k : int, default=None
            How many pairs; by default all.

        Returns
        -------
        DataFrame
            With the columns ``label``, ``other`` and ``similarity``, the most similar first.
        """
        names, similarity = (
            names_of(self.display_labels, len(self.similarity)),
            np.asarray(self.similarity),
        )
        first, second = np.triu_indices(len(similarity), 1)
        values = similarity[first, second]
        order = np.argsort(-values, kind="stable")[:k]
        return pd.DataFrame(
            {
                "label": [names[i] for i in first[order]],
                "other": [names[j] for j in second[order]],
                "similarity": values[order],
            }
        )

    def plot(
        self,
        *,
        ax: Axes | None = None,
        n_labels: int = 40,
        sort: bool = True,
        include_values: bool | None = None,
        values_format: str = ".2f",
        cmap: Any = "Blues",
        colorbar: bool = True,
        im_kw: Mapping[str, Any] | None = None,
        text_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure, as large as it takes.
        n_labels : int, default=40
            How many labels to show at most: those that are most like another one.
        sort : bool, default=True
            Whether labels that are alike stand side by side, rather than in their order.
        include_values : bool, default=None
            Whether to write the values into the cells; by default if there are no more than 20
            labels.
        values_format : str, default=".2f"
        cmap : str or matplotlib Colormap, default="Blues"
            The colours reach from the lowest to the highest similarity of two labels.
        colorbar : bool, default=True
            Whether to explain the colours.
        im_kw, text_kw : dict, default=None
            Keywords of ``imshow`` and ``text``.

        Returns
        -------
        display : LabelSimilarityDisplay
        """
        similarity = np.asarray(self.similarity, dtype=np.float64).copy()
        np.fill_diagonal(similarity, np.nan)
        shown = _order(similarity, n_labels, sort=sort)
        values = similarity[np.ix_(shown, shown)]
        all_names = names_of(self.display_labels, len(similarity))
        names = [all_names[i] for i in shown]
        side = 2.6 + 0.24 * len(shown) * (2 if len(shown) <= _MOST_WITH_VALUES else 1)
        ax, figure = open_axes(ax, f"{type(self).__name__}.plot", (side + 1, side))
        # One label has nobody to be like.
        limits = {} if len(shown) > 1 else {"vmin": 0, "vmax": 1}
        look = style({"cmap": cmap, **limits}, im_kw, "AxesImage")
        self.im_ = draw_table(ax, values, rows=names, columns=names, row_width=28, **look)
        self.text_ = None
        if len(shown) <= _MOST_WITH_VALUES if include_values is None else include_values:
            self.text_ = write_values(ax, self.im_, values, values_format, text_kw)
        if colorbar and len(shown) > 1:
            figure.colorbar(self.im_, ax=ax, label="cosine of label vectors", shrink=0.7)
        if len(shown) < len(similarity):
            ax.set_xlabel(f"{len(shown)} of {len(similarity)} labels")
        self.ax_, self.figure_ = ax, figure
        return self


def _order(similarity: NDArray[np.float64], n_labels: int, *, sort: bool) -> NDArray[np.intp]:
    """Choose the labels that are most like another, and put those that are alike together."""
    highest = np.where(np.isnan(similarity), -np.inf, similarity).max(axis=1)
    chosen = np.sort(np.argsort(-highest, kind="stable")[:n_labels])
    if not sort or len(chosen) < 3:
        return chosen
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = np.nan_to_num(1 - similarity[np.ix_(chosen, chosen)], nan=0.0)
    condensed = squareform(np.maximum(distance, 0), checks=False)
    return chosen[leaves_list(linkage(condensed, "average", optimal_ordering=True))]
