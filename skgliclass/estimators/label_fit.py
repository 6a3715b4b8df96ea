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
from .learnt_rows import LearntRows
from .problem import ExampleWindows, SharedExamples, Texts
from .scoring import ScoringPlan

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.retrieval import ExampleStore
    from ..engine.votes import VoteStore
    from ..modeling.losses import LossOptions
    from ..prompts.examples import PromptExample
    from ..training.anchored import LabelChange

_MOST_FOLDED, _HELD_OUT = 10_000, 2_000
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
    n_iter : int
        The steps of the search.
    loss_curve : tuple of float
        What was minimised after each step, divided by the number of rows.
    share : float
        How much of what explains the rows best was taken.
    """

    change: LogitChange
    rows: LearntRows
    n_iter: int
    loss_curve: tuple[float, ...]
    share: float = 1.0


def penalty_of(label_penalty: Any) -> float | None:
    """Read the parameter `label_penalty`; None leaves it to the number of rows."""
    return None if isinstance(label_penalty, str) else float(label_penalty)


def encoded(
    engine: Engine,
    plan: ScoringPlan,
    texts: Sequence[str],
    examples: Sequence[Sequence[PromptExample]] | None = None,
    on_progress: Callable[[float], object] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the vectors and the logits of texts for all classes, in one pass.

    Returns
    -------
    x : ndarray of shape (n_texts, width)
    logits : ndarray of shape (n_texts, n_classes)
    """
    x = np.empty((len(texts), engine.width), dtype=np.float32)

    def keep(rows: slice, vectors: NDArray[np.float32]) -> None:
        x[rows] = vectors

    logits = engine.logits(
        texts,
        **plan.of_all_classes().arguments(examples) | {"on_vectors": keep},
        on_progress=on_progress,
    )
    return x, logits


def encoded_rows(
    engine: Engine,
    plan: ScoringPlan,
    training: ExampleWindows,
    store: ExampleStore | VoteStore | None,
    on_progress: Callable[[float], object] | None = None,
) -> LearntRows:
    """Encode labelled texts, window by window; what is kept are vectors, logits and targets."""
    rows = LearntRows.blank(len(training), len(plan.label_set), engine.width)
    start = 0
    for window in training.windows():
        assert isinstance(window, SharedExamples)
        part = slice(start, start + len(window))
        shown = window.prompt_examples(engine, plan, store, exclude_self=True)
        rows.x[part], rows.logits[part] = encoded(engine, plan, window.texts, shown, on_progress)
        rows.targets[part] = window.matrix
        if window.weights is not None:
            rows.weights[part] = window.weights
        start = part.stop
    return rows


def encoded_texts(
    engine: Engine,
    plan: ScoringPlan,
    texts: Texts,
    store: ExampleStore | VoteStore | None,
    on_progress: Callable[[float], object] | None = None,
) -> NDArray[np.float32]:
    """Encode texts without labels, window by window; what is kept are their vectors."""
    x = np.empty((len(texts), engine.width), dtype=np.float32)
    start, remaining = 0, iter(texts)
    while window := list(islice(remaining, _TEXTS_OF_WINDOW)):
        shown = plan.examples_for(engine, window, store)
        part = slice(start, start + len(window))
        x[part], _ = encoded(engine, plan, window, shown, on_progress)
        start = part.stop
    return x


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
    texts: Sequence[str],
    label_weights: NDArray[np.float32] | None,
    options: LabelOptions,
    start: LogitChange | None = None,
) -> LearntLabels:
    """Find the change that explains labelled rows best, and is small.

    Parameters
    ----------
    rows : LearntRows
        The rows; without any, where they would begin is all that changes.
    texts : sequence of str of length n_classes
        The label texts.
    label_weights : ndarray of shape (n_classes,) or None
        How much each class's cells weigh.
    options : LabelOptions
        How.
    start : LogitChange, optional
        Where the search begins.
    """
    from ..training.anchored import LabelChange

    first = LabelChange.nothing(*rows.moved.shape)
    if start is not None:
        begin = start.of_texts(texts)
        first = LabelChange(begin.vectors - rows.moved, begin.biases - rows.first_biases)
    found, share = LabelChange.nothing(*rows.moved.shape), 1.0
    if len(rows.x):
        found, share = _explaining(rows, label_weights, options, first)
    change = LogitChange(
        tuple(texts),
        np.asarray(found.vectors + rows.moved, dtype=np.float32),
        np.asarray(found.biases + rows.first_biases, dtype=np.float32),
    )
    return LearntLabels(change, rows, found.n_iter, found.loss_curve, share)


