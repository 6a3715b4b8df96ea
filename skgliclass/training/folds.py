"""What labelled rows say of themselves: the logits that a fit without each of them gives.

One set of these tells how much of a change to take, how certain the model may be and where
thresholds lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from ..engine.neighbours import same_vectors, windows
from .anchored import (
    Array,
    LabelChange,
    count_rows,
    fit_label_change,
    told_by_counts,
    weighed,
)

_N_FOLDS = 5
_MOST_FOLDED, _HELD_OUT = 10_000, 2_000

_MOST_JUDGED = 2_000
_CAUTION_ROWS = 2 / 3
_TRUST_ROWS = 20.0
"""As many rows that speak for a change are taken for granted."""


def held_out_logits(
    x: Array, base_logits: Array, targets: Array, *, weights: Array, **options: Any
) -> tuple[NDArray[np.intp], Array]:
    """Give labelled rows the logits that a fit without their text gives.

    Parameters
    ----------
    x, base_logits, targets, weights, **options
        As in :func:`fit_label_change`.

    Returns
    -------
    held_out : ndarray of shape (n_held_out,)
        Which rows, in their order: not those that tell nothing, and not those whose label has no
        other text, as nothing can be held out for them. Of more than 10,000 texts about 2,000 are
        held out, in one search in place of five.
    logits : ndarray of shape (n_held_out, n_labels)
    """
    of_row = weights if weights.ndim == 1 else weights.max(axis=1)
    tells = (of_row > 0) & ~np.isnan(targets).all(axis=1)
    # All of millions are not copied.
    some = slice(None) if tells.all() else tells
    folds = np.full(len(x), -1, dtype=np.intp)
    folds[some], n_searches = dealt(x[some], targets[some], weights[some])
    held_out = np.flatnonzero((folds >= 0) & (folds < n_searches))
    logits = np.empty((len(held_out), targets.shape[1]))
    for fold in np.unique(folds[held_out]).tolist():
        kept, of_fold = tells & (folds != fold), folds[held_out] == fold
        change = _fitted(kept, x, base_logits, targets, weights, copies=n_searches > 1, **options)
        held = held_out[of_fold]
        logits[of_fold] = change.logits(x[held], base_logits[held])
    return held_out, logits


def _fitted(
    kept: NDArray[np.bool_],
    x: Array,
    base_logits: Array,
    targets: Array,
    weights: Array,
    *,
    copies: bool,
    **options: Any,
) -> LabelChange:
    """Fit some of the rows: as copies, or with the others as rows that do not count."""
    if copies:
        x, base_logits, targets = x[kept], base_logits[kept], targets[kept]
        weights = weights[kept]
    else:
        weights = (weights.T * kept).T
    return fit_label_change(x, base_logits, targets, weights=weights, **options)


def dealt(x: Array, targets: Array, weights: Array) -> tuple[NDArray[np.intp], int]:
    """Deal rows to folds: the texts of each label in turn, rows of one text together.

    The order of rows changes nothing, and a text that is there twice is as one that weighs twice.

    Parameters
    ----------
    x : ndarray of shape (n_rows, dimension)
    targets : ndarray of shape (n_rows, n_labels)
    weights : ndarray of shape (n_rows,) or (n_rows, n_labels)

    Returns
    -------
    folds : ndarray of shape (n_rows,)
        -1 where the text is the only one of its label.
    n_searches : int
        How many folds, from 0 on, are to be held out.
    """
    if not len(x):
        return np.zeros(0, dtype=np.intp), 0
    text = same_vectors(x)
    label = _labels_of_texts(text, targets, weights)
    n_texts, n_folds, n_searches = len(label), _N_FOLDS, _N_FOLDS
    if n_texts > _MOST_FOLDED:
        n_folds, n_searches = n_texts // _HELD_OUT, 1
    turns = np.empty(n_texts, dtype=np.intp)
    turns[np.argsort(label, kind="stable")] = np.arange(n_texts)
    folds = np.where(np.bincount(label)[label] > 1, turns % n_folds, -1)
    return folds[text], n_searches


def _labels_of_texts(text: NDArray[np.intp], targets: Array, weights: Array) -> NDArray[np.intp]:
    """Give the label that most is said for of each text."""
    n_rows = np.bincount(text)
    label = np.empty(len(n_rows), dtype=np.intp)
    for rows in windows(len(text), targets.shape[1]):
        cells = weighed(targets[rows], weights[rows])
        label[text[rows]] = np.nan_to_num(cells).argmax(axis=1)
    several = n_rows[text] > 1
    if several.any():
        texts, place = np.unique(text[several], return_inverse=True)
        sums = np.zeros((len(texts), targets.shape[1]))
        np.add.at(sums, place, weighed(targets[several], weights[several]))
        label[texts] = np.nan_to_num(sums).argmax(axis=1)
    return label


def is_judged(x: Array) -> bool:
    """Tell whether rows are so few that their noise could mislead."""
    return 1 < len(x) <= _MOST_JUDGED


def trusted_share(
    base_logits: Array,
    held_out: tuple[NDArray[np.intp], Array] | None,
    targets: Array,
    weights: Array,
) -> float:
    """Tell how much of a change to take, by what rows that were held out tell against it.

    The logits before and what the change adds to them, fitted without the row, are weighed so that
    together they explain the rows best. Where what is added weighs less than what was before, the
    change is made less; with few rows, which tell little either way, by less of that.

    Parameters
    ----------
    base_logits, targets, weights
        As in :func:`fit_label_change`, of labels that compete.
    held_out : tuple of ndarray, or None
        What :func:`held_out_logits` gave; None for many rows, which need no second look.

    Returns
    -------
    float
        From 0 to 1.
    """
    n_rows = count_rows(targets, weights)
    share = n_rows / (n_rows + _CAUTION_ROWS)
    if held_out is None:
        return share
    rows, logits = held_out
    known = np.isfinite(targets[rows].sum(axis=1))
    if known.any():
        rows, expected = rows[known], told_by_counts(targets, weights)
        cells = weighed(targets[rows], weights[rows])
        before, after = base_logits[rows] + expected, logits[known] + expected
        found = _explaining_share(before, after, cells)
        share *= (n_rows * found + _TRUST_ROWS) / (n_rows + _TRUST_ROWS)
    return share


def _explaining_share(before: Array, after: Array, targets: Array) -> float:
    """Tell how much of the change from before to after explains targets best, at any sharpness."""
    added, of_row = after - before, targets.sum(axis=1, keepdims=True)
    total = float(of_row.sum())

    def objective(parts: Array) -> tuple[float, Array]:
        shares = log_softmax(parts[0] * before + parts[1] * added, axis=1)
        slope = (np.exp(shares) * of_row - targets) / total
        by_parts = [float((slope * before).sum()), float((slope * added).sum())]
        return -float((targets * shares).sum()) / total, np.array(by_parts)

    # Convex, and to the last digits: copies of rows may come in another order. L-BFGS-B stops short
    # of it where the first of the two is at its limit.
    bounds, exact = [(np.exp(-2.0), np.exp(2.0)), (0.0, None)], {"ftol": 1e-16, "maxiter": 300}
    found = minimize(objective, [1.0, 1.0], jac=True, method="SLSQP", bounds=bounds, options=exact)
    return float(min(1.0, found.x[1] / found.x[0]))
