"""What is tuned on few rows stays near its default."""

import numpy as np
import pytest

from skgliclass.estimators.calibration import shrunk_temperature, shrunk_thresholds


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
