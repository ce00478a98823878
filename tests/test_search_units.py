"""Searches that compare the log-likelihoods of different data warn."""

import warnings

import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.likelihoods import BernoulliLikelihood
from skae.model_selection import (
    BatchedGridSearchCV,
    BatchedRandomizedSearchCV,
    make_log_marginal_scorer,
    reconstruction_error_scorer,
)

VAE = VariationalAutoencoder(1, max_iter=1, random_state=0)
VAE_OF_FLAGS = VariationalAutoencoder(1, likelihood="bernoulli", max_iter=1, random_state=0)
FLAGS = (np.random.default_rng(0).random((40, 3)) < 0.5).astype(float)
PIPELINE_OF_FLAGS = Pipeline([("same", "passthrough"), ("vae", VAE)])
STEPS = [("pre", Pipeline([("scaler", StandardScaler())])), ("pca", PCA(4)), ("vae", VAE)]
STEPS_BEFORE = {
    "a step": ({"pre": [StandardScaler(), MinMaxScaler()]}, "'pre'"),
    "a nested step": ({"pre__scaler": [StandardScaler(), RobustScaler()]}, "pre__scaler"),
    "its parameter": ({"pca__n_components": [2, 3], "vae__beta": [1, 2]}, "'pca__n_comp"),
    "no step": ({"pre": ["passthrough", StandardScaler()]}, "'pre'"),
    "two grids": ([{"pca__whiten": [True]}, {"pca__whiten": [False]}], "'pca__whiten'"),
    "in one grid": ([{"pca__whiten": [True]}, {"vae__beta": [2]}], "'pca__whiten'"),
}
SAME_DATA = {
    "the model": {"vae__beta": [1, 2], "vae": [VAE]},
    "one value": {"pca__n_components": [3], "vae__beta": [1, 2]},
    "the same value in two grids": [
        {"pca__n_components": [3], "vae__beta": [1]},
        {"pca__n_components": [3], "vae__alpha": [1]},
    ],
}


@pytest.mark.parametrize(("grid", "name"), STEPS_BEFORE.values(), ids=STEPS_BEFORE)
def test_other_steps_before_the_model(grid, name, X):
    with pytest.warns(UserWarning, match=f"Candidates differ in .*{name}") as record:
        BatchedGridSearchCV(Pipeline(STEPS), grid, cv=2).fit(X)
    # It points at the line above.
    [found] = [w for w in record if "Candidates differ" in str(w.message)]
    assert found.filename == __file__


def test_distributions(X):
    grid = {"pre__scaler__with_std": [True], "pca__tol": uniform(0, 1)}
    search = BatchedRandomizedSearchCV(Pipeline(STEPS), grid, n_iter=2, cv=2)
    with pytest.warns(UserWarning, match="Candidates differ in 'pca__tol', so"):
        search.fit(X)


def test_a_pipeline_at_the_end_of_one(X):
    nested = Pipeline([("pre", StandardScaler()), ("inner", Pipeline(STEPS[1:]))])
    grid = {"inner__pca__n_components": [2, 3], "inner__vae__beta": [1, 2]}
    with pytest.warns(UserWarning, match="differ in 'inner__pca__n_components', so"):
        BatchedGridSearchCV(nested, grid, cv=2).fit(X)
    grid = {"inner__vae__beta": [1, 2]}
    assert messages(BatchedGridSearchCV(nested, grid, cv=2), X) == []


@pytest.mark.parametrize("grid", [5, "ab", [5], [("vae__beta", [1])], {"vae__beta": 3}])
def test_bad_grids_have_scikit_learns_errors(grid, X):
    errors = []
    for kind in (GridSearchCV, BatchedGridSearchCV):
        with pytest.raises((TypeError, ValueError)) as error:
            kind(Pipeline(STEPS), grid, cv=2).fit(X)
        errors.append((error.type, str(error.value).replace("Batched", "")))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("grid", SAME_DATA.values(), ids=SAME_DATA)
def test_searches_over_the_model_do_not_warn(grid, X):
    assert messages(BatchedGridSearchCV(Pipeline(STEPS), grid, cv=2), X) == []


