"""What lies near by the embeddings of a frozen sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..datasets.examples import Example
from ..engine.engine import Engine
from ..engine.neighbours import nearest, unit_vectors
from .mixture import LabelledSet
from .wordings import normalized

_Vectors = NDArray[np.float32]


class Neighbours:
    """Finds labels near to labels, and rows near to rows, within a set.

    Parameters
    ----------
    engine : Engine
        Of the frozen model, whose vectors compare by their cosine.
    pool_size : int
        Among how many rows of a set rows are searched.
    seed : int
        Of the choice of these rows.
    """

    def __init__(self, engine: Engine, pool_size: int, seed: int) -> None:
        self._engine = engine
        self._pool_size = pool_size
        self._seed = seed
        self._cosines: dict[str, _Vectors] = {}
        self._pools: dict[str, tuple[list[Example], _Vectors]] = {}

    def labels(self, source: LabelledSet, labels: Sequence[str]) -> list[str]:
        """Give the other labels of a set, those first that are nearest to one of `labels`."""
        if source.name not in self._cosines:
            vectors = unit_vectors(self._engine.label_vectors(source.labels))
            self._cosines[source.name] = vectors @ vectors.T
        asked = set(labels)
        columns = [i for i, label in enumerate(source.labels) if label in asked]
        nearness = self._cosines[source.name][columns].max(axis=0)
        order = np.argsort(-nearness, kind="stable").tolist()
        return [source.labels[i] for i in order if source.labels[i] not in asked]

    def rows(self, source: LabelledSet, rows: Sequence[Example], k: int) -> list[list[Example]]:
        """Find rows to show in the prompts of rows of the same set.

        Parameters
        ----------
        source : LabelledSet
            The set.
        rows : sequence of Example
            Those whose prompts they are for.
        k : int
            How many for each at most.

        Returns
        -------
        list of list of Example
            For each row the nearest first; never one with the row's own text, and only ones whose
            true labels the row has among its labels.
        """
        if not rows:
            return []
        pool, vectors = self._pool(source)
        if not pool:
            return [[] for _ in rows]
        queries = self._engine.text_vectors([row.text for row in rows])
        texts = [normalized(example.text) for example in pool]
        chosen = []
        # All of the pool in order, since any number of the nearest may not be allowed.
        for row, order in zip(rows, nearest(queries, vectors, len(pool)).tolist(), strict=True):
            labels, text = set(row.all_labels), normalized(row.text)
            allowed = (
                pool[i]
                for i in order
                if texts[i] != text and labels.issuperset(pool[i].true_labels)
            )
            chosen.append(list(islice(allowed, k)))
        return chosen

    def _pool(self, source: LabelledSet) -> tuple[list[Example], _Vectors]:
        if source.name not in self._pools:
            # A generator of its own: a resumed run may ask for the sets in another order.
            rng = np.random.default_rng([self._seed, len(source.rows)])
            chosen = rng.permutation(len(source.rows))[: self._pool_size]
            rows = [source.rows[i] for i in sorted(chosen.tolist())]
            rows = [row for row in rows if row.true_labels and row.text.strip()]
            vectors = self._engine.text_vectors([row.text for row in rows])
            self._pools[source.name] = rows, unit_vectors(vectors)
        return self._pools[source.name]
