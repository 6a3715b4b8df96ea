"""The convex fit of what is added to logits, and what texts without labels do to label vectors."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from vectors import N_LABELS, WIDTH, texts_around_labels, unit

from skgliclass.training.anchored import (
    LabelChange,
    default_penalties,
    fit_label_change,
    move_label_vectors,
    told_by_counts,
)


@pytest.fixture
def rows():
    return texts_around_labels()


def fit(x, base, targets, **changes):
    options = {"multi_label": False, "penalty": 0.1, "bias_penalty": 0.05, **changes}
    return fit_label_change(x, base, targets, **options)


def objective(change, x, base, targets, penalty=0.1, bias_penalty=0.05):
    loss = -(targets * log_softmax(change.logits(x, base), axis=1)).sum()
    size = penalty / 2 * (change.vectors**2).sum() + bias_penalty * (change.biases**2).sum()
    return loss + size


def test_no_rows_change_nothing():
    change = fit(np.zeros((0, WIDTH)), np.zeros((0, N_LABELS)), np.zeros((0, N_LABELS)))
    assert not change.vectors.any()
    assert not change.biases.any()
    assert change.n_iter == 0


def test_rows_of_one_class_make_other_texts_hardly_likelier_to_have_it():
    # Texts of one matter have much in common, which rows of a single class could be told by.
    rng = np.random.default_rng(3)
    labels = unit(rng.normal(size=(2, WIDTH)))
    classes = np.arange(400) % 2
    x = unit(labels[classes] + 0.5 * rng.normal(size=(400, WIDTH)) + 2 * labels.sum(axis=0))
    base = 4 * x @ (labels - labels.mean(axis=0)).T
    base -= base.mean(axis=0)
    few = np.flatnonzero(classes == 0)[:4]
    targets = np.eye(2)[classes[few]]
    change = fit_label_change(x[few], base[few], targets, multi_label=False)
    shares = [(z.argmax(axis=1) == 0).mean() for z in (base, change.logits(x, base))]
    assert shares[1] < shares[0] + 0.2
    assert change.logits(x, base)[few, 0].mean() > base[few, 0].mean()


def test_only_frequencies_that_differ_are_told_and_ever_less_the_more_rows_there_are():
    even, skewed = np.eye(3), np.eye(3)[[0, 0, 0, 1]]
    np.testing.assert_allclose(told_by_counts(even, None), 0, atol=1e-12)
    few, many = told_by_counts(skewed, None), told_by_counts(skewed, np.full(4, 1e4))
    assert few[0] > few[1] > few[2]
    assert 0 < many[0] < 0.01 < few[0]
    np.testing.assert_allclose(told_by_counts(skewed[[0, 3]], np.array([3.0, 1.0])), few)
    np.testing.assert_allclose(told_by_counts(skewed, np.ones((4, 3))), few)
    unknown = np.vstack([skewed, np.full((1, 3), np.nan)])
    np.testing.assert_allclose(told_by_counts(unknown, None), few)


def test_rows_that_nobody_annotated_change_nothing(rows):
    x, base, targets = rows
    change = fit(x, base, np.full_like(targets, np.nan))
    assert not change.vectors.any()


def test_no_other_change_is_better(rows):
    best = fit(*rows)
    rng = np.random.default_rng(1)
    least = objective(best, *rows)
    for size in (1e-1, 1e-2, 1e-3):
        step = size * rng.normal(size=(N_LABELS, WIDTH + 1))
        other = LabelChange(best.vectors + step[:, 1:], best.biases + step[:, 0])
        assert objective(other, *rows) > least


@pytest.mark.parametrize("multi_label", [False, True])
def test_every_start_leads_to_the_same_change(rows, multi_label):
    rng = np.random.default_rng(2)
    start = LabelChange(5 * rng.normal(size=(N_LABELS, WIDTH)), rng.normal(size=N_LABELS))
    near, far = (fit(*rows, multi_label=multi_label, start=s) for s in (None, start))
    np.testing.assert_allclose(near.vectors, far.vectors, atol=1e-5)
    np.testing.assert_allclose(near.biases, far.biases, atol=1e-5)


def test_from_nothing_it_is_logistic_regression(rows):
    x, base, targets = rows
    linear = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(x, targets.argmax(axis=1))
    nothing = np.zeros_like(base)
    change = fit(x, nothing, targets, penalty=0.5, bias_penalty=1e-9)
    ours = softmax(change.logits(x, nothing), axis=1)
    np.testing.assert_allclose(ours, linear.predict_proba(x), atol=1e-4)


def test_with_sigmoids_it_is_one_logistic_regression_a_label(rows):
    x, base, targets = rows
    nothing = np.zeros_like(base)
    change = fit(x, nothing, targets, multi_label=True, penalty=0.5, bias_penalty=1e-9)
    for k in range(N_LABELS):
        linear = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(x, targets[:, k])
        expected = linear.decision_function(x)
        np.testing.assert_allclose(change.logits(x, nothing)[:, k], expected, atol=1e-3)


def test_a_weight_of_two_is_the_row_twice(rows):
    x, base, targets = rows
    weights = 1.0 + (np.arange(len(x)) < 10)
    twice = np.concatenate([np.arange(len(x)), np.arange(10)])
    by_default = {"penalty": None, "bias_penalty": None}
    weighted = fit(x, base, targets, weights=weights, **by_default)
    repeated = fit(x[twice], base[twice], targets[twice], **by_default)
    np.testing.assert_allclose(weighted.vectors, repeated.vectors, atol=1e-5)


def test_a_weight_of_zero_is_a_pair_that_nobody_annotated(rows):
    x, base, targets = rows
    weights = np.ones_like(targets)
    weights[3:20, 1] = 0
    unknown = np.where(weights, targets, np.nan)
    weighted = fit(x, base, targets, multi_label=True, weights=weights)
    left_out = fit(x, base, unknown, multi_label=True)
    np.testing.assert_allclose(weighted.vectors, left_out.vectors, atol=1e-6)


def test_soft_targets_are_shares_of_rows(rows):
    x, base, targets = rows
    other = np.roll(targets, 1, axis=1)
    soft = fit(x, base, 0.75 * targets + 0.25 * other)
    split = fit(
        np.r_[x, x], np.r_[base, base], np.r_[targets, other], weights=np.repeat([0.75, 0.25], 40)
    )
    np.testing.assert_allclose(soft.vectors, split.vectors, atol=1e-5)


def test_label_smoothing_spreads_the_target(rows):
    x, base, targets = rows
    smoothed = fit(x, base, targets, label_smoothing=0.2)
    spread = fit(x, base, 0.8 * targets + 0.2 / N_LABELS)
    np.testing.assert_allclose(smoothed.vectors, spread.vectors, atol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_focal_loss_falls_all_the_way(rows, multi_label):
    change = fit(*rows, multi_label=multi_label, gamma=2.0, alpha=0.7)
    assert change.n_iter == len(change.loss_curve) > 1
    assert list(change.loss_curve) == sorted(change.loss_curve, reverse=True)


def test_the_start_is_kept_where_no_step_is_allowed(rows):
    start = LabelChange(np.ones((N_LABELS, WIDTH)), np.ones(N_LABELS))
    assert fit(*rows, start=start, max_iter=0).vectors is start.vectors


def test_rows_in_windows_give_the_same(rows, monkeypatch):
    whole = fit(*rows)
    monkeypatch.setattr("skgliclass.engine.neighbours._WINDOW_CELLS", 70)
    np.testing.assert_allclose(fit(*rows).vectors, whole.vectors, atol=1e-6)


def test_many_rows_come_to_the_same_by_way_of_some(rows, monkeypatch):
    whole = fit(*rows)
    monkeypatch.setattr("skgliclass.training.anchored._SAMPLE_ROWS", 8)
    by_some = fit(*rows)
    np.testing.assert_allclose(by_some.vectors, whole.vectors, atol=1e-5)


def test_many_cells_are_computed_in_single_precision(rows, monkeypatch):
    whole = fit(*rows)
    monkeypatch.setattr("skgliclass.training.anchored._PRECISE_CELLS", 10)
    np.testing.assert_allclose(fit(*rows).vectors, whole.vectors, atol=5e-2)


def test_texts_draw_label_vectors_to_their_middle():
    rng = np.random.default_rng(3)
    centres = unit(rng.normal(size=(3, 8)))
    labels = unit(centres + 0.5 * unit(rng.normal(size=(3, 8))))
    texts = unit(np.repeat(centres, 30, axis=0) + 0.1 * rng.normal(size=(90, 8)))
    moved = move_label_vectors(labels, texts, scale=17.0, multi_label=False)
    assert ((unit(moved) * centres).sum(axis=1) > (labels * centres).sum(axis=1)).all()


def test_without_texts_label_vectors_stay():
    labels = np.eye(3)
    moved = move_label_vectors(labels, np.zeros((0, 3)), scale=17.0, multi_label=False)
    np.testing.assert_array_equal(moved, labels)


def test_a_class_without_texts_does_not_move_into_another():
    rng = np.random.default_rng(4)
    labels = unit(np.eye(3, 8) + 0.3 * rng.normal(size=(3, 8)))
    texts = unit(np.repeat(labels[:2], 200, axis=0) + 0.4 * rng.normal(size=(400, 8)))
    moved = move_label_vectors(labels, texts, scale=17.0, multi_label=False)
    others = unit(labels[2] + 0.2 * rng.normal(size=(50, 8)))
    assert ((others @ moved.T).argmax(axis=1) == 2).all()


def test_texts_about_something_else_move_nothing():
    rng = np.random.default_rng(5)
    labels = unit(np.eye(3, 16) + 0.05 * rng.normal(size=(3, 16)))
    texts = rng.normal(size=(300, 16))
    texts[:, :3] *= 0.1
    moved = move_label_vectors(labels, unit(texts), scale=17.0, multi_label=False)
    np.testing.assert_array_equal(moved, labels)


def test_texts_of_which_labels_tell_nothing_move_nothing():
    rng = np.random.default_rng(9)
    labels = np.eye(2, 16)
    texts = np.tile([1.0, 1.0, *[0.0] * 14], (300, 1))
    texts[:, :2] += 0.02 * rng.normal(size=(300, 1)) * [1, -1]
    moved = move_label_vectors(labels, unit(texts), scale=17.0, multi_label=False)
    np.testing.assert_array_equal(moved, labels)


def around(centres, counts, rng):
    """Give texts about each centre, so many of each."""
    repeated = np.repeat(centres, counts, axis=0)
    return unit(repeated + 0.8 * unit(rng.normal(size=repeated.shape)))


@pytest.mark.parametrize("seed", range(5))
def test_a_class_that_most_texts_are_of_takes_none_from_others(seed):
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(2, 32)))
    labels = unit(centres + 0.8 * unit(rng.normal(size=(2, 32))))
    skewed, even = (around(centres, counts, rng) for counts in ([900, 100], [500, 500]))
    moved = move_label_vectors(labels, skewed, scale=17.0, multi_label=False)
    before, after = ((even @ v.T).argmax(axis=1) == np.arange(1000) // 500 for v in (labels, moved))
    assert np.abs(moved - labels).max() > 1e-2
    assert after.mean() >= before.mean() - 0.01


def test_labelled_texts_count_for_their_class_and_more():
    rng = np.random.default_rng(6)
    labels = unit(rng.normal(size=(2, 8)))
    texts = unit(np.repeat(labels, 30, axis=0) + 0.5 * rng.normal(size=(60, 8)))
    known = np.full((60, 2), np.nan)
    known[:5] = [0, 1]
    options = {"scale": 17.0, "multi_label": False}
    without = move_label_vectors(labels, texts, **options)
    moved = move_label_vectors(labels, texts, known=known, **options)
    told = texts[:5].mean(axis=0)
    assert told @ moved[1] - told @ moved[0] > told @ without[1] - told @ without[0]


def test_texts_in_windows_move_the_same(monkeypatch):
    rng = np.random.default_rng(7)
    labels = unit(rng.normal(size=(3, 8)))
    texts = unit(np.repeat(labels, 20, axis=0) + 0.5 * rng.normal(size=(60, 8)))
    whole = move_label_vectors(labels, texts, scale=17.0, multi_label=False)
    monkeypatch.setattr("skgliclass.engine.neighbours._WINDOW_CELLS", 50)
    parts = move_label_vectors(labels, texts, scale=17.0, multi_label=False)
    np.testing.assert_allclose(parts, whole, atol=1e-12)
    assert np.abs(whole - labels).max() > 1e-3


def test_few_rows_are_trusted_less():
    few, many = (default_penalties(n, multi_label=False) for n in (2, 200))
    assert few[0] > many[0]
    assert few[1] > many[1]


def test_independent_labels_hold_as_often_as_before():
    rng = np.random.default_rng(8)
    labels = unit(rng.normal(size=(3, 8)))
    texts = unit(np.repeat(labels, 20, axis=0) + 0.5 * rng.normal(size=(60, 8)))
    moved = move_label_vectors(labels, texts, scale=17.0, multi_label=True)
    assert np.abs(moved - labels).max() > 1e-3
    np.testing.assert_allclose(texts.mean(axis=0) @ moved.T, texts.mean(axis=0) @ labels.T)


@pytest.mark.parametrize("multi_label", [False, True])
def test_it_is_exact_whatever_the_start_and_the_options(rows, multi_label):
    x, base, targets = rows
    targets = np.where(np.random.default_rng(5).random(targets.shape) < 0.1, np.nan, targets)
    weights = np.random.default_rng(6).random(targets.shape) if multi_label else np.arange(40.0)
    options = {"alpha": 0.7, "label_smoothing": 0.1, "weights": weights}
    change = fit(x, base, targets, multi_label=multi_label, **options)
    start = LabelChange(np.full((N_LABELS, WIDTH), 3.0), np.ones(N_LABELS))
    again = fit(x, base, targets, multi_label=multi_label, start=start, **options)
    assert change.n_iter < 20
    np.testing.assert_allclose(again.vectors, change.vectors, atol=1e-7)


def test_weights_of_texts_are_as_copies():
    rng = np.random.default_rng(8)
    labels = unit(rng.normal(size=(3, 8)))
    texts = unit(np.repeat(labels, 20, axis=0) + 0.5 * rng.normal(size=(60, 8)))
    copies = rng.integers(1, 4, size=60)
    weighted = move_label_vectors(labels, texts, scale=17.0, multi_label=False, weights=copies)
    expected = move_label_vectors(
        labels, np.repeat(texts, copies, axis=0), scale=17.0, multi_label=False
    )
    np.testing.assert_allclose(weighted, expected, atol=1e-9)
    assert np.abs(weighted - labels).max() > 1e-3


@pytest.mark.parametrize("multi_label", [False, True])
def test_few_rows_learn_the_same_in_the_directions_in_which_they_lie(multi_label):
    x, base, targets = texts_around_labels()
    few = slice(0, WIDTH - 2)
    options = {"multi_label": multi_label, "penalty": 0.1, "bias_penalty": 0.05}
    found = fit_label_change(x[few], base[few], targets[few], **options)
    # Rows of weight 0 say nothing, but lie in all directions.
    weights = (np.arange(40) < WIDTH - 2).astype(float)
    expected = fit_label_change(x, base, targets, weights=weights, **options)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-7)
    np.testing.assert_allclose(found.biases, expected.biases, atol=1e-7)
    begun = fit_label_change(x[few], base[few], targets[few], start=expected, **options)
    np.testing.assert_allclose(begun.vectors, expected.vectors, atol=1e-7)
