"""Scores of searches with folds of unequal sizes, trained side by side in float32."""

import itertools

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit, cross_validate

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.helpers import ignore_floor, ignore_spread, weights

# The raw features of breast cancer differ more than a thousandfold.
pytestmark = ignore_spread


@pytest.fixture(autouse=True, params=[1, 2], ids="{} threads".format)
def threads(request):
    """The number of threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def breast_cancer():
    """569 rows of 30 columns: of five folds, four have 455 rows to train on, one 456."""
    return load_breast_cancer().data.astype(np.float32)


def scores(search, X):
    """Return the scores of all candidates in all splits, ``(n_splits, n_candidates)``."""
    results = search.fit(X).cv_results_
    return np.array([results[f"split{i}_test_score"] for i in range(search.n_splits_)])


# The scores of all candidates are compared, none is selected.
@pytest.mark.filterwarnings("ignore:Candidates differ in 'n_components':UserWarning")
@pytest.mark.parametrize(
    # One batch a fold, several, and batches that are smaller than a line.
    ("estimator", "batch_size"),
    [
        *itertools.product([VariationalAutoencoder], ["auto", 457, 120, 7]),
        (GaussianAutoencoder, "auto"),
        (LaplaceAutoencoder, 120),
    ],
)
def test_five_folds_of_569_rows(estimator, batch_size, breast_cancer):
    model = estimator(
        max_iter=2, batch_size=batch_size, precision="float32", random_state=0
    )
    plain = GridSearchCV(model, {"n_components": [1, 3]}, cv=5, refit=False)
    batched = BatchedGridSearchCV(model, {"n_components": [1, 3]}, cv=5, refit=False)
    expected = scores(plain, breast_cancer)
    assert (scores(batched, breast_cancer) == expected).all()
    with joblib.parallel_config("skae"):
        assert (scores(plain, breast_cancer) == expected).all()


@pytest.mark.parametrize(
    ("batch_size", "precision"),
    [(1, "float32"), (16, "float64"), (50, "float32"), (1000, "float64")],
)
def test_folds_of_different_padded_sizes(batch_size, precision, breast_cancer):
    """Folds with 100 to 219 rows to train on; of each size there are two models."""
    X = breast_cancer[:220, :6]
    fold = np.repeat(np.arange(7), [1, 15, 16, 17, 33, 48, 90])
    model = VariationalAutoencoder(
        # With single rows, an epoch has some 200 steps.
        max_iter=1 if batch_size == 1 else 2,
        batch_size=batch_size,
        precision=precision,
        random_state=0,
    )
    search = GridSearchCV(model, {"beta": [0.5, 1]}, cv=PredefinedSplit(fold), refit=False)
    expected = scores(search, X)
    with joblib.parallel_config("skae"):
        assert (scores(search, X) == expected).all()


@ignore_floor
@pytest.mark.parametrize("columns", [1, 2, 64])
@pytest.mark.parametrize("variance_mode", ["optimal", "learned", "predicted"])
def test_models_and_histories_are_equal(columns, variance_mode):
    """Products with a single column too: of one feature, component or hidden unit."""
    X = load_digits().data[:211, :columns].astype(np.float32)
    X += np.random.default_rng(0).uniform(size=X.shape).astype(np.float32)
    for model in (
        VariationalAutoencoder(1, hidden_layer_sizes=(64, 1)),
        GaussianAutoencoder(1, hidden_layer_sizes=64),
    ):
        model.set_params(max_iter=3, variance_mode=variance_mode, random_state=0)

        def fit(model=model):
            cv = KFold(4)
            return cross_validate(model, X, cv=cv, return_estimator=True)["estimator"]

        alone = fit()
        with joblib.parallel_config("skae"):
            together = fit()
        for one, other in zip(alone, together, strict=True):
            assert weights(one) == weights(other)
            assert one.loss_curve_ == other.loss_curve_
