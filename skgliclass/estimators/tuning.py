"""What is tuned after the logits, on rows that what gave the logits was not learnt from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .calibration import (
    HeldOut,
    best_min_probability,
    best_temperature,
    best_thresholds,
    shrunk_temperature,
    shrunk_thresholds,
    smoothed_targets,
    trust_of_others,
)
from .state import FitState


@dataclass(frozen=True)
class Tunes:
    """What is to be tuned.

    Attributes
    ----------
    temperature, thresholds, min_probability : bool
        Each of them.
    is_asked_for : bool
        Whether the user asked for a temperature, who then hears where the rows tell none.
    """

    temperature: bool = False
    thresholds: bool = False
    min_probability: bool = False
    is_asked_for: bool = True

    @property
    def any(self) -> bool:
        """Whether anything is to be tuned."""
        return self.temperature or self.thresholds or self.min_probability


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the model says of rows with known classes.

    Attributes
    ----------
    logits : ndarray of shape (n_rows, n_classes), float32
        Of the classes.
    matrix : ndarray of shape (n_rows, n_classes), float32
        The targets; NaN where nobody knows.
    weights : ndarray of shape (n_rows,), float32, or None
        How much each row counts; None where all count the same.
    others : ndarray of shape (n_others, n_classes), float32, or None
        The logits of texts of none of the classes, where there are any.
    is_cautious : bool
        Whether what few rows say is drawn towards what holds without them.
    held_out : HeldOut
        Where the rows come from.
    """

    logits: NDArray[np.float32]
    matrix: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None
    others: NDArray[np.float32] | None = None
    is_cautious: bool = False
    held_out: HeldOut = HeldOut.PASSED

    def known(self, multi_label: bool) -> Evidence:
        """Give the rows that have logits and a target."""
        is_known = np.isfinite(self.logits).all(axis=1) & ~np.isnan(self.matrix).all(axis=1)
        matrix = self.matrix[is_known]
        # Of classes that came later, the one that a row has is none.
        matrix = matrix if multi_label else np.nan_to_num(matrix)
        weights = None if self.weights is None else self.weights[is_known]
        return replace(self, logits=self.logits[is_known], matrix=matrix, weights=weights)

    @property
    def counts(self) -> NDArray[np.float64]:
        """How much each row counts."""
        if self.weights is None:
            return np.ones(len(self.logits))
        return self.weights.astype(np.float64)


def tuned(state: FitState, tunes: Tunes, evidence: Evidence, multi_label: bool) -> FitState:
    """Give the state of a fit with what was tuned.

    Parameters
    ----------
    state : FitState
        As it was.
    tunes : Tunes
        What is to be tuned.
    evidence : Evidence
        On what.
    multi_label : bool
        Whether a text may have any number of classes.
    """
    evidence = evidence.known(multi_label)
    temperature, thresholds, min_probability = 1.0, None, None
    if tunes.temperature and len(evidence.logits):
        temperature = _temperature(tunes, evidence, multi_label)
    # As in predict, which compares calibrated probabilities with them.
    logits = evidence.logits / np.float32(temperature)
    if tunes.thresholds:
        thresholds = _thresholds(logits, evidence)
    if tunes.min_probability and evidence.others is not None and len(evidence.others):
        others = evidence.others / np.float32(temperature)
        trust = trust_of_others(len(others)) if evidence.is_cautious else 1.0
        min_probability = best_min_probability(
            logits, evidence.matrix, others, evidence.weights, trust=trust
        )
    return replace(
        state, temperature=temperature, thresholds=thresholds, min_probability=min_probability
    )


def _temperature(tunes: Tunes, evidence: Evidence, multi_label: bool) -> float:
    logits, matrix, weights = evidence.logits, evidence.matrix, evidence.weights
    told = evidence.held_out if tunes.is_asked_for else None
    if not evidence.is_cautious:
        return best_temperature(logits, matrix, multi_label, weights=weights, told=told)
    n_rows = float(evidence.counts.sum())
    targets = matrix if multi_label else smoothed_targets(matrix, n_rows)
    found = best_temperature(logits, targets, multi_label, weights=weights, told=told)
    return shrunk_temperature(found, n_rows)


def _thresholds(logits: NDArray[np.float32], evidence: Evidence) -> NDArray[np.float32]:
    found = best_thresholds(logits, evidence.matrix, evidence.weights)
    if not evidence.is_cautious:
        return found
    holds = (np.nan_to_num(evidence.matrix) > 0.5) * evidence.counts[:, None]
    supports = holds.sum(axis=0)
    return shrunk_thresholds(np.where(supports > 1, found, np.float32(0.5)), supports)
