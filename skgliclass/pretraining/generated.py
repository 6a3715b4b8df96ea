"""Rows that are written by rules: opinions of known strength, news of companies, and grammars.

Free data about sentiment is scarce. These rows teach no style, but the words of praise and blame,
what negation and "but" do to them, and that a long review has an opinion though most of it is plot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..datasets.examples import Example
from .grammar import grammar_names, write_rows

_WORDS = Path(__file__).with_name("opinions.json")
_Rng: TypeAlias = np.random.Generator

RATINGS = ("terrible", "poor", "average", "good", "excellent")
"""Labels for an opinion's strength, from the worst on."""

_INTENSIFIERS = ["very", "really", "so", "extremely", "truly", "incredibly"]
_SOFTENERS = ["quite", "fairly", "rather", "pretty", "mostly", "a little"]
_BUTS = [", but ", ". Still, ", ", yet ", ". However, ", ", although "]


def generated_sets(names: Sequence[str], n_rows: int, seed: int) -> dict[str, list[Example]]:
    """Write sets of rows.

    Parameters
    ----------
    names : sequence of str
        Which of ``"opinions"`` (two labels), ``"ratings"`` (five), ``"market"`` (three) and the
        grammars: ``"news"``, ``"emails"`` and so on.
    n_rows : int
        How many rows a set has.
    seed : int
        Of the choice of words.

    Returns
    -------
    dict of str to list of Example
        By names that begin with ``generated.``.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    sets = {}
    for k, name in enumerate(names):
        rng = np.random.default_rng([seed, k, len(name)])
        if name in _WRITERS:
            rows = _written(name, n_rows, rng)
        elif name in grammar_names():
            rows = write_rows(name, n_rows, rng)
        else:
            raise ValueError(
                f"mixture.generated names {name!r}; choose from "
                f"{', '.join([*_WRITERS, *grammar_names()])}."
            )
        sets[f"generated.{name}"] = rows
    return sets


def _written(name: str, n_rows: int, rng: _Rng) -> list[Example]:
    labels, write = _WRITERS[name]
    rows = []
    for _ in range(n_rows):
        i = int(rng.integers(len(labels)))
        rows.append(Example(write(i, rng), list(labels), [labels[i]]))
    return rows


# Opinions.


def _opinion(label: int, rng: _Rng) -> str:
    sign = 2 * label - 1
    strengths = [sign, 2 * sign]
    return _review(strengths, rng, n_most=10 if rng.random() < 0.35 else 2)


def _rating(label: int, rng: _Rng) -> str:
    if label == 2:
        return _mixed(rng)
    return _review([label - 2], rng, n_most=4)


def _review(strengths: Sequence[int], rng: _Rng, n_most: int) -> str:
    """Write sentences of the given strengths, in long reviews with facts and a doubt among them."""
    domain = _pick(_DOMAIN_NAMES, rng)
    n = int(rng.integers(1, n_most + 1))
    sentences = [_sentence(domain, int(rng.choice(strengths)), rng) for _ in range(n)]
    for _ in range(n // 2):
        sentences.insert(int(rng.integers(len(sentences) + 1)), _fact(domain, rng))
    sign = 1 if strengths[0] > 0 else -1
    if n > 3 and rng.random() < 0.5:
        # The last word is the writer's.
        sentences.insert(int(rng.integers(len(sentences))), _sentence(domain, -sign, rng))
    elif rng.random() < 0.15:
        doubt = _lower(_sentence(domain, -sign, rng).rstrip("."))
        verdict = _lower(sentences.pop())
        sentences.append(_upper(f"{doubt}{_pick(_BUTS, rng)}{verdict}"))
    return _styled(" ".join(sentences), rng)


def _mixed(rng: _Rng) -> str:
    domain = _pick(_DOMAIN_NAMES, rng)
    kind = int(rng.integers(4))
    if kind == 0:
        text = _fact(domain, rng)
    elif kind == 1:
        part = _pick(_words()["domains"][domain]["wholes"], rng)
        text = _upper(f"{part} is {_pick(_PLAIN, rng)}.")
    else:
        first = _sentence(domain, 1, rng).rstrip(".")
        second = _sentence(domain, -1, rng)
        if kind == 3:
            first, second = second.rstrip("."), f"{first}."
        text = f"{first}, but {_lower(second)}"
    return _styled(text, rng)


_PLAIN = [
    "average",
    "neither good nor bad",
    "okay, nothing more",
    "what you would expect",
    "watchable, no more",
    "so-so",
    "ordinary",
    "middling",
    "a mixed bag",
    "all right for a rainy day",
]


def _sentence(domain: str, strength: int, rng: _Rng) -> str:
    """Write one sentence with an opinion of a strength from -2 to 2, but not 0."""
    words = _words()["domains"][domain]
    whole, part = _pick(words["wholes"], rng), _pick(words["parts"], rng)
    kind = _pick(words["kinds"], rng)
    adjective, other = _adjective(domain, strength, rng), _adjective(domain, strength, rng)
    form = int(rng.integers(10))
    if form <= 2:
        return _upper(_phrase(domain, whole, strength, rng))
    if form == 3:
        return _upper(f"{part} {_be(part)} {_graded(adjective, strength, rng)}.")
    if form == 4 and abs(strength) == 1:
        # "not good" is bad, "not bad" is good.
        denied = _adjective(domain, -strength, rng)
        how = _pick(["not", "hardly", "not exactly", "anything but", "far from"], rng)
        return _upper(f"{whole} is {how} {denied}.")
    if form == 5 and not _has_article(adjective) and not _has_article(other):
        return _upper(f"{_article(adjective)} {adjective}, {other} {kind}.")
    if form == 6:
        return _upper(f"I found {part} {_graded(adjective, strength, rng)}.")
    if form == 7:
        return _upper(f"{whole} is {adjective} and {other}.")
    if form == 8 and not _has_article(adjective):
        return _upper(f"{_pick(['what', 'such'], rng)} {_article(adjective)} {adjective} {kind}!")
    return _upper(f"{whole} is {_graded(adjective, strength, rng)} and {part} {_be(part)} {other}.")


def _phrase(domain: str, whole: str, strength: int, rng: _Rng) -> str:
    phrases = _words()["phrases"]
    choice = phrases["film" if domain == "film" and rng.random() < 0.75 else "any"][str(strength)]
    phrase = _pick(choice, rng)
    stands_alone = phrase.split()[0] in {"I", "stay", "never", "what", "avoid", "no", "a", "there"}
    stands_alone = stands_alone or phrase.startswith(("nothing", "it "))
    return f"{phrase}." if stands_alone else f"{whole} {phrase}."


def _adjective(domain: str, strength: int, rng: _Rng) -> str:
    adjectives = _words()["adjectives"]
    kind = "any" if rng.random() < 0.4 else domain
    return _pick(adjectives[kind][str(strength)], rng)


def _graded(adjective: str, strength: int, rng: _Rng) -> str:
    if _has_article(adjective) or " " in adjective or rng.random() < 0.6:
        return adjective
    return f"{_pick(_INTENSIFIERS if abs(strength) == 2 else _SOFTENERS, rng)} {adjective}"


def _fact(domain: str, rng: _Rng) -> str:
    facts = _words()["facts"]
    return _pick(facts["film" if domain == "film" else "any"], rng)


# News of companies.


def _market(label: int, rng: _Rng) -> str:
    words = _words()["market"]
    company = _pick(words["companies"], rng)
    if label == 1:
        text = f"{company} {_pick(words['plain'], rng)}"
    elif rng.random() < 0.6:
        moves = words["up" if label == 2 else "down"]
        text = f"{_owner(company)} {_pick(words['measures'], rng)} {_pick(moves, rng)}"
    else:
        text = f"{company} {_pick(words['good' if label == 2 else 'bad'], rng)}"
    low, high = sorted(rng.integers(2, 900, size=2).tolist())
    filled = text.format(
        # Both draws may be equal, but sentences say that one figure is the larger.
        a=f"{high + 1}.{rng.integers(10)}",
        b=f"{low}.{rng.integers(10)}",
        p=int(rng.integers(2, 60)),
        n=int(rng.integers(20, 900)),
        m=int(rng.integers(2, 40)),
    )
    return f"{filled}."


def _owner(company: str) -> str:
    return f"{company}'s"


_WRITERS: dict[str, tuple[tuple[str, ...], Callable[[int, _Rng], str]]] = {
    "opinions": (("negative", "positive"), _opinion),
    "ratings": (RATINGS, _rating),
    "market": (("negative", "neutral", "positive"), _market),
}


# Words.


@lru_cache(maxsize=1)
def _words() -> Any:
    return json.loads(_WORDS.read_text(encoding="utf-8"))


_DOMAIN_NAMES = ["film", "film", "film", "book", "food", "place", "product"]


def _pick(values: Sequence[str], rng: _Rng) -> str:
    return values[int(rng.integers(len(values)))]


def _be(part: str) -> str:
    last = part.split()[-1]
    plural = last.endswith("s") and not last.endswith("ss")
    return "are" if plural else "is"


def _has_article(adjective: str) -> bool:
    return adjective.startswith(("a ", "the "))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text if text.startswith("I ") else text[:1].lower() + text[1:]


def _styled(text: str, rng: _Rng) -> str:
    """Write some texts without capitals, or without the last full stop."""
    if rng.random() < 0.3:
        text = text.lower()
    return text.rstrip(".") if rng.random() < 0.2 else text
