"""What is tuned on few rows stays near its default."""

import numpy as np
import pytest

from skgliclass.estimators.calibration import shrunk_temperature, shrunk_thresholds
from skgliclass.estimators.state import FitState
from skgliclass.estimators.tuning import Evidence, Tunes, tuned


@pytest.mark.parametrize("temperature", [0.2, 3.0])
def test_temperatures_are_trusted_by_the_number_of_rows(temperature):
    few, many = (shrunk_temperature(temperature, n) for n in (4, 100_000))
    assert abs(np.log(few)) < 0.2 * abs(np.log(temperature))
    assert many == pytest.approx(temperature, rel=1e-2)
    assert shrunk_temperature(temperature, 0) == 1


def test_thresholds_are_trusted_by_the_rows_of_their_class():
    found = shrunk_thresholds(np.float32([0.1, 0.1, 0.9]), np.array([0.0, 3.0, 1e6]))
    assert found[0] == 0.5
    assert 0.45 < found[1] < 0.5
    assert found[2] == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_weights_tune_as_copies(multi_label):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(40, 3)).astype(np.float32)
    matrix = np.eye(3, dtype=np.float32)[rng.integers(3, size=40)]
    copies, others = rng.integers(1, 4, size=40), rng.normal(size=(7, 3)).astype(np.float32)
    everything = Tunes(True, True, not multi_label)
    weighted = Evidence(logits, matrix, copies.astype(np.float32), others, is_cautious=True)
    copied = Evidence(
        np.repeat(logits, copies, axis=0),
        np.repeat(matrix, copies, axis=0),
        others=others,
        is_cautious=True,
    )
    one, other = (tuned(FitState(None), everything, e, multi_label) for e in (weighted, copied))
    assert one.temperature == pytest.approx(other.temperature, rel=1e-6)
    assert np.allclose(one.thresholds, other.thresholds)
    if not multi_label:
        assert one.min_probability == pytest.approx(other.min_probability, rel=1e-6)
