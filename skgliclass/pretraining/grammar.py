"""Rows that a grammar writes: sentences of which a label is true, with words from vocabularies.

A grammar is a JSON file in the folder ``grammars``: a ``vocabulary`` of lists of words, and
``grammars``, of which each row takes one at random. Each of these has

- ``labels``: for each label the sentences of which it is true, and no other label beside it;
- ``most_labels``: how many labels a text has at most (1 where it has just one);
- ``opposites``: whether labels come in pairs of which a text has at most one;
- ``sentences``: how many sentences of each label;
- ``neutral`` and ``most_neutral``: sentences of which no label is true, whatever words they share
  with labels, and how many of them a text has at most;
- ``frames``: what stands around the sentences, with ``{text}`` in their place;
- ``tokenized``: how often a text is written as tokenisers leave it, in small letters and with
  spaces around punctuation.

A row chooses among the labels of its grammar, or with ``joined`` among those of all in the file.
In all sentences ``{city}`` stands for a word of that vocabulary, another one each time,
``{a city}`` for it with its article, and ``{#2-60}`` for a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.examples import Example

FOLDER = Path(__file__).with_name("grammars")
MAX_TRIES = 8
"""How often a row is written, on average, before a grammar is taken for exhausted."""

_SLOT = re.compile(r"\{([^{}]+)\}")
_PUNCTUATION = re.compile(r"\s*([^\w\s])\s*")


@dataclass(frozen=True)
class Grammar:
    """What a text is made of, as the module describes it; `choice` is what a row chooses among."""

    vocabulary: Mapping[str, Sequence[str]]
    labels: Mapping[str, Sequence[str]]
    most_labels: int = 1
    opposites: bool = False
    sentences: Sequence[int] = (1, 2)
    neutral: Sequence[str] = ()
    most_neutral: int = 0
    frames: Sequence[str] = ("{text}",)
    tokenized: float = 0.0
    choice: Sequence[str] = ()

    def write(self, rng: np.random.Generator) -> Example:
        """Write a row; its true labels are those whose sentences it holds."""
        n_true = int(rng.integers(1, self.most_labels + 1))
        names = list(self.labels)
        if self.opposites:
            names = [names[2 * i + int(rng.integers(2))] for i in range(len(names) // 2)]
        true = _some(names, n_true, rng)
        parts = [part for label in true for part in self._sentences(label, rng)]
        parts += _some(self.neutral, int(rng.integers(self.most_neutral + 1)), rng)
        text = " ".join(parts[i] for i in rng.permutation(len(parts)).tolist())
        frame = _some(self.frames, 1, rng)[0]
        text = self._filled(frame.replace("{text}", text), rng)
        if rng.random() < self.tokenized:
            text = " ".join(_PUNCTUATION.sub(r" \1 ", text).lower().split())
        return Example(text, tuple(self.choice or self.labels), tuple(true))

    def _sentences(self, label: str, rng: np.random.Generator) -> list[str]:
        fewest, most = self.sentences
        return _some(self.labels[label], int(rng.integers(fewest, most + 1)), rng)

    def _filled(self, text: str, rng: np.random.Generator) -> str:
        used: dict[str, set[str]] = {}

        def word(slot: re.Match[str]) -> str:
            name = slot[1]
            if name.startswith("#"):
                low, high = map(int, name[1:].split("-"))
                return str(rng.integers(low, high + 1))
            article, name = name.startswith("a "), name.removeprefix("a ")
            words, taken = self.vocabulary[name], used.setdefault(name, set())
            free = [word for word in words if word not in taken] or list(words)
            chosen = free[int(rng.integers(len(free)))]
            taken.add(chosen)
            return f"{_article(chosen)} {chosen}" if article else chosen

        # A word may have slots itself.
        while _SLOT.search(text):
            text = _SLOT.sub(word, text)
        return re.sub(r"(^|[.!?]\s+|\n)([a-z])", lambda m: m[1] + m[2].upper(), text)


def grammar_names() -> list[str]:
    """Give the names of all grammars."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_grammars(name: str) -> list[Grammar]:
    """Read the grammars of a file.

    Raises
    ------
    FileNotFoundError
        If there is none of that name.
    """
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    grammars = [Grammar(content["vocabulary"], **table) for table in content["grammars"]]
    if not content.get("joined", False):
        return grammars
    every = tuple(label for grammar in grammars for label in grammar.labels)
    return [replace(grammar, choice=every) for grammar in grammars]


def write_rows(name: str, n_rows: int, rng: np.random.Generator) -> list[Example]:
    """Write rows with different texts; fewer where the grammar has not so many to give."""
    grammars = read_grammars(name)
    rows: dict[str, Example] = {}
    for _ in range(MAX_TRIES * n_rows):
        if len(rows) == n_rows:
            break
        row = grammars[int(rng.integers(len(grammars)))].write(rng)
        rows.setdefault(row.text.casefold(), row)
    return list(rows.values())


def _some(values: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [values[i] for i in rng.permutation(len(values))[:n].tolist()]


def _article(word: str) -> str:
    return "an" if re.match(r"[aeio]|un(?!i)", word, re.IGNORECASE) else "a"
