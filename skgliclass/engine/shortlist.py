"""Choose for each text the few labels that the model reads, by the similarity of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .request import PerRow, Request

if TYPE_CHECKING:
    from .engine import Engine

SHORTLIST_GAP = 10.0
"""How far below the lowest logit that was read, or 0, those of labels that were not read lie."""

_WINDOW_SIMILARITIES = 1 << 24


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The labels chosen for each text.

    Attributes
    ----------
    n_labels : int
        How many labels there are in all.
    columns : ndarray of shape (n_texts, k)
        The positions of the chosen labels, in the order of the label set.
    """

    n_labels: int
    columns: NDArray[np.intp]

    @classmethod
    def choose(cls, embedder: Engine, request: Request, k: int, task_description: str) -> Shortlist:
        """Take the labels whose vectors have the highest cosine with the text's.

        Parameters
        ----------
        embedder : Engine
            Gives the vectors.
        request : Request
            The texts and the label set that they share.
        k : int
            How many labels to choose; all if there are no more.
        task_description : str
            What the embedder reads with each text.

        Raises
        ------
        ValueError
            If `k` is not positive, or texts have label sets of their own.
        """
        if k < 1:
            raise ValueError(f"shortlist={k}; the model must read at least one label for a text.")
        if request.labels.index is not None:
            raise ValueError(
                "shortlist chooses from one label set for all texts, but label_texts has one a "
                "text. Give one list of label texts, or leave shortlist out."
            )
        label_texts = request.labels.values[0]
        n_labels, n_texts = len(label_texts), len(request.texts)
        if k >= n_labels:
            return cls(n_labels, np.tile(np.arange(n_labels), (n_texts, 1)))
        labels = unit_vectors(embedder.label_vectors(label_texts))
        columns = np.empty((n_texts, k), dtype=np.intp)
        step = max(1, _WINDOW_SIMILARITIES // n_labels)
        for start in range(0, n_texts, step):
            texts = request.texts[start : start + step]
            vectors = unit_vectors(embedder.text_vectors(texts, task_description=task_description))
            nearest = np.argpartition(-(vectors @ labels.T), k - 1, axis=1)[:, :k]
            columns[start : start + step] = np.sort(nearest, axis=1)
        return cls(n_labels, columns)

    def narrow(self, request: Request) -> Request:
        """Give each text only the labels chosen for it."""
        if self.columns.shape[1] == self.n_labels:
            return request
        label_texts = request.labels.values[0]
        chosen = [tuple(label_texts[k] for k in row) for row in self.columns.tolist()]
        return Request(request.texts, PerRow.of(chosen), request.examples)

    def spread(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put the logits that were read in their columns, and a lower one everywhere else."""
        if self.columns.shape[1] == self.n_labels:
            return logits
        lowest = np.minimum(logits.min(axis=1, initial=0.0), 0.0) - np.float32(SHORTLIST_GAP)
        spread = np.repeat(lowest[:, None], self.n_labels, axis=1).astype(np.float32)
        np.put_along_axis(spread, self.columns, logits, axis=1)
        return spread


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length one; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors / np.maximum(lengths, np.float32(1e-12))
    return np.ascontiguousarray(scaled, dtype=np.float32)
