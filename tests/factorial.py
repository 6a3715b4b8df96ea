"""Which of all combinations of some parameters run by default."""

import itertools

import pytest


def half_slow(**levels):
    """Pair all with all; every second combination is slow.

    In those that stay any all but one of the parameters still meet in every way.
    """
    places = itertools.product(*(range(len(values)) for values in levels.values()))
    return pytest.mark.parametrize(
        tuple(levels) if len(levels) > 1 else next(iter(levels)),
        [
            pytest.param(
                *(values[i] for values, i in zip(levels.values(), place, strict=True)),
                marks=[pytest.mark.slow] if sum(place) % 2 else [],
            )
            for place in places
        ],
    )
