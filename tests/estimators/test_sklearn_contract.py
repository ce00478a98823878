"""Tests by scikit-learn's own checks, without expected failures or skips, and by others.

An estimator can avoid checks by its tags, and a check can skip itself if a library is
missing. Both count as failures here.
"""

import inspect
import re

import numpy as np
import pytest
import scipy
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils._testing import SkipTest
from sklearn.utils.estimator_checks import estimator_checks_generator

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._utils.compat import array_api
from skae.networks import MLP
from skae.objectives import CyclicalSchedule
from tests.estimators.checks import checks_of, name_of
from tests.families import location_scale_combinations

# Likelihoods that have a deterministic estimator.
DETERMINISTIC = {"gaussian": GaussianAutoencoder, "laplace": LaplaceAutoencoder}
DEFAULTS = [GaussianAutoencoder(), LaplaceAutoencoder(), VariationalAutoencoder()]

# Public checks that scikit-learn's generator does not include.
EXTRA_CHECKS = [
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_global_set_output_transform_polars,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_param_validation,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_estimators_partial_fit_n_features,
]

# Some checks fit one sample or constant columns, so the fit warns.
ignore_floor = pytest.mark.filterwarnings(
    "ignore:The scales? of .* floor min_scale:sklearn.exceptions.ConvergenceWarning"
)


def every_model(**parameters):
    """Return estimators of each variance mode and type, and of each likelihood.

    The variational one has all modes with the Gaussian likelihood, and the others have one
    of them: what a mode does to the contract does not depend on the likelihood.
    """
    models = []
    for likelihood, mode, covariance_type in location_scale_combinations():
        chosen = {"variance_mode": mode, "covariance_type": covariance_type, **parameters}
        is_shown = (mode, covariance_type) == ("predicted", "diag")
        if likelihood == "gaussian" or is_shown:
            models.append(VariationalAutoencoder(likelihood=likelihood, **chosen))
        if likelihood in DETERMINISTIC and is_shown:
            models.append(DETERMINISTIC[likelihood](**chosen))
    return models


def variants(**parameters):
    """Return models with each of the other parameters that change the course of a fit."""
    changes = [
        {"early_stopping": True},
        {"init": "random"},
        {"precision": "float64"},
        {"hidden_layer_sizes": ()},
        {"network": MLP((5, 3), activation="tanh")},
        {"alpha": 0.1, "batch_size": 5, "n_components": 1},
        {"kl_schedule": "linear", "n_mc_samples": 3, "beta": 4.0},
        {"kl_schedule": CyclicalSchedule(2)},
    ]
    models = [VariationalAutoencoder(**{**parameters, **c}) for c in changes]
    models += [kind(early_stopping=True, **parameters) for kind in DETERMINISTIC.values()]
    return models


def class_of(model):
    """Return a test id for a model with default parameters."""
    return type(model).__name__


# Why scikit-learn skips a check of arrays: a library, or a device, that is not here.
ABSENT = re.compile("not installed|not available|no XPU|MPS_FALLBACK is not set|no SYCL")


def run_unskipped(check, *arguments):
    """Run a check, and fail the test if the check skips itself."""
    try:
        check(*arguments)
    except SkipTest as skip:
        if ABSENT.search(str(skip)):
            pytest.skip(str(skip))
        pytest.fail(f"the check skipped itself: {skip}")


# How a table is read does not depend on the training. So one epoch is enough, and one
# estimator of each class.
ONE_EPOCH = [type(model)(max_iter=1) for model in DEFAULTS]


@ignore_floor
@pytest.mark.parametrize(
    ("estimator", "check"),
    checks_of([*DEFAULTS, *every_model(max_iter=2), *variants(max_iter=2)], ONE_EPOCH),
)
def test_generated_checks(estimator, check):
    """Every check of scikit-learn's generator passes."""
    run_unskipped(check, estimator)


