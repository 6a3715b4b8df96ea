"""Score labelled texts, each against its own label set, and judge the scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    label_ranking_average_precision_score,
)

from ..datasets import Example
from ..fitting import negative_log_likelihood

if TYPE_CHECKING:
    from ..inference import Engine
    from ..training import Validation

Scores = list[NDArray[np.float32]]
"""For each row one number for each of its labels, in the order of `all_labels`."""


def group_rows(
    examples: Sequence[Example], task_description: str
) -> dict[tuple[tuple[str, ...], str], list[int]]:
    """Put rows together that share their label set and task description.

    Parameters
    ----------
    examples : sequence of Example
        The rows.
    task_description : str
        That of rows without a prompt of their own.

    Returns
    -------
    dict of (labels, task description) to positions of rows
        The labels are sorted, since rows may list the same ones in different orders.
    """
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for i, row in enumerate(examples):
        prompt = task_description if row.prompt is None else row.prompt
        groups.setdefault((tuple(sorted(row.all_labels)), prompt), []).append(i)
    return groups


def spread(values: NDArray[Any], labels: Sequence[str], row: Example) -> NDArray[Any]:
    """Bring numbers for `labels` in the order in which a row lists them."""
    column = {name: j for j, name in enumerate(labels)}
    ordered: NDArray[Any] = values[[column[name] for name in row.all_labels]]
    return ordered


def make_validator(
    examples: Sequence[Example], multi_label: bool, task_description: str
) -> Callable[[Engine], Validation]:
    """Give a function that judges an engine on rows with label sets of their own.

    The score is the accuracy for one label a text and micro-F1 at one half for any number.
    """
    from ..training import Validation

    targets = [np.asarray(row.targets, dtype=np.float32) for row in examples]

    def validate(engine: Engine) -> Validation:
        logits = _row_logits(engine, examples, task_description)
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


def _row_logits(engine: Engine, examples: Sequence[Example], task_description: str) -> Scores:
    scores: Scores = [np.empty(0, dtype=np.float32)] * len(examples)
    for (labels, prompt), rows in group_rows(examples, task_description).items():
        with warnings.catch_warnings():
            # That texts were cut is not to be said anew after every epoch.
            warnings.simplefilter("ignore")
            logits = engine.logits(
                [examples[i].text for i in rows], labels, task_description=prompt
            )
        for i, values in zip(rows, logits, strict=True):
            scores[i] = spread(values, labels, examples[i])
    return scores


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
