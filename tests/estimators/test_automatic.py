"""Tests of the sizes that follow from the data."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.estimators.automatic import choose_max_iter
from skae.model_selection import BatchedGridSearchCV
from tests.helpers import ignore_floor, ignore_spread

ESTIMATORS = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
WINE = load_wine().data
TABLES = {
    "iris": load_iris().data,
    "wine": WINE,
    "breast_cancer": load_breast_cancer().data,
    # More features than samples.
    "wide": np.random.default_rng(0).standard_normal((12, 30)),
}
FAST = {"max_iter": 1, "random_state": 0}


@ignore_floor
@ignore_spread
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.97, 0.999])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_share_of_the_variance_is_that_of_pca(name, share, covariance_type):
    X = seen_by_pca = TABLES[name]
    if covariance_type == "diag":
        seen_by_pca = StandardScaler().fit_transform(X)
    expected = PCA(share).fit(seen_by_pca).n_components_
    model = VariationalAutoencoder(share, covariance_type=covariance_type, **FAST)
    assert model.fit(X).n_components_ == expected
    assert model.transform(X).shape == (len(X), expected)
    assert len(model.get_feature_names_out()) == expected


@ignore_spread
def test_share_counts_samples_by_their_weight():
    X = WINE[:60]
    weight = np.random.default_rng(1).integers(1, 4, len(X))
    repeated = np.repeat(X, weight, axis=0)
    expected = PCA(0.9999).fit(repeated).n_components_
    model = VariationalAutoencoder(0.9999, **FAST).fit(X, sample_weight=weight)
    assert model.n_components_ == expected


@ignore_floor
@pytest.mark.parametrize("share", [0.5, "auto"])
def test_constant_data_have_one_component(share):
    X = np.ones((20, 1))
    assert VariationalAutoencoder(share, **FAST).fit(X).n_components_ == 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("d", "expected"), [(1, 1), (2, 1), (5, 3), (13, 8), (200, 64)])
def test_automatic_components(estimator, d, expected):
    X = np.random.default_rng(0).standard_normal((40, d))
    model = estimator("auto", variance_mode="fixed", **FAST)
    assert model.fit(X).n_components_ == expected


@pytest.mark.parametrize(
    ("n", "width"), [(20, 32), (700, 32), (800, 64), (1437, 64), (4000, 256), (9000, 512)]
)
def test_automatic_width(n, width):
    X = np.random.default_rng(0).standard_normal((n, 3))
    model = VariationalAutoencoder(hidden_layer_sizes="auto", **FAST).fit(X)
    assert model.module_.spec.network.hidden_layer_sizes == (width,)
    assert model.module_.encoder[0].weight.shape == (width, 3)


def test_automatic_width_counts_samples_by_their_weight():
    X = np.random.default_rng(0).standard_normal((20, 3))
    model = VariationalAutoencoder(hidden_layer_sizes="auto", **FAST)
    model.fit(X, sample_weight=np.full(20, 40))
    assert model.module_.spec.network.hidden_layer_sizes == (64,)


def test_automatic_length_is_about_1600_steps():
    X = np.random.default_rng(0).standard_normal((640, 3))
    never = {"n_iter_no_change": 1000, "tol": 0.0, "random_state": 0}
    model = VariationalAutoencoder(max_iter="auto", batch_size=128, **never)
    assert model.fit(X).n_iter_ == 320
    assert model.set_params(batch_size=640).fit(X).n_iter_ == 1000
    few = X[:40]
    assert model.set_params(batch_size=1).fit(few).n_iter_ == 140
    assert choose_max_iter("auto", 10_000, 256) == 140
    assert choose_max_iter("auto", 10_001, 256) == 200
    # A given number of epochs is the same fit.
    same = clone(model).set_params(max_iter=140).fit(few)
    np.testing.assert_array_equal(model.transform(X), same.transform(X))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("n", "d", "alpha"), [(500, 5, 1.0), (200, 10, 5.0), (200, 16, 12.8), (20, 20, 30.0)]
)
def test_automatic_penalty(estimator, n, d, alpha):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, 2))
    X = np.sin(z @ rng.standard_normal((2, d))) + 0.1 * rng.standard_normal((n, d))
    model = estimator(alpha="auto", max_iter=20, random_state=0).fit(X)
    same = clone(model).set_params(alpha=alpha).fit(X)
    np.testing.assert_array_equal(model.transform(X), same.transform(X))
    other = clone(model).set_params(alpha=2 * alpha).fit(X)
    assert (model.transform(X) != other.transform(X)).any()


def test_automatic_penalty_counts_samples_by_their_weight():
    X = np.random.default_rng(0).standard_normal((50, 10))
    weight = np.full(50, 4.0)
    fast = {"max_iter": 3, "random_state": 0}
    model = VariationalAutoencoder(alpha="auto", **fast).fit(X, sample_weight=weight)
    same = VariationalAutoencoder(alpha=5.0, **fast).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(model.transform(X), same.transform(X))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_warm_start_keeps_the_chosen_sizes(estimator):
    X = np.random.default_rng(0).standard_normal((40, 5))
    model = estimator(
        "auto", hidden_layer_sizes="auto", warm_start=True, max_iter=2, random_state=0
    )
    before = model.fit(X).module_.spec
    # More samples would be a wider network.
    more = np.random.default_rng(1).standard_normal((900, 5))
    model.fit(more)
    assert model.module_.spec.network.hidden_layer_sizes == (32,)
    assert model.module_.spec.n_components == before.n_components == 3
    assert model.n_iter_ == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_components", 0.0, "in the range"),
        ("n_components", 1.0, "in the range"),
        ("n_components", 1.5, "in the range"),
        ("n_components", -0.5, "in the range"),
        ("n_components", np.nan, "in the range"),
        ("n_components", True, "n_components"),
        ("n_components", "aut", "Did you mean 'auto'"),
        ("max_iter", "Auto", "Did you mean 'auto'"),
        ("max_iter", 2.5, "max_iter"),
        ("alpha", "Auto", "Did you mean 'auto'"),
        ("alpha", -1.0, "alpha"),
        ("hidden_layer_sizes", "auo", "Did you mean 'auto'"),
    ],
)
def test_bad_values(name, value, message):
    model = VariationalAutoencoder(**{name: value})
    with pytest.raises(ValueError, match=message):
        model.fit(WINE)


def test_searches_over_shares_and_auto():
    X = StandardScaler().fit_transform(WINE)
    model = VariationalAutoencoder(hidden_layer_sizes="auto", max_iter=3, random_state=0)
    grid = {"n_components": [2, 0.5, 0.8, "auto"], "alpha": [10.0, "auto"]}
    plain = GridSearchCV(model, grid, cv=3).fit(X)
    batched = BatchedGridSearchCV(model, grid, cv=3).fit(X)
    np.testing.assert_array_equal(
        plain.cv_results_["mean_test_score"], batched.cv_results_["mean_test_score"]
    )
