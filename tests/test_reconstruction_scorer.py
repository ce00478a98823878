"""Tests of the scorer by the error of reconstructions, and of the errors that name it."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import VariationalAutoencoder
from skae.model_selection import (
    BatchedGridSearchCV,
    BatchedRandomizedSearchCV,
    make_reconstruction_error_scorer,
    reconstruction_error_scorer,
)
from tests.helpers import every_estimator

FOLDS = KFold(3, shuffle=True, random_state=0)
METRICS = {"squared_error": mean_squared_error, "absolute_error": mean_absolute_error}


def vae(**parameters):
    return VariationalAutoencoder(2, random_state=0, **({"max_iter": 4} | parameters))


@every_estimator
@pytest.mark.parametrize("error", METRICS)
def test_score_is_scikit_learns_error(estimator, error, X):
    model = estimator(2, max_iter=4, random_state=0).fit(X[:80])
    scorer, new = make_reconstruction_error_scorer(error), X[80:]
    expected = -METRICS[error](new, model.reconstruct(new))
    assert scorer(model, new) == pytest.approx(expected, rel=1e-12)
    assert scorer(model, new, np.zeros(len(new))) == scorer(model, new)
    assert type(scorer(model, new)) is float
    weight = np.random.default_rng(0).uniform(size=len(new))
    expected = -METRICS[error](new, model.reconstruct(new), sample_weight=weight)
    found = scorer(model, new, sample_weight=weight)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_standardized_error(weighted, X):
    """It is scikit-learn's R² less 1, whatever the units of the columns are."""
    X = X * np.array([1e9, 1e-3, 1, 1, 1e6, 1])
    pipeline = make_pipeline(StandardScaler(), vae()).fit(X[:80])
    new, scorer = X[80:], make_reconstruction_error_scorer(standardize=True)
    weight = np.random.default_rng(0).uniform(size=len(new)) if weighted else None
    if weighted:
        weight[:5] = 0
    X_hat = pipeline.inverse_transform(pipeline.transform(new))
    unit = X.max(axis=0)
    expected = r2_score(new / unit, X_hat / unit, sample_weight=weight) - 1
    found = scorer(pipeline, new, sample_weight=weight)
    assert found == pytest.approx(expected, rel=1e-9)
    scorer = make_reconstruction_error_scorer("absolute_error", standardize=True)
    scaled = np.abs(new - X_hat) / new.std(axis=0)
    assert scorer(pipeline, new) == pytest.approx(-scaled.mean(), rel=1e-9)


def test_standardized_error_of_numbers_whose_squares_overflow(X):
    shrink = FunctionTransformer(lambda X: X / 2, lambda X: X, check_inverse=False)
    scorer = make_reconstruction_error_scorer(standardize=True)
    expected = -np.square(X / 2 / X.std(axis=0)).mean()
    for unit in (1, 1e200, 1e-200):
        assert scorer(shrink.fit(X), X * unit) == pytest.approx(expected)


def test_standardized_error_of_missing_and_constant_columns(X):
    X = X.copy()
    X[:, 1] = 0.1
    model, new = vae().fit(X[:80]), X[80:].copy()
    new[3:9, 0] = new[:, 2] = np.nan
    squared = (new - model.reconstruct(new)) ** 2
    spread = np.nanstd(new[:, [0, 3, 4, 5]], axis=0)
    squared[:, [0, 3, 4, 5]] /= spread**2
    found = make_reconstruction_error_scorer(standardize=True)(model, new)
    assert found == pytest.approx(-np.nanmean(squared))


