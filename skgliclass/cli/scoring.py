"""Score labelled texts, each against its own label set, and judge the scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    label_ranking_average_precision_score,
)

from ..datasets.files import Example, PromptExample
from ..estimators.fitting import negative_log_likelihood
from .errors import CommandError

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..training.loop import Validation

Scores = list[NDArray[np.float32]]
"""For each row one number for each of its labels, in the order of `all_labels`."""


def row_logits(
    engine: Engine,
    examples: Sequence[Example],
    task_description: str,
    *,
    known: Mapping[str, str] | None = None,
    on_progress: Callable[[float], object] | None = None,
) -> Scores:
    """Score every row against its own labels.

    Parameters
    ----------
    engine : Engine
        Of the model.
    examples : sequence of Example
        The rows.
    task_description : str
        That of rows without a prompt of their own.
    known : mapping of str to str, optional
        The label texts of a classifier's classes, in its order, by the name of the class. Other
        labels are read as they are called.
    on_progress : callable, optional
        Called now and then with the number of rows done since the last call.

    Returns
    -------
    list of ndarray of shape (n_labels of the row,)
        The logits, in the order of `all_labels`. They do not depend on it: labels are read in
        the order of `known` by rows that have these, sorted by others.
    """
    from ..engine.options import ScoringOptions

    known = known or {}
    orders = [_order(row, known) for row in examples]
    label_sets = [[known.get(name, name) for name in order] for order in orders]
    shown = _shown_examples(engine, examples, known)
    scores: Scores = [np.empty(0, dtype=np.float32)] * len(examples)
    for prompt, rows in _rows_by_prompt(examples, task_description).items():
        logits = engine.logits(
            [examples[i].text for i in rows],
            [label_sets[i] for i in rows],
            ScoringOptions(task_description=prompt),
            examples=None if shown is None else [shown[i] for i in rows],
            on_progress=on_progress,
        )
        for i, values in zip(rows, logits, strict=True):
            scores[i] = _spread(values, orders[i], examples[i])
    return scores


def has_classes(row: Example, known: Collection[str]) -> bool:
    """Tell whether the labels of a row are a classifier's classes."""
    return len(known) == len(row.all_labels) and all(name in known for name in row.all_labels)


def _order(row: Example, known: Mapping[str, str]) -> list[str]:
    return list(known) if has_classes(row, known) else sorted(row.all_labels)


def _rows_by_prompt(examples: Sequence[Example], task_description: str) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(examples):
        groups.setdefault(task_description if row.prompt is None else row.prompt, []).append(i)
    return groups


def _spread(values: NDArray[np.float32], labels: Sequence[str], row: Example) -> NDArray[Any]:
    """Bring numbers for `labels` in the order in which a row lists them."""
    column = {name: j for j, name in enumerate(labels)}
    ordered: NDArray[Any] = values[[column[name] for name in row.all_labels]]
    return ordered


# In-context examples.


def check_examples(engine: Engine, examples: Sequence[Example], name: str) -> None:
    """Check the in-context examples of rows, and warn where the model has no place for them.

    Parameters
    ----------
    engine : Engine
        Of the model.
    examples : sequence of Example
        The rows.
    name : str
        The file that they come from.

    Raises
    ------
    CommandError
        If an example has a label that is not among those of its row.
    """
    from ..prompts.examples import can_show_examples, check_labels_known

    n_rows = sum(bool(row.examples) for row in examples)
    if n_rows and not can_show_examples(engine.composer):
        warnings.warn(
            f"{n_rows} of {len(examples)} rows have in-context examples, which are not used: the "
            "model has no place for them",
            stacklevel=2,
        )
        return
    for number, row in enumerate(examples, 1):
        try:
            check_labels_known(row.examples, row.all_labels, "examples")
        except ValueError as error:
            raise CommandError(f"{name}: in row {number}, {error}") from error


