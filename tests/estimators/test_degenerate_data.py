"""Tests with small, constant and extreme data."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skae.scales import SCALES
from tests.families import LOCATION_SCALE, location_scale_combinations
from tests.helpers import (
    FLOOR,
    assert_finite,
    every_estimator,
    ignore_floor,
    models_of,
)


def one_sample(X):
    return X[:1]


def two_samples(X):
    return X[:2]


def one_feature(X):
    return X[:, :1]


def fewer_samples_than_features(X):
    return X[:5]


def constant_columns(X):
    return np.column_stack([X[:, :4], np.full(len(X), 3.0), np.zeros(len(X))])


def all_columns_constant(X):
    return np.tile(X[0], (len(X), 1))


def equal_rows(X):
    return np.repeat(X[:3], 40, axis=0)


def equal_columns(X):
    return np.column_stack([X[:, 0]] * 6)


def whole_numbers(X):
    return np.round(X)


def huge_offset(X):
    return X + 1e9


def many_zeros(X):
    return np.where(np.abs(X) < 4, 0.0, X)


DEGENERATE = [
    one_sample,
    two_samples,
    one_feature,
    fewer_samples_than_features,
    constant_columns,
    all_columns_constant,
    equal_rows,
    equal_columns,
    whole_numbers,
    huge_offset,
    many_zeros,
]


# Every second table for each model. The next likelihood of the list has the others, so each
# scale meets each table.
SCALES_OF_ALL = sorted({model[1:] for model in location_scale_combinations()})
IN_TURNS = [
    pytest.param(data, *model, id="-".join([data.__name__, *model]))
    for model in location_scale_combinations()
    for i, data in enumerate(DEGENERATE)
    if (LOCATION_SCALE.index(model[0]) + SCALES_OF_ALL.index(model[1:]) + i) % 2 == 0
]


@ignore_floor
@pytest.mark.parametrize(
    ("data", "likelihood", "variance_mode", "covariance_type"), IN_TURNS
)
def test_degenerate_data_give_finite_scores(
    data, likelihood, variance_mode, covariance_type, X
):
    """Scores are finite on the data and on rows that vary in constant columns."""
    parameters = {
        "variance_mode": variance_mode,
        "covariance_type": covariance_type,
        "max_iter": 3,
        "random_state": 0,
    }
    train = data(X)
    varied = X[:, : train.shape[1]] + train[:1]
    # Few components and more than features take turns over the tables and modes.
    turn = DEGENERATE.index(data) + sorted(SCALES).index(variance_mode)
    for model in models_of(likelihood, **parameters):
        model.set_params(n_components=(2, 8)[turn % 2]).fit(train)
        assert_finite(model, train)
        assert_finite(model, varied)
        single = varied.astype(np.float32)
        assert np.isfinite(model.score_samples(single)).all()


@every_estimator
@pytest.mark.parametrize(
    "data", [one_sample, all_columns_constant, two_samples], ids=lambda data: data.__name__
)
def test_floor_warns(estimator, data, X):
    """A fit without residuals warns that its scale is at the floor."""
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model = estimator(2, max_iter=3, random_state=0).fit(data(X))
    assert_finite(model, X)


@pytest.mark.parametrize("variance_mode", ["optimal", "learned", "predicted"])
@every_estimator
def test_floor_warning_names_constant_columns(estimator, variance_mode, X):
    """With a scale per feature, the warning names exactly the columns at the floor."""
    model = estimator(
        variance_mode=variance_mode, covariance_type="diag", max_iter=3, random_state=0
    )
    X = constant_columns(X)
    with pytest.warns(ConvergenceWarning, match="2 of 6 features .*: columns 4, 5 "):
        model.fit(X)
    assert_finite(model, X)
    # One scale for all features is above its floor, because the other columns vary.
    model.set_params(covariance_type="spherical").fit(X)
    assert_finite(model, X)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@every_estimator
def test_far_away_rows_score_finite(estimator, covariance_type, X):
    """Scores fall with the distance from the data, and stay finite for distant rows."""
    model = estimator(covariance_type=covariance_type, max_iter=5, random_state=0).fit(X)
    offset = np.linspace(-1, 1, 6) * X.std(axis=0)
    scores = [model.score(X + far * offset) for far in (0, 1e2, 1e4, 1e6)]
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < 0).all()
    assert np.isfinite(model.score_samples((X + 1e4 * offset).astype(np.float32))).all()
