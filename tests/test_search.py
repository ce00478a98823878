"""Searches over the parameters, with all others at their defaults, on well-known data."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.networks import MLP
from skae.scales import SCALES
from tests.helpers import ignore_spread

# Some of the rows: with all of them the searches take minutes and show the same.
DATA = {
    "iris": lambda: load_iris().data,
    "wine": lambda: load_wine().data,
    "digits": lambda: load_digits().data[::12],
}
FOLDS = KFold(2, shuffle=True, random_state=0)

# Those of likelihoods with a scale.
MODES = sorted(set(SCALES) - {"none"})


@ignore_spread
@pytest.mark.filterwarnings(
    "ignore:The scales? of .* floor min_scale:sklearn.exceptions.ConvergenceWarning"
)
@pytest.mark.parametrize(
    ("name", "scaled"),
    [
        ("iris", False),
        ("wine", True),
        pytest.param("digits", False, marks=pytest.mark.slow),
    ],
)
def test_search_over_beta_and_variance_mode(name, scaled):
    """Each candidate has a finite score, and the best of them one that PCA has not.

    Both are cross-validated means over the same folds of a log-density, or of a bound of
    it, with one scale for all features and two components.
    """
    X = DATA[name]()
    model, pca, prefix = VariationalAutoencoder(random_state=0), PCA(2), ""
    if scaled:
        model, pca = (
            make_pipeline(StandardScaler(), model),
            make_pipeline(StandardScaler(), pca),
        )
        prefix = "variationalautoencoder__"
    grid = {f"{prefix}beta": [0.5, 1, 2], f"{prefix}variance_mode": MODES}
    search = GridSearchCV(model, grid, cv=FOLDS).fit(X)

    scores = search.cv_results_["mean_test_score"]
    assert scores.shape == (15,)
    assert np.isfinite(scores).all()
    reference = cross_val_score(pca, X, cv=FOLDS).mean()
    assert reference < 0  # in nats, so that what follows is below it
    assert search.best_score_ >= reference - 0.05
    # One scale for all rows, from the data, keeps a candidate sensible even if it overfits.
    shared = np.isin(
        search.cv_results_[f"param_{prefix}variance_mode"].astype(str),
        ["optimal", "profile", "learned"],
    )
    assert shared.sum() == 9
    assert scores[shared].min() > 1.5 * reference - 5
    # The winner is refitted with what it won with.
    best = search.best_estimator_[-1] if scaled else search.best_estimator_
    assert best.beta == search.best_params_[f"{prefix}beta"]
    assert best.module_.spec.variance_mode == best.variance_mode
    assert np.isfinite(search.score(X))
    assert search.transform(X).shape == (len(X), 2)


TRAINED = {"max_iter": 30, "learning_rate_init": 5e-3, "random_state": 0}


def test_search_over_a_network():
    """Parameters of a network object are searched by their nested names."""
    X = load_iris().data
    sizes = [(), (3,), (16, 8)]
    search = GridSearchCV(
        GaussianAutoencoder(network=MLP(), **TRAINED),
        {"network__hidden_layer_sizes": sizes, "network__activation": ["relu", "tanh"]},
        cv=FOLDS,
    ).fit(X)
    scores = search.cv_results_["mean_test_score"].reshape(2, 3)
    assert np.isfinite(scores).all()
    # Without hidden layers an activation changes nothing; with them it does.
    assert scores[0, 0] == scores[1, 0]
    assert (scores[0, 1:] != scores[1, 1:]).all()
    assert len(set(scores.ravel())) == 5
    best = search.best_estimator_
    assert (
        best.network.hidden_layer_sizes
        == search.best_params_["network__hidden_layer_sizes"]
    )
    # Each candidate is what it would be by name.
    for size, score in zip(sizes, scores[1], strict=True):
        by_name = GaussianAutoencoder(hidden_layer_sizes=size, activation="tanh", **TRAINED)
        assert cross_val_score(by_name, X, cv=FOLDS).mean() == score


def test_search_over_likelihoods():
    """Data with heavy tails: the Laplace likelihood wins, as it should."""
    rng = np.random.default_rng(0)
    code = rng.normal(size=(300, 1))
    X = 3 * code @ rng.normal(size=(1, 20)) + rng.laplace(size=(300, 20))
    search = GridSearchCV(
        VariationalAutoencoder(1, max_iter=30, random_state=0),
        {"likelihood": ["gaussian", "laplace"], "covariance_type": ["spherical", "diag"]},
        cv=FOLDS,
    ).fit(X)
    # And one scale is enough for noise that is the same in all columns.
    assert search.best_params_ == {"likelihood": "laplace", "covariance_type": "spherical"}
    assert search.best_score_ > cross_val_score(PCA(1), X, cv=FOLDS).mean() + 0.5


def test_search_over_components():
    """The number of directions that data have is found, as scikit-learn's PCA finds it."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8)) * 2 + rng.normal(size=(200, 8))
    grid = {"n_components": [1, 2, 3, 6]}
    linear = VariationalAutoencoder(hidden_layer_sizes=(), max_iter=20, random_state=0)
    search = GridSearchCV(linear, grid, cv=FOLDS).fit(X)
    reference = GridSearchCV(PCA(), grid, cv=FOLDS).fit(X)
    assert search.best_params_ == reference.best_params_ == {"n_components": 3}
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"][:3],
        reference.cv_results_["mean_test_score"][:3],
        atol=0.1,
    )


@pytest.mark.filterwarnings(
    "ignore:The scales? of .* floor min_scale:sklearn.exceptions.ConvergenceWarning"
)
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_a_bad_candidate_is_told():
    """A combination that is refused fails alone, with its reason, as in scikit-learn."""
    X = load_iris().data
    search = GridSearchCV(
        GaussianAutoencoder(max_iter=3, random_state=0, covariance_type="diag"),
        {"variance_mode": ["optimal", "profile"]},
        cv=FOLDS,
        error_score=np.nan,
    )
    with pytest.warns(match="variance_mode='profile' does not go with"):
        search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    assert search.best_params_ == {"variance_mode": "optimal"}