def _shown_examples(
    engine: Engine, examples: Sequence[Example], known: Mapping[str, str]
) -> list[list[PromptExample]] | None:
    from ..prompts.examples import can_show_examples

    if not any(row.examples for row in examples) or not can_show_examples(engine.composer):
        return None
    return [
        [
            PromptExample(shown.text, [known.get(name, name) for name in shown.labels])
            for shown in row.examples
        ]
        for row in examples
    ]


# Validation.


def make_validator(
    examples: Sequence[Example], multi_label: bool, task_description: str
) -> Callable[[Engine], Validation]:
    """Give a function that judges an engine on rows with label sets of their own.

    The score is the accuracy for one label a text and micro-F1 at one half for any number.
    """
    from ..training.loop import Validation

    targets = [np.asarray(row.targets, dtype=np.float32) for row in examples]

    def validate(engine: Engine) -> Validation:
        with warnings.catch_warnings():
            # That texts were cut is not to be said anew after every epoch.
            warnings.simplefilter("ignore")
            logits = row_logits(engine, examples, task_description)
        if multi_label:
            flat, truth = np.concatenate(logits), np.concatenate(targets)
            score = f1_score(truth > 0.5, flat > 0, zero_division=0)
            return Validation(float(score), negative_log_likelihood(flat, truth, True))
        pairs = list(zip(logits, targets, strict=True))
        return Validation(
            float(np.mean([a.argmax() == b.argmax() for a, b in pairs])),
            float(np.mean([negative_log_likelihood(a[None], b[None], False) for a, b in pairs])),
        )

    return validate


# Judging.


class Judgement:
    """The metrics of one evaluation.

    Parameters
    ----------
    examples : sequence of Example
        The rows. A label is true where its target is above one half; of one label a text it is
        the one with the highest target.
    probabilities : list of ndarray
        For each row those of its labels.
    chosen : list of ndarray of bool
        For each row which of its labels were predicted.
    multi_label : bool
        Whether a text may have any number of labels.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        probabilities: Scores,
        chosen: Sequence[NDArray[np.bool_]],
        multi_label: bool,
    ) -> None:
        self.multi_label = multi_label
        self.labels = sorted({label for row in examples for label in row.all_labels})
        column = {label: j for j, label in enumerate(self.labels)}
        shape = len(examples), len(self.labels)
        self.truth, self.predicted = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        # Below any probability: a label that a row does not offer ranks after those it does.
        self.scores = np.full(shape, -1.0)
        for i, row in enumerate(examples):
            columns = [column[label] for label in row.all_labels]
            targets = np.asarray(row.targets)
            true = targets > 0.5 if multi_label else np.arange(len(targets)) == targets.argmax()
            self.truth[i, columns], self.predicted[i, columns] = true, chosen[i]
            self.scores[i, columns] = probabilities[i]

    def metrics(self) -> dict[str, float]:
        """Give the figures, as scikit-learn's functions of these names define them.

        For any number of labels the accuracy is that of whole label sets, and ``lrap`` is the
        label ranking average precision.
        """
        truth, predicted = self._as_targets()
        values = {
            "accuracy": accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
            "micro_f1": f1_score(truth, predicted, average="micro", zero_division=0),
        }
        if self.multi_label:
            values["lrap"] = label_ranking_average_precision_score(self.truth, self.scores)
        return {name: float(value) for name, value in values.items()}

    def report(self, *, as_dict: bool) -> Any:
        """Give precision, recall, F1 and support of every class, as text or as a dict."""
        truth, predicted = self._as_targets()
        names = {"target_names": self.labels} if self.multi_label else {}
        return classification_report(
            truth, predicted, zero_division=0, output_dict=as_dict, digits=4, **names
        )

    def _as_targets(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.multi_label:
            return self.truth.astype(int), self.predicted.astype(int)
        labels = np.asarray(self.labels)
        return labels[self.truth.argmax(axis=1)], labels[self.predicted.argmax(axis=1)]
