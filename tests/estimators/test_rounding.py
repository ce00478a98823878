"""How far the results for a row depend on the rows beside it: by rounding."""

import numpy as np
import pytest

from tests.helpers import every_estimator


@every_estimator
@pytest.mark.parametrize("method", ["score_samples", "transform", "reconstruct"])
@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 6e-7), (np.float64, 2e-15)])
def test_a_row_alone(estimator, method, dtype, rounding, X):
    """The guide's numbers are half of these bounds."""
    X = X.astype(dtype)
    function = getattr(estimator(max_iter=3, random_state=0).fit(X), method)
    whole = function(X)
    np.testing.assert_array_equal(function(X), whole)
    alone = np.concatenate([function(X[i : i + 1]) for i in range(len(X))])
    assert abs(alone - whole).max() <= rounding * abs(whole).max()
