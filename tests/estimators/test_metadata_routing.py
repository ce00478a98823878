"""Tests of sample weights and validation data in pipelines and searches."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from tests.helpers import weights


def test_weights_and_validation_data_through_a_pipeline(X):
    """A pipeline passes weights, and validation data that its earlier steps transform."""
    weight = np.random.default_rng(0).integers(1, 4, 90)
    X_fit, X_val = X[:90], X[90:]
    vae = VariationalAutoencoder(max_iter=30, early_stopping=True, random_state=0)
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler().set_fit_request(sample_weight=False)),
                ("vae", clone(vae).set_fit_request(sample_weight=True, X_val=True)),
            ],
            transform_input=["X_val"],
        ).fit(X_fit, sample_weight=weight, X_val=X_val)
    scaler = StandardScaler().fit(X_fit)
    by_hand = clone(vae).fit(
        scaler.transform(X_fit), sample_weight=weight, X_val=scaler.transform(X_val)
    )
    assert weights(pipeline["vae"]) == weights(by_hand)
    np.testing.assert_array_equal(
        pipeline["vae"].history_["validation_score"], by_hand.history_["validation_score"]
    )
    unweighted = clone(vae).fit(scaler.transform(X_fit), X_val=scaler.transform(X_val))
    assert weights(unweighted) != weights(by_hand)
    np.testing.assert_allclose(
        pipeline.inverse_transform(pipeline.transform(X_val)),
        scaler.inverse_transform(by_hand.reconstruct(scaler.transform(X_val))),
    )


def test_weights_through_a_grid_search(X):
    """Each fold is fitted and scored with its own weights."""
    weight = np.random.default_rng(0).integers(1, 4, 120).astype(float)
    folds = KFold(2, shuffle=True, random_state=0)
    vae = VariationalAutoencoder(max_iter=3, random_state=0)
    with config_context(enable_metadata_routing=True):
        weighted = clone(vae).set_fit_request(sample_weight=True)
        weighted.set_score_request(sample_weight=True)
        search = GridSearchCV(weighted, {"beta": [1.0, 5.0]}, cv=folds)
        search.fit(X, sample_weight=weight)
    for i, beta in enumerate([1.0, 5.0]):
        for j, (fit, test) in enumerate(folds.split(X)):
            model = clone(vae).set_params(beta=beta)
            model.fit(X[fit], sample_weight=weight[fit])
            expected = np.average(model.score_samples(X[test]), weights=weight[test])
            found = search.cv_results_[f"split{j}_test_score"][i]
            assert found == pytest.approx(expected, rel=1e-12)
