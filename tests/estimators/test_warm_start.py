"""Tests of continued fits and of refused refits."""

import numpy as np
import pytest

from tests.helpers import answers, every_estimator, weights


@every_estimator
def test_warm_start_continues(estimator, X):
    """A warm start continues the training and the history of the last fit."""
    model = estimator(max_iter=4, warm_start=True, random_state=0).fit(X)
    assert model.n_iter_ == 4  # the first fit is an ordinary fit
    assert weights(model) == weights(estimator(max_iter=4, random_state=0).fit(X))
    first, codes = list(model.loss_curve_), model.transform(X)
    # With a negligible learning rate, the codes are those of the start.
    model.set_params(max_iter=3, learning_rate_init=1e-12).fit(X)
    np.testing.assert_allclose(model.transform(X), codes, rtol=1e-5, atol=1e-6)
    assert model.n_iter_ == 7
    assert model.loss_curve_[:4] == first
    assert len(model.loss_curve_) == 7
    assert {len(values) for values in model.history_.values()} == {7}
    model.set_params(warm_start=False).fit(X)
    assert model.n_iter_ == 3


@every_estimator
def test_warm_start_improves_the_score(estimator, X):
    """A second round of training improves the score."""
    model = estimator(max_iter=20, warm_start=True, random_state=0).fit(X)
    once = model.score(X)
    assert model.fit(X).score(X) > once + 0.01


@every_estimator
@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({"n_components": 3}, 6, "warm_start=True continues from the last fit"),
        ({"hidden_layer_sizes": (7,)}, 6, "warm_start=True continues from the last fit"),
        ({"variance_mode": "learned"}, 6, "warm_start=True continues from the last fit"),
        ({"covariance_type": "diag"}, 6, "warm_start=True continues from the last fit"),
        ({}, 5, "X has 5 features, but .* is expecting 6 features"),
    ],
    ids=["n_components", "network", "variance_mode", "covariance_type", "width of X"],
)
def test_warm_start_refuses_another_model(estimator, change, columns, message, X):
    """A warm start with another model is refused, and the last fit stays usable."""
    model = estimator(max_iter=3, warm_start=True, random_state=0).fit(X)
    expected = answers(model, X)
    with pytest.raises(ValueError, match=message):
        model.set_params(**change).fit(X[:, :columns])
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert model.n_iter_ == 3
    model.set_params(warm_start=False).fit(X[:, :columns])
    assert model.n_features_in_ == columns


@every_estimator
@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({"n_components": -1}, np.ones((30, 6))),
        ({"early_stopping": True, "validation_fraction": 0.99}, np.ones((30, 8))),
        ({"variance_mode": "fixed", "scale": -np.ones(8)}, np.eye(8)),
        ({"hidden_layer_sizes": (0,)}, np.eye(8)),
        ({}, np.full((30, 8), np.nan)),
    ],
    ids=["parameter", "too few rows", "scale", "network", "data"],
)
def test_refused_refit_leaves_the_fit(estimator, change, data, X):
    """A refused refit changes nothing of the last fit."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    expected = answers(model, X)
    with pytest.raises(ValueError):  # noqa: PT011  (test_bad_input.py tests the messages)
        model.set_params(**change).fit(data)
    assert (model.n_features_in_, model.n_components_) == (6, 2)
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
