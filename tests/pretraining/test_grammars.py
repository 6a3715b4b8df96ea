"""Rows that grammars write: what is true of them is true by construction."""

import re
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

pytest.importorskip("pydantic")

from skgliclass.pretraining.config import MixtureConfig
from skgliclass.pretraining.generated import generated_sets
from skgliclass.pretraining.grammar import Grammar, grammar_names, read_grammars, write_rows
from skgliclass.pretraining.mixture import make_mixture
from skgliclass.pretraining.wordings import read_wordings

NAMES = grammar_names()
# Of these each row may have several labels.
MULTI_LABEL = {"aspects", "emergencies", "forum", "stories"}

WRONG_ARTICLE = re.compile(r"\ba (?:[aeio]|un[^i])|\ban [^aeiouhx\d]", re.IGNORECASE)


@lru_cache
def rows_of(name, n=400):
    return write_rows(name, n, np.random.default_rng(0))


@lru_cache
def pattern(vocabulary, sentence):
    """Match what a sentence may have become; `vocabulary` is hashable."""
    words = dict(vocabulary)

    def slot(name):
        name = name.removeprefix("a ")
        if name.startswith("#"):
            return r"\d+"
        return f"(?:an? )?(?:{'|'.join(expression(word) for word in words[name])})"

    def expression(text):
        parts = re.split(r"\{([^{}]+)\}", text)
        return "".join(slot(p) if i % 2 else re.escape(p) for i, p in enumerate(parts))

    return re.compile(expression(sentence), re.IGNORECASE)


def labels_seen(grammar, text):
    """Find the labels of which a text holds a sentence."""
    vocabulary = tuple((name, tuple(words)) for name, words in grammar.vocabulary.items())
    return {
        label
        for label, sentences in grammar.labels.items()
        if any(pattern(vocabulary, sentence).search(text) for sentence in sentences)
    }


@pytest.mark.parametrize("name", NAMES)
def test_rows_differ_repeat_by_seed_and_have_every_label(name):
    rows = rows_of(name)
    assert rows == write_rows(name, 400, np.random.default_rng(0))
    assert rows != write_rows(name, 400, np.random.default_rng(1))
    assert len({row.text.casefold() for row in rows}) == len(rows) == 400
    labels = [label for grammar in read_grammars(name) for label in grammar.labels]
    assert len(labels) == len(set(labels))
    counts = Counter(label for row in rows for label in row.true_labels)
    assert set(counts) == set(labels)
    assert all(set(row.true_labels) <= set(row.all_labels) <= set(labels) for row in rows)
    several = {len(row.true_labels) > 1 for row in rows}
    assert several == ({True, False} if name in MULTI_LABEL else {False})


@pytest.mark.parametrize("name", NAMES)
def test_just_the_true_labels_have_sentences_in_a_text(name):
    grammars = read_grammars(name)
    for row in rows_of(name)[:80]:
        (grammar,) = [g for g in grammars if row.true_labels[0] in g.labels]
        # Where a tokeniser seems to have been at work, no pattern fits any more.
        if " ." not in row.text and " ?" not in row.text and " !" not in row.text:
            assert labels_seen(grammar, row.text) == set(row.true_labels), row


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_whole_sentences(name):
    for row in rows_of(name):
        assert not set("{}#|") & set(row.text), row.text
        assert "  " not in row.text
        assert row.text == row.text.strip()
        assert not re.search(r"\b[Aa] (?:[aeio]|un[^i])|\b[Aa]n [^aeiouAEIOUhx\d]", row.text), (
            row.text
        )


def test_no_text_both_praises_and_blames_the_same_thing():
    for row in rows_of("aspects"):
        pairs = [row.all_labels.index(label) // 2 for label in row.true_labels]
        assert len(set(pairs)) == len(pairs)


def test_some_texts_have_words_of_labels_that_are_false():
    def shares_a_word(row):
        false = set(row.all_labels) - set(row.true_labels)
        words = set(re.findall(r"\w{4,}", row.text.lower()))
        return any(words & set(re.findall(r"\w{4,}", label.lower())) for label in false)

    for name in ("aspects", "emergencies", "news", "politics"):
        assert np.mean([shares_a_word(row) for row in rows_of(name)]) > 0.03, name


def test_a_grammar_fills_its_slots():
    vocabulary = {"pet": ["ape", "cat"], "who": ["{name} and {name}"], "name": ["Ann", "Bob"]}
    grammar = Grammar(vocabulary, {"own": ["{who} have {a pet} and {#7-7} fish."]}, tokenized=0.0)
    texts = {grammar.write(np.random.default_rng(seed)).text for seed in range(30)}
    people = ("Ann and Bob", "Bob and Ann")
    assert texts == {
        f"{who} have {pet} and 7 fish." for who in people for pet in ("an ape", "a cat")
    }
    tokenized = Grammar({}, {"own": ["Well, it's Ann's!"]}, tokenized=1.0)
    assert tokenized.write(np.random.default_rng(0)).text == "well , it ' s ann ' s !"


def test_a_grammar_that_is_exhausted_gives_fewer_rows(monkeypatch):
    small = Grammar({"n": ["one", "two"]}, {"own": ["{n}."]})
    monkeypatch.setattr("skgliclass.pretraining.grammar.read_grammars", lambda name: [small])
    assert {row.text for row in write_rows("any", 50, np.random.default_rng(0))} == {"One.", "Two."}


@pytest.mark.parametrize("name", NAMES)
def test_every_label_has_other_words(name):
    words = read_wordings().of(f"generated.{name}").labels
    labels = {label for grammar in read_grammars(name) for label in grammar.labels}
    assert set(words) == labels
    assert min(map(len, words.values())) >= 2


def test_kinds_of_mail_give_a_set_of_spam_and_other_mail():
    rows = generated_sets(["emails", "finance", "stars"], 60, seed=0)
    config = MixtureConfig(generated=tuple(NAMES), generated_rows=60, held_out_rows=0)
    mixture = make_mixture({}, config, read_wordings(), seed=0)
    sets = {own.name: own for own in mixture.sets}
    assert (
        set(rows)
        <= set(sets)
        == {
            *(f"generated.{name}" for name in NAMES),
            "generated.emails.spam",
            "generated.finance.sentiment",
            "generated.stars.sentiment",
        }
    )
    assert {len(sets["generated.emails.spam"].rows), len(sets["generated.emails"].rows)} == {60}
    fraud = {"lottery or inheritance fraud", "cheap goods"}
    found = {row.text: row.true_labels for row in sets["generated.emails.spam"].rows}
    for row in sets["generated.emails"].rows:
        if fraud & set(row.true_labels):
            assert found[row.text] == ("spam",)
    assert sets["generated.emails"].single_label
    assert sets["generated.aspects"].shares_labels
    # Most labels are words of their own, not of another set of labels.
    assert not sets["generated.aspects"].single_label
