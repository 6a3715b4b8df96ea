"""Turn a row of a set into what the model is shown, with other labels, words and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..datasets.examples import Example
from ..prompts.examples import PromptExample
from .config import AugmentationConfig
from .mixture import LabelledSet
from .wordings import normalized

MAX_TEMPLATE_WORDS = 4
"""Longer label texts are not put in a sentence."""

_MAX_FOREIGN = 3
_PLAIN = "{label}"
_JOINTS = ["/", " & ", " and ", " or ", ", "]


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


@dataclass(eq=False)
class _Together:
    """What rows of a set that are drawn together share.

    Attributes
    ----------
    source : LabelledSet
        The set.
    false : list of str
        Labels to take false ones from, those first that come first.
    n_false : int
        How many false labels a row has.
    foreign : list of (LabelledSet, str)
        Labels of sets of other kinds.
    reword : bool
        Whether labels have other words.
    template : str
        The sentence around labels.
    rng : Generator
        What chooses the words.
    """

    source: LabelledSet
    false: list[str]
    n_false: int
    foreign: list[tuple[LabelledSet, str]]
    reword: bool
    template: str
    rng: np.random.Generator
    _words: dict[str, str | None] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def texts(self, labels: Iterable[str], true: Sequence[str]) -> dict[str, str]:
        """Give each label a text of its own; what means a true label is no false one's text."""
        reserved = frozenset[str]().union(*(self.source.wordings.meanings(x) for x in true))
        texts: dict[str, str] = {}
        for label in labels:
            word = self._word(label)
            if word is not None and (label in true or normalized(word) not in reserved):
                texts[label] = _in_sentence(word, self.template)
        return texts

    def _word(self, label: str) -> str | None:
        """Choose the words of a label once; None where others have taken all of them."""
        if label not in self._words:
            choice = (
                [label, *self.source.wordings.labels.get(label, ())] if self.reword else [label]
            )
            free = [word for word in choice if normalized(word) not in self._used]
            self._words[label] = free[int(self.rng.integers(len(free)))] if free else None
            # A word stands for one label in all rows that are drawn together.
            if free:
                self._used.add(normalized(str(self._words[label])))
        return self._words[label]


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
            source.name: [
                (other, [label for label in other.labels if len(label.split()) < 6])
                for other in sets
                if other.wordings.is_foreign_to(source.wordings) and other.shares_labels
            ]
            for source in sets
        }

    def augment_together(
        self,
        source: LabelledSet,
        rows: Sequence[Example],
        rng: np.random.Generator,
        examples: Sequence[Sequence[Example]] | None = None,
    ) -> list[DrawnRow]:
        """Choose labels, words and sentences for rows that share what can be shared.

        Labels have the same texts in all of the rows, and false ones are the same where they are
        false for the row: a bi-encoder then has few labels to encode.

        Parameters
        ----------
        source : LabelledSet
            The rows' set.
        rows : sequence of Example
            What is shown.
        rng : Generator
            The source of randomness.
        examples : sequence of sequence of Example, optional
            For each row those to show in its prompt, whose true labels are among its labels.

        Returns
        -------
        list of DrawnRow
            Every label that held still has its target, whatever it is called now; every label
            with a target of 0 was false for the row, or belongs to a set of another kind.
        """
        together = self._together(source, rows, rng)
        examples = examples or [()] * len(rows)
        return [
            self._drawn(together, row, row_examples, rng)
            for row, row_examples in zip(rows, examples, strict=True)
        ]

    def _drawn(
        self,
        together: _Together,
        row: Example,
        examples: Sequence[Example],
        rng: np.random.Generator,
    ) -> DrawnRow:
        source = together.source
        target = dict(zip(row.all_labels, row.targets, strict=True))
        multi_label = not source.single_label or self._happens("sigmoid", rng)
        true = [label for label in row.all_labels if target[label] > 0]
        if multi_label and self._happens("no_true", rng):
            sampled_true: list[str] = []
        else:
            # One place is left for a false label.
            sampled_true = self._some(true, self._config.max_labels - 1, rng)
        needed = [label for example in examples for label in example.true_labels]
        chosen = self._choose(together, row, true, sampled_true, needed, rng)
        # A row without labels could not be asked about: its true ones come back.
        words = together.texts(chosen or true, true)
        foreign = self._foreign_labels(together, words.values(), row)
        task = self._pick(source.wordings.tasks, rng) if self._happens("task", rng) else ""
        labels = [*words.values(), *foreign]
        # A label of another row has no target in this one: it was chosen for being false.
        targets = [*(target.get(label, 0.0) for label in words), *(0.0 for _ in foreign)]
        # Examples name labels one by one, and a sentence is written around one alone.
        if not examples and together.template == _PLAIN and self._happens("merge", rng):
            labels, targets = _merged(labels, targets, rng)
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

    # What rows share.

    def _together(
        self, source: LabelledSet, rows: Sequence[Example], rng: np.random.Generator
    ) -> _Together:
        config = self._config
        known = list(dict.fromkeys(label for row in rows for label in row.all_labels))
        room = max(1, config.max_labels - 1)
        if self._happens("full_set", rng):
            n_false = min(room, max(1, len(known)))
        else:
            # Uniform on a scale of logarithms, so that small numbers come more often.
            n_false = int(np.exp(rng.uniform(0.0, np.log(room + 1))))
        if source.shares_labels:
            true = {label for row in rows for label in row.true_labels}
            false = self._near_first(source, sorted(true), known, rng)
        else:
            false = self._some([*known, *self._labels_of_others(source, n_false, rng)], None, rng)
        template = _PLAIN
        if self._happens("template", rng):
            template = self._pick(source.wordings.templates, rng) or template
        reword = bool(source.wordings.labels) and self._happens("wording", rng)
        return _Together(
            source, false, n_false, self._foreign_sample(source, rng), reword, template, rng
        )

    def _near_first(
        self,
        source: LabelledSet,
        true: Sequence[str],
        labels: Sequence[str],
        rng: np.random.Generator,
    ) -> list[str]:
        shuffled = self._some(labels, None, rng)
        if self._nearest is None or not true or not self._happens("hard_negative", rng):
            return shuffled
        allowed = set(labels)
        near = [label for label in self._nearest(source, true) if label in allowed]
        # Not the same ones every time.
        n_hard = int(rng.integers(1, max(2, len(near) // 2 + 1)))
        return list(dict.fromkeys([*near[:n_hard], *shuffled]))

    def _labels_of_others(self, source: LabelledSet, n: int, rng: np.random.Generator) -> list[str]:
        return [source.labels[i] for i in rng.integers(len(source.labels), size=n).tolist()]

    def _foreign_sample(
        self, source: LabelledSet, rng: np.random.Generator
    ) -> list[tuple[LabelledSet, str]]:
        candidates = self._foreign.get(source.name, [])
        if not candidates or not self._happens("foreign_negative", rng):
            return []
        sample = []
        for _ in range(int(rng.integers(1, _MAX_FOREIGN + 1))):
            other, labels = candidates[int(rng.integers(len(candidates)))]
            if labels:
                sample.append((other, labels[int(rng.integers(len(labels)))]))
        return sample

    # What each row makes of it.

    def _choose(
        self,
        together: _Together,
        row: Example,
        true: Sequence[str],
        sampled_true: Sequence[str],
        needed: Iterable[str],
        rng: np.random.Generator,
    ) -> list[str]:
        """Give the row's true labels with false ones."""
        source, not_false = together.source, set(true)
        negatives = [label for label in dict.fromkeys(needed) if label not in not_false]
        n_false = min(together.n_false, max(1, self._config.max_labels - len(sampled_true)))
        if source.shares_labels:
            labels = set(row.all_labels)
            order = [label for label in together.false if label in labels]
        else:
            # A false label of another row may hold here, but then it would be by chance.
            order = self._some([x for x in row.all_labels if x not in not_false], None, rng)
            order += [x for x in together.false if not _means_one_of(source, x, true)]
        for label in order:
            if len(negatives) >= n_false:
                break
            if label not in negatives and label not in not_false:
                negatives.append(label)
        return [*sampled_true, *negatives]

    def _foreign_labels(self, together: _Together, texts: Iterable[str], row: Example) -> list[str]:
        taken = {normalized(label) for label in texts}
        for label in row.all_labels:
            taken |= together.source.wordings.meanings(label)
        foreign: list[str] = []
        for other, label in together.foreign:
            if not other.wordings.meanings(label) & taken:
                foreign.append(label)
                taken.add(normalized(label))
        return foreign

    def _happens(self, what: str, rng: np.random.Generator) -> bool:
        return bool(rng.random() < getattr(self._config, f"{what}_probability"))

    @staticmethod
    def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
        return values[int(rng.integers(len(values)))] if values else ""

    @staticmethod
    def _some(values: Sequence[str], n: int | None, rng: np.random.Generator) -> list[str]:
        return [values[i] for i in rng.permutation(len(values))[:n].tolist()]


def _means_one_of(source: LabelledSet, label: str, true: Iterable[str]) -> bool:
    meanings = source.wordings.meanings(label)
    return any(meanings & source.wordings.meanings(other) for other in true)


def _merged(
    labels: Sequence[str], targets: Sequence[float], rng: np.random.Generator
) -> tuple[list[str], list[float]]:
    """Make one label of two short ones, which holds where one of them does; leave at least two."""
    short = [i for i, label in enumerate(labels) if len(label.split()) <= MAX_TEMPLATE_WORDS]
    if len(labels) < 3 or len(short) < 2:
        return list(labels), list(targets)
    i, j = rng.choice(short, size=2, replace=False).tolist()
    joint = _JOINTS[int(rng.integers(len(_JOINTS)))]
    others = [k for k in range(len(labels)) if k not in (i, j)]
    return (
        [*(labels[k] for k in others), f"{labels[i]}{joint}{labels[j]}"],
        [*(targets[k] for k in others), max(targets[i], targets[j])],
    )


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