# Some checks fit data frames and transform arrays, or fit arrays and transform frames.
@pytest.mark.filterwarnings("ignore:X .* valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@ignore_floor
@pytest.mark.parametrize("check", EXTRA_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("model", ONE_EPOCH, ids=name_of)
def test_extra_checks(model, check):
    """Every public check that the generator does not include passes."""
    run_unskipped(check, type(model).__name__, model)


def test_every_public_check_for_transformers_is_used():
    """This file uses every public check for transformers, also of newer scikit-learn."""
    checks = estimator_checks_generator(VariationalAutoencoder())
    generated = {check.func.__name__ for _, check in checks}
    covered = generated | {check.__name__ for check in EXTRA_CHECKS}
    published = {
        name
        for name, value in vars(estimator_checks).items()
        if name.startswith("check_")
        and inspect.isfunction(value)
        # Functions of this module that take only the name and the estimator.
        and value.__module__ == estimator_checks.__name__
        and len(inspect.signature(value).parameters) <= 3
    }
    foreign = re.compile(
        "classif|regress|cluster|outlier|supervised|sparsify|class_weight|decision_proba"
        "|one_label|nonsquare|non_negative|requires_y|non_transformer|stateless|pairwise"
        "|sparse_data|not_supporting|array_api|check_estimator$"
        "|estimators_data_not_an_array|_sample_weight_equivalence|feature_names_out_error"
        # Of estimators that refuse NaN.
        "|estimators_nan_inf"
    )
    assert {name for name in published - covered if not foreign.search(name)} == set()


@pytest.mark.parametrize("model", DEFAULTS, ids=name_of)
def test_no_check_is_waived(model):
    """No tag reduces the checks of scikit-learn, and its array API checks are active."""
    tags = get_tags(model)
    assert not any([tags.no_validation, tags.non_deterministic, tags._skip_test])
    assert tags.requires_fit
    assert tags.array_api_support is (array_api is not None)
    assert tags.input_tags.two_d_array
    assert tags.input_tags.sparse
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
    assert scipy._lib._array_api.SCIPY_ARRAY_API
    checks = [str(check) for _, check in estimator_checks_generator(model)]
    for needed in (
        *(["check_array_api_input"] if array_api is not None else []),
        "check_methods_subset_invariance",
        "check_methods_sample_order_invariance",
        "check_sample_weight_equivalence_on_dense_data",
        "check_transformer_preserve_dtypes",
        "check_estimators_pickle",
    ):
        assert any(needed in check for check in checks)


# Stricter tests than scikit-learn's: several batches per epoch, and bit-identical fits.


@pytest.fixture
def weighted_rows():
    """Return distinct rows, integer weights, and the repeated rows in random order."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(203, 3)) @ rng.normal(size=(3, 5)) + rng.normal(size=(203, 5))
    X[:, 4] = np.round(X[:, 4])  # ties in one column, but no two equal rows
    weight = rng.integers(0, 4, size=203)
    repeated = np.repeat(X, weight, axis=0)
    return X, weight, rng.permutation(repeated)


def assert_same_fit(one, other, X):
    """Assert that two fits have bit-identical results."""
    np.testing.assert_array_equal(one.transform(X), other.transform(X))
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(X))
    np.testing.assert_array_equal(one.reconstruct(X), other.reconstruct(X))
    np.testing.assert_array_equal(one.loss_curve_, other.loss_curve_)
    if one.scale_ is not None:
        np.testing.assert_array_equal(one.scale_, other.scale_)


MINIBATCHES = {"max_iter": 3, "batch_size": 32, "random_state": 0}


@ignore_floor  # of the column of rounded numbers
@pytest.mark.parametrize(
    "model", [*every_model(**MINIBATCHES), *variants(**MINIBATCHES)], ids=name_of
)
def test_weights_are_repetitions(model, weighted_rows):
    """An integer weight equals that many copies of a row, in any order; 0 equals none."""
    X, weight, repeated = weighted_rows
    weighted = model.fit(X, sample_weight=weight)
    twin = type(model)(**model.get_params(deep=False)).fit(repeated)
    assert_same_fit(weighted, twin, X)
    unweighted = type(model)(**model.get_params(deep=False)).fit(X)
    assert not np.array_equal(unweighted.transform(X), weighted.transform(X))


@pytest.mark.parametrize("model", DEFAULTS, ids=class_of)
def test_weights_are_repetitions_with_validation_data(model, weighted_rows):
    """Weights equal copies also with X_val, early stopping and the default batch size."""
    X, weight, repeated = weighted_rows
    parameters = {"max_iter": 20, "early_stopping": True, "random_state": 3}
    weighted = type(model)(**parameters).fit(X, sample_weight=weight, X_val=X[::4])
    twin = type(model)(**parameters).fit(repeated, X_val=X[::4])
    assert_same_fit(weighted, twin, X)


@pytest.mark.parametrize("model", DEFAULTS, ids=class_of)
def test_only_ratios_of_weights_matter(model, weighted_rows):
    """Without a penalty, weights up to 1 may be multiplied by a power of 2."""
    X, weight, _ = weighted_rows
    fits = [
        type(model)(**MINIBATCHES, alpha=0.0).fit(X, sample_weight=weight * factor)
        for factor in (0.25, 2.0**-20, 2.0**-1000)
    ]
    assert_same_fit(fits[0], fits[1], X)
    assert_same_fit(fits[0], fits[2], X)


@pytest.mark.parametrize("model", DEFAULTS, ids=class_of)
def test_score_weights_are_repetitions(model, weighted_rows):
    """`score` with weights equals `score` of the repeated rows."""
    X, weight, repeated = weighted_rows
    model = type(model)(**MINIBATCHES).fit(X)
    weighted = model.score(X, sample_weight=weight)
    assert weighted == pytest.approx(model.score(repeated), rel=1e-12)
    assert weighted != pytest.approx(model.score(X), rel=1e-4)


def row_functions(model):
    """Return all methods with one result per row, by name, as functions of X."""
    functions = {
        "transform": model.transform,
        "reconstruct": model.reconstruct,
        "inverse_transform": lambda X: model.inverse_transform(X[:, : model.n_components]),
        "score_samples": model.score_samples,
    }
    if isinstance(model, VariationalAutoencoder):
        functions |= {
            "posterior mean": lambda X: model.posterior(X)[0],
            "posterior std": lambda X: model.posterior(X)[1],
            "elbo": model.elbo,
            "log_marginal": lambda X: model.log_marginal(X, n_samples=20),
            # The number of draws is chosen for each row.
            "with tol": lambda X: model.log_marginal(X, n_samples=4, tol=0.05),
        }
    return functions


@pytest.mark.parametrize("model", every_model(**MINIBATCHES), ids=name_of)
def test_result_of_a_row_does_not_depend_on_other_rows(model):
    """The result of a row is the same alone, in any order and in any chunk."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2500, 5)) * [1, 5, 0.2, 1, 1]
    model.fit(X[:200])
    order = rng.permutation(len(X))
    some = [0, 1023, 1024, 1500, 2499]
    for name, function in row_functions(model).items():
        whole = function(X)
        assert len(whole) == len(X), name
        size = np.abs(whole).max()
        np.testing.assert_allclose(
            function(X[order]), whole[order], rtol=1e-9, atol=1e-12 * size, err_msg=name
        )
        for i in some:
            np.testing.assert_allclose(
                function(X[i : i + 1])[0],
                whole[i],
                rtol=1e-9,
                atol=1e-12 * size,
                err_msg=name,
            )


@pytest.mark.filterwarnings(
    "ignore:The bound of .* is not within tol:sklearn.exceptions.ConvergenceWarning"
)
# Without the variance modes, which have no part in the dtype: each class and likelihood.
@pytest.mark.parametrize(
    "model",
    [
        VariationalAutoencoder(**MINIBATCHES),
        *(m for m in every_model(**MINIBATCHES) if m.variance_mode == "predicted"),
    ],
    ids=name_of,
)
def test_dtype_follows_the_input(model, X):
    """The output has the dtype float32 for float32 input, and float64 otherwise."""
    train = X
    # Few rows: far from the others, as those of integers are, a bound has many draws.
    X = train[:15]
    as_float32 = X.astype(np.float32)
    as_int = np.round(10 * X).astype(np.int64)
    model.fit(train)
    for name, function in row_functions(model).items():
        precise, single = function(X), function(as_float32)
        assert (precise.dtype, single.dtype) == (np.float64, np.float32), name
        assert function(as_int).dtype == np.float64, name
        size = np.abs(precise).max()
        np.testing.assert_allclose(single, precise, rtol=1e-3, atol=1e-4 * size)
    assert isinstance(model.score(as_float32), float)
    # The dtype of the training data does not matter.
    model.fit(train.astype(np.float32))
    for name, function in row_functions(model).items():
        assert function(X).dtype == np.float64, name
        assert function(as_float32).dtype == np.float32, name
