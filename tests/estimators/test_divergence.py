"""Training that diverges: finite models, warnings, and the kept start."""

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
def test_no_nan_leaves_a_fit(
    likelihood, variance_mode, covariance_type, learning_rate_init, X
):
    """Whatever the learning rate, the model is finite, and no worse than its start."""
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
def test_divergence_is_told(estimator, X):
    """A warning that names the cure; what came before is kept."""
    model = estimator(learning_rate_init=1e30, max_iter=5, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*Lower learning_rate_init"):
        model.fit(X)
    assert model.n_iter_ < 5
    assert model.n_iter_ == len(model.loss_curve_)
    assert_finite(model, X)
    # A score is that of PCA, from which the fit began.
    if estimator is VariationalAutoencoder:
        assert model.score(X) > PCA(2).fit(X).score(X) - 0.05


class Normalised(MLP):
    """A network that normalises over the batch, and remembers what it saw."""

    def encoder(self, n_features, n_outputs):
        halves = super().encoder(n_features, n_outputs)
        return nn.Sequential(nn.BatchNorm1d(n_features), halves)


@ignore_divergence
@every_estimator
def test_the_start_is_kept_with_its_buffers(estimator, X):
    """What a network remembers of batches does not outlive the training that was worse."""
    model = estimator(network=Normalised(), learning_rate_init=1e3, random_state=0)
    model.set_params(max_iter=2).fit(X)
    normalised = model.module_.encoder[0]
    assert normalised.num_batches_tracked == 0
    assert torch.equal(normalised.running_mean, torch.zeros(X.shape[1]))
    start = model.set_params(learning_rate_init=1e-12).fit(X)
    assert start.module_.encoder[0].num_batches_tracked > 0
    assert_finite(model, X)
