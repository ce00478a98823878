"""Tests that no setting of the user changes a result, whatever the parts of a model."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from functools import cache

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from torch import nn

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS
from skae.networks import Conv
from skae.objectives.draws import matched_normal
from tests.helpers import answers, weights
from tests.surroundings import SETTINGS, many_settings, nothing_global_changes

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",  # the fits have two epochs
    "ignore:Anomaly Detection has been enabled:UserWarning",
)
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


def assert_unchanged(name, setting):
    """Assert that fits and results under a setting are those without it."""
    estimator, X, model, expected = fitted(name)
    # The draws of scores are cached, so that a wrong first value would be kept.
    matched_normal.cache_clear()
    pickled = pickle.dumps(model)
    with setting(), nothing_global_changes():
        other = clone(estimator).fit(X)
        assert weights(other) == weights(model)
        for twin in (other, copy.deepcopy(other), pickle.loads(pickled)):
            found = all_answers(twin, X)
            assert [k for k in expected if found[k] != expected[k]] == []
        assert weights(pickle.loads(pickle.dumps(other))) == weights(model)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "variational"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_no_setting_changes_a_result(setting, name):
    assert_unchanged(name, setting)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", MODELS)
def test_all_settings_together_change_no_result(name, which):
    assert_unchanged(name, lambda: many_settings(which))


@pytest.mark.parametrize("setting", ["inference_mode", "no_grad", "autocast to bfloat16"])
def test_warm_start_under_a_setting(setting, X):
    """What a fit under a setting has left can be trained further, with or without it."""
    model = VAE(max_iter=2, random_state=0, warm_start=True)
    with SETTINGS[setting]():
        other = clone(model).fit(X)
    other.fit(X)
    with SETTINGS[setting]():
        other.fit(X)
    for _ in range(3):
        model.fit(X)
    assert weights(model) == weights(other)


def test_environment_changes_no_result():
    """Nor do hashes, threads and precision that are set for a whole process."""
    program = """
        import torch
        torch.backends.fp32_precision = "tf32"
        from tests.estimators.test_settings import digest
        assert torch.get_num_threads() == 2
        print(digest())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True, text=True,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2", "SCIPY_ARRAY_API": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()


def digest():
    """Return the answers of some models as one text."""
    names = ["variational", "holes", "mixed", "network of a user"]
    return repr([fitted(name)[3] for name in names])
