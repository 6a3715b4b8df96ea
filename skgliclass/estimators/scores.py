"""What a classifier says of texts: logits, and everything that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from .calibration import as_log_odds, as_log_probabilities, as_probabilities
from .labels import as_class_array

SLACK = 2.0
"""By how many roundings of the largest logit, and of one, a difference of logits may change.

Those of the embedded model in bfloat16 change by a fifth of this at the root of the mean square."""


@dataclass(frozen=True, eq=False)
class Alternatives:
    """The classes that texts are classified among, and what was tuned or set for them.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        In the order of the columns of every score.
    multi_label : bool
        Whether a text may have any number of them.
    temperature : float
        What logits are divided by before they become probabilities.
    cutoff : ndarray of shape (n_classes,) or (), or None
        The probability from which on a class is chosen, or where a text has one class the most
        probable one. None where nothing is to be chosen, or the most probable one always is.
    other : Any
        What stands for none of the classes.
    """

    classes: NDArray[Any]
    multi_label: bool
    temperature: float = 1.0
    cutoff: NDArray[np.float32] | None = None
    other: Any = None


@dataclass(frozen=True, eq=False)
class Scores:
    """The logits of texts among the same classes.

    Attributes
    ----------
    logits : ndarray of shape (n_texts, n_classes), float32
    among : Alternatives
        The classes.
    """

    logits: NDArray[np.float32]
    among: Alternatives

    def each(self, what: Callable[[Scores], Any]) -> Any:
        """Give something of all texts at once, which has a row for each."""
        return what(self)

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """The softmax of the logits, or their sigmoid."""
        return as_probabilities(self._scaled, self.among.multi_label)

    @property
    def log_probabilities(self) -> NDArray[np.float32]:
        """The logarithm of the probabilities, finite where these round to 0."""
        return as_log_probabilities(self._scaled, self.among.multi_label)

    @property
    def log_odds(self) -> NDArray[np.float64]:
        """The logits of the probabilities."""
        return as_log_odds(self._scaled, self.among.multi_label)

    @property
    def _scaled(self) -> NDArray[np.float32]:
        temperature = self.among.temperature
        # Dividing by one would copy all scores for nothing.
        return self.logits if temperature == 1 else self.logits / np.float32(temperature)

    def close_calls(self, rounding: float) -> NDArray[np.intp]:
        """Give the texts whose choice may be another one where arithmetic rounds otherwise."""
        finite = np.where(np.isfinite(self.logits), self.logits, 0)
        slack = SLACK * rounding * (1 + np.abs(finite).max(axis=1, initial=0))
        return np.flatnonzero(self._margins() * self.among.temperature < slack)

    def _margins(self) -> NDArray[np.float64]:
        """Tell how far logits of probabilities are from where another choice would be made."""
        margins = np.full(len(self.logits), np.inf)
        if not self.among.multi_label and self.logits.shape[1] > 1:
            second, best = np.partition(self._scaled, -2, axis=1)[:, -2:].T
            margins = best.astype(np.float64) - second
        cutoff = self.among.cutoff
        if cutoff is not None and self.logits.shape[1]:
            decisive = self.log_odds
            if not self.among.multi_label:
                decisive = decisive.max(axis=1, keepdims=True)
            apart = np.abs(decisive - logit(cutoff.astype(np.float64)))
            margins = np.minimum(margins, apart.min(axis=1))
        return margins

    def chosen(self) -> NDArray[np.bool_]:
        """Tell for every class whether it is chosen."""
        probabilities = self.probabilities
        cutoff = self.among.cutoff
        high_enough = np.ones((), np.bool_) if cutoff is None else probabilities >= cutoff
        if self.among.multi_label:
            return np.asarray(high_enough)
        # Not of the logits: where rounding makes two equal, the choice is that of predict_proba.
        best = np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]
        return np.asarray(best & high_enough)

    def chosen_of(self, classes: Sequence[Any]) -> NDArray[np.bool_]:
        """Tell for each of some classes, which include these, whether it is chosen."""
        return _chosen_of([self], classes)

    def chosen_classes(self) -> list[list[Any]]:
        """Name the chosen classes of each text."""
        classes = self.among.classes.tolist()
        return [[classes[j] for j in np.flatnonzero(row)] for row in self.chosen()]

    def one_class(self) -> NDArray[Any]:
        """Give the most probable class of each text, or what stands for none."""
        probabilities = self.probabilities
        best = probabilities.argmax(axis=1)
        if self.among.cutoff is None:
            return self.among.classes[best]
        values = as_class_array([*self.among.classes.tolist(), self.among.other])
        is_sure = probabilities.max(axis=1) >= self.among.cutoff
        return values[np.where(is_sure, best, len(values) - 1)]

    def frame(self, index: pd.Index | None) -> pd.DataFrame:
        """Give the probabilities as a frame with the classes as columns."""
        return pd.DataFrame(self.probabilities, index=index, columns=list(self.among.classes))

    def ranking(self, k: int | None, index: pd.Index | None) -> pd.DataFrame:
        """Give the k most probable classes of each text, a row for each."""
        return _ranking([self], k, index)


@dataclass(frozen=True, eq=False)
class RowScores:
    """The logits of texts that each have a label set of their own.

    Attributes
    ----------
    parts : sequence of Scores
        One text in each.
    """

    parts: Sequence[Scores]

    def each(self, what: Callable[[Scores], Any]) -> Any:
        """Give a list with something of each text."""
        return [what(part)[0] for part in self.parts]

    def one_class(self) -> NDArray[Any]:
        """Give the most probable class of each text, or what stands for none."""
        return as_class_array([part.one_class().tolist()[0] for part in self.parts])

    def chosen_of(self, classes: Sequence[Any]) -> NDArray[np.bool_]:
        """Tell for each of some classes, which include those of all, whether it is chosen."""
        return _chosen_of(self.parts, classes)

    def frame(self, index: pd.Index | None) -> pd.DataFrame:
        """Give the probabilities as a frame with a column for each class that a text has."""
        names = [part.among.classes.tolist() for part in self.parts]
        column = {name: j for j, name in enumerate(dict.fromkeys(chain.from_iterable(names)))}
        table = np.full((len(self.parts), len(column)), np.nan, dtype=np.float32)
        for row, of_row, part in zip(table, names, self.parts, strict=True):
            row[[column[name] for name in of_row]] = part.probabilities[0]
        return pd.DataFrame(table, index=index, columns=list(column))

    def ranking(self, k: int | None, index: pd.Index | None) -> pd.DataFrame:
        """Give the k most probable classes of each text, a row for each."""
        return _ranking(self.parts, k, index)


def _chosen_of(parts: Sequence[Scores], classes: Sequence[Any]) -> NDArray[np.bool_]:
    column = {value: j for j, value in enumerate(classes)}
    matrix = np.zeros((sum(len(part.logits) for part in parts), len(column)), dtype=np.bool_)
    first = 0
    for part in parts:
        last = first + len(part.logits)
        matrix[first:last, [column[v] for v in part.among.classes.tolist()]] = part.chosen()
        first = last
    return matrix


def _ranking(parts: Sequence[Scores], k: int | None, index: pd.Index | None) -> pd.DataFrame:
    ranks, classes, values, chosen, n_rows = [], [], [], [], []
    for part in parts:
        probabilities = part.probabilities
        # Stable, as argmax is: of equal ones the first comes first.
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        n_texts, n_best = order.shape
        ranks.append(np.tile(np.arange(1, n_best + 1), n_texts))
        classes.extend(part.among.classes[order.ravel()].tolist())
        values.append(np.take_along_axis(probabilities, order, axis=1).ravel())
        chosen.append(np.take_along_axis(part.chosen(), order, axis=1).ravel())
        n_rows.append(np.full(n_texts, n_best))
    repeats = np.concatenate(n_rows)
    of_texts = pd.RangeIndex(len(repeats)) if index is None else index
    return pd.DataFrame(
        {
            "rank": np.concatenate(ranks),
            "label": as_class_array(classes),
            "probability": np.concatenate(values),
            "predicted": np.concatenate(chosen),
        },
        index=of_texts.repeat(repeats),
    )
