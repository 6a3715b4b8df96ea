"""What is tuned on held-out texts, against computations by hand."""

import numpy as np
import pytest
from scipy.special import expit

from skgliclass.estimators.calibration import best_temperature, best_thresholds


def by_trying_all(scores, truth):
    """Try every threshold there could be; of the best the one nearest to one half."""
    if not truth.any():
        return 0.5
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2, [0.5]])
    chosen = scores[None, :] >= candidates[:, None]
    f1 = 2 * (chosen & truth).sum(axis=1) / (chosen.sum(axis=1) + truth.sum())
    best = candidates[f1 == f1.max()]
    return best[np.abs(best - 0.5).argmin()]


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    # Rounded logits bring equal scores and equally good thresholds; the shift puts all of them on
    # one side of one half.
    logits = rng.normal(size=(n, 6)).round(int(rng.integers(0, 4))) + rng.choice([-9, 0, 0, 9])
    matrix = (rng.random((n, 6)) < rng.random(6)).astype(np.float32)
    found = best_thresholds(logits.astype(np.float32), matrix)
    probabilities = expit(logits.astype(np.float32).astype(np.float64))
    expected = [by_trying_all(probabilities[:, k], matrix[:, k] > 0.5) for k in range(6)]
    np.testing.assert_array_equal(found, np.asarray(expected, dtype=np.float32))


def test_thresholds_of_many_texts_need_little_memory():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100_000, 1)).astype(np.float32)
    truth = (rng.random((100_000, 1)) < expit(logits)).astype(np.float32)
    # Every text against every other would be ten thousand million comparisons.
    assert 0 < best_thresholds(logits, truth).item() < 1


def test_data_that_cannot_tell_a_temperature_leave_it_and_warn():
    certain = np.array([[3.0, -3.0], [-3.0, 3.0]], dtype=np.float32)
    with pytest.warns(UserWarning, match="2 validation texts do not tell"):
        assert best_temperature(certain, np.eye(2, dtype=np.float32), False) == 1.0
