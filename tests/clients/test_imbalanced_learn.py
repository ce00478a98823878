"""imbalanced-learn: a step that draws rows again, before or after the codes."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder

pytest.importorskip("imblearn")
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline


@pytest.fixture(name="y")
def rare_class(X):
    """One row of six is of the second class."""
    return (X[:, 0] > np.quantile(X[:, 0], 5 / 6)).astype(int)


def vae():
    return VariationalAutoencoder(2, max_iter=3, random_state=0)


def test_rows_are_drawn_before_the_fit(X, y):
    """The autoencoder is trained with the drawn rows; a prediction takes the given ones."""
    sampler, classifier = SMOTE(random_state=0), LogisticRegression()
    model = make_pipeline(StandardScaler(), sampler, vae(), classifier).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    drawn, labels = clone(sampler).fit_resample(scaled, y)
    assert len(drawn) == 200
    coder = vae().fit(drawn)
    by_hand = clone(classifier).fit(coder.transform(drawn), labels)
    expected = by_hand.predict_proba(coder.transform(scaled))
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6)


def test_codes_are_drawn_in_a_search(X, y):
    model = make_pipeline(vae(), SMOTE(random_state=0, k_neighbors=3), LogisticRegression())
    grid = {"variationalautoencoder__n_components": [1, 2]}
    search = GridSearchCV(model, grid, cv=2, scoring="balanced_accuracy").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best[0].n_components_ == search.best_params_[next(iter(grid))]
    codes, labels = clone(best[1]).fit_resample(vae_of(best).fit(X).transform(X), y)
    assert np.bincount(labels).tolist() == [100, 100]
    np.testing.assert_allclose(best[-1].coef_, clone(best[-1]).fit(codes, labels).coef_)


def vae_of(pipeline):
    """Return the unfitted autoencoder of a pipeline."""
    return clone(pipeline[0])
