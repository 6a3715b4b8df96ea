"""Let the model read only the few labels of each text that are nearest to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .neighbours import nearest, unit_vectors
from .request import PerRow, Request

SHORTLIST_GAP = 10.0
"""How far below the lowest logit that was read, or 0, those of labels that were not read lie."""


def choose_labels(
    texts: NDArray[np.float32], labels: NDArray[np.float32], k: int
) -> NDArray[np.intp]:
    """Choose the labels whose vectors have the highest cosine with the text's.

    Parameters
    ----------
    texts : ndarray of shape (n_texts, width)
        The texts' vectors.
    labels : ndarray of shape (n_labels, width)
        The labels' vectors.
    k : int
        How many labels to choose.

    Returns
    -------
    ndarray of shape (n_texts, k)
        Their positions, in the order of the label set, as the model reads them.
    """
    return np.sort(nearest(texts, unit_vectors(labels), k), axis=1)


def narrow(request: Request, columns: NDArray[np.intp]) -> Request:
    """Give each text of a request only the labels chosen for it."""
    label_texts = request.labels.values[0]
    chosen = [tuple(label_texts[k] for k in row) for row in columns.tolist()]
    return Request(request.texts, PerRow.of(chosen), request.examples, label_texts)


def spread(
    logits: NDArray[np.float32], columns: NDArray[np.intp], n_labels: int
) -> NDArray[np.float32]:
    """Put the logits that were read in their columns, and a lower one everywhere else.

    Parameters
    ----------
    logits : ndarray of shape (n_texts, k)
        Of the labels that were read.
    columns : ndarray of shape (n_texts, k)
        Where they belong.
    n_labels : int
        How many labels there are in all.

    Returns
    -------
    ndarray of shape (n_texts, n_labels), float32
    """
    # Never above minus the gap: were all logits that were read high, a sigmoid would otherwise call
    # every label that was not read likely too.
    lowest = logits.min(axis=1, initial=0.0) - np.float32(SHORTLIST_GAP)
    wide = np.repeat(lowest[:, None], n_labels, axis=1).astype(np.float32)
    np.put_along_axis(wide, columns, logits, axis=1)
    return wide
