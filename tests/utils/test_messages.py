"""Warnings point at the user's line, whatever calls are between."""

import inspect

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV

# A constant row: every scale ends at its floor.
FLAT = np.ones((12, 3))


def here():
    return inspect.currentframe().f_back.f_lineno


def test_a_fit():
    line = here() + 2
    with pytest.warns(ConvergenceWarning, match="floor") as caught:
        GaussianAutoencoder(max_iter=1).fit(FLAT)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


def test_a_fit_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), GaussianAutoencoder(max_iter=1))
    line = here() + 2
    with pytest.warns(ConvergenceWarning, match="floor") as caught:
        pipeline.fit(FLAT)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


def test_fits_in_a_search():
    search = GridSearchCV(GaussianAutoencoder(max_iter=1), {"alpha": [0.0, 1.0]}, cv=2)
    line = here() + 2
    with pytest.warns(ConvergenceWarning, match="floor") as caught:
        search.fit(FLAT)
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}


def test_the_last_fit_of_a_batched_search():
    """The fits side by side have threads of their own; the refit has none."""
    search = BatchedGridSearchCV(GaussianAutoencoder(max_iter=1), {"alpha": [0.0]}, cv=2)
    line = here() + 2
    with pytest.warns(ConvergenceWarning, match="floor") as caught:
        search.fit(FLAT)
    assert (__file__, line) in {(w.filename, w.lineno) for w in caught}


def test_a_bound():
    X = np.random.default_rng(0).normal(size=(12, 3))
    vae = VariationalAutoencoder(max_iter=9, likelihood="laplace", random_state=0).fit(X)
    line = here() + 2
    with pytest.warns(ConvergenceWarning, match="is not within tol") as caught:
        vae.log_marginal(X, n_samples=8192, tol=1e-12)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


class Nothing:
    """A prior that cannot be fitted."""

    def fit(self, X):
        raise ArithmeticError

    score_samples = sample = fit

    def __sklearn_clone__(self):
        return self

    def get_params(self, deep=True):
        return {}


def test_a_prior():
    X = np.random.default_rng(0).normal(size=(30, 3))
    line = here() + 2
    with pytest.warns(ConvergenceWarning, match="prior") as caught:
        VariationalAutoencoder(max_iter=1, prior=Nothing()).fit(X)
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}
