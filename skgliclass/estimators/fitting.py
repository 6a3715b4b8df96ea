"""From X and y to trained weights: what ``fit`` does between validation and storing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight

from ..exceptions import TruncationWarning
from .labels import LabelSet
from .targets import Targets

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.retrieval import ExampleStore
    from ..prompts.examples import PromptExample
    from ..training.data import TrainingSet
    from ..training.loop import Validation
    from ..training.tuned_weights import TunedWeights


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts with their targets and weights."""

    texts: Sequence[str]
    matrix: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def take(self, rows: NDArray[np.intp]) -> Examples:
        """Give some of the examples."""
        weights = None if self.weights is None else self.weights[rows]
        return Examples([self.texts[i] for i in rows], self.matrix[rows], weights)


@dataclass(frozen=True, eq=False)
class FitState:
    """What a fit leaves in an estimator, set all at once when everything worked.

    Attributes
    ----------
    label_set : LabelSet
        The classes and their label texts.
    given_labels : LabelSet or None
        What the `labels` parameter meant then, by which a later change of it is noticed.
    weights : TunedWeights or None
        What training changed; None if nothing was trained.
    temperature : float
        What logits are divided by before they become probabilities.
    thresholds : ndarray of shape (n_classes,) or None
        Those tuned on validation data.
    store : ExampleStore or None
        The labelled texts to retrieve from, where they are wanted.
    """

    label_set: LabelSet
    given_labels: LabelSet | None
    weights: TunedWeights | None
    temperature: float
    thresholds: NDArray[np.float32] | None
    store: ExampleStore | None = None


