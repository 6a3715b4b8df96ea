"""The sets that a model is pre-trained on, and how often each is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets.examples import Example
from ..datasets.files import is_single_label, read_examples
from .config import KindConfig, MixtureConfig
from .generated import generated_sets
from .wordings import Group, SetWordings, Wordings, normalized

EXTENSION = ".jsonl.gz"
MAX_SHARED_SETS = 16
"""Rows of a set with at most so many different label sets are said to share theirs."""

_PAIR = re.compile(r"Premise: (?P<premise>.+?) Hypothesis: (?P<hypothesis>.+)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Rows that answer the same question.

    Attributes
    ----------
    name : str
        That of the file.
    rows : sequence of Example
        The rows.
    wordings : SetWordings
        What is known about the labels.
    """

    name: str
    rows: Sequence[Example]
    wordings: SetWordings

    @cached_property
    def single_label(self) -> bool:
        """Whether every row has exactly one true label."""
        return is_single_label(self.rows)

    @cached_property
    def shares_labels(self) -> bool:
        """Whether rows choose from a label set that many rows have."""
        return len({frozenset(row.all_labels) for row in self.rows}) <= MAX_SHARED_SETS

    @cached_property
    def labels(self) -> list[str]:
        """The distinct labels of all rows, sorted."""
        return sorted({label for row in self.rows for label in row.all_labels})


