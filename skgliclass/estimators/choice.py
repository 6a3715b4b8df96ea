"""What ``trainable="auto"`` changes: the labels alone, or all weights of the model, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .fit import epochs_of
from .problem import ExampleWindows, Problem

if TYPE_CHECKING:
    from ..engine.engine import Engine

FEW_ROWS_A_CLASS = 64
"""Up to how many labelled rows a class, on average, label vectors and biases alone are learnt.

With 8 they are as good as all weights. With 32 they lose .02 and take seconds in place of minutes;
with 128 they lose as much, and who has so many rows has the minutes (benchmarks/README.md, "Few
labels or none")."""

MOST_OPERATIONS = {"cpu": 3e14}
MOST_OPERATIONS_ELSEWHERE = 3e16
"""How many floating-point operations training may take: about an hour's on two cores."""

_CHARACTERS_A_TOKEN = 4
_OPERATIONS_A_WEIGHT = 6
"""Of a token, forward and back (Kaplan et al. 2020, arXiv:2001.08361)."""


def automatic_trainable(
    problem: Problem,
    engine: Engine,
    parameters: Mapping[str, Any],
    *,
    goes_on: bool,
    is_tuned: bool,
) -> str:
    """Choose what a fit changes.

    Parameters
    ----------
    problem : Problem
        What is to be learnt.
    engine : Engine
        Of the model to start from.
    parameters : mapping of str to Any
        Those of the classifier, by name.
    goes_on : bool
        Whether further calls bring more rows, as with ``partial_fit``.
    is_tuned : bool
        Whether the weights were trained by an earlier call.

    Returns
    -------
    {"labels", "all"}
    """
    training = problem.training
    # Fresh heads know nothing, and labels of single rows are not there for the next one.
    if not engine.loaded.zero_shot or not training.shares_classes:
        return "all"
    if not len(training):
        return "labels"
    if goes_on:
        return "all" if is_tuned else "labels"
    if training.texts_a_class <= FEW_ROWS_A_CLASS:
        return "labels"
    on = engine.loaded.network.device.type
    most = MOST_OPERATIONS.get(on, MOST_OPERATIONS_ELSEWHERE)
    n_epochs = epochs_of(parameters, len(training))
    label_texts, batch_size = problem.label_set.texts, parameters["batch_size"]
    n_operations = n_epochs * operations_of_epoch(training, label_texts, engine, batch_size)
    return "all" if n_operations <= most else "labels"


def operations_of_epoch(
    training: ExampleWindows, label_texts: Sequence[str], engine: Engine, batch_size: int
) -> float:
    """Estimate the floating-point operations of training all weights on each text once."""
    network = engine.loaded.network
    of_texts = training.text_lengths / _CHARACTERS_A_TOKEN
    of_labels = sum(2 + len(text) / _CHARACTERS_A_TOKEN for text in label_texts)
    if network.has_label_encoder:
        # Once for all rows of a step.
        of_steps = of_labels * len(training) / batch_size
        n_tokens = np.minimum(of_texts, engine.max_length).sum() + of_steps
    else:
        n_tokens = np.minimum(of_texts + of_labels, engine.max_length).sum()
    return float(_OPERATIONS_A_WEIGHT * network.n_layer_weights * n_tokens)
