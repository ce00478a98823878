"""Arrays of array-api-strict, a library that has what the standard has and no more.

Tensors of torch are in tests/estimators/test_arrays.py.
"""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from tests.helpers import every_estimator

xp = pytest.importorskip("array_api_strict")


@every_estimator
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_methods_give_arrays_of_the_library(estimator, dtype, X):
    X = X.astype(dtype)
    model = estimator(2, max_iter=3, random_state=0)
    expected = clone(model).fit(X)
    with config_context(array_api_dispatch=True):
        array = xp.asarray(X)
        fitted = clone(model).fit(array)
        assert fitted.loss_curve_ == expected.loss_curve_
        Z = fitted.transform(array)
        results = {
            "transform": (Z, expected.transform(X)),
            "inverse_transform": (fitted.inverse_transform(Z), expected.reconstruct(X)),
            "score_samples": (fitted.score_samples(array), expected.score_samples(X)),
        }
        for name, (found, of_numpy) in results.items():
            assert type(found) is type(array), name
            assert found.dtype == getattr(xp, dtype), name
            np.testing.assert_allclose(np.asarray(found), of_numpy, rtol=1e-4, atol=1e-6)
        assert fitted.score(array) == pytest.approx(expected.score(X))


# scikit-learn's scaler divides 0 by 0 in its first call, and hides that for numpy only.
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
def test_pipelines_and_searches(X):
    model = make_pipeline(
        StandardScaler(), VariationalAutoencoder(2, max_iter=3, random_state=0)
    )
    search = GridSearchCV(model, {"variationalautoencoder__beta": [1, 5]}, cv=KFold(2))
    expected = clone(search).fit(X)
    with config_context(array_api_dispatch=True):
        found = clone(search).fit(xp.asarray(X))
        codes = found.transform(xp.asarray(X))
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(np.asarray(codes), expected.transform(X), atol=1e-6)
