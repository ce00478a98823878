"""Tests with numbers at the limits of float32 and float64."""

import numpy as np
import pytest

from skae import VariationalAutoencoder
from tests.helpers import ignore_floor


@ignore_floor
@pytest.mark.parametrize("offset", [1e4, 101325.0, 1e6])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_float32_scores_equal_those_of_the_same_numbers(offset, covariance_type):
    """An air pressure of 101,325 +- 0.15 beside two columns that depend on it."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 3)) * [0.15, 0.01, 0.01]
    X = noise + noise[:, :1] * [0.0, 2.0, -1.0]
    X[:, 0] += offset
    X = X.astype(np.float32)
    model = VariationalAutoencoder(
        1, covariance_type=covariance_type, max_iter=10, random_state=0
    )
    single = model.fit(X).score(X)
    double = model.fit(X.astype(np.float64)).score(X.astype(np.float64))
    assert single == pytest.approx(double, abs=0.02)