def _explaining(
    rows: LearntRows,
    label_weights: NDArray[np.float32] | None,
    options: LabelOptions,
    start: LabelChange,
) -> tuple[LabelChange, float]:
    """Find what explains the rows, beside where they begin, and how much of it to take."""
    from ..training.anchored import fit_label_change, trusted

    logits, how = rows.first_logits, _how(rows, label_weights, options)
    multi_label = options.multi_label
    found = fit_label_change(
        rows.x, logits, rows.targets, multi_label=multi_label, start=start, **how
    )
    # A penalty that somebody chose is the whole answer to how large a change may be.
    if options.multi_label or options.penalty is not None:
        return found, 1.0
    taken = trusted(found, rows.x, logits, rows.targets, **how)
    size = float(np.linalg.norm(found.vectors))
    return taken, float(np.linalg.norm(taken.vectors)) / size if size else 1.0


def _how(
    rows: LearntRows, label_weights: NDArray[np.float32] | None, options: LabelOptions
) -> dict[str, Any]:
    """Give the arguments that all fits of the rows share."""
    return {
        "weights": rows.weights if label_weights is None else rows.weights[:, None] * label_weights,
        "penalty": options.penalty,
        "gamma": options.loss.focal_gamma,
        "alpha": options.loss.focal_alpha,
        "label_smoothing": options.loss.label_smoothing,
    }


def held_out_logits(
    learnt: LearntLabels, label_weights: NDArray[np.float32] | None, options: LabelOptions
) -> NDArray[np.float32]:
    """Give each labelled row the logits that what is learnt without it gives.

    Parameters
    ----------
    learnt : LearntLabels
        What all rows taught, where each search begins.
    label_weights, options
        As in :func:`learn`.

    Returns
    -------
    ndarray of shape (n_rows, n_classes), float32
        NaN for a row without weight, or whose class has no other. Of more than 10,000 rows about
        2,000 are held out, in one search in place of five.
    """
    from ..training.anchored import LabelChange

    rows, change, share = learnt.rows, learnt.change, max(learnt.share, 1e-6)
    start = LabelChange(
        (change.vectors - rows.moved) / share, (change.biases - rows.first_biases) / share
    )
    logits = np.full(rows.logits.shape, np.nan, dtype=np.float32)
    # A row without weight is evidence of nothing.
    counts = rows.weights > 0
    if counts.any():
        logits[counts] = _held_out(rows.take(counts), label_weights, options, start, learnt.share)
    return logits


def _held_out(
    rows: LearntRows,
    label_weights: NDArray[np.float32] | None,
    options: LabelOptions,
    start: LabelChange,
    share: float,
) -> NDArray[np.floating[Any]]:
    from ..training.anchored import fit_label_change, out_of_fold_logits

    x, base, targets = rows.x, rows.first_logits, rows.targets
    how = {**_how(rows, label_weights, options), "multi_label": options.multi_label, "start": start}
    # Near enough, from where all rows ended: a temperature does not tell more digits.
    how["max_iter"] = 50
    if len(x) <= _MOST_FOLDED:
        logits = out_of_fold_logits(x, base, targets, **how)
    else:
        kept = np.arange(len(x)) % (len(x) // _HELD_OUT) > 0
        weights = how.pop("weights")[kept]
        found = fit_label_change(x[kept], base[kept], targets[kept], weights=weights, **how)
        logits = np.full(base.shape, np.nan)
        logits[~kept] = found.logits(x[~kept], base[~kept])
    return np.asarray(base + share * (logits - base))


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
        Those with labels.

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
    unknown = np.full((len(unlabelled), len(labels)), np.nan, dtype=np.float32)
    moved = move_label_vectors(
        labels,
        np.concatenate([unlabelled, rows.x]),
        scale=scale,
        multi_label=plan.multi_label,
        known=np.concatenate([unknown, rows.targets]),
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
        "Texts without labels teach nothing to this model: only bi-encoders that compare vectors "
        "of length one by their cosine, as model='mini' does, learn from them"
    )
    if not n_labelled:
        raise ValueError(f"{why}. Give y, or choose such a model.")
    warn(f"{why}. Those without labels are left out.")
    return []
