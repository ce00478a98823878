"""Tests of the end of training when the objective no longer improves."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer

from skae import GaussianAutoencoder, VariationalAutoencoder
from tests.helpers import Recording, every_estimator, ignore_spread


@every_estimator
def test_plateau_ends_training(estimator, X):
    """Training ends `n_iter_no_change` epochs after the last gain, plus the cooldown."""
    parameters = {"max_iter": 60, "random_state": 0, "n_iter_no_change": 4}
    # No epoch improves on the first by a thousand nats.
    assert estimator(tol=1e3, **parameters).fit(X).n_iter_ == 1 + 4 + 4
    steady = estimator(tol=0.0, max_iter=60, n_iter_no_change=60, random_state=0).fit(X)
    assert steady.n_iter_ == 60


@ignore_spread
@pytest.mark.parametrize("estimator", [GaussianAutoencoder, VariationalAutoencoder])
def test_noise_is_no_plateau(estimator):
    """The noise of the objective does not end training early."""
    X = load_breast_cancer().data[::2]
    lost = []
    for seed in range(3):
        model = estimator(max_iter=100, random_state=seed).fit(X)
        to_the_end = clone(model).set_params(n_iter_no_change=100).fit(X)
        assert to_the_end.n_iter_ == 100
        lost.append(to_the_end.score(X) - model.score(X))
    assert np.mean(lost) < 0.5


def test_cooldown_ends_with_small_steps(X):
    """The learning rate falls to 0 in the cooldown, so the last epoch changes little."""
    seen = Recording()
    model = VariationalAutoencoder(
        max_iter=100, n_iter_no_change=5, tol=1e3, learning_rate_init=0.01, random_state=0
    )
    model.set_callbacks(seen).fit(X)
    assert model.n_iter_ == 11
    codes = [snapshot.transform(X) for snapshot in seen.fitted[:-1]]
    steps = [np.abs(b - a).max() for a, b in pairwise(codes)]
    assert steps[-1] < 0.5 * np.mean(steps[:5])
