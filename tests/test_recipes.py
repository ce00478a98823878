"""The recipes as ordinary estimators of scikit-learn."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder, recipes
from skae.model_selection import log_marginal_scorer
from tests.helpers import ignore_floor

RECIPES = [getattr(recipes, name) for name in recipes.__all__]


@pytest.fixture(name="bananas")
def draw_bananas():
    """Draw 600 rows of four features that depend on each other by curves."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 2))
    X = np.column_stack([z, z[:, 0] ** 2, np.sin(2 * z[:, 1])])
    return X + 0.1 * rng.normal(size=X.shape)


@pytest.mark.parametrize("make", RECIPES)
def test_recipe_is_a_variational_autoencoder_with_other_parameters(make):
    model = make()
    assert type(model) is VariationalAutoencoder
    assert clone(model).get_params() == model.get_params()
    assert model.get_params() != VariationalAutoencoder().get_params()
    assert repr(eval(repr(model))) == repr(model)
    assert make(beta=0.5, likelihood="laplace").get_params() == {
        **model.get_params(),
        "beta": 0.5,
        "likelihood": "laplace",
    }
    with pytest.raises(TypeError, match="n_component"):
        make(n_component=2)


@ignore_floor
@pytest.mark.parametrize("make", RECIPES)
def test_recipe_in_a_pipeline_and_a_search(make, bananas):
    model = make_pipeline(StandardScaler(), make(max_iter=2, random_state=0))
    grid = {"variationalautoencoder__alpha": [1.0, 10.0]}
    search = GridSearchCV(model, grid, cv=2).fit(bananas)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@ignore_floor
def test_density_is_that_of_the_table(bananas):
    """The bound is near the entropy of the distribution, and far above a normal's."""
    train, test = bananas[:400], bananas[400:]
    model = recipes.make_density_estimator(random_state=0).fit(train)
    bound = log_marginal_scorer(model, test)
    rng = np.random.default_rng(1)
    # The density is the mean, over codes, of that of the noise.
    z = rng.normal(size=(20_000, 2))
    curves = np.column_stack([z, z[:, 0] ** 2, np.sin(2 * z[:, 1])])
    noise = multivariate_normal(np.zeros(4), 0.01)
    exact = np.mean([np.log(noise.pdf(row - curves).mean() + 1e-12) for row in test])
    normal = multivariate_normal(train.mean(axis=0), np.cov(train.T))
    assert normal.logpdf(test).mean() + 1 < bound < exact + 0.1


def test_outliers_of_the_training_data_have_the_lowest_scores(bananas):
    rng = np.random.default_rng(2)
    outliers = bananas[:12].copy()
    outliers[:, 2:] += rng.choice([-4.0, 4.0], size=(12, 2))
    X = np.vstack([bananas, outliers])
    scores = recipes.make_outlier_estimator(random_state=0).fit(X).score_samples(X)
    lowest = np.argsort(scores)[:12]
    assert np.mean(lowest >= len(bananas)) >= 0.75