def automatic_epochs(n_samples: int, batch_size: int) -> int:
    """Choose how many epochs to train: many of few examples, few of many.

    Parameters
    ----------
    n_samples, batch_size : int
        How many examples there are, and how many make an optimizer step.

    Returns
    -------
    int
        Enough for about 200 steps, but between 3 and 10.
    """
    steps = max(1, -(-n_samples // batch_size))
    return int(np.clip(round(200 / steps), 3, 10))


def split_off_validation(
    examples: Examples, fraction: float, multi_label: bool, random_state: Any
) -> tuple[Examples, Examples]:
    """Set examples aside, with all classes in both parts where there are enough of each.

    Parameters
    ----------
    examples : Examples
        All of them.
    fraction : float
        The share to set aside.
    multi_label : bool
        With any number of labels a text there is no stratification.
    random_state : int, RandomState or None
        The source of randomness.

    Returns
    -------
    training, validation : Examples

    Raises
    ------
    ValueError
        If there are fewer than two examples.
    """
    n = len(examples.texts)
    if n < 2:
        raise ValueError(
            f"validation_fraction={fraction} cannot be set aside from {n} example(s). Give more, "
            "or pass X_val and y_val."
        )
    classes = None if multi_label else examples.matrix.argmax(axis=1)
    n_validation = min(n - 1, max(1, round(fraction * n)))
    if classes is not None:
        counts = np.bincount(classes)
        n_classes = int((counts > 0).sum())
        if counts[counts > 0].min() < 2 or min(n_validation, n - n_validation) < n_classes:
            classes = None
    training, validation = train_test_split(
        np.arange(n), test_size=n_validation, random_state=random_state, stratify=classes
    )
    return examples.take(np.sort(training)), examples.take(np.sort(validation))


def labelled_examples(training: Examples, label_texts: Sequence[str]) -> list[PromptExample]:
    """Give the training texts that prompts may show, with the labels that are likelier than not.

    A text without a weight or without a word is not shown.
    """
    from ..prompts.examples import PromptExample

    weights = np.ones(len(training.texts)) if training.weights is None else training.weights
    return [
        PromptExample(text, [label_texts[k] for k in np.flatnonzero(row > 0.5).tolist()])
        for text, row, weight in zip(training.texts, training.matrix, weights, strict=True)
        if weight > 0 and text.strip()
    ]


def example_weights(
    targets: Targets, sample_weight: Any, class_weight: Any, multi_label: bool
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Turn `sample_weight` and `class_weight` into weights of texts and of labels.

    Returns
    -------
    weights : ndarray of shape (n_samples,) or None
        For one label a text both are here.
    label_weights : ndarray of shape (n_classes,) or None
        For any number of labels, what each class's pairs weigh.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, the shape does not fit, a class is unknown, or
        nothing has a positive weight.
    """
    weights = None if sample_weight is None else _checked_weights(sample_weight, targets)
    if class_weight is None:
        return weights, None
    of_class = _weights_of_classes(targets, class_weight, multi_label)
    if multi_label:
        return weights, of_class
    own = of_class[targets.matrix.argmax(axis=1)]
    return (own if weights is None else weights * own), None


def _checked_weights(sample_weight: Any, targets: Targets) -> NDArray[np.float32]:
    weights = np.asarray(sample_weight, dtype=np.float32)
    n = len(targets.matrix)
    if weights.ndim == 0:
        weights = np.full(n, weights, dtype=np.float32)
    if weights.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}, but there are {n} samples; expected ({n},)."
        )
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"sample_weight[{i}] is {weights[i]}; a weight is a finite number of at least 0."
        )
    if not weights.any():
        raise ValueError("sample_weight is zero for all samples; there is nothing to learn from.")
    return weights


def _weights_of_classes(
    targets: Targets, class_weight: Any, multi_label: bool
) -> NDArray[np.float32]:
    classes = targets.label_set.classes.tolist()
    if isinstance(class_weight, str):
        if multi_label:
            present = targets.matrix.sum(axis=0)
            mean = present.sum() / max(1, int((present > 0).sum()))
            balanced = np.where(present > 0, mean / np.maximum(present, 1e-9), 1.0)
            return balanced.astype(np.float32)
        rows = targets.matrix.argmax(axis=1)
        seen = np.unique(rows)
        weights = np.ones(len(classes), dtype=np.float32)
        weights[seen] = compute_class_weight("balanced", classes=seen, y=rows)
        return weights
    unknown = [key for key in class_weight if key not in classes]
    if unknown:
        raise ValueError(f"class_weight names unknown classes: {unknown[:5]}.")
    return np.asarray([class_weight.get(value, 1.0) for value in classes], dtype=np.float32)


def warn_of_cut_texts(engine: Engine, data: TrainingSet) -> None:
    """Warn, with a count, of texts of which training reads the beginning alone."""
    n_cut = data.n_cut
    if n_cut:
        warnings.warn(
            f"{n_cut} of {len(data)} texts to learn from did not fit beside the labels in "
            f"max_length={engine.max_length} tokens; training reads only the beginning of each. "
            "Raise max_length if the model allows it.",
            TruncationWarning,
            stacklevel=3,
        )


def make_validator(
    examples: Examples, multi_label: bool, logits_of: Callable[[Engine], NDArray[np.float32]]
) -> Callable[[Engine], Validation]:
    """Give a function that judges an engine on held-out examples by the logits of their texts.

    The score is the accuracy for one label a text and micro-F1 at one half for any number.
    """
    from ..training.loop import Validation

    def validate(engine: Engine) -> Validation:
        with warnings.catch_warnings():
            # Said once for all texts when they were tokenised.
            warnings.simplefilter("ignore")
            logits = logits_of(engine)
        return Validation(
            score_of(logits, examples.matrix, multi_label),
            negative_log_likelihood(logits, examples.matrix, multi_label),
        )

    return validate


def score_of(logits: NDArray[np.float32], matrix: NDArray[np.float32], multi_label: bool) -> float:
    """Give accuracy, or micro-F1 at a probability of one half."""
    if not multi_label:
        return float((logits.argmax(axis=1) == matrix.argmax(axis=1)).mean())
    return float(f1_score(matrix > 0.5, logits > 0, average="micro", zero_division=0))


def negative_log_likelihood(
    logits: NDArray[np.float32], matrix: NDArray[np.float32], multi_label: bool
) -> float:
    """Give the mean cross-entropy, over texts or over text-label pairs."""
    values = logits.astype(np.float64)
    if multi_label:
        return float((np.logaddexp(0, values) - matrix * values).mean())
    return float(-(matrix * log_softmax(values, axis=1)).sum(axis=1).mean())


def best_temperature(
    logits: NDArray[np.float32], matrix: NDArray[np.float32], multi_label: bool
) -> float:
    """Find what to divide logits by for the lowest cross-entropy (Guo et al. 2017).

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        On validation data.
    matrix : ndarray of shape (n_samples, n_classes)
        The targets.
    multi_label : bool
        Whether probabilities are sigmoids or softmax.

    Returns
    -------
    float
        Between 1/20 and 20; 1 where the data do not tell.

    Warns
    -----
    UserWarning
        If the cross-entropy has no lowest point, as where every prediction is right already: the
        more certain the better then, whatever the frequencies of other texts.
    """
    from scipy.optimize import minimize_scalar

    limit = np.log(20)

    def loss(log_t: float) -> float:
        return negative_log_likelihood(logits / np.exp(log_t), matrix, multi_label)

    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded")
    if min(loss(-limit), loss(limit)) <= found.fun + 1e-6:
        warnings.warn(
            f"calibrate=True: the {len(logits)} validation texts do not tell how certain the model "
            "may be, for instance because all are classified right, so the temperature stays 1. "
            "Give more of them: X_val and y_val, or a larger validation_fraction.",
            UserWarning,
            stacklevel=2,
        )
        return 1.0
    return float(np.exp(found.x))


def best_thresholds(
    logits: NDArray[np.float32], matrix: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Find for each class the probability with the highest F1 as a threshold.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        On validation data, divided by the temperature.
    matrix : ndarray of shape (n_samples, n_classes)
        The targets.

    Returns
    -------
    ndarray of shape (n_classes,), float32
        Midway between neighbouring probabilities; one half for a class without a true example,
        and the one nearest to one half where several are as good.
    """
    probabilities: NDArray[np.float64] = expit(logits.astype(np.float64))
    thresholds = [
        _best_threshold(scores, truth > 0.5)
        for scores, truth in zip(probabilities.T, list(matrix.T), strict=True)
    ]
    return np.asarray(thresholds, dtype=np.float32)


def _best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    if not truth.any():
        return 0.5
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2, [0.5]])
    chosen = scores[None, :] >= candidates[:, None]
    hits = (chosen & truth).sum(axis=1)
    f1 = 2 * hits / (chosen.sum(axis=1) + truth.sum())
    best = candidates[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])
