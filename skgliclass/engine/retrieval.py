"""Find the labelled texts nearest to a text, to show them in its prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import missing_extra
from ..prompts.examples import PromptExample
from .neighbours import nearest_with_cosines, same_vectors, unit_vectors

if TYPE_CHECKING:
    from .engine import Engine

BACKENDS = ("numpy", "faiss")

# Texts that the model reads alike are as near as each other, whatever the last digit says.
_DIGITS, _SPARE = 6, 4


class ExampleStore:
    """Labelled texts with their vectors, searched by cosine.

    They are kept in an order of their own, whatever that in which they came, so that the same is
    found.

    Parameters
    ----------
    texts : sequence of str of length n_texts
        The texts. One that comes again with the same labels is kept once.
    vectors : ndarray of shape (n_texts, width)
        Their vectors, such as ``Engine.text_vectors`` gives.
    labels : sequence of sequence of str of length n_texts
        The texts of each text's labels.
    backend : {"numpy", "faiss"}, default="numpy"
        What searches. Both compare with every text; faiss is faster where there are many.

    Attributes
    ----------
    examples : list of PromptExample
        What is kept.

    Raises
    ------
    ValueError
        If the lengths differ, a vector is not finite, a text is empty, or there are no texts.
    ImportError
        If faiss is asked for and not installed.
    """

    def __init__(
        self,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        labels: Sequence[Sequence[str]],
        *,
        backend: str = "numpy",
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend={backend!r} is unknown; choose from {', '.join(BACKENDS)}.")
        _check_vectors("vectors", vectors, len(texts))
        if not len(texts):
            raise ValueError("There are no texts to keep; give at least one labelled text.")
        if len(labels) != len(texts):
            raise ValueError(f"labels has {len(labels)} entries for {len(texts)} texts.")
        place: dict[PromptExample, int] = {}
        for i, (text, text_labels) in enumerate(zip(texts, labels, strict=True)):
            place.setdefault(_example(i, text, text_labels), i)
        self.examples = sorted(place, key=lambda example: (example.text, example.labels))
        each = unit_vectors(vectors[[place[example] for example in self.examples]])
        _, first, number = np.unique(same_vectors(each), return_index=True, return_inverse=True)
        self._vectors = each[first[number]]
        self._copies = Counter(example.text for example in self.examples)
        self._backend = backend
        self._index: Any = make_index(self._vectors, backend)

    @classmethod
    def embed(
        cls, engine: Engine, examples: Sequence[PromptExample], *, backend: str = "numpy"
    ) -> ExampleStore:
        """Keep labelled texts with the vectors that an engine gives them.

        Parameters
        ----------
        engine : Engine
            Of the model that will be shown the examples.
        examples : sequence of PromptExample
            What to keep.
        backend : {"numpy", "faiss"}, default="numpy"
            What searches.
        """
        texts = [example.text for example in examples]
        labels = [example.labels for example in examples]
        each, place = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        return cls(texts, engine.text_vectors(each.tolist())[place], labels, backend=backend)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The examples' vectors, scaled to length one."""
        return self._vectors

    @property
    def backend(self) -> str:
        """What searches."""
        return self._backend

    def __len__(self) -> int:
        return len(self.examples)

    def __getstate__(self) -> dict[str, Any]:
        # An index is made of the vectors again; that of faiss cannot be pickled.
        return {**self.__dict__, "_index": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index = make_index(self._vectors, self._backend)

    def query(
        self,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        k: int,
        *,
        exclude_self: bool = False,
    ) -> list[list[PromptExample]]:
        """Find the nearest examples of each text.

        Parameters
        ----------
        texts : sequence of str of length n_texts
            The texts.
        vectors : ndarray of shape (n_texts, width)
            Their vectors.
        k : int
            How many examples to find for each.
        exclude_self : bool, default=False
            Whether to leave out examples whose text is the same, as for texts that are in the
            store: their own labels would be the answer.

        Returns
        -------
        list of list of PromptExample
            For each text the nearest first. With `exclude_self`, a text that makes up most of the
            store may have fewer than `k`.

        Raises
        ------
        ValueError
            If `k` is not positive or larger than the store, or the vectors do not fit.
        """
        self.check_size(k, exclude_self=exclude_self)
        _check_vectors("vectors", vectors, len(texts), self._vectors.shape[1])
        scaled = unit_vectors(vectors)
        examples: list[list[PromptExample]] = [[] for _ in texts]
        n_left_out = np.asarray([self._copies[text] if exclude_self else 0 for text in texts])
        # As many more are looked for as will be left out, so that k remain; rows that leave out as
        # many are searched for together.
        for extra in np.unique(n_left_out):
            rows = np.flatnonzero(n_left_out == extra)
            neighbours = self._nearest(scaled[rows], k + int(extra))
            for row, positions in zip(rows.tolist(), neighbours.tolist(), strict=True):
                candidates = (self.examples[i] for i in positions)
                others = [e for e in candidates if not (exclude_self and e.text == texts[row])]
                examples[row] = others[:k]
        return examples

    def check_size(self, k: int, *, exclude_self: bool = False) -> None:
        """Refuse to find more examples than there are; see :meth:`query`."""
        available = len(self) - bool(exclude_self)
        if k < 1:
            raise ValueError(f"n_retrieved={k}; at least one example must be retrieved.")
        if k > available:
            raise ValueError(
                f"n_retrieved={k} is more than the {available} distinct labelled texts in the "
                "store" + (" besides the text itself" if exclude_self else "") + ". Lower it, or "
                "fit on more texts."
            )

    def _nearest(self, vectors: NDArray[np.float32], n: int) -> NDArray[np.intp]:
        """Find the n nearest, and of those that are as near the first ones."""
        n_seen = min(len(self), n + _SPARE)
        if self._index is None:
            positions, cosines = nearest_with_cosines(vectors, self._vectors, n_seen)
        else:
            cosines, positions = self._index.search(vectors, n_seen)
        order = np.lexsort((positions, -cosines.round(_DIGITS)), axis=1)
        return np.take_along_axis(positions, order, axis=1)[:, :n]


def make_index(vectors: NDArray[np.float32], backend: str) -> Any:
    """Build an index of faiss; without it vectors are compared as they are."""
    if backend == "numpy":
        return None
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            missing_extra('retrieval_backend="faiss"', "faiss-cpu", "faiss")
        ) from error
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _example(i: int, text: str, labels: Sequence[str]) -> PromptExample:
    try:
        return PromptExample(text, labels)
    except ValueError as error:
        raise ValueError(f"Text {i} cannot be shown in a prompt: {error}") from error


def _check_vectors(
    name: str, vectors: NDArray[np.float32], n: int, width: int | None = None
) -> None:
    expected = f"({n}, {'width' if width is None else width})"
    if vectors.ndim != 2 or len(vectors) != n or (width or vectors.shape[1]) != vectors.shape[1]:
        raise ValueError(f"{name} has shape {vectors.shape}; expected {expected}.")
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise ValueError(f"{name}[{int(np.flatnonzero(bad)[0])}] is not finite.")
