"""Learning without touching the model: label vectors and biases alone, from labelled rows or none.

The texts are encoded once, in the passes that give their logits; what follows sees their vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.change import LogitChange
from ..engine.neighbours import unit_vectors
from ..exceptions import warn
from .calibration import HeldOut
from .learnt_rows import LearntRows
from .problem import ExampleWindows, SharedExamples, Texts
from .scoring import ScoringPlan
from .tuning import Evidence

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.votes import Store
    from ..modeling.losses import LossOptions
    from ..prompts.examples import PromptExample
    from ..training.anchored import LabelChange

_TEXTS_OF_WINDOW = 1 << 16


@dataclass(frozen=True)
class LabelOptions:
    """How label vectors and biases are learnt.

    Attributes
    ----------
    multi_label : bool
        Whether a text may have any number of classes.
    penalty : float or None
        What a large change costs; None leaves it to the number of rows.
    loss : LossOptions
        What is minimised on the labelled rows.
    """

    multi_label: bool
    penalty: float | None
    loss: LossOptions


@dataclass(frozen=True, eq=False)
class LearntLabels:
    """What was learnt, and how long it took.

    Attributes
    ----------
    change : LogitChange
        What is added to logits.
    rows : LearntRows
        What it was learnt from.
    judged : LearntRows
        Those of them that the evidence is of, equal ones as one.
    n_iter : int
        The steps of the search.
    loss_curve : tuple of float
        What was minimised after each step, divided by the number of rows.
    evidence : Evidence or None
        What is learnt without each of the judged rows says of it, where that was wanted.
    """

    change: LogitChange
    rows: LearntRows
    judged: LearntRows
    n_iter: int
    loss_curve: tuple[float, ...]
    evidence: Evidence | None = None


def penalty_of(label_penalty: Any) -> float | None:
    """Read the parameter `label_penalty`; None leaves it to the number of rows."""
    return None if isinstance(label_penalty, str) else float(label_penalty)


def encoded(
    engine: Engine,
    plan: ScoringPlan,
    texts: Sequence[str],
    examples: Sequence[Sequence[PromptExample]] | None = None,
    on_progress: Callable[[float], object] | None = None,
    *,
    x: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the vectors and the logits of texts for all classes, in one pass.

    The vectors are written into `x` where it is given.

    Returns
    -------
    x : ndarray of shape (n_texts, width)
    logits : ndarray of shape (n_texts, n_classes)
    """
    vectors = np.empty((len(texts), engine.width), dtype=np.float32) if x is None else x
    logits = engine.logits(
        texts,
        **plan.of_all_classes().arguments(examples) | {"on_vectors": vectors.__setitem__},
        on_progress=on_progress,
    )
    return vectors, logits


def encoded_rows(
    engine: Engine,
    plan: ScoringPlan,
    training: ExampleWindows,
    store: Store | None,
    on_progress: Callable[[float], object] | None = None,
) -> LearntRows:
    """Encode labelled texts, window by window; what is kept are vectors, logits and targets."""
    rows = LearntRows.blank(len(training), len(plan.label_set), engine.width)
    start = 0
    for window in training.windows():
        assert isinstance(window, SharedExamples)
        part = slice(start, start + len(window))
        shown = window.prompt_examples(engine, plan, store, exclude_self=True)
        _, rows.logits[part] = encoded(
            engine, plan, window.texts, shown, on_progress, x=rows.x[part]
        )
        rows.targets[part] = window.matrix
        if window.weights is not None:
            rows.weights[part] = window.weights
        start = part.stop
    return rows


def encoded_texts(
    engine: Engine,
    plan: ScoringPlan,
    texts: Texts,
    store: Store | None,
    on_progress: Callable[[float], object] | None = None,
) -> NDArray[np.float32]:
    """Encode texts without labels, window by window; what is kept are their vectors.

    Blank ones tell nothing of any label, but all have the same vector, to which they would draw
    one. They are left out.
    """
    x = np.empty((len(texts), engine.width), dtype=np.float32)
    start, remaining = 0, filter(str.strip, texts)
    while window := list(islice(remaining, _TEXTS_OF_WINDOW)):
        shown = plan.examples_for(engine, window, store)
        part = slice(start, start + len(window))
        encoded(engine, plan, window, shown, on_progress, x=x[part])
        start = part.stop
    if on_progress is not None:
        on_progress(len(texts) - start)
    return x[:start]


def vectors_alone(engine: Engine, plan: ScoringPlan, texts: Sequence[str]) -> NDArray[np.float32]:
    """Give the vectors of labelled texts as those that are scored have them, without a warning.

    Returns
    -------
    ndarray of shape (n_texts, width)
    """
    x = np.empty((len(texts), engine.width), dtype=np.float32)
    if len(texts):
        shown = plan.examples_for(engine, texts, None, exclude_self=True)
        arguments = plan.of_all_classes().arguments(shown)
        # The vector is that of the text alone, but no pass is made without any label; examples in
        # the prompt name theirs.
        label_texts = plan.class_texts if plan.examples else plan.class_texts[:1]
        own = {"label_texts": label_texts, "change": None, "on_vectors": x.__setitem__}
        engine.without_warnings().logits(texts, **{**arguments, **own})
    return x


