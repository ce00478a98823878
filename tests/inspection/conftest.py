"""Small fitted models, and matplotlib without windows."""

import matplotlib as mpl
import pytest

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder

mpl.use("Agg")

import matplotlib.pyplot as plt

FEW = {"max_iter": 8, "hidden_layer_sizes": (5,), "random_state": 0}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(name="vae")
def fitted_vae(X):
    return VariationalAutoencoder(2, gradient_balance=True, **FEW).fit(X)


@pytest.fixture(name="ae")
def fitted_ae(X):
    return GaussianAutoencoder(2, **FEW).fit(X)


@pytest.fixture(name="laplace_ae")
def fitted_laplace_ae(X):
    return LaplaceAutoencoder(2, **FEW).fit(X)
