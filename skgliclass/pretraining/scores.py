"""How good a model is on rows of several sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import f1_score

from ..datasets.examples import Example
from ..engine.engine import Engine
from .mixture import LabelledSet


def score_sets(engine: Engine, sets: Sequence[LabelledSet]) -> dict[str, float]:
    """Give for each set the F1 score of an engine's zero-shot predictions.

    Parameters
    ----------
    engine : Engine
        What predicts, each row with its own label set.
    sets : sequence of LabelledSet
        The rows.

    Returns
    -------
    dict of str to float
        Macro-F1 over the labels of the set where every row has one true label, and the rows share
        their labels; the accuracy where every row has other labels; micro-F1 at a probability of
        one half where rows have any number of true labels.
    """
    return {source.name: _score(engine, source) for source in sets}


def sample_rows(source: LabelledSet, n: int, seed: int) -> LabelledSet:
    """Give a set with at most `n` of its rows."""
    chosen = np.random.default_rng(seed).permutation(len(source.rows))[:n]
    return LabelledSet(
        source.name, [source.rows[i] for i in sorted(chosen.tolist())], source.wordings
    )


def _score(engine: Engine, source: LabelledSet) -> float:
    # Labels in one order for all rows, so that rows with the same ones go together.
    label_sets = [sorted(row.all_labels) for row in source.rows]
    logits = engine.without_warnings().logits([row.text for row in source.rows], label_sets)
    truth = [_truth(row, labels) for row, labels in zip(source.rows, label_sets, strict=True)]
    if not source.single_label:
        # The engine fills up smaller label sets.
        flat = np.concatenate([v[: len(t)] for v, t in zip(logits, truth, strict=True)])
        return float(f1_score(np.concatenate(truth), flat > 0, zero_division=0))
    predicted = [labels[int(v.argmax())] for v, labels in zip(logits, label_sets, strict=True)]
    true = [labels[int(t.argmax())] for t, labels in zip(truth, label_sets, strict=True)]
    if not source.shares_labels:
        return float(np.mean([a == b for a, b in zip(predicted, true, strict=True)]))
    # A label that no row has would count as an F1 of 0, whatever the model does.
    present = sorted(set(true))
    return float(f1_score(true, predicted, labels=present, average="macro", zero_division=0))


def _truth(row: Example, labels: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    target = dict(zip(row.all_labels, row.targets, strict=True))
    return np.array([target[label] > 0.5 for label in labels])