def test_other_scores_and_other_models_do_not_warn(X):
    """A score of a task, or of the data in their own units, may be compared."""
    grid = {"pca__n_components": [2, 3]}

    def of_task(model, X, y=None):
        return 0.0

    search = BatchedGridSearchCV(Pipeline(STEPS), grid, cv=2, scoring=of_task)
    assert messages(search, X) == []
    classifier = Pipeline([*STEPS, ("last", LogisticRegression())])
    y = (X[:, 0] > X[:, 0].mean()).astype(int)
    assert messages(BatchedGridSearchCV(classifier, grid, cv=2), X, y) == []


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
@pytest.mark.parametrize("prefix", ["", "ae__"])
def test_components_of_a_deterministic_model(estimator, prefix, X):
    """Its score selects the largest number, alone and in a pipeline."""
    model = estimator(max_iter=1, random_state=0)
    if prefix:
        model = Pipeline([("scaler", StandardScaler()), ("ae", model)])
    grid = {f"{prefix}n_components": [1, 2, 4]}
    what = f"Candidates differ in '{prefix}n_components', and the score of "
    with pytest.warns(UserWarning, match=f"{what}{estimator.__name__} grows") as record:
        search = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    [found] = [w for w in record if "Candidates differ" in str(w.message)]
    assert found.filename == __file__
    assert search.best_params_ == {f"{prefix}n_components": 4}
    search = BatchedRandomizedSearchCV(model, grid, n_iter=2, cv=2, random_state=0)
    assert len(messages(search, X)) == 1


def test_searches_over_components_that_do_not_warn(X):
    """Another score, another model, one number, or other parameters."""
    grid, model = {"n_components": [1, 2]}, GaussianAutoencoder(max_iter=1, random_state=0)
    by_error = BatchedGridSearchCV(model, grid, cv=2, scoring=reconstruction_error_scorer)
    assert messages(by_error, X) == []
    assert messages(BatchedGridSearchCV(VAE, grid, cv=2), X) == []
    assert messages(BatchedGridSearchCV(PCA(), grid, cv=2), X) == []
    grid = {"n_components": [2], "alpha": [1, 10]}
    assert messages(BatchedGridSearchCV(model, grid, cv=2), X) == []
    other = [
        {"ae": [VAE], "ae__n_components": [1, 2]},
        {"ae__n_components": [1]},
    ]
    pipeline = Pipeline([("ae", model)])
    assert messages(BatchedGridSearchCV(pipeline, other, cv=2), X) == []


DENSITIES_AND_PROBABILITIES = {
    "names": {"vae__likelihood": ["bernoulli", "gaussian", "continuous_bernoulli"]},
    "an instance": {"vae__likelihood": [BernoulliLikelihood(), "laplace"]},
    "the default": [{"vae__beta": [2]}, {"vae__likelihood": ["bernoulli"]}],
    "other models": {"vae": [VAE, VAE_OF_FLAGS]},
    "a model without": {"vae": [GaussianAutoencoder(1, max_iter=1), VAE_OF_FLAGS]},
}
OF_ONE_KIND = {
    "probabilities": {"vae__likelihood": ["bernoulli", "poisson"]},
    "densities": {"vae__likelihood": ["gaussian", "continuous_bernoulli"]},
    "a mixed table": {"vae__likelihood": ["bernoulli", "mixed"]},
    "no such model": {"vae": [PCA(1), VAE_OF_FLAGS]},
}


@pytest.mark.parametrize("scoring", [None, make_log_marginal_scorer(2)])
@pytest.mark.parametrize(
    "grid", DENSITIES_AND_PROBABILITIES.values(), ids=DENSITIES_AND_PROBABILITIES
)
@pytest.mark.filterwarnings("ignore")
def test_densities_and_probabilities(grid, scoring):
    search = BatchedGridSearchCV(PIPELINE_OF_FLAGS, grid, cv=2, scoring=scoring)
    [found] = messages(search, FLAGS)
    assert "has a density and" in str(found.message)
    assert found.filename == __file__


@pytest.mark.parametrize("grid", OF_ONE_KIND.values(), ids=OF_ONE_KIND)
@pytest.mark.filterwarnings("ignore")
def test_likelihoods_of_one_kind(grid):
    assert messages(BatchedGridSearchCV(PIPELINE_OF_FLAGS, grid, cv=2), FLAGS) == []


def messages(search, *data):
    """Return the warnings of a search whose candidates cannot be compared."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        search.fit(*data)
    return [w for w in record if "Candidates differ" in str(w.message)]
