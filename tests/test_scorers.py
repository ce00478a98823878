"""Tests of the scorer by the importance-weighted bound, alone and in searches."""

import pickle
import threading

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.estimators import inference, variational
from skae.model_selection import (
    BatchedGridSearchCV,
    BatchedRandomizedSearchCV,
    log_marginal_scorer,
    make_log_marginal_scorer,
)

FOLDS = KFold(3, shuffle=True, random_state=0)
GRID = {"beta": [0.5, 1, 2], "likelihood": ["gaussian", "laplace"]}


def vae(**parameters):
    """Make a small model."""
    return VariationalAutoencoder(
        **{"max_iter": 4, "batch_size": 32, "random_state": 0} | parameters
    )


@pytest.fixture
def model(X):
    """Return a fitted model whose bound is far from its ELBO."""
    return vae(likelihood="laplace", beta=4).fit(X)


# The value


@pytest.mark.parametrize("n_samples", [1, 16, 128])
def test_score_is_the_mean_bound(n_samples, model, X):
    scorer = make_log_marginal_scorer(n_samples, random_state=3)
    bound = model.log_marginal(X, n_samples, random_state=3)
    assert scorer(model, X) == bound.mean()
    assert scorer(model, X, y=np.zeros(len(X))) == bound.mean()
    assert type(scorer(model, X)) is float


def test_default_scorer_has_the_defaults_of_the_bound(model, X):
    assert log_marginal_scorer(model, X) == model.log_marginal(X).mean()
    assert log_marginal_scorer(model, X) > model.score(X) + 0.01


def test_mean_of_float32_is_taken_in_float64(model, X):
    bound = model.log_marginal(X.astype(np.float32))
    assert bound.dtype == np.float32
    expected = bound.mean(dtype=np.float64)
    assert log_marginal_scorer(model, X.astype(np.float32)) == expected


def test_weights(model, X):
    rng = np.random.default_rng(0)
    weight = rng.uniform(size=len(X))
    expected = np.average(model.log_marginal(X), weights=weight)
    found = log_marginal_scorer(model, X, sample_weight=weight)
    assert found == pytest.approx(expected, rel=1e-14)
    # A whole weight is a number of copies.
    copies = rng.integers(0, 3, len(X))
    found = log_marginal_scorer(model, X, sample_weight=copies)
    repeated = log_marginal_scorer(model, np.repeat(X, copies, axis=0))
    assert found == pytest.approx(repeated, rel=1e-13)
    with pytest.raises(ValueError, match="Negative values"):
        log_marginal_scorer(model, X, sample_weight=-weight)


def exact_score(linear, X):
    """Return the mean log-density of a linear Gaussian model, N(m, W' W + s^2 I)."""
    k = linear.n_components_
    mean = linear.inverse_transform(np.zeros((1, k)))[0]
    W = linear.inverse_transform(np.eye(k)) - mean  # (k, d)
    covariance = W.T @ W + linear.scale_**2 * np.eye(X.shape[1])
    return scipy.stats.multivariate_normal(mean, covariance).logpdf(X).mean()


@pytest.mark.parametrize("n_components", [1, 2, 4])
def test_linear_model_has_the_density_of_ppca(n_components, X):
    train, new = X[:80], X[80:]
    linear = vae(n_components=n_components, hidden_layer_sizes=(), max_iter=1).fit(train)
    pca = PCA(n_components, svd_solver="full").fit(train)
    # scikit-learn's covariance has n - 1 in the place of n.
    pca.explained_variance_ *= 79 / 80
    pca.noise_variance_ *= 79 / 80
    score = log_marginal_scorer(linear, new)
    assert score == pytest.approx(pca.score(new), abs=1e-6)
    assert score == pytest.approx(exact_score(linear, new), abs=1e-6)


def test_bound_is_exact_where_the_elbo_is_not(X):
    """A larger beta makes the posteriors too wide, so the ELBO is loose."""
    train, new = X[:80], X[80:]
    linear = vae(hidden_layer_sizes=(), beta=3, max_iter=60).fit(train)
    exact = exact_score(linear, new)
    assert linear.score(new) < exact - 0.1
    errors = [exact - make_log_marginal_scorer(n)(linear, new) for n in (2, 32, 2048)]
    assert errors[0] > errors[1] > abs(errors[2])
    assert abs(errors[2]) < 1e-3


def test_bound_under_a_prior(X):
    mixed = vae(prior=GaussianMixture(3, random_state=0)).fit(X)
    assert log_marginal_scorer(mixed, X) == mixed.log_marginal(X).mean()


