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

from .anchored import Array, count_rows, fit_label_change

_N_FOLDS = 5
_MOST_FOLDED, _HELD_OUT = 10_000, 2_000

_MOST_JUDGED = 2_000
_CAUTION_ROWS = 2 / 3
_TRUST_ROWS = 20.0
"""As many rows that speak for a change are taken for granted."""

_LAST_DIGITS = 1e-5


def held_out_logits(
    x: Array, base_logits: Array, targets: Array, *, weights: Array, **options: Any
) -> Array:
    """Give each labelled row the logits that a fit without its text gives.

    Parameters
    ----------
    x, base_logits, targets, weights, **options
        As in :func:`fit_label_change`.

    Returns
    -------
    ndarray of shape (n_rows, n_labels)
        NaN for rows that tell nothing, and for those whose label has no other text: nothing can be
        held out for them. Of more than 10,000 texts about 2,000 are held out, in one search in
        place of five.
    """
    logits = np.full(targets.shape, np.nan)
    of_row = weights if weights.ndim == 1 else weights.max(axis=1)
    tells = np.flatnonzero((of_row > 0) & ~np.isnan(targets).all(axis=1))
    folds, n_searches = dealt(x[tells], targets[tells], weights[tells])
    for fold in range(n_searches):
        held, kept = tells[folds == fold], tells[folds != fold]
        if len(held):
            change = fit_label_change(
                x[kept], base_logits[kept], targets[kept], weights=weights[kept], **options
            )
            logits[held] = change.logits(x[held], base_logits[held])
    return logits


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
    text = same_texts(x)
    n_texts = int(text.max()) + 1
    by_text = np.zeros((n_texts, targets.shape[1]))
    np.add.at(by_text, text, (targets.T * weights.T).T if weights.ndim == 1 else targets * weights)
    label = np.nan_to_num(by_text).argmax(axis=1)
    n_folds, n_searches = _N_FOLDS, _N_FOLDS
    if n_texts > _MOST_FOLDED:
        n_folds, n_searches = n_texts // _HELD_OUT, 1
    turns = np.empty(n_texts, dtype=np.intp)
    turns[np.argsort(label, kind="stable")] = np.arange(n_texts)
    folds = np.where(np.bincount(label)[label] > 1, turns % n_folds, -1)
    return folds[text], n_searches


def same_texts(x: Array) -> NDArray[np.intp]:
    """Give texts numbers by their vectors, the same where only the last digits differ.

    Passes of different batches differ in those. The numbers do not depend on the order.
    """
    direction = np.cos(np.arange(1, x.shape[1] + 1))
    order = np.argsort(x.astype(np.float64) @ direction, kind="stable")
    is_new = (np.abs(np.diff(x[order], axis=0)) > _LAST_DIGITS).any(axis=1)
    numbers = np.empty(len(x), dtype=np.intp)
    numbers[order] = np.concatenate([[0], np.cumsum(is_new)])
    return numbers


def is_judged(x: Array) -> bool:
    """Tell whether rows are so few that their noise could mislead."""
    return 1 < len(x) <= _MOST_JUDGED


def trusted_share(
    base_logits: Array, held_out: Array | None, targets: Array, weights: Array
) -> float:
    """Tell how much of a change to take, by what rows that were held out tell against it.

    The logits before and what the change adds to them, fitted without the row, are weighed so that
    together they explain the rows best. Where what is added weighs less than what was before, the
    change is made less; with few rows, which tell little either way, by less of that.

    Parameters
    ----------
    base_logits, targets, weights
        As in :func:`fit_label_change`, of labels that compete.
    held_out : ndarray of shape (n_rows, n_labels) or None
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
    judged = np.isfinite(held_out[:, 0]) & np.isfinite(targets.sum(axis=1))
    if judged.any():
        cells = (targets[judged].T * weights[judged].T).T
        found = _explaining_share(base_logits[judged], held_out[judged], cells)
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

    # Convex, and to the last digits: copies of rows may come in another order.
    bounds, exact = [(np.exp(-2.0), np.exp(2.0)), (0.0, None)], {"ftol": 0.0, "gtol": 1e-12}
    found = minimize(
        objective, [1.0, 1.0], jac=True, method="L-BFGS-B", bounds=bounds, options=exact
    )
    return float(min(1.0, found.x[1] / found.x[0]))
