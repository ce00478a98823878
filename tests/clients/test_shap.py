"""shap: which columns make the score of a row low."""

import numpy as np
import pytest

from skae import VariationalAutoencoder

shap = pytest.importorskip("shap")


def test_parts_of_a_score(X):
    """They add up to the score, and name the column that was spoilt."""
    model = VariationalAutoencoder(2, max_iter=5, random_state=0).fit(X)
    rows = X[:3].copy()
    for i, column in enumerate([4, 1, 3]):
        rows[i, column] += 6 * X[:, column].std()
    # All 64 subsets of six columns, so that the parts are exact.
    explainer = shap.KernelExplainer(model.score_samples, X[3:23])
    found = explainer(rows, silent=True)
    total = found.values.sum(axis=1) + found.base_values
    np.testing.assert_allclose(total, model.score_samples(rows), rtol=1e-5)
    expected = model.score_samples(X[3:23]).mean()
    np.testing.assert_allclose(found.base_values, expected, rtol=1e-5)
    assert found.values.argmin(axis=1).tolist() == [4, 1, 3]