def test_tolerance(X):
    """Rows with a large estimated gap get more draws."""
    model = vae(likelihood="laplace", beta=4).fit(X)
    bound, diagnostics = model.log_marginal(X, 8, tol=0.05, return_diagnostics=True)
    assert diagnostics.n_samples.max() > 8
    scorer = make_log_marginal_scorer(8, tol=0.05)
    assert scorer(model, X) == bound.mean() != make_log_marginal_scorer(8)(model, X)


def test_equal_models_have_equal_scores(model, X):
    again = pickle.loads(pickle.dumps(model))
    first = log_marginal_scorer(model, X)
    assert log_marginal_scorer(again, X) == first
    assert make_log_marginal_scorer(random_state=1)(model, X) != first


# Pipelines and searches


def test_pipeline(X):
    """Earlier steps transform X; the score is one of the transformed data."""
    frame = pd.DataFrame(X, columns=list("abcdef"))
    pipeline = make_pipeline(
        StandardScaler(), PCA(4), vae(hidden_layer_sizes=())
    ).set_output(transform="pandas")
    pipeline.fit(frame)
    Z = pipeline[:-1].transform(frame)
    expected = pipeline[-1].log_marginal(Z).mean()
    assert log_marginal_scorer(pipeline, frame) == expected
    assert log_marginal_scorer(make_pipeline(pipeline[-1]), Z) == expected
    nested = make_pipeline(pipeline[:-1], make_pipeline(pipeline[-1]))
    assert log_marginal_scorer(nested, frame) == expected