def test_other_estimators(X):
    """A pipeline has an error in the units of X, and PCA has one too."""
    score = reconstruction_error_scorer
    pca = PCA(2).fit(X)
    left = X.var(axis=0).sum() - pca.explained_variance_.sum() * (len(X) - 1) / len(X)
    assert score(pca, X) == pytest.approx(-left / X.shape[1])
    pipeline = make_pipeline(StandardScaler(), vae()).fit(X)
    scaler, model = pipeline
    back = scaler.inverse_transform(model.reconstruct(scaler.transform(X)))
    assert score(pipeline, X) == pytest.approx(-mean_squared_error(X, back))
    search = GridSearchCV(pipeline, {"variationalautoencoder__beta": [1]}, cv=2).fit(X)
    assert score(search, X) == pytest.approx(score(search.best_estimator_, X))
    named = clone(pipeline).set_output(transform="pandas")
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(len(X)) * 2)
    assert score(named.fit(frame), frame) == pytest.approx(score(pipeline, X))


def test_kinds_of_data(X):
    """Holes do not count; sparse rows and tensors have the error of their numbers."""
    score, model = reconstruction_error_scorer, vae().fit(X)
    expected = score(model, X)
    assert score(model, csr_array(X)) == pytest.approx(expected)
    with config_context(array_api_dispatch=True):
        assert score(model, torch.from_numpy(X)) == pytest.approx(expected)
    holes = X.copy()
    holes[::3, 1] = holes[5] = np.nan
    model.fit(holes)
    residual = (holes - model.reconstruct(holes))[~np.isnan(holes)]
    assert score(model, holes) == pytest.approx(-np.mean(residual**2))
    words = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 1, "yes", "no")})
    mixed = vae(likelihood="mixed").fit(words)
    with pytest.raises(ValueError, match="needs a table of numbers"):
        score(mixed, words)
    with pytest.raises(TypeError, match="Ridge has no transform"):
        score(Ridge().fit(X, X), X)


def test_missing_values_of_other_kinds(X):
    """What a fit takes as missing has no error: NA of pandas, null, and masked entries."""
    holes = X[:, :3].copy()
    holes[::3, 1] = np.nan
    model = vae().fit(holes)
    expected = reconstruction_error_scorer(model, holes)
    hidden = np.where(np.isnan(holes), 1e6, holes)
    nullable = pd.DataFrame(holes, columns=list("abc")).convert_dtypes()
    kinds = {
        "masked": np.ma.masked_array(hidden, mask=np.isnan(holes)),
        "NA": nullable,
        "objects": nullable.astype(object),
        "null": pl.DataFrame(holes, schema=list("abc"), nan_to_null=True),
    }
    for kind, table in kinds.items():
        found = reconstruction_error_scorer(vae().fit(table), table)
        assert found == pytest.approx(expected), kind
    flags = pd.DataFrame({"a": X[:, 0] > 0, "b": np.arange(len(X)) % 5})
    flags = flags.astype({"a": "boolean", "b": "Int64"})
    flags.iloc[3] = flags.iloc[5, 0] = pd.NA
    model = vae().fit(flags)
    numbers = flags.to_numpy(float, na_value=np.nan)
    residual = (numbers - model.reconstruct(flags))[~np.isnan(numbers)]
    found = reconstruction_error_scorer(model, flags)
    assert found == pytest.approx(-np.mean(residual**2))


def test_bad_weights(X):
    """The errors are those of a fit; one number is the weight of all rows."""
    score, model = reconstruction_error_scorer, vae().fit(X)
    assert score(model, X, sample_weight=2.0) == pytest.approx(score(model, X))
    for message, wrong in {
        r"sample_weight.shape == \(1,\), expected": np.ones(1),
        r"sample_weight.shape == \(3,\), expected": np.ones(3),
        "Sample weights must be 1D": np.ones((len(X), 1)),
        "Negative values": -np.ones(len(X)),
    }.items():
        with pytest.raises(ValueError, match=message):
            score(model, X, sample_weight=wrong)
    with pytest.raises(ValueError, match="X has missing entries only"):
        score(model, np.full((2, X.shape[1]), np.nan))


