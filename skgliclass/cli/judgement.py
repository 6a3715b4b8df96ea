"""Judge predictions by the true labels of rows that may each have a label set of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    label_ranking_average_precision_score,
)

from ..datasets.examples import Example

_NO_LABEL = "(none)"
_SUMMARIES = ("accuracy", "micro avg", "macro avg", "weighted avg", "samples avg")


class Judgement:
    """The metrics of one evaluation.

    Parameters
    ----------
    examples : sequence of Example
        The rows. A label is true where its target is above one half; of one label a text it is
        the one with the highest target.
    ranking : DataFrame
        What ``predict_top`` says of all labels of the rows.
    multi_label : bool
        Whether a text may have any number of labels.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        ranking: pd.DataFrame,
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
            is_highest = np.arange(len(targets)) == targets.argmax()
            # The texts of none of the classes have no true one, whatever the kind.
            true = targets > 0.5 if multi_label or not targets.any() else is_highest
            self.truth[i, columns] = true
        cells = ranking.index.to_numpy(), ranking["label"].map(column).to_numpy()
        self.predicted[cells] = ranking["predicted"]
        self.scores[cells] = ranking["probability"]

    def metrics(self) -> dict[str, float]:
        """Give the figures, as scikit-learn's functions of these names define them.

        For any number of labels the accuracy is ``subset_accuracy``, that of whole label sets, and
        ``lrap`` is the label ranking average precision.
        """
        truth, predicted = self._as_targets()
        # A label that is neither true nor predicted has no F1, of which scikit-learn would warn.
        values = {
            "subset_accuracy" if self.multi_label else "accuracy": accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
            "micro_f1": f1_score(truth, predicted, average="micro", zero_division=0),
        }
        if self.multi_label:
            values["lrap"] = label_ranking_average_precision_score(self.truth, self.scores)
        return {name: float(value) for name, value in values.items()}

    def report(self, *, as_dict: bool) -> Any:
        """Give precision, recall, F1 and support of every class, as text or as a dict."""
        # The summaries stand among the classes, one of which may have such a name.
        labels = [f"{name} (label)" if name in _SUMMARIES else name for name in self.labels]
        truth, predicted = self._as_targets(labels)
        # Of one label a text it knows them from the values, and reports those alone that occur.
        names = {"target_names": labels} if self.multi_label else {}
        return classification_report(
            truth, predicted, zero_division=0, output_dict=as_dict, digits=4, **names
        )

    def _as_targets(self, names: Sequence[str] | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.multi_label:
            return self.truth.astype(int), self.predicted.astype(int)
        # A text of no class has no true one, and a classifier that abstains predicts none.
        labels = [*(names or self.labels), _NO_LABEL]
        while labels[-1] in labels[:-1]:
            labels[-1] += "*"
        true, predicted = (
            np.asarray(labels, dtype=object)[
                np.where(chosen.any(axis=1), chosen.argmax(axis=1), -1)
            ]
            for chosen in (self.truth, self.predicted)
        )
        return true, predicted
