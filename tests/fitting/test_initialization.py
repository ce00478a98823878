"""The start of many components, and the move of a module to a device."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import poisson
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._fitting.initialization import move


def test_move_keeps_all_numbers(X):
    """Each parameter and buffer is copied, by one copy of all. "cpu:0" is another name."""
    module = VariationalAutoencoder(2, max_iter=1).fit(X).module_
    before = {name: value.clone() for name, value in module.state_dict().items()}
    memory = {value.data_ptr() for value in module.parameters()}
    move(module, torch.device("cpu", 0))
    after = module.state_dict()
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    assert memory.isdisjoint(value.data_ptr() for value in module.parameters())


@pytest.mark.parametrize(
    ("k", "n_start"), [(1, 1), (7, 7), (8, 6), (12, 6), (15, 6)], ids=str
)
def test_many_components_begin_with_half_of_the_features(k, n_start):
    """Only the decoder's gains tell, and the start equals that of fewer components."""
    X = np.random.default_rng(0).normal(size=(60, 12)) @ np.diag(np.arange(1.0, 13.0))
    model = VariationalAutoencoder(k, covariance_type="diag", max_iter=1, random_state=0)
    gain = model.set_params(learning_rate_init=1e-12).fit(X).module_.latent_gain.numpy()
    np.testing.assert_allclose(gain, np.where(np.arange(k) < n_start, 1.0, 0.2))
    fewer = clone(model).set_params(n_components=n_start).fit(X)
    np.testing.assert_allclose(model.score(X), fewer.score(X), rtol=1e-5)


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, VariationalAutoencoder])
def test_linear_and_deterministic_models_begin_with_all_components(estimator):
    """PCA with all components is their optimum, or reproduces the data."""
    X = np.random.default_rng(0).normal(size=(60, 5))
    layers = () if estimator is VariationalAutoencoder else (8,)
    model = estimator(4, hidden_layer_sizes=layers, max_iter=2).fit(X)
    np.testing.assert_array_equal(model.module_.latent_gain, 1.0)


def test_more_components_do_not_worsen_the_fit():
    """With all components in the start it was worse by 2.9 nats per row."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    bounds = [
        VariationalAutoencoder(
            k, likelihood="laplace", variance_mode="predicted", covariance_type="diag",
            random_state=0,
        ).fit(X).score(X)
        for k in (15, 30)
    ]  # fmt: skip
    assert bounds[1] > bounds[0] - 0.7


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("k", [2, 8])
def test_counts_begin_no_worse_than_without_components(likelihood, k):
    """Some of the texts have thirty times as many words as most."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(120, 0.05), 4)
    lengths = np.exp(rng.normal(3.5, 1.2, 400)).astype(int) + 5
    X = np.stack([rng.multinomial(n, topics[rng.integers(4)]) for n in lengths])
    model = VariationalAutoencoder(
        k, likelihood=likelihood, learning_rate_init=1e-12, max_iter=1, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the start is kept
        score = model.fit(X).score(X)
    independent = poisson.logpmf(X, X.mean(axis=0)).sum(axis=1).mean()
    assert independent < score < 0