@pytest.mark.parametrize("kind", [GridSearchCV, BatchedGridSearchCV])
def test_searches(kind, X):
    """It chooses among lengths of training as scikit-learn's metric does by hand."""
    grid = {"max_iter": [1, 30]}
    search = kind(vae(), grid, cv=FOLDS, scoring=reconstruction_error_scorer).fit(X)
    for i, n in enumerate(grid["max_iter"]):
        model = vae(max_iter=n)
        for j, (fit, test) in enumerate(FOLDS.split(X)):
            X_hat = model.fit(X[fit]).reconstruct(X[test])
            found = search.cv_results_[f"split{j}_test_score"][i]
            assert found == pytest.approx(-mean_squared_error(X[test], X_hat))
    assert search.best_params_ == {"max_iter": 30}
    weight = np.arange(1.0, len(X) + 1)
    with config_context(enable_metadata_routing=True):
        scorer = make_reconstruction_error_scorer().set_score_request(sample_weight=True)
        weighted = cross_val_score(
            vae().set_fit_request(sample_weight=True),
            X,
            cv=FOLDS,
            scoring=scorer,
            params={"sample_weight": weight},
        )
    fit, test = next(FOLDS.split(X))
    X_hat = vae().fit(X[fit], sample_weight=weight[fit]).reconstruct(X[test])
    expected = mean_squared_error(X[test], X_hat, sample_weight=weight[test])
    assert weighted[0] == pytest.approx(-expected)


def test_copies_and_parameters():
    scorer = make_reconstruction_error_scorer("absolute_error")
    for copy in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert repr(copy) == (
            "make_reconstruction_error_scorer(error='absolute_error', standardize=False)"
        )
    for wrong in ("mse", ["squared_error"], None):
        with pytest.raises(ValueError, match=r"one of \['squared_error', 'absolute_err"):
            make_reconstruction_error_scorer(wrong)
    with pytest.raises(TypeError, match="standardize must be an instance of"):
        make_reconstruction_error_scorer(standardize="yes")


# Errors that lead here

LEADS_HERE = "skae.model_selection.reconstruction_error_scorer"


@pytest.mark.parametrize(
    "scoring", ["neg_mean_squared_error", ["r2", "neg_mean_absolute_error"]]
)
def test_a_search_refuses_scorers_of_predictions(scoring, X, counted):
    """Before any training, alone and in a pipeline."""
    beta = {"beta": [1, 2]}
    pipeline = make_pipeline(StandardScaler(), vae())
    searches = [
        BatchedGridSearchCV(vae(), beta, scoring=scoring, refit=False),
        BatchedRandomizedSearchCV(vae(), beta, n_iter=2, scoring=scoring, refit=False),
        BatchedGridSearchCV(
            pipeline, {"variationalautoencoder__beta": [1]}, scoring=scoring, refit=False
        ),
    ]
    for search in searches:
        with pytest.raises(ValueError, match=LEADS_HERE):
            search.fit(X, X)
    with pytest.raises(ValueError, match=r"'scoring' parameter .* Got 3"):
        BatchedGridSearchCV(vae(), beta, scoring=3).fit(X)
    assert counted == []


def test_a_search_takes_scorers_that_it_can_use(X):
    """Of predictions, if the last step has them, also if a candidate takes its place."""
    y = (X[:, 0] > 0).astype(int)
    model = make_pipeline(vae(), LogisticRegression())
    grid = {"logisticregression__C": [1, 2]}
    search = BatchedGridSearchCV(model, grid, cv=2, scoring="accuracy").fit(X, y)
    assert search.best_score_ > 0.5
    model = Pipeline([("scale", StandardScaler()), ("last", vae())])
    search = BatchedGridSearchCV(model, {"last": [Ridge()]}, cv=2, scoring="r2").fit(X, y)
    assert np.isfinite(search.best_score_)
    nested, grid = Pipeline([("outer", model)]), {"outer__last": [Ridge()]}
    search = BatchedGridSearchCV(nested, grid, cv=2, scoring="r2").fit(X, y)
    assert np.isfinite(search.best_score_)
    own = BatchedGridSearchCV(vae(), {"beta": [1]}, cv=2, scoring=lambda m, X, y=None: 1.0)
    assert own.fit(X).best_score_ == 1


def test_predict_says_what_to_use():
    with pytest.raises(AttributeError, match=LEADS_HERE):
        vae().predict(None)
