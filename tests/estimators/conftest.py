"""Fixtures of the tests of estimators."""

import pytest

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.networks import MLP
from tests.helpers import ESTIMATORS


@pytest.fixture(params=[*ESTIMATORS, "network", "predicted", "likelihood"])
def fitted(request, X):
    """Return a fitted model of each class, and some with objects as parameters."""
    if request.param == "network":
        model = VariationalAutoencoder(network=MLP((5, 4), activation="tanh"))
    elif request.param == "predicted":
        model = GaussianAutoencoder(variance_mode="predicted", covariance_type="diag")
    elif request.param == "likelihood":
        model = VariationalAutoencoder(likelihood="logistic", variance_mode="learned")
    else:
        model = request.param()
    return model.set_params(max_iter=3, random_state=0).fit(X)