def test_pipeline_has_the_units_of_transformed_data(X):
    """As `score` of a pipeline; a division by s_j adds log s_j."""
    scaler = StandardScaler(with_mean=False)
    parameters = {"covariance_type": "diag", "hidden_layer_sizes": ()}
    pipeline = make_pipeline(scaler, vae(**parameters)).fit(X)
    plain = vae(**parameters).fit(X)
    shift = np.log(pipeline[0].scale_).sum()
    assert abs(shift) > 1
    for score in (log_marginal_scorer, lambda m, X: m.score(X)):
        assert score(pipeline, X) == pytest.approx(score(plain, X) + shift, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batched_search_equals_plain_search(dtype, X):
    X = X.astype(dtype)
    common = {"scoring": log_marginal_scorer, "cv": FOLDS, "return_train_score": True}
    searches = [
        kind(vae(), GRID, **common).fit(X) for kind in (GridSearchCV, BatchedGridSearchCV)
    ]
    with joblib.parallel_config("skae"):
        searches.append(GridSearchCV(vae(), GRID, **common).fit(X))
    first = searches[0].cv_results_
    for search in searches[1:]:
        for name in ("mean_test_score", "split1_test_score", "mean_train_score"):
            np.testing.assert_array_equal(search.cv_results_[name], first[name])
        assert search.best_params_ == searches[0].best_params_
        assert search.score(X) == searches[0].score(X)
    # And each is the bound of a fit of its own.
    for i, parameters in enumerate(searches[1].cv_results_["params"]):
        for j, (train, test) in enumerate(FOLDS.split(X)):
            alone = vae(**parameters).fit(X[train])
            expected = alone.log_marginal(X[test]).mean(dtype=np.float64)
            assert first[f"split{j}_test_score"][i] == expected


def test_batched_search_over_a_pipeline(X):
    pipeline = make_pipeline(StandardScaler(), vae())
    grid = {"variationalautoencoder__beta": [0.5, 2]}
    found = [
        kind(pipeline, grid, scoring=log_marginal_scorer, cv=FOLDS).fit(X)
        for kind in (GridSearchCV, BatchedGridSearchCV)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in found]
    np.testing.assert_array_equal(*scores)
    assert found[0].score(X) == found[1].score(X)


def test_random_search(X):
    arguments = (vae(), {"beta": scipy.stats.loguniform(0.1, 10)})
    common = {"n_iter": 4, "scoring": log_marginal_scorer, "cv": FOLDS, "random_state": 0}
    found = [
        kind(*arguments, **common).fit(X).cv_results_["mean_test_score"]
        for kind in (RandomizedSearchCV, BatchedRandomizedSearchCV)
    ]
    np.testing.assert_array_equal(*found)


def test_cross_validation_and_several_metrics(X):
    def elbo(model, X, y=None):
        return model.score(X)

    alone = cross_val_score(vae(), X, scoring=log_marginal_scorer, cv=FOLDS)
    metrics = {"elbo": elbo, "bound": log_marginal_scorer}
    both = cross_validate(vae(), X, scoring=metrics, cv=FOLDS)
    np.testing.assert_array_equal(both["test_bound"], alone)
    np.testing.assert_array_equal(both["test_elbo"], cross_val_score(vae(), X, cv=FOLDS))
    search = BatchedGridSearchCV(vae(), {"beta": [1, 2]}, scoring=metrics, refit="bound")
    assert search.set_params(cv=FOLDS).fit(X).cv_results_["mean_test_bound"][0] == (
        pytest.approx(alone.mean(), rel=1e-14)
    )


def test_search_in_cross_validation(X):
    """The model of a search is its best one, refitted."""
    search = GridSearchCV(vae(), {"beta": [0.5, 4]}, scoring=log_marginal_scorer, cv=2)
    scores = cross_val_score(search, X, scoring=log_marginal_scorer, cv=FOLDS)
    train, test = next(FOLDS.split(X))
    best = clone(search).fit(X[train]).best_estimator_
    assert scores[0] == best.log_marginal(X[test]).mean()


@pytest.fixture
def two_threads():
    """Let torch use two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_bounds_of_a_search_are_computed_side_by_side(X, monkeypatch, two_threads):
    """They are computed in worker threads, with draws that are made once for all models."""
    names, made = [], []
    over_rows, sobol_normal = inference.over_rows, variational.sobol_normal

    def recorded(*args, **kwargs):
        names.append(threading.current_thread().name)
        return over_rows(*args, **kwargs)

    def counted(*args):
        made.append(args)
        return sobol_normal(*args)

    monkeypatch.setattr(inference, "over_rows", recorded)
    monkeypatch.setattr(variational, "sobol_normal", counted)
    grid = {"beta": [0.5, 1, 2]}
    BatchedGridSearchCV(vae(), grid, scoring=log_marginal_scorer, cv=2, refit=False).fit(X)
    assert len(names) == 6
    assert all(name.startswith("ThreadPoolExecutor") for name in names)
    assert made == [(128, 2, made[0][2])]


# The object


def test_repr_makes_the_scorer():
    for scorer in (log_marginal_scorer, make_log_marginal_scorer(7, tol=0.1)):
        again = eval(repr(scorer), {"make_log_marginal_scorer": make_log_marginal_scorer})
        assert repr(again) == repr(scorer)
    assert repr(scorer) == "make_log_marginal_scorer(n_samples=7, tol=0.1, random_state=0)"
    search = GridSearchCV(vae(), GRID, scoring=scorer)
    assert "make_log_marginal_scorer(n_samples=7" in repr(search)


def copies(scorer):
    """Return a scorer as pickling, cloning and cloning a search copy it."""
    search = clone(BatchedGridSearchCV(vae(), GRID, scoring=scorer))
    return [pickle.loads(pickle.dumps(scorer)), clone(scorer), search.scoring]


def test_copies_give_the_same_scores(model, X):
    scorer = make_log_marginal_scorer(16, random_state=5)
    for copied in copies(scorer):
        assert copied is not scorer
        assert copied(model, X) == scorer(model, X)


def test_copies_have_the_request_and_share_none():
    with config_context(enable_metadata_routing=True):
        scorer = make_log_marginal_scorer().set_score_request(sample_weight="w")
        found = copies(scorer)
        scorer.set_score_request(sample_weight=False)
        for copied in found:
            requests = copied.get_metadata_routing().score.requests
            assert requests == {"sample_weight": "w"}
        assert scorer.get_metadata_routing().score.requests == {"sample_weight": False}


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        ({"n_samples": 0}, ValueError, "n_samples == 0, must be >= 1"),
        ({"n_samples": 2.5}, TypeError, "n_samples must be an instance of int"),
        ({"n_samples": True}, TypeError, "n_samples must be an instance of int"),
        ({"tol": 0}, ValueError, "tol == 0, must be > 0"),
        ({"tol": "small"}, TypeError, "tol must be an instance of float"),
        ({"random_state": None}, TypeError, "random_state must be an instance of int"),
        ({"random_state": -1}, ValueError, "random_state == -1, must be >= 0"),
    ],
)
def test_parameters_out_of_range(parameters, error, match):
    with pytest.raises(error, match=match):
        make_log_marginal_scorer(**parameters)


def test_estimators_without_a_bound(X):
    match = r"scores estimators with the method log_marginal: VariationalAutoencoder"
    deterministic = GaussianAutoencoder(max_iter=2, random_state=0).fit(X)
    for estimator in (deterministic, make_pipeline(StandardScaler(), PCA(2)).fit(X)):
        name = type(estimator[-1] if estimator is not deterministic else estimator).__name__
        message = f"{match}.* {name} has no such method. Use scoring=None.*{name}.score"
        with pytest.raises(TypeError, match=message):
            log_marginal_scorer(estimator, X)
    with pytest.raises(TypeError, match=rf"{match}.* no such method\.$"):
        log_marginal_scorer(make_pipeline(StandardScaler(), "passthrough").fit(X), X)
    search = GridSearchCV(
        PCA(), {"n_components": [1]}, scoring=log_marginal_scorer, error_score="raise"
    )
    with pytest.raises(TypeError, match=match):
        search.fit(X)


def test_models_that_are_not_fitted(X):
    for estimator in (vae(), make_pipeline(StandardScaler(), vae())):
        with pytest.raises(NotFittedError):
            log_marginal_scorer(estimator, X)


# Metadata routing


def weighted_bounds(X, weight, fit_weight=None, **parameters):
    """Return the bounds of the folds, with weights in fit and score."""
    bounds = []
    for train, test in FOLDS.split(X):
        alone = vae(**parameters)
        alone.fit(X[train], sample_weight=None if fit_weight is None else fit_weight[train])
        bounds.append(np.average(alone.log_marginal(X[test]), weights=weight[test]))
    return bounds


@pytest.fixture(name="weight")
def sample_weight(X):
    """Draw uneven weights."""
    return np.random.default_rng(0).integers(1, 4, len(X)).astype(float)


@pytest.mark.parametrize("kind", [GridSearchCV, BatchedGridSearchCV])
def test_weights_of_a_search(kind, X, weight):
    """With routing on request; without it to fits and scorer, as scikit-learn does."""
    grid = {"beta": [1.0, 4.0]}
    expected = [weighted_bounds(X, weight, weight, beta=beta) for beta in grid["beta"]]

    def found(search):
        results = search.fit(X, sample_weight=weight).cv_results_
        return np.transpose([results[f"split{i}_test_score"] for i in range(3)])

    plain = kind(vae(), grid, scoring=log_marginal_scorer, cv=FOLDS)
    np.testing.assert_allclose(found(plain), expected, rtol=1e-12)
    with config_context(enable_metadata_routing=True):
        model = vae().set_fit_request(sample_weight=True)
        scorer = make_log_marginal_scorer()
        routed = kind(model, grid, scoring=scorer, cv=FOLDS)
        with pytest.raises(UnsetMetadataPassedError, match="make_log_marginal_scorer"):
            routed.fit(X, sample_weight=weight)
        scorer.set_score_request(sample_weight=True)
        np.testing.assert_allclose(found(routed), expected, rtol=1e-12)
        scorer.set_score_request(sample_weight=False)
        unweighted = [
            weighted_bounds(X, np.ones(len(X)), weight, beta=beta) for beta in grid["beta"]
        ]
        np.testing.assert_allclose(found(routed), unweighted, rtol=1e-12)


def test_weights_of_cross_validation(X, weight):
    """By another name, for the score only, beside a second metric."""
    with config_context(enable_metadata_routing=True):
        scorer = make_log_marginal_scorer().set_score_request(sample_weight="importance")
        metrics = {"bound": scorer, "again": scorer}
        found = cross_validate(
            vae(), X, scoring=metrics, cv=FOLDS, params={"importance": weight}
        )
    expected = weighted_bounds(X, weight)
    np.testing.assert_allclose(found["test_bound"], expected, rtol=1e-12)
    np.testing.assert_array_equal(found["test_again"], found["test_bound"])


def test_several_metrics_get_weights_without_routing(X, weight):
    metrics = {"bound": log_marginal_scorer}
    search = GridSearchCV(vae(), {"beta": [1.0]}, scoring=metrics, refit=False, cv=FOLDS)
    results = search.fit(X, sample_weight=weight).cv_results_
    expected = weighted_bounds(X, weight, weight, beta=1.0)
    assert results["mean_test_bound"][0] == pytest.approx(np.mean(expected), rel=1e-12)


def test_requests_that_are_refused():
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        make_log_marginal_scorer().set_score_request(sample_weight=True)
    with config_context(enable_metadata_routing=True):
        scorer = make_log_marginal_scorer()
        with pytest.raises(ValueError, match="valid identifier"):
            scorer.set_score_request(sample_weight="two words")
        assert scorer.get_metadata_routing().score.requests == {"sample_weight": None}