@dataclass(frozen=True, eq=False)
class Mixture:
    """What is drawn from, and what is held out.

    Attributes
    ----------
    sets : list of LabelledSet
        The training rows.
    held_out : list of LabelledSet
        Rows of the same sets that are never trained on, and whose texts are in none of them.
    probabilities : ndarray of shape (n_sets,)
        How often each set is drawn.
    """

    sets: list[LabelledSet]
    held_out: list[LabelledSet]
    probabilities: NDArray[np.float64]

    def draw(self, n: int, rng: np.random.Generator, together: int = 1) -> list[tuple[int, int]]:
        """Draw rows with replacement; give the positions of their sets and of the rows in them.

        Each `together` of them that follow each other are of the same set.
        """
        n_draws = -(-n // together)
        chosen = rng.choice(len(self.sets), size=n_draws, p=self.probabilities)
        chosen = chosen.repeat(together)[:n]
        sizes = np.array([len(source.rows) for source in self.sets])[chosen]
        positions = rng.integers(sizes)
        return list(zip(chosen.tolist(), positions.tolist(), strict=True))


def read_sets(folder: str | Path) -> dict[str, list[Example]]:
    """Read every set of a folder.

    Parameters
    ----------
    folder : str or path
        With files in the GLiClass format, named ``SET.jsonl.gz``.

    Returns
    -------
    dict of str to list of Example
        By the names of the sets, sorted.

    Raises
    ------
    OSError
        If there is no such folder, or nothing in it.
    ValueError
        If a row is not of this format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; the sets are expected in it.")
    paths = sorted(folder.glob(f"*{EXTENSION}"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no file that ends with {EXTENSION}.")
    return {path.name.removesuffix(EXTENSION): read_examples(path) for path in paths}


def make_mixture(
    sets: Mapping[str, Sequence[Example]], config: MixtureConfig, wordings: Wordings, seed: int
) -> Mixture:
    """Derive further sets, hold rows out and choose the probabilities.

    Parameters
    ----------
    sets : mapping of str to sequence of Example
        What was read.
    config : MixtureConfig
        How often each set is drawn.
    wordings : Wordings
        What is known about the sets, and which further ones are made of them.
    seed : int
        Of the choice of held-out rows.

    Raises
    ------
    ValueError
        If the configuration names a set that does not exist, or nothing can be drawn.
    """
    all_sets = {name: list(rows) for name, rows in sets.items()}
    generated = generated_sets(config.generated, config.generated_rows, seed)
    all_sets |= _derived({**sets, **generated}, config, wordings) | generated
    unknown = next((name for name in config.weights if name not in all_sets), None)
    if unknown is not None:
        raise ValueError(
            f"mixture.weights names {unknown!r}, which is not among the sets: "
            f"{', '.join(sorted(all_sets))}."
        )
    _check_kinds(list(all_sets), config.kinds)
    left_out = _left_out(all_sets, config)
    drawn_sets = {n: rows for n, rows in all_sets.items() if rows and n not in left_out}
    training, held_out = _hold_out(drawn_sets, config.held_out_rows, seed)
    named = [LabelledSet(n, rows, wordings.of(n)) for n, rows in training.items() if rows]
    if not named:
        raise ValueError("No rows are left to train on; look at mixture.weights and mixture.kinds.")
    scored = [LabelledSet(n, rows, wordings.of(n)) for n, rows in held_out.items() if rows]
    return Mixture(named, scored, _probabilities(named, config))


def _probabilities(sets: Sequence[LabelledSet], config: MixtureConfig) -> NDArray[np.float64]:
    sizes = np.array([min(len(source.rows), config.cap) for source in sets], dtype=np.float64)
    factors = np.array([config.weights.get(source.name, 1.0) for source in sets])
    probabilities = sizes**config.temperature * factors
    if config.kinds:
        kind_of = kinds_of_sets([source.name for source in sets], config.kinds)
        for kind, options in config.kinds.items():
            own = np.array([name == kind for name in kind_of])
            if own.any():
                probabilities[own] *= options.share / probabilities[own].sum()
    return probabilities / probabilities.sum()


def kinds_of_sets(sets: Sequence[str], kinds: Mapping[str, KindConfig]) -> list[str]:
    """Give the kind of each set: the first whose patterns match its name.

    Raises
    ------
    ValueError
        If a set has no kind.
    """
    return [_kind_of(name, kinds) for name in sets]


def _kind_of(name: str, kinds: Mapping[str, KindConfig]) -> str:
    for kind, options in kinds.items():
        if any(fnmatchcase(name, pattern) for pattern in options.sets):
            return kind
    raise ValueError(
        f"The set {name!r} belongs to none of mixture.kinds ({', '.join(kinds)}); name it in one "
        "of them, or give it a weight of 0 in mixture.weights."
    )


def _check_kinds(sets: Sequence[str], kinds: Mapping[str, KindConfig]) -> None:
    """Refuse patterns that match nothing, which are misspelt or meant for other data."""
    for kind, options in kinds.items():
        for pattern in options.sets:
            if not any(fnmatchcase(name, pattern) for name in sets):
                raise ValueError(
                    f"mixture.kinds.{kind}.sets names {pattern!r}, which matches none of the "
                    f"sets: {', '.join(sorted(sets))}."
                )


def _left_out(sets: Iterable[str], config: MixtureConfig) -> set[str]:
    """Give the sets that are never drawn, by their weight or by that of their kind."""
    without = {name for name in sets if config.weights.get(name, 1.0) == 0}
    if config.kinds:
        others = [name for name in sets if name not in without]
        kinds = zip(others, kinds_of_sets(others, config.kinds), strict=True)
        without |= {name for name, kind in kinds if config.kinds[kind].share == 0}
    return without


def _hold_out(
    sets: Mapping[str, list[Example]], n_most: int, seed: int
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """Set rows of each set aside, and take their texts out of all others."""
    held_out = {}
    for i, (name, rows) in enumerate(sets.items()):
        n = min(n_most, len(rows) // 10)
        # A generator for each set: more rows in one do not change what another holds out.
        chosen = np.random.default_rng([seed, i]).permutation(len(rows))[:n]
        held_out[name] = [rows[j] for j in sorted(chosen.tolist())]
    texts = {normalized(row.text) for rows in held_out.values() for row in rows}
    # Hypotheses are labels of premises that stand within the texts of another set.
    texts |= {match["premise"] for text in texts if (match := _pair(text))}
    training = {
        name: [row for row in rows if not _is_known(row.text, texts)] for name, rows in sets.items()
    }
    return training, held_out


def _is_known(text: str, texts: set[str]) -> bool:
    match = _pair(normalized(text))
    return normalized(text) in texts or (match is not None and match["premise"] in texts)


def _pair(text: str) -> re.Match[str] | None:
    # Normalized texts have no capitals, which the pattern of the sets has.
    return re.fullmatch(_PAIR.pattern, text, re.IGNORECASE | re.DOTALL)


# Sets that are made of others.


def _derived(
    sets: Mapping[str, Sequence[Example]], config: MixtureConfig, wordings: Wordings
) -> dict[str, list[Example]]:
    derived = {
        name: _grouped(sets[group.source], group)
        for name, group in wordings.groups.items()
        if group.source in sets
    }
    for name in config.hypotheses:
        if name not in sets:
            raise ValueError(
                f"mixture.hypotheses names {name!r}, which is not among the sets: "
                f"{', '.join(sorted(sets))}."
            )
        derived[f"{name}.hypotheses"] = hypothesis_rows(name, sets[name])
    return derived


def _grouped(rows: Iterable[Example], group: Group) -> list[Example]:
    """Give the rows whose true labels all lie in one group, with the groups as labels."""
    group_of = {label: name for name, labels in group.labels.items() for label in labels}
    grouped = []
    for row in rows:
        true = {group_of.get(label) for label in row.true_labels}
        name = true.pop() if len(true) == 1 else None
        if name is not None:
            grouped.append(replace(row, all_labels=tuple(group.labels), true_labels=(name,)))
    return grouped


def hypothesis_rows(name: str, rows: Iterable[Example]) -> list[Example]:
    """Make rows of premises that choose among their hypotheses.

    Parameters
    ----------
    name : str
        Of the set, for the error.
    rows : iterable of Example
        With texts ``Premise: .. Hypothesis: ..`` and the labels entailment, neutral and
        contradiction. What is neutral is left out, since it may hold.

    Raises
    ------
    ValueError
        If a row is not of this form.
    """
    judged: dict[str, dict[str, bool]] = {}
    for i, row in enumerate(rows):
        match = _PAIR.fullmatch(row.text)
        if match is None:
            raise ValueError(
                f"mixture.hypotheses names {name!r}, but row {i} is no 'Premise: .. Hypothesis: "
                f"..' pair: {row.text[:60]!r}."
            )
        verdict = next(iter(row.true_labels), "neutral")
        if verdict in ("entailment", "contradiction"):
            judged.setdefault(match["premise"], {})[match["hypothesis"]] = verdict == "entailment"
    return [
        Example(premise, tuple(hypotheses), tuple(h for h, holds in hypotheses.items() if holds))
        for premise, hypotheses in judged.items()
    ]
