"""What a caller asks to be scored: texts, with label sets and examples shared or of their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..prompts.examples import PromptExample, check_labels_known, check_types
from ..prompts.tokens import TokenIds

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, eq=False)
class PerRow(Generic[T]):
    """Values of rows, each distinct value kept once.

    Attributes
    ----------
    values : list
        The distinct values.
    index : ndarray of shape (n_rows,), or None
        Each row's value; None where all rows share the first.
    """

    values: list[T]
    index: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, values: Sequence[T]) -> PerRow[T]:
        """Group the values of rows."""
        position: dict[T, int] = {}
        index = [position.setdefault(value, len(position)) for value in values]
        return cls(list(position), np.asarray(index, dtype=np.intp))

    def rows(self, rows: NDArray[np.intp]) -> tuple[list[T], NDArray[np.intp]]:
        """Give the distinct values of some rows, and which of them each row has."""
        if self.index is None:
            return self.values, np.zeros(len(rows), dtype=np.intp)
        used, inverse = np.unique(self.index[rows], return_inverse=True)
        return [self.values[i] for i in used], inverse.astype(np.intp)


LabelTexts = tuple[str, ...]
Examples = tuple[PromptExample, ...]


@dataclass(frozen=True, eq=False)
class Request:
    """Texts with their label sets and examples, checked.

    Attributes
    ----------
    texts : sequence of str of length n_rows
        What to score.
    labels : PerRow of tuple of str
        The label sets.
    examples : PerRow of tuple of PromptExample, or None
        The examples, where there are any.
    chosen_from : tuple of str, or None
        The label set that those of single rows are parts of, where a shortlist made them.
    """

    texts: Sequence[str]
    labels: PerRow[LabelTexts]
    examples: PerRow[Examples] | None
    chosen_from: LabelTexts | None = None

    @classmethod
    def of(cls, texts: Sequence[str], label_texts: Any, examples: Any = None) -> Request:
        """Check what the caller gave.

        Parameters
        ----------
        texts : sequence of str
            What to score.
        label_texts : sequence of str, or sequence of such sequences, one a text
            The label sets.
        examples : sequence of PromptExample, or sequence of such sequences, one a text, optional
            What the prompts show besides.

        Raises
        ------
        TypeError, ValueError
            If label sets or examples are at fault; the message names the row.
        """
        labels = _label_sets(label_texts, len(texts))
        grouped = _examples(examples, len(texts))
        if grouped is not None:
            _check_examples(grouped, labels, len(texts))
        return cls(texts, labels, grouped)

    @property
    def n_columns(self) -> int:
        """How many labels the largest label set has."""
        return max(map(len, self.labels.values))

    def check_shared_labels(self, parameter: str) -> None:
        """Refuse label sets of single texts where a parameter needs one for all.

        Raises
        ------
        ValueError
            If texts have label sets of their own; the message names the parameter.
        """
        if self.labels.index is not None:
            raise ValueError(
                f"{parameter} chooses from one label set for all texts, but label_texts has one a "
                f"text. Give one list of label texts, or leave {parameter} out."
            )

    def examples_of(
        self, rows: NDArray[np.intp], encode: Callable[[Examples, LabelTexts], list[TokenIds]]
    ) -> list[list[TokenIds]]:
        """Give the tokens of the examples of some rows; the same ones are encoded once.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Which rows.
        encode : callable
            Takes examples and the label set that they are shown with.
        """
        assert self.examples is not None
        examples, examples_of_row = self.examples.rows(rows)
        label_sets, set_of_row = self.labels.rows(rows)
        pairs = list(zip(examples_of_row.tolist(), set_of_row.tolist(), strict=True))
        encoded = {pair: encode(examples[pair[0]], label_sets[pair[1]]) for pair in set(pairs)}
        return [encoded[pair] for pair in pairs]

    def distinct(self, window: slice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find what is worth scoring: identical texts with the same labels and examples once.

        Returns
        -------
        rows : ndarray of int
            The first row of each kind.
        inverse : ndarray of int
            Which of them each row of the window is like.
        """
        texts = self.texts[window]
        keys: Sequence[Hashable] = texts
        indices = [p.index[window].tolist() for p in self._per_row() if p.index is not None]
        if indices:
            keys = list(zip(texts, *indices, strict=True))
        # A dict instead of np.unique: an array of texts takes the longest one's memory for each.
        position: dict[Hashable, int] = {}
        first: list[int] = []
        inverse = np.empty(len(keys), dtype=np.intp)
        for i, key in enumerate(keys):
            k = position.setdefault(key, len(first))
            if k == len(first):
                first.append(i)
            inverse[i] = k
        return window.start + np.asarray(first, dtype=np.intp), inverse

    def _per_row(self) -> list[PerRow[Any]]:
        return [self.labels] if self.examples is None else [self.labels, self.examples]


def _label_sets(label_texts: Any, n_texts: int) -> PerRow[LabelTexts]:
    if isinstance(label_texts, str):
        raise TypeError(
            f"label_texts is the single string {label_texts!r}; it must be a list of label texts."
        )
    if len(label_texts) == 0:
        raise ValueError("label_texts is empty; give at least one label.")
    if all(isinstance(label, str) for label in label_texts):
        return PerRow([tuple(label_texts)])
    if len(label_texts) != n_texts:
        raise ValueError(
            f"label_texts has {len(label_texts)} label sets for {n_texts} texts; give one a text, "
            "or one list of label texts for all."
        )
    for i, labels in enumerate(label_texts):
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise TypeError(f"label_texts[{i}] is {labels!r}; it must be a list of label texts.")
        if len(labels) == 0:
            raise ValueError(f"label_texts[{i}] is empty; every text needs at least one label.")
    return PerRow.of([tuple(labels) for labels in label_texts])


def _examples(examples: Any, n_texts: int) -> PerRow[Examples] | None:
    if examples is None or len(examples) == 0:
        return None
    if all(isinstance(example, PromptExample) for example in examples):
        return PerRow([tuple(examples)])
    if len(examples) != n_texts or any(isinstance(of_row, PromptExample) for of_row in examples):
        raise ValueError(
            f"examples has {len(examples)} entries for {n_texts} texts; give a list of "
            "PromptExample for all texts, or one such list a text."
        )
    rows = [cast("Examples", tuple(of_row or ())) for of_row in examples]
    for i, of_row in enumerate(rows):
        check_types(of_row, f"examples[{i}]")
    grouped = PerRow.of(rows)
    # Empty lists for all texts are no examples, so that a model without a place for them takes the
    # call.
    return grouped if any(grouped.values) else None


def _check_examples(examples: PerRow[Examples], labels: PerRow[LabelTexts], n_texts: int) -> None:
    if examples.index is None and labels.index is None:
        check_labels_known(examples.values[0], labels.values[0], "examples")
        return
    n = np.zeros(n_texts, dtype=np.intp)
    pairs = zip(
        n if examples.index is None else examples.index,
        n if labels.index is None else labels.index,
        strict=True,
    )
    # Thousands of rows usually share few pairs of examples and label set; one check for each.
    seen: set[tuple[int, int]] = set()
    for row, pair in enumerate(pairs):
        if pair not in seen:
            seen.add(pair)
            where = "examples" if examples.index is None else f"examples[{row}]"
            check_labels_known(examples.values[pair[0]], labels.values[pair[1]], where)
