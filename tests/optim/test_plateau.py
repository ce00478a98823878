"""The plateau against its definition."""

import json
import math

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from skae._optim import Plateau


@hypothesis.settings(deadline=None, max_examples=150, derandomize=True)
@hypothesis.given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(1, 6),
)
def test_plateau_equals_its_definition(values, tol, patience):
    plateau = Plateau(tol, patience)
    medians = pd.Series(values).rolling(patience, min_periods=1).median().tolist()
    below = [(min(medians[:t], default=math.inf) - tol) - m for t, m in enumerate(medians)]
    # Rounding errors must not decide the comparison.
    hypothesis.assume(all(b > 1e-9 or b < -1e-9 for b in below))
    for t, value in enumerate(values):
        is_best = plateau.update(value)
        assert is_best == (value < min(values[:t], default=math.inf))
        recent = below[max(0, t + 1 - patience) : t + 1]
        assert plateau.reached == (len(recent) == patience and max(recent) < 0)
    assert plateau.best == min(values)


def test_noise_is_no_plateau():
    rng = np.random.default_rng(0)
    falling = Plateau(tol=1e-4, patience=10)
    for t in range(300):
        falling.update(-0.2 * t + rng.normal())
        assert not falling.reached
    for _ in range(100):
        falling.update(-60.0 + rng.normal())
    assert falling.reached


def test_single_large_values_are_no_plateau():
    falling = Plateau(tol=1e-4, patience=10)
    for t in range(300):
        falling.update(1e6 if t % 8 == 5 else 100.0 - 0.1 * t)
        assert not falling.reached


@pytest.mark.parametrize("patience", [np.int64(3), 10**30])
def test_any_integer_is_a_patience(patience):
    plateau = Plateau(tol=0.0, patience=patience)
    for _ in range(4):
        plateau.update(1.0)
    assert plateau.reached == (patience == 3)


def test_plateau_needs_consecutive_values():
    plateau = Plateau(tol=0.1, patience=2)
    reached = []
    for value in (5.0, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        plateau.update(value)
        reached.append(plateau.reached)
    # Medians: 5, 5, 4.5, 4, 4, 4, 4.
    assert reached == [False, False, False, False, False, True, True]
    assert plateau.best == 4


def test_a_restored_plateau_goes_on():
    """Also before the first value, when its numbers are infinite."""
    values = [3.0, 2.0, 2.5, 1.9, 1.95, 1.99, 2.0, 1.8]
    for n in range(len(values)):
        plateau, other = Plateau(0.05, 3), Plateau(0.05, 3)
        for value in values[:n]:
            plateau.update(value)
        other.restore(json.loads(json.dumps(plateau.state())))
        for value in values[n:]:
            assert plateau.update(value) == other.update(value)
            assert plateau.state() == other.state()
            assert plateau.reached == other.reached
