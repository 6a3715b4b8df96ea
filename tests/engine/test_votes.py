"""Votes of neighbours beside the scores of labels, against all comparisons by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from skgliclass.engine import votes as votes_module
from skgliclass.engine.neighbours import unit_vectors
from skgliclass.engine.votes import KeptTexts, Votes, VoteStore, count_share

RNG = np.random.default_rng(0)
A, B = ("a",), ("b",)


def store(n_texts=6, labels=("a", "b", "c"), *, gaps=False, multi_label=True):
    targets = RNG.random((n_texts, len(labels))).astype(np.float32)
    if gaps:
        targets[0, 1:] = targets[1:, 2] = np.nan
    if not multi_label:
        targets /= targets.sum(axis=1, keepdims=True)
    kept = KeptTexts.of([f"text {i}" for i in range(n_texts)], labels, targets)
    vectors = unit_vectors(RNG.normal(size=(n_texts, 4)).astype(np.float32))
    return VoteStore(kept, vectors), targets


def counted(store, x, logits, labels, *, k=3, multi_label=True, sets=None):
    votes = Votes(store, k, multi_label)
    label_sets, set_of_row = sets or ([labels], None)
    count = votes.count([""] * len(x), label_sets, set_of_row)
    for start in range(0, len(x), 2):
        count.take(slice(start, start + 2), x[start : start + 2])
    return count.added(logits)


def queries(n=5):
    return unit_vectors(RNG.normal(size=(n, 4)).astype(np.float32))


@pytest.mark.parametrize("window", [1, 1 << 24])
def test_votes_are_means_by_nearness(window, monkeypatch):
    monkeypatch.setattr(votes_module, "_WINDOW_TARGETS", window)
    kept, targets = store(gaps=True)
    x, logits = queries(), RNG.normal(size=(5, 3)).astype(np.float32)
    found = counted(kept, x, logits, ("a", "b", "c"))
    assert found.dtype == np.float32
    # Nobody knows of any text whether it is c.
    np.testing.assert_array_equal(found[:, 2], logits[:, 2])
    share = 0.5 * 3 / 5 * 6 / 36 * 3 / 4
    for i, j in np.ndindex(5, 2):
        nearest = np.argsort(-(kept.vectors @ x[i]))[:3]
        nearest = nearest[~np.isnan(targets[nearest, j])]
        weights = np.exp(20 * (kept.vectors @ x[i])[nearest].astype(np.float64))
        vote = np.average(targets[nearest, j], weights=weights)
        expected = (1 - share) * expit(logits[i, j]) + share * vote
        assert expit(found[i, j]) == pytest.approx(expected, abs=1e-5)


def test_of_one_label_a_text_votes_divide_what_their_labels_have():
    kept, targets = store(labels=("a", "b"), multi_label=False)
    x, logits = queries(), RNG.normal(size=(5, 3)).astype(np.float32)
    found = counted(kept, x, logits, ("b", "new", "a"), k=2, multi_label=False)
    p, mixed = softmax(logits, axis=1), softmax(found, axis=1)
    share = 0.5 * 2 / 4 * 6 / 36 * 3 / 4
    for i in range(5):
        nearest = np.argsort(-(kept.vectors @ x[i]))[:2]
        weights = np.exp(20 * (kept.vectors @ x[i])[nearest].astype(np.float64))
        vote = np.average(targets[nearest][:, ::-1], axis=0, weights=weights)
        expected = (1 - share) * p[i, [0, 2]] + share * vote * p[i, [0, 2]].sum()
        np.testing.assert_allclose(mixed[i, [0, 2]], expected, atol=1e-5)
    np.testing.assert_allclose(mixed[:, 1], p[:, 1], atol=1e-6)


def test_logits_stay_finite_where_probabilities_round():
    kept = VoteStore(
        KeptTexts.of(["x", "y"], ("a", "b"), np.array([[1, 0], [1, 0]], np.float32)),
        np.eye(2, dtype=np.float32),
    )
    logits = np.array([[-3e4, 3e4], [3e4, -3e4], [0, 0]], dtype=np.float32)
    for multi_label in (True, False):
        found = counted(kept, np.eye(2, dtype=np.float32)[[0, 1, 1]], logits, A + B,
                        multi_label=multi_label)  # fmt: skip
        assert np.isfinite(found).all()
        assert np.isfinite(log_softmax(found, axis=1)).all()


def test_rows_with_label_sets_of_their_own():
    kept, _ = store(multi_label=False)
    x, logits = queries(), RNG.normal(size=(5, 2)).astype(np.float32)
    sets = [("a", "b"), ("c",), ("new", "c")]
    set_of_row = np.array([0, 1, 2, 0, 1])
    found = counted(kept, x, logits, None, multi_label=False, sets=(sets, set_of_row))
    for i, k in enumerate(set_of_row):
        width = len(sets[k])
        alone = counted(kept, x[i : i + 1], logits[i : i + 1, :width], sets[k], multi_label=False)
        np.testing.assert_allclose(found[i, :width], alone[0], atol=1e-5)
        np.testing.assert_array_equal(found[i, width:], logits[i, width:])


def test_nobody_votes_where_there_is_nobody():
    nothing = KeptTexts.of([], ("a",), np.zeros((0, 1), np.float32))
    logits = np.zeros((2, 1), np.float32)
    empty = VoteStore(nothing, np.zeros((0, 4), np.float32))
    np.testing.assert_array_equal(counted(empty, queries(2), logits, A), logits)
    kept, _ = store(labels=B)
    np.testing.assert_array_equal(counted(kept, queries(2), logits, A), logits)


def test_texts_that_are_equally_near_all_vote():
    targets = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    kept = VoteStore(KeptTexts.of(["x", "X", "y"], A + B, targets), vectors)
    logits = np.zeros((1, 2), np.float32)
    found = counted(kept, vectors[:1], logits, A + B, k=1, multi_label=False)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_a_text_has_no_vote_on_itself():
    kept, _ = store(multi_label=False)
    x, logits = kept.vectors, RNG.normal(size=(6, 3)).astype(np.float32)
    votes = Votes(kept, 2, False, leaves_out_own=True)
    count = votes.count(kept.kept.texts, [kept.kept.label_texts])
    count.take(slice(0, 6), x)
    found = count.added(logits)
    by_vector = votes.count_own(x[::-1], kept.kept.label_texts).added(logits[::-1])
    np.testing.assert_allclose(by_vector[::-1], found, atol=1e-6)
    for i in range(6):
        others = np.arange(6) != i
        k = kept.kept
        rest = KeptTexts(
            tuple(np.array(k.texts)[others]), k.label_texts, k.targets[others], k.weights[others]
        )
        alone = counted(
            VoteStore(rest, kept.vectors[others]), x[i : i + 1], logits[i : i + 1], k.label_texts,
            k=2, multi_label=False,
        )  # fmt: skip
        np.testing.assert_allclose(found[i], alone[0], atol=1e-5)


def test_texts_read_alike_have_no_vote_on_each_other_in_any_order():
    vectors = unit_vectors(np.float32([[1, 0], [1, 0], [1, 1], [0, 1]]))
    targets = np.float32([[1, 0], [0, 1], [1, 0], [0, 1]])
    logits = np.zeros((4, 2), np.float32)
    found = []
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        texts = [["x", "X", "y", "z"][i] for i in order]
        kept = VoteStore(KeptTexts.of(texts, A + B, targets[order]), vectors[order])
        found.append(Votes(kept, 1, False).count_own(vectors, A + B).added(logits))
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0][0], found[0][1])
    assert found[0][0, 0] > found[0][0, 1]


def test_the_only_text_of_a_label_says_nothing_of_it_on_itself():
    kept = KeptTexts.of(["x", "y", "z"], A + B, np.array([[1, 0], [0, 1], [0, 1]], np.float32))
    of_all = VoteStore(kept, unit_vectors(RNG.normal(size=(3, 4)).astype(np.float32)))
    count = Votes(of_all, 2, True, leaves_out_own=True).count(["x"], [A + B])
    count.take(slice(0, 1), of_all.vectors[:1])
    logits = np.ones((1, 2), np.float32)
    found = count.added(logits)
    assert found[0, 0] == 1
    assert found[0, 1] > 1


def test_what_is_said_of_a_text_is_put_together():
    targets = np.array([[1, np.nan], [0, 1], [0.5, 0], [1, 1], [np.nan, np.nan]], np.float32)
    kept = KeptTexts.of(["x", "x", "y", " ", "z"], A + B, targets, np.array([3, 1, 1, 1, 1.0]))
    assert kept.texts == ("x", "y")
    np.testing.assert_allclose(kept.targets, [[0.75, 1], [0.5, 0]])
    np.testing.assert_allclose(kept.weights, [[4, 1], [1, 1]])
    later = KeptTexts.of(["y", "w"], ("b", "c", "a"), np.eye(3, dtype=np.float32)[:2])
    both = KeptTexts.joined([kept, later], later.label_texts)
    assert both.texts == ("x", "y", "w")
    np.testing.assert_allclose(both.targets, [[1, 0, 0.75], [0.5, 0, 0.25], [0, 1, 0]])
    np.testing.assert_allclose(both.weights, [[1, 0, 4], [2, 1, 2], [1, 1, 1]])
    assert kept.among(A + B) is kept


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ((1, 30, 30), 1 / 3 * 1 / 2 * 1 / 2),
        ((10, 2000, 4), 10 / 12 * 2000 / 2030 * 500 / 501),
        ((3, 60, 0), 3 / 5 * 60 / 90 * 60 / 61),
        ((0, 60, 2), 0),
    ],
)
def test_votes_count_less_where_there_are_few(counts, share):
    n_votes, n_rows, n_labels = counts
    assert count_share(np.array([n_votes]), np.array([n_rows]), n_labels) == pytest.approx(share)


@pytest.mark.parametrize(("multi_label", "noise", "sureness"), [(True, 1.2, 3), (False, 0.9, 2)])
def test_the_share_that_explains_labelled_texts_best_is_found(multi_label, noise, sureness):
    rng = np.random.default_rng(3)
    classes = rng.integers(2, size=60)
    x = unit_vectors((np.eye(4)[classes] + noise * rng.normal(size=(60, 4))).astype(np.float32))
    targets = np.eye(2, dtype=np.float32)[classes]
    logits = (1.5 * rng.normal(size=(60, 2)) + sureness * targets).astype(np.float32)
    weights = rng.integers(1, 4, 60).astype(np.float32)
    kept = VoteStore(KeptTexts.of([f"text {i}" for i in range(60)], A + B, targets), x)
    count = Votes(kept, 3, multi_label).count_own(x, A + B)
    share = count.told_share(logits, targets, weights)
    assert 0.1 < share < 0.74

    p = expit(logits) if multi_label else softmax(logits, axis=1)
    cosines = (x @ x.T).astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    part = 3 / 5 * 59 / 89 * 29.5 / 30.5

    def likelihood(of_votes, of_chance):
        total = 0.0
        for i in range(60):
            nearest = np.argsort(-cosines[i])[:3]
            vote = np.average(targets[nearest], axis=0, weights=np.exp(20 * cosines[i, nearest]))
            chance = (targets.sum(axis=0) - targets[i]) / 59
            mixed = p[i] + part * (of_votes * (vote - p[i]) + of_chance * (chance - p[i]))
            cells = targets[i] * np.log(mixed)
            if multi_label:
                cells += (1 - targets[i]) * np.log(1 - mixed)
            total += weights[i] * cells.sum()
        return total - of_votes

    grid = [
        (likelihood(a, b), a)
        for a in np.arange(0, 0.76, 0.05)
        for b in np.arange(0, 1.001 - a, 0.05)
    ]
    assert abs(max(grid)[1] - share) < 0.05
    # Where votes are as those of texts at random, they have no share.
    mixed_up = Votes(replace(kept, vectors=x[::-1].copy()), 3, multi_label).count_own(x, A + B)
    assert mixed_up.told_share(logits, targets, weights) < 0.05
