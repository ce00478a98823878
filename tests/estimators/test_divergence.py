"""Tests of diverging training: finite models, warnings, and the start as a fallback."""

from functools import partial

import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae import VariationalAutoencoder
from skae._fitting.lockstep import run_in_lockstep
from skae.networks import MLP
from tests.helpers import (
    Recording,
    assert_finite,
    every_estimator,
    ignore_divergence,
    ignore_floor,
    models_in_turns,
    models_of,
    weights,
)


@ignore_floor
@ignore_divergence
@models_in_turns
@pytest.mark.parametrize("learning_rate_init", [1e10, 1e37])
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


class ExplodingIn(MLP):
    """A network whose output is infinite in some epochs of four steps, counted from 1."""

    def __init__(self, epochs=(), hidden_layer_sizes=(8,)):
        super().__init__(hidden_layer_sizes)
        self.epochs = epochs

    def decoder(self, n_components, n_outputs):
        network = super().decoder(n_components, n_outputs)
        n_steps = 0

        def explode(module, args, out):
            nonlocal n_steps
            n_steps += module.training
            is_on = module.training and (n_steps - 1) // 4 + 1 in self.epochs
            return out * torch.inf if is_on else out

        network.register_forward_hook(explode)
        return network


def exploding(estimator, epochs, **parameters):
    """Make an estimator whose training diverges in some epochs."""
    # A random start, from which each epoch improves the model much.
    own = {"max_iter": 9, "random_state": 0, "batch_size": 30, "init": "random"}
    parameters = own | parameters
    return estimator(network=ExplodingIn(epochs), **parameters)


@every_estimator
@pytest.mark.parametrize("variance_mode", ["optimal", "learned"])
def test_a_diverged_epoch_is_taken_back(estimator, variance_mode, X):
    """The training goes on with the last good state and half the rate, and says so."""
    model = exploding(estimator, (4, 6), variance_mode=variance_mode)
    with pytest.warns(ConvergenceWarning, match=r"in 2 of its epochs.*rate_init=0\.005"):
        model.fit(X)
    assert model.n_iter_ == model.best_iter_ == len(model.loss_curve_) == 7
    assert_finite(model, X)
    calm = exploding(estimator, (), variance_mode=variance_mode).fit(X)
    # Until then both are the same, and afterwards the training improves.
    assert model.loss_curve_[:3] == calm.loss_curve_[:3]
    assert max(model.loss_curve_[3:]) < model.loss_curve_[2]


@every_estimator
def test_the_first_epoch_may_diverge(estimator, X):
    """The last good state is then the start."""
    model = exploding(estimator, (1,))
    with pytest.warns(ConvergenceWarning, match="in 1 of its epochs"):
        model.fit(X)
    assert model.n_iter_ == 8
    start = exploding(estimator, (), learning_rate_init=1e-12, max_iter=1).fit(X)
    assert model.loss_curve_[-1] < start.loss_curve_[-1] - 0.1


@every_estimator
def test_after_some_tries_the_training_ends(estimator, X):
    """It keeps the best model so far."""
    model = exploding(estimator, range(4, 100), max_iter=50)
    with pytest.warns(ConvergenceWarning, match="diverged 5 times.*Lower learning_rate"):
        model.fit(X)
    assert model.n_iter_ == model.best_iter_ == 3
    three = exploding(estimator, (), max_iter=50).set_callbacks(Recording(stop_after=3))
    assert weights(model) == weights(three.fit(X))


class BadMean(MLP):
    """A network with a running mean that is NaN after some steps."""

    def encoder(self, n_features, n_outputs):
        network = nn.Sequential(super().encoder(n_features, n_outputs))
        network.register_buffer("mean", torch.zeros(()))
        n_steps = 0

        def spoil(module, args, out):
            nonlocal n_steps
            n_steps += module.training
            if 8 < n_steps <= 12:
                module.mean.fill_(torch.nan)

        network.register_forward_hook(spoil)
        return network


@every_estimator
def test_a_running_mean_that_is_not_finite(estimator, X):
    """It counts as a divergence, and the buffer goes back."""
    model = estimator(network=BadMean((4,)), max_iter=5, random_state=0, batch_size=30)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        model.set_params(init="random").fit(X)
    assert model.n_iter_ == 4
    assert model.module_.encoder.mean == 0


@ignore_divergence
def test_a_divergence_does_not_touch_the_models_beside(X):
    """Side by side, each model is that of a fit alone, whether it diverges or not."""
    # Rates that differ by so much that one model diverges, in the analytic step.
    rates = [1e-3, 1e25, 1e-2]
    models = [
        VariationalAutoencoder(learning_rate_init=rate, max_iter=8, random_state=0)
        for rate in rates
    ]
    beside = [clone(model) for model in models]
    run_in_lockstep([partial(model.fit, X) for model in beside], 3)
    for model, other in zip(models, beside, strict=True):
        assert weights(model.fit(X)) == weights(other)
        assert model.loss_curve_ == other.loss_curve_
    assert beside[1].best_iter_ == 0
    assert beside[2].n_iter_ == 8


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