def learn(
    rows: LearntRows,
    distinct: LearntRows,
    texts: Sequence[str],
    label_weights: NDArray[np.float32] | None,
    options: LabelOptions,
    start: LogitChange | None = None,
    *,
    holds_out: bool = False,
) -> LearntLabels:
    """Find the change that explains labelled rows best, and is small.

    Parameters
    ----------
    rows : LearntRows
        The rows; without any, where they would begin is all that changes.
    distinct : LearntRows
        The same, merged: in any order, or as weights, they are the same to the last digit.
    texts : sequence of str of length n_classes
        The label texts.
    label_weights : ndarray of shape (n_classes,) or None
        How much each class's cells weigh.
    options : LabelOptions
        How.
    start : LogitChange, optional
        Where the search begins.
    holds_out : bool, default=False
        Whether to give what is learnt without each row, too.
    """
    from ..training.anchored import LabelChange

    first = LabelChange.nothing(*rows.moved.shape)
    if start is not None:
        begin = start.of_texts(texts)
        first = LabelChange(begin.vectors - rows.moved, begin.biases - rows.first_biases)
    found, judged, evidence = LabelChange.nothing(*rows.moved.shape), distinct, None
    if len(distinct.x):
        found, held_out = _explaining(distinct, label_weights, options, first, holds_out)
        if held_out is not None:
            judged = distinct.take(held_out[0])
            evidence = Evidence(
                held_out[1].astype(np.float32),
                judged.targets,
                judged.weights,
                is_cautious=True,
                held_out=HeldOut.IN_TURN,
            )
    change = LogitChange(
        tuple(texts),
        np.asarray(found.vectors + rows.moved, dtype=np.float32),
        np.asarray(found.biases + rows.first_biases, dtype=np.float32),
    )
    return LearntLabels(change, rows, judged, found.n_iter, found.loss_curve, evidence)


def _explaining(
    rows: LearntRows,
    label_weights: NDArray[np.float32] | None,
    options: LabelOptions,
    start: LabelChange,
    holds_out: bool,
) -> tuple[LabelChange, tuple[NDArray[np.intp], Any] | None]:
    """Find as much of what explains the rows as is trusted, and what rows get without it.

    The latter are places of rows, and logits of them that each was held out from.
    """
    from ..training.anchored import fit_label_change
    from ..training.folds import held_out_logits, is_judged, trusted_share

    x, base, targets, how = rows.x, rows.first_logits, rows.targets, _how(options)
    weights = rows.weights if label_weights is None else rows.weights[:, None] * label_weights
    found = fit_label_change(x, base, targets, weights=weights, start=start, **how)
    # A penalty that somebody chose is the whole answer to how large a change may be.
    trusts = options.multi_label or options.penalty is not None
    judges, held_out, share = not trusts and is_judged(x), None, 1.0
    if judges or holds_out:
        held_out = held_out_logits(x, base, targets, weights=weights, start=found, **how)
    if not trusts:
        share = trusted_share(base, held_out if judges else None, targets, weights)
    if held_out is None or not holds_out:
        return found.times(share), None
    places, logits = held_out
    return found.times(share), (places, base[places] + share * (logits - base[places]))


def _how(options: LabelOptions) -> dict[str, Any]:
    """Give the arguments that all fits of the rows share."""
    return {
        "multi_label": options.multi_label,
        "penalty": options.penalty,
        "gamma": options.loss.focal_gamma,
        "alpha": options.loss.focal_alpha,
        "label_smoothing": options.loss.label_smoothing,
    }


def moved_by_texts(
    engine: Engine,
    plan: ScoringPlan,
    unlabelled: NDArray[np.float32],
    rows: LearntRows,
) -> NDArray[np.float32]:
    """Give what texts without labels change, beside those with labels.

    Parameters
    ----------
    engine : Engine
        Of the model.
    plan : ScoringPlan
        With the classes.
    unlabelled : ndarray of shape (n_texts, width)
        The vectors of the texts without labels.
    rows : LearntRows
        Those with labels, merged.

    Returns
    -------
    ndarray of shape (n_classes, width), float32
        In units of logits; zeros where there are none.
    """
    from ..training.anchored import move_label_vectors

    scale = engine.cosine_scale
    if scale is None or not len(unlabelled):
        return np.zeros_like(rows.moved)
    labels = unit_vectors(engine.label_vectors(plan.class_texts))
    texts, known, weights = unlabelled, None, np.ones(len(unlabelled), np.float32)
    if len(rows.x):
        unknown = np.full((len(unlabelled), len(labels)), np.nan, dtype=np.float32)
        known = np.concatenate([unknown, rows.targets])
        texts, weights = np.concatenate([texts, rows.x]), np.concatenate([weights, rows.weights])
    moved = move_label_vectors(
        labels,
        texts,
        scale=scale,
        multi_label=plan.multi_label,
        known=known,
        weights=weights,
    )
    return np.asarray(scale * (moved - labels), dtype=np.float32)


def that_teach(engine: Engine, unlabelled: Texts, n_labelled: int) -> Texts:
    """Give the texts without labels that a model learns from: all of them, or none.

    Raises
    ------
    ValueError
        Where it learns from none, and there are no others.
    """
    if engine.cosine_scale is not None or not len(unlabelled):
        return unlabelled
    why = (
        "Texts without labels teach nothing to this model, which reads labels and text together or "
        "compares them by more than their direction: what they move are the label vectors of "
        "bi-encoders with vectors of length one, as model='mini' is"
    )
    if not n_labelled:
        raise ValueError(f"{why}. Give y, or choose such a model.")
    warn(f"{why}. Those without labels are left out.")
    return []
