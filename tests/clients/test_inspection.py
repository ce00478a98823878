"""scikit-learn's inspection of models: importances of features, and curves."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.inspection import permutation_importance
from sklearn.model_selection import (
    KFold,
    LearningCurveDisplay,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_val_score,
)

from skae import VariationalAutoencoder

FOLDS = KFold(2, shuffle=True, random_state=0)


@pytest.fixture(autouse=True)
def figures():
    """Draw without a screen."""
    with mpl.rc_context({"backend": "agg"}):
        yield
        mpl.pyplot.close("all")


def model(**parameters):
    return VariationalAutoencoder(2, random_state=0, **({"max_iter": 4} | parameters))


def test_permutation_importance(X):
    """A column is important if the density of the others depends on it, or is 0."""
    X = np.column_stack([X, np.random.default_rng(1).normal(size=len(X))])
    fitted = model(covariance_type="diag", max_iter=30).fit(X)
    found = permutation_importance(fitted, X, None, n_repeats=3, random_state=0)
    # By hand: the fall of the score with a column in another order.
    rng = np.random.RandomState(
        np.random.RandomState(0).randint(np.iinfo(np.int32).max + 1)
    )
    shuffled, order = X.copy(), np.arange(len(X))
    for i in range(3):
        rng.shuffle(order)
        shuffled[:, 1] = shuffled[order, 1]
        by_hand = fitted.score(X) - fitted.score(shuffled)
        assert found.importances[1, i] == pytest.approx(by_hand)
    assert found.importances_mean[:6].max() > 10 * abs(found.importances_mean[6])


def test_validation_curve(X):
    display = ValidationCurveDisplay.from_estimator(
        model(), X, None, param_name="beta", param_range=[0.5, 1, 50], cv=FOLDS
    )
    for beta, scores in zip([0.5, 1, 50], display.test_scores, strict=True):
        expected = cross_val_score(model(beta=beta), X, cv=FOLDS)
        np.testing.assert_allclose(scores, expected)


def test_learning_curve(X):
    display = LearningCurveDisplay.from_estimator(
        model(), X, None, train_sizes=[20, 60], cv=FOLDS
    )
    assert display.train_sizes.tolist() == [20, 60]
    for n, scores in zip([20, 60], display.test_scores, strict=True):
        for (fit, test), score in zip(FOLDS.split(X), scores, strict=True):
            expected = model().fit(X[fit[:n]]).score(X[test])
            assert score == pytest.approx(expected)


def test_cross_val_predict_wants_a_method_that_transformers_lack(X):
    """It refuses PCA too, whatever its `method` is; the guide has a loop instead."""
    for estimator in (model(), PCA(2)):
        with pytest.raises(ValueError, match="implementing 'fit' and 'predict'"):
            cross_val_predict(estimator, X, method="transform")
