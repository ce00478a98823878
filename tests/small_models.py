"""Small models of all kinds, fitted once, for tests of settings, threads and processes."""

import copy
import hashlib
from functools import cache

import numpy as np
from sklearn.base import BaseEstimator, clone
from torch import nn

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS
from skae.networks import Conv
from tests.helpers import answers

VAE = VariationalAutoencoder


class Dropout(BaseEstimator):
    """A network that draws from torch's global generator while it trains."""

    def encoder(self, n_features, n_outputs):
        return nn.Sequential(
            nn.Linear(n_features, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, n_outputs)
        )

    decoder = encoder


def table(support):
    """Draw a table of a support; None stands for numbers of any sign."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4))
    counts = rng.poisson(3, size=X.shape).astype(float)
    return {
        "positive": np.exp(X),
        "unit_interval": rng.random(X.shape),
        "nonnegative_integer": counts,
        "mixed": np.column_stack([X[:, :2], counts[:, :1], X[:, 2:] > 0]),
        "boolean": (rng.random(X.shape) < 0.4).astype(float),
        "category": rng.integers(0, 3, size=X.shape).astype(float),
        "holes": np.where(rng.random(X.shape) < 0.1, np.nan, X),
        "image": rng.random((12, 64)),
        "large": rng.normal(size=(100, 30)),
    }.get(support, X)


# An estimator and the support of its table.
MODELS = {
    "gaussian": (GaussianAutoencoder(early_stopping=True), None),
    "laplace": (LaplaceAutoencoder(init="random", n_init=2), None),
    "variational": (VAE(variance_mode="predicted", covariance_type="diag"), None),
    "profile": (GaussianAutoencoder(variance_mode="profile", shuffle=False), None),
    "holes": (VAE(covariance_type="diag"), "holes"),
    "holes, deterministic": (GaussianAutoencoder(), "holes"),
    "convolutions": (VAE(network=Conv((1, 8, 8))), "image"),
    "network of a user": (VAE(network=Dropout()), None),
    "large layers": (VAE(hidden_layer_sizes=(256,)), "large"),
    "float64": (VAE(precision="float64", n_mc_samples=2), None),
    "bf16": (VAE(precision="bf16"), None),
    "prior": (VAE(prior="mixture"), None),
    "balance": (VAE(gradient_balance=True), None),
    **{name: (VAE(likelihood=name), kind.support) for name, kind in LIKELIHOODS.items()},
    "mixed": (VAE(likelihood="mixed"), "mixed"),
}


@cache
def fitted(name):
    """Return an estimator, its table, what it is after a fit, and its answers."""
    estimator, support = MODELS[name]
    estimator = estimator.set_params(max_iter=2, random_state=0)
    X = table(support)
    model = clone(estimator).fit(X)
    return estimator, X, model, all_answers(model, X)


def all_answers(model, X):
    """Return the results of all methods as bytes, for X in both precisions."""
    incomplete = np.array(X)
    incomplete[::3, 0] = np.nan
    # Codes may be frames, which are no input of other methods here.
    model = copy.copy(model).set_output(transform="default")
    found = answers(model, X)
    found |= {f"{k}, float32": v for k, v in answers(model, X.astype(np.float32)).items()}
    found["impute"] = model.impute(incomplete, n_draws=8)
    found["tables"] = model.impute(incomplete, 2, n_draws=8)
    found["features"] = model.score_features(X)
    if isinstance(model, VAE):
        found["given"] = model.sample(3, 0, given=incomplete[0])
    return {name: np.asarray(values).tobytes() for name, values in found.items()}


@cache
def digest(names=("variational", "holes", "mixed", "network of a user")):
    """Fit some models, and return a hash of all that they answer."""
    found = hashlib.sha256()
    for name in names:
        estimator, X, _, _ = fitted(name)
        for answer in all_answers(clone(estimator).fit(X), X).values():
            found.update(answer)
    return found.hexdigest()
