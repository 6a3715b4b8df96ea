"""Turn a row of a set into what the model is shown, with other labels, words and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets import Example
from ..examples import PromptExample
from .config import AugmentationConfig
from .mixture import LabelledSet
from .wordings import normalized

MAX_TEMPLATE_WORDS = 4
"""Longer label texts are not put in a sentence."""

_MAX_FOREIGN = 3


@dataclass(frozen=True)
class DrawnRow:
    """What the model is shown.

    Attributes
    ----------
    text : str
    labels : list of str
        The label texts, all different.
    targets : list of float
        How far each holds.
    multi_label : bool
        Whether the labels hold independently.
    weight : float
        Of the row in the loss.
    task : str
        The task description, empty for none.
    examples : list of PromptExample
        What the prompt shows besides, the most important first, with labels among `labels`.
    """

    text: str
    labels: list[str]
    targets: list[float]
    multi_label: bool
    weight: float
    task: str
    examples: list[PromptExample]


Nearest = Callable[[LabelledSet, Sequence[str]], Sequence[str]]
"""Gives the labels of a set nearest to some labels, the nearest first, without these."""


class Augmenter:
    """Changes rows at random, never what is true of them.

    Parameters
    ----------
    sets : sequence of LabelledSet
        Where foreign labels come from.
    config : AugmentationConfig
        How often what is done.
    multi_label_weight : float
        The weight of rows whose labels hold independently.
    nearest : callable, optional
        Finds hard negatives; without it there are none.
    """

    def __init__(
        self,
        sets: Sequence[LabelledSet],
        config: AugmentationConfig,
        *,
        multi_label_weight: float = 1.0,
        nearest: Nearest | None = None,
    ) -> None:
        self._config = config
        self._multi_label_weight = multi_label_weight
        self._nearest = nearest
        self._foreign = {
            own.name: [
                (other, [label for label in other.labels if len(label.split()) < 6])
                for other in sets
                if other.wordings.is_foreign_to(own.wordings) and other.shares_labels
            ]
            for own in sets
        }

    def augment(
        self,
        own: LabelledSet,
        row: Example,
        rng: np.random.Generator,
        examples: Sequence[Example] = (),
    ) -> DrawnRow:
        """Choose labels, words and sentences for a row.

        Parameters
        ----------
        own : LabelledSet
            The row's set.
        row : Example
            What is shown.
        rng : Generator
            The source of randomness.
        examples : sequence of Example
            Rows to show in the prompt, whose true labels are among the row's labels.

        Returns
        -------
        DrawnRow
            Every label that held still has its target, whatever it is called now; every label
            with a target of 0 was false for the row, or belongs to a set of another kind.
        """
        target = dict(zip(row.all_labels, row.targets, strict=True))
        multi_label = not own.single_label or self._happens("sigmoid", rng)
        true = [label for label in row.all_labels if target[label] > 0]
        if multi_label and self._happens("no_true", rng):
            shown_true: list[str] = []
        else:
            shown_true = self._some(true, self._config.max_labels - 1, rng)
        needed = [label for example in examples for label in example.true_labels]
        chosen = self._choose(own, row, true, shown_true, needed, rng)
        words = self._words(own, chosen or true, true, rng)
        foreign = self._foreign_labels(own, words.values(), row, rng)
        task = self._pick(own.wordings.tasks, rng) if self._happens("task", rng) else ""
        labels = [*words.values(), *foreign]
        targets = [*(target.get(label, 0.0) for label in words), *(0.0 for _ in foreign)]
        # Training shuffles labels too, but not where the backbone is frozen.
        order = rng.permutation(len(labels)).tolist()
        return DrawnRow(
            row.text,
            [labels[i] for i in order],
            [targets[i] for i in order],
            multi_label,
            row.weight * (self._multi_label_weight if multi_label else 1.0),
            task,
            _reworded(examples, words),
        )

    # Which labels.

    def _choose(
        self,
        own: LabelledSet,
        row: Example,
        true: Sequence[str],
        shown_true: Sequence[str],
        needed: Iterable[str],
        rng: np.random.Generator,
    ) -> list[str]:
        """Give the row's true labels with false ones, these as many as chance will have it."""
        config = self._config
        false = [label for label in row.all_labels if label not in set(true)]
        negatives = [label for label in dict.fromkeys(needed) if label not in set(true)]
        room = max(1, config.max_labels - len(shown_true))
        if self._happens("full_set", rng):
            n_false = min(room, max(1, len(false)))
        else:
            n_false = int(np.exp(rng.uniform(0.0, np.log(room + 1))))
        if own.shares_labels:
            order = self._near_first(own, true, false, rng)
        else:
            # A false label of another row may hold here, but then it would be by chance.
            others = self._labels_of_others(own, n_false, rng)
            order = self._some(false, len(false), rng)
            order += [label for label in others if not _means_one_of(own, label, true)]
        for label in order:
            if len(negatives) >= n_false:
                break
            if label not in negatives and label not in true:
                negatives.append(label)
        return [*shown_true, *negatives]

    def _near_first(
        self,
        own: LabelledSet,
        true: Sequence[str],
        false: Sequence[str],
        rng: np.random.Generator,
    ) -> list[str]:
        shuffled = self._some(false, len(false), rng)
        if self._nearest is None or not true or not self._happens("hard_negative", rng):
            return shuffled
        allowed = set(false)
        near = [label for label in self._nearest(own, true) if label in allowed]
        # Not the same ones every time.
        n_hard = int(rng.integers(1, max(2, len(near) // 2 + 1)))
        return [*near[:n_hard], *(label for label in shuffled if label not in set(near[:n_hard]))]

    def _labels_of_others(self, own: LabelledSet, n: int, rng: np.random.Generator) -> list[str]:
        return [own.labels[i] for i in rng.integers(len(own.labels), size=n).tolist()]

    def _foreign_labels(
        self, own: LabelledSet, shown: Iterable[str], row: Example, rng: np.random.Generator
    ) -> list[str]:
        candidates = self._foreign.get(own.name, [])
        if not candidates or not self._happens("foreign_negative", rng):
            return []
        taken = {normalized(label) for label in shown}
        for label in row.all_labels:
            taken |= own.wordings.meanings(label)
        found: list[str] = []
        for _ in range(int(rng.integers(1, _MAX_FOREIGN + 1))):
            other, labels = candidates[int(rng.integers(len(candidates)))]
            label = labels[int(rng.integers(len(labels)))] if labels else ""
            if label and not other.wordings.meanings(label) & taken:
                found.append(label)
                taken.add(normalized(label))
        return found

    # What they are called.

    def _words(
        self,
        own: LabelledSet,
        labels: Sequence[str],
        true: Sequence[str],
        rng: np.random.Generator,
    ) -> dict[str, str]:
        """Give each label a text of its own; what means a true label is no false one's text."""
        reword = bool(own.wordings.labels) and self._happens("wording", rng)
        template = "{label}"
        if self._happens("template", rng):
            template = self._pick(own.wordings.templates, rng) or template
        reserved = frozenset[str]().union(*(own.wordings.meanings(label) for label in true))
        words: dict[str, str] = {}
        used: set[str] = set()
        for label in labels:
            choice = [label, *own.wordings.labels.get(label, ())] if reword else [label]
            free = [w for w in choice if normalized(w) not in used]
            if label not in true:
                free = [w for w in free if normalized(w) not in reserved]
            if free:
                text = self._pick(free, rng)
                words[label] = _in_sentence(text, template)
                used |= {normalized(text)}
        return words

    def _happens(self, what: str, rng: np.random.Generator) -> bool:
        return bool(rng.random() < getattr(self._config, f"{what}_probability"))

    @staticmethod
    def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
        return values[int(rng.integers(len(values)))] if values else ""

    @staticmethod
    def _some(values: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
        return [values[i] for i in rng.permutation(len(values))[:n].tolist()]


def _means_one_of(own: LabelledSet, label: str, true: Iterable[str]) -> bool:
    meanings = own.wordings.meanings(label)
    return any(meanings & own.wordings.meanings(other) for other in true)


def _in_sentence(text: str, template: str) -> str:
    short = len(text.split()) <= MAX_TEMPLATE_WORDS
    return template.replace("{label}", text) if short else text


def _reworded(examples: Iterable[Example], words: dict[str, str]) -> list[PromptExample]:
    """Show examples with the labels' present texts, those only whose true labels all have one."""
    return [
        PromptExample(example.text, [words[label] for label in example.true_labels])
        for example in examples
        if example.text.strip() and all(label in words for label in example.true_labels)
    ]
