"""Fitted state shares nothing with the caller, and what is ignored is said."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.mixture import GaussianMixture
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.networks import MLP
from skae.objectives import LinearSchedule
from tests.helpers import answers, assert_same_answers, every_estimator, weights
from tests.likelihoods.generalized_normal import GeneralizedNormal

QUICK = {"max_iter": 2, "random_state": 0}


class Kept(BaseEstimator):
    """A specification that returns networks which the caller made and keeps."""

    def __init__(self, layers):
        self.layers = layers

    def encoder(self, n_features, n_outputs):
        return self.layers["encoder"]

    def decoder(self, n_components, n_outputs):
        return self.layers["decoder"]

    def __sklearn_clone__(self):
        return self


def assert_whole(model, X, before):
    """Assert that a model, its copies and its pickle give the answers of before."""
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert_same_answers(model, pickle.loads(pickle.dumps(model)), X)
    assert_same_answers(model, copy.deepcopy(model), X)


@every_estimator
@pytest.mark.parametrize("sizes", [[4, 4], np.array([4, 4])], ids=["list", "array"])
def test_widths_belong_to_the_caller(estimator, sizes, X):
    """A list or array of widths may change after the fit, and is not changed by it."""
    model = estimator(hidden_layer_sizes=sizes, **QUICK).fit(X)
    before = answers(model, X)
    assert model.hidden_layer_sizes is sizes
    if isinstance(sizes, list):
        sizes.append(7)
    else:
        sizes += 1
    assert_whole(model, X, before)
    clone(model).fit(X)


def test_warm_start_compares_widths_and_not_their_containers(X):
    """A list, a tuple and an array of equal widths are the same network."""
    model = GaussianAutoencoder(hidden_layer_sizes=[4], warm_start=True, **QUICK).fit(X)
    for sizes in (4, (4,), np.array([4])):
        model.set_params(hidden_layer_sizes=sizes).fit(X)
    assert model.n_iter_ == 8


def test_specification_belongs_to_the_caller(X):
    """The parameters of a specification may change after the fit."""
    sizes = [4]
    network = MLP(sizes)
    model = VariationalAutoencoder(network=network, **QUICK).fit(X)
    before = answers(model, X)
    sizes.append(3)
    network.set_params(activation="tanh")
    assert_whole(model, X, before)
    assert model.network is network


def test_modules_belong_to_the_caller(X):
    """Training does not change a module that a specification returns and keeps."""
    torch.manual_seed(0)
    layers = {"encoder": nn.Linear(6, 2), "decoder": nn.Linear(2, 6)}
    first = copy.deepcopy(layers)
    model = GaussianAutoencoder(network=Kept(layers), **QUICK).fit(X)
    for name, layer in layers.items():
        assert torch.equal(layer.weight, first[name].weight)
        assert layer.weight.requires_grad
        assert layer.weight.grad is None
    trained = model.module_.encoder.weight.cpu()
    assert not torch.equal(trained, first["encoder"].weight)
    # Two fits do not share weights either.
    again = clone(model).fit(X)
    assert weights(model) == weights(again)
    with torch.no_grad():
        again.module_.encoder.weight.zero_()
        layers["decoder"].weight.zero_()
    assert model.module_.encoder.weight.abs().sum() > 0
    assert model.module_.decoder.weight.abs().sum() > 0


def test_a_weight_of_both_networks_stays_one(X):
    """A weight that encoder and decoder share is one weight after the copy."""
    shared = nn.Linear(6, 6)
    layers = {"encoder": shared, "decoder": shared}
    model = GaussianAutoencoder(6, network=Kept(layers), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # six components of six features
        model.fit(X)
    assert model.module_.encoder.weight is model.module_.decoder.weight
    assert model.module_.encoder.weight is not shared.weight


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_scale_belongs_to_the_caller(covariance_type, X):
    """An array of scales, or an array that holds one, may change after the fit."""
    scale = np.full(6, 2.0) if covariance_type == "diag" else np.array(2.0)
    model = GaussianAutoencoder(
        variance_mode="fixed", covariance_type=covariance_type, scale=scale, **QUICK
    ).fit(X)
    before, stored = answers(model, X), copy.deepcopy(model.scale_)
    scale[...] = 7.0
    np.testing.assert_array_equal(model.scale_, stored)
    assert_whole(model, X, before)


def test_parts_belong_to_the_caller(X):
    """Likelihood, schedule and prior may change after the fit."""
    likelihood, schedule = GeneralizedNormal(power=1.5), LinearSchedule(share=0.5)
    means = np.zeros((2, 2))
    prior = GaussianMixture(2, means_init=means, random_state=np.random.RandomState(0))
    model = VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode="learned",
        kl_schedule=schedule,
        prior=prior,
        **QUICK,
    ).fit(X)
    before = answers(model, X)
    likelihood.power = 4.0
    schedule.share = 0.1
    prior.set_params(n_components=3)
    means += 1
    prior.random_state.rand(3)
    assert_whole(model, X, before)


# What is ignored.


@pytest.mark.parametrize("scale", [0.5, 2, np.float32(3), [1.0] * 6, np.ones(6)])
@pytest.mark.parametrize("variance_mode", ["optimal", "learned", "predicted"])
def test_an_ignored_scale_is_said(scale, variance_mode, X):
    """A scale that is given to a mode that fits its own is named, once."""
    model = GaussianAutoencoder(
        variance_mode=variance_mode, covariance_type="diag", scale=scale, n_init=2, **QUICK
    )
    with pytest.warns(UserWarning, match="scale") as caught:
        model.fit(X)
    (message,) = {str(warning.message) for warning in caught}
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert f"scale={scale!r} is ignored" in message
    assert f"variance_mode={variance_mode!r}" in message
    assert "Set variance_mode='fixed'" in message
    silent = clone(model).set_params(scale=1.0).fit(X)
    np.testing.assert_array_equal(silent.transform(X), model.transform(X))


@pytest.mark.parametrize("kind", [list, tuple, np.asarray])
def test_a_long_scale_that_is_ignored_is_named_in_part(kind):
    """The warning has a few lines, whatever the number of features."""
    X = np.random.default_rng(0).normal(size=(20, 300))
    model = GaussianAutoencoder(covariance_type="diag", scale=kind([0.123456] * 300))
    with pytest.warns(UserWarning, match="is ignored") as caught:
        model.set_params(**QUICK).fit(X)
    message = str(caught[0].message)
    assert "0.123456, " in message
    assert "..." in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("scale", "variance_mode"),
    [(1.0, "optimal"), (1, "predicted"), (np.float64(1), "learned"), (0.5, "fixed")],
)
def test_a_scale_that_is_used_or_not_given_is_silent(scale, variance_mode, X):
    """The default and a fixed scale give no warning, which would fail this test."""
    GaussianAutoencoder(variance_mode=variance_mode, scale=scale, **QUICK).fit(X)
