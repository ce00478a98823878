"""Tests of diverging training: finite models, warnings, and the start as a fallback."""

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae import VariationalAutoencoder
from skae.networks import MLP
from tests.helpers import (
    assert_finite,
    every_estimator,
    every_model,
    ignore_divergence,
    ignore_floor,
    models_of,
)


@ignore_floor
@ignore_divergence
@every_model
@pytest.mark.parametrize("learning_rate_init", [1e10, 1e30, 1e37])
def test_fit_is_finite_for_any_learning_rate(
    likelihood, variance_mode, covariance_type, learning_rate_init, X
):
    """For any learning rate the model is finite and no worse than its start."""
    parameters = {
        "variance_mode": variance_mode,
        "covariance_type": covariance_type,
        "random_state": 0,
    }
    for model in models_of(likelihood, **parameters):
        start = model.set_params(learning_rate_init=1e-12, max_iter=1).fit(X).score(X)
        model.set_params(learning_rate_init=learning_rate_init)
        for max_iter, batch_size in ((1, 120), (4, "auto")):
            model.set_params(max_iter=max_iter, batch_size=batch_size).fit(X)
            assert_finite(model, X)
            assert model.score(X) >= start - 1e-3 * abs(start)
        model.set_params(early_stopping=True).fit(X)
        assert_finite(model, X)


@every_estimator
def test_divergence_warns(estimator, X):
    """Diverging training warns with a remedy, and keeps the model before it."""
    model = estimator(learning_rate_init=1e30, max_iter=5, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*Lower learning_rate_init"):
        model.fit(X)
    assert model.n_iter_ < 5
    assert model.n_iter_ == len(model.loss_curve_)
    assert_finite(model, X)
    # The fit starts at PCA, so its score is at least that of PCA.
    if estimator is VariationalAutoencoder:
        assert model.score(X) > PCA(2).fit(X).score(X) - 0.05


class Normalised(MLP):
    """A network with batch normalisation, whose buffers change in training."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)
        return nn.Sequential(nn.BatchNorm1d(n_features), network)


@ignore_divergence
@every_estimator
def test_fallback_to_the_start_restores_buffers(estimator, X):
    """If training is worse than the start, the fit also restores the network's buffers."""
    model = estimator(network=Normalised(), learning_rate_init=1e3, random_state=0)
    model.set_params(max_iter=2).fit(X)
    normalised = model.module_.encoder[0]
    assert normalised.num_batches_tracked == 0
    assert torch.equal(normalised.running_mean, torch.zeros(X.shape[1]))
    start = model.set_params(learning_rate_init=1e-12).fit(X)
    assert start.module_.encoder[0].num_batches_tracked > 0
    assert_finite(model, X)
