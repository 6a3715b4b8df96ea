"""What rows that were held out say: who is held out with whom, and how much of a change to take."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from vectors import N_LABELS, WIDTH, texts_around_labels

from skgliclass.engine import neighbours
from skgliclass.training import folds
from skgliclass.training.anchored import LabelChange, fit_label_change
from skgliclass.training.folds import dealt, held_out_logits, trusted_share

OPTIONS = {"multi_label": False, "penalty": 0.1, "bias_penalty": 0.05}


@pytest.fixture
def rows():
    return texts_around_labels()


def held_out(x, base, targets, weights=None):
    """Give all rows their logits, NaN to those that are not held out."""
    weights = np.ones(len(x)) if weights is None else weights
    logits = np.full(targets.shape, np.nan)
    rows, logits_of_rows = held_out_logits(x, base, targets, weights=weights, **OPTIONS)
    logits[rows] = logits_of_rows
    return logits


def share_of(x, base, targets, weights=None):
    weights = np.ones(len(x)) if weights is None else weights
    held = held_out_logits(x, base, targets, weights=weights, **OPTIONS)
    return trusted_share(base, held, targets, weights)


def test_a_row_out_of_fold_has_no_part_in_its_logits(rows):
    x, base, targets = rows
    in_folds, _ = dealt(x, targets, np.ones(40))
    before, other = held_out(x, base, targets), targets.copy()
    # In its own fold nothing is learnt from the row, whatever is said of it.
    other[0] = np.where(targets[0] > 0, 0.6, 0.4 / 3)
    moved = np.abs(held_out(x, base, other) - before).max(axis=1)
    assert (moved[in_folds == in_folds[0]] < 1e-6).all()
    assert (moved[in_folds != in_folds[0]] > 1e-6).all()
    inside = fit_label_change(x, base, targets, **OPTIONS).logits(x, base)
    right = np.arange(40), targets.argmax(axis=1)
    assert log_softmax(before, axis=1)[right].mean() < log_softmax(inside, axis=1)[right].mean()


def test_each_fold_has_as_many_texts_of_a_label(rows):
    x, _, targets = rows
    in_folds, n_folds = dealt(x, targets, np.ones(40))
    for fold in range(n_folds):
        counts = np.bincount(targets[in_folds == fold].argmax(axis=1), minlength=N_LABELS)
        assert counts.tolist() == [2] * N_LABELS


def test_copies_of_a_text_are_held_out_together_whatever_is_said_of_them(rows):
    x, _, targets = rows
    rng = np.random.default_rng(1)
    # Passes of other batches differ in the last digits.
    copies = np.concatenate([x, x[:10] + 1e-7 * rng.normal(size=(10, WIDTH))])
    of_copies = np.concatenate([targets, np.roll(targets[:10], 1, axis=1) * 0.9])
    in_folds, _ = dealt(copies, of_copies, np.ones(50))
    assert np.array_equal(in_folds[40:], in_folds[:10])
    assert np.array_equal(in_folds[:40], dealt(x, targets, np.ones(40))[0])
    order = rng.permutation(50)
    assert np.array_equal(dealt(copies[order], of_copies[order], np.ones(50))[0], in_folds[order])


def test_of_many_texts_some_are_held_out_once(rows, monkeypatch):
    monkeypatch.setattr(folds, "_MOST_FOLDED", 39)
    monkeypatch.setattr(folds, "_HELD_OUT", 10)
    logits = held_out(*rows)
    is_held = np.isfinite(logits).all(axis=1)
    assert is_held.sum() == 10
    assert np.isnan(logits[~is_held]).all()


def test_many_rows_are_not_copied(monkeypatch):
    monkeypatch.setattr(neighbours, "_WINDOW_CELLS", 1 << 14)
    monkeypatch.setattr(
        folds, "fit_label_change", lambda x, _, targets, **options: LabelChange.nothing(4, 16)
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50_000, 16)).astype(np.float32)
    targets = np.eye(4, dtype=np.float32)[np.arange(50_000) % 4]
    tracemalloc.start()
    rows, logits = held_out_logits(x, targets, targets, weights=np.ones(50_000, np.float32))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert logits.shape == (len(rows), 4)
    assert 1900 < len(rows) < 2100
    # A few numbers a row.
    assert most < 50_000 * 8 * 8 < 1.01 * x.nbytes


def test_what_cannot_be_held_out_has_no_logits(rows):
    x, base, targets = rows
    alone = np.r_[0, np.flatnonzero(targets[:, 0] == 0)]
    logits = held_out(x[alone], base[alone], targets[alone])
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1:]).all()


def test_rows_that_tell_nothing_have_none(rows):
    x, base, targets = rows
    targets[3] = np.nan
    logits = held_out(x, base, targets, np.r_[0.0, np.ones(39)])
    assert np.flatnonzero(np.isnan(logits[:, 0])).tolist() == [0, 3]
    assert np.isnan(held_out(x, base, targets, np.zeros(40))).all()


def test_what_rows_that_were_held_out_tell_against_is_taken_back(rows):
    x, base, targets = rows
    rng = np.random.default_rng(11)
    # Labels that the logits before explain as well as anything does, apart from how sharp they are.
    noisy = np.eye(N_LABELS)[[rng.choice(N_LABELS, p=p) for p in softmax(0.3 * base, axis=1)]]
    assert share_of(x, base, noisy) < 0.6 < 0.8 < share_of(x, 0 * base, targets) < 1


def test_trust_goes_by_weights_as_by_copies_in_any_order(rows):
    x, base, targets = rows
    weights = 1.0 + (np.arange(len(x)) < 10)
    weights[-1] = 0
    copies = np.random.default_rng(12).permutation(np.r_[np.arange(len(x) - 1), np.arange(10)])
    copied = share_of(x[copies], base[copies], targets[copies])
    assert share_of(x, base, targets, weights) == pytest.approx(copied, abs=1e-7)


def test_a_single_row_a_label_is_not_trusted_wholly(rows):
    x, base, targets = (array[:2] for array in rows)
    assert share_of(x, base, targets) == pytest.approx(0.75)


def test_many_rows_are_trusted_without_a_second_look(rows):
    _, base, targets = rows
    assert 0.9 < trusted_share(base, None, targets, np.ones(40)) < 1


@pytest.mark.parametrize("seed", [0, 1, 2, 55])
def test_the_share_explains_rows_best_at_any_sharpness(seed):
    # A model that prefers one class for any text, and is best not believed at all.
    random = np.random.default_rng(seed)
    targets = np.eye(3)[np.arange(12) % 3]
    before = 3 * random.normal(size=(12, 3)) + 10 * random.normal(size=3)
    after = before + 0.9 * random.normal(size=(12, 3)) - 0.9 * before.mean(axis=0)
    found = trusted_share(before, (np.arange(12), after), targets, np.ones(12))
    shares, sharpness = np.linspace(0, 1, 401), np.exp(np.linspace(-2, 2, 161))
    logits = sharpness[:, None, None] * (before + shares[:, None, None, None] * (after - before))
    told = (log_softmax(logits, axis=-1) * targets).sum(axis=(-2, -1)).max(axis=1)
    best = shares[told.argmax()]
    assert found == pytest.approx(12 / (12 + 2 / 3) * (12 * best + 20) / 32, abs=2e-3)
