"""The documented recipe of a network of one's own."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.helpers import assert_same_answers, every_estimator, models_in_turns, weights
from tests.networks.gated import Gated
from tests.surroundings import nothing_global_changes


@every_estimator
def test_it_begins_at_the_linear_path(estimator, X):
    parameters = {"max_iter": 1, "learning_rate_init": 1e-12, "random_state": 0}
    model = estimator(network=Gated(), **parameters).fit(X)
    linear = estimator(hidden_layer_sizes=(), **parameters).fit(X)
    assert model.score(X) == pytest.approx(linear.score(X), abs=1e-5)


@every_estimator
def test_it_is_reproducible_and_can_be_copied(estimator, X):
    model = estimator(network=Gated(8, 0.2), max_iter=3, random_state=0)
    with nothing_global_changes():
        model.fit(X)
        assert weights(model) == weights(clone(model).fit(X))
        assert_same_answers(model, copy.deepcopy(model), X)
        assert_same_answers(model, pickle.loads(pickle.dumps(model)), X)


@models_in_turns
def test_it_works_with_every_scale_and_holes(likelihood, variance_mode, covariance_type, X):
    model = VariationalAutoencoder(
        network=Gated(8),
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        max_iter=2,
        random_state=0,
    )
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    assert np.isfinite(model.fit(holes).score(holes))


def test_it_can_be_searched(X):
    grid = {"network__width": [4, 16], "network__dropout": [0.0, 0.5]}
    model = VariationalAutoencoder(
        network=Gated(), init="random", max_iter=3, random_state=0
    )
    expected = GridSearchCV(model, grid, cv=2).fit(X).cv_results_["mean_test_score"]
    found = BatchedGridSearchCV(model, grid, cv=2).fit(X).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)
    assert len(set(expected)) == 4


def test_it_learns():
    """Of the digits that it is trained on, it is far above its linear path."""
    X = load_digits().data[:400]
    parameters = {"max_iter": 30, "random_state": 0}
    model = VariationalAutoencoder(8, network=Gated(64), **parameters).fit(X)
    linear = VariationalAutoencoder(8, hidden_layer_sizes=(), **parameters).fit(X)
    assert model.score(X) > linear.score(X) + 5
