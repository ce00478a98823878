"""Tests of continued fits and of refused refits."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from torch import nn

from skae import VariationalAutoencoder
from skae.networks import MLP
from tests.helpers import Recording, answers, every_estimator, ignore_floor, weights


@every_estimator
def test_warm_start_continues(estimator, X):
    """A warm start continues the training and the history of the last fit."""
    model = estimator(max_iter=4, warm_start=True, random_state=0).fit(X)
    assert model.n_iter_ == 4  # the first fit is an ordinary fit
    assert weights(model) == weights(estimator(max_iter=4, random_state=0).fit(X))
    first, codes = list(model.loss_curve_), model.transform(X)
    # With a negligible learning rate, the codes are those of the start.
    model.set_params(max_iter=3, learning_rate_init=1e-12).fit(X)
    np.testing.assert_allclose(model.transform(X), codes, rtol=1e-5, atol=1e-6)
    assert model.n_iter_ == 7
    assert model.loss_curve_[:4] == first
    assert len(model.loss_curve_) == 7
    assert {len(values) for values in model.history_.values()} == {7}
    model.set_params(warm_start=False).fit(X)
    assert model.n_iter_ == 3


@every_estimator
def test_warm_start_improves_the_score(estimator, X):
    """A second round of training improves the score."""
    model = estimator(max_iter=20, alpha=1.0, warm_start=True, random_state=0).fit(X)
    once = model.score(X)
    assert model.fit(X).score(X) > once + 0.01


@pytest.mark.filterwarnings("ignore:warm_start=True keeps the standardisation:UserWarning")
@every_estimator
def test_warm_start_keeps_the_units_of_the_first_data(estimator, X):
    """Steps of next to nothing on data of another size leave codes and locations alone."""
    model = estimator(max_iter=4, warm_start=True, random_state=0).fit(X)
    codes, reconstruction = model.transform(X), model.reconstruct(X)
    model.set_params(max_iter=1, learning_rate_init=1e-12).fit(3 * X[:60] + 5)
    np.testing.assert_allclose(model.transform(X), codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(X), reconstruction, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variance_mode", ["optimal", "learned"])
def test_a_continued_fit_is_judged_by_its_own_beta(variance_mode, X):
    """Training lowers 20 KL - log-likelihood, though it lowers the ELBO as well."""

    def terms(model):
        mean, std = model.posterior(X)
        kl = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).sum(axis=1).mean()
        return model.score(X) + kl, kl

    model = VariationalAutoencoder(
        hidden_layer_sizes=(), variance_mode=variance_mode, max_iter=20, random_state=0
    )
    log_likelihood, kl = terms(model.fit(X))
    model.set_params(warm_start=True, beta=20.0, max_iter=100).fit(X)
    new_log_likelihood, new_kl = terms(model)
    assert new_log_likelihood - new_kl < log_likelihood - kl - 0.5
    assert new_log_likelihood - 20 * new_kl > log_likelihood - 20 * kl + 5


@every_estimator
@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({"n_components": 3}, 6, "warm_start=True continues from the last fit"),
        ({"hidden_layer_sizes": (7,)}, 6, "warm_start=True continues from the last fit"),
        ({"variance_mode": "learned"}, 6, "warm_start=True continues from the last fit"),
        ({"covariance_type": "diag"}, 6, "warm_start=True continues from the last fit"),
        ({}, 5, "X has 5 features, but .* is expecting 6 features"),
    ],
    ids=["n_components", "network", "variance_mode", "covariance_type", "width of X"],
)
def test_warm_start_refuses_another_model(estimator, change, columns, message, X):
    """A warm start with another model is refused, and the last fit stays usable."""
    model = estimator(max_iter=3, warm_start=True, random_state=0).fit(X)
    expected = answers(model, X)
    with pytest.raises(ValueError, match=message):
        model.set_params(**change).fit(X[:, :columns])
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert model.n_iter_ == 3
    model.set_params(warm_start=False).fit(X[:, :columns])
    assert model.n_features_in_ == columns


@every_estimator
@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({"n_components": -1}, np.ones((30, 6))),
        ({"early_stopping": True, "validation_fraction": 0.99}, np.ones((30, 8))),
        ({"variance_mode": "fixed", "scale": -np.ones(8)}, np.eye(8)),
        ({"hidden_layer_sizes": (0,)}, np.eye(8)),
        ({}, np.full((30, 8), np.nan)),
    ],
    ids=["parameter", "too few rows", "scale", "network", "data"],
)
def test_refused_refit_leaves_the_fit(estimator, change, data, X):
    """A refused refit changes nothing of the last fit."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    expected = answers(model, X)
    with pytest.raises(ValueError):  # noqa: PT011  (test_bad_input.py tests the messages)
        model.set_params(**change).fit(data)
    assert (model.n_features_in_, model.n_components_) == (6, 2)
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("is_validated_first", [True, False])
def test_columns_of_one_fit_only_are_padded(is_validated_first, X):
    """A column that only one of two fits records is NaN in the epochs of the other."""
    model = VariationalAutoencoder(2, max_iter=3, warm_start=True, random_state=0)
    for is_validated in (is_validated_first, not is_validated_first):
        model.set_params(gradient_balance=is_validated)
        model.fit(X, X_val=X[:20] if is_validated else None)
    missing = [False, True] if is_validated_first else [True, False]
    for name in ("validation_score", "grad_kl_outputs"):
        is_missing = np.isnan(model.history_[name])
        np.testing.assert_array_equal(is_missing, np.repeat(missing, 3), err_msg=name)
    for name in ("objective", "kl", "active_units", "scale"):
        assert np.isfinite(model.history_[name]).all(), name
        assert len(model.history_[name]) == 6, name


# At a constant learning rate


@ignore_floor
@every_estimator
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"variance_mode": "learned", "covariance_type": "diag"},
        {"early_stopping": True},
        {"init": "random", "random_state": None},
        {"network": MLP((5,), dropout=0.2)},
        {"precision": "float64", "batch_size": 17},
    ],
    ids=lambda parameters: "-".join(parameters) or "defaults",
)
def test_n_epochs_and_m_more_equal_n_plus_m(estimator, parameters, X):
    """To the bit: moments, running scale, random numbers and patience go on."""
    common = {"learning_rate": "constant", "random_state": 0, "n_iter_no_change": 50}
    model = estimator(**common | parameters, warm_start=True, max_iter=4)
    for n in (4, 3, 6):
        model.set_params(max_iter=n).fit(X)
    assert model.n_iter_ == 13
    if parameters.get("random_state", 0) is None:
        return
    whole = estimator(**common | parameters, max_iter=13).fit(X)
    assert weights(model) == weights(whole)
    assert (model.loss_curve_, model.best_iter_) == (whole.loss_curve_, whole.best_iter_)


def test_a_pickled_model_goes_on(X):
    """The state of the training is in pickles and copies, as numpy arrays."""
    model = VariationalAutoencoder(
        learning_rate="constant", warm_start=True, random_state=0, max_iter=5
    ).fit(X)
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert weights(other.fit(X)) == weights(model.fit(X))
    assert other.n_iter_ == 10


def test_an_interrupted_fit_goes_on(X):
    """After an interrupt, the epochs that are whole count."""
    model = VariationalAutoencoder(
        learning_rate="constant", warm_start=True, random_state=0, max_iter=9
    )
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(Recording(raise_at_begin=(5, KeyboardInterrupt()))).fit(X)
    assert model.n_iter_ == 4
    model.set_callbacks().set_params(max_iter=3).fit(X)
    whole = clone(model).set_callbacks().set_params(max_iter=7).fit(X)
    assert weights(model) == weights(whole)


@pytest.mark.parametrize(
    "changed", [{"beta": 2.0}, {"learning_rate_init": 1e-3}, {"learning_rate": "cosine"}]
)
def test_other_parameters_begin_a_new_training(changed, X):
    """It begins with the model of the last fit, and so with another state of Adam."""
    model = VariationalAutoencoder(
        learning_rate="constant", warm_start=True, random_state=0, max_iter=4
    ).fit(X)
    other = copy.deepcopy(model).set_params(**changed)
    other._training_state = None
    model.set_params(**changed)
    assert weights(model.fit(X)) == weights(other.fit(X))
    assert model.n_iter_ == 8


def test_earlier_trainings_stay_in_the_history(X):
    """Those with another rate, too, and the best epoch counts from the first of all."""
    model = VariationalAutoencoder(warm_start=True, random_state=0, max_iter=20).fit(X)
    first, found = list(model.loss_curve_), []
    model.set_params(learning_rate="constant", max_iter=5)
    for _ in range(3):
        model.fit(X)
        found.append((model.n_iter_, model.best_iter_, len(model.history_["kl"])))
    assert [(n, rows) for n, _, rows in found] == [(25, 25), (30, 30), (35, 35)]
    assert all(best in (20, n) for n, best, _ in found)
    assert model.loss_curve_[:20] == first


@pytest.mark.parametrize("where", ["raise_at_begin", "raise_at_end"])
def test_an_interrupt_leaves_model_and_training_at_one_epoch(where, X):
    """Also if it comes after the last step of an epoch."""
    model = VariationalAutoencoder(
        learning_rate="constant", warm_start=True, random_state=0, max_iter=9
    )
    recording = Recording(**{where: (4, KeyboardInterrupt())})
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(recording).fit(X)
    assert model.n_iter_ == 3
    model.set_callbacks().set_params(max_iter=6).fit(X)
    whole = clone(model).set_callbacks().set_params(max_iter=9).fit(X)
    assert model.loss_curve_ == whole.loss_curve_
    assert weights(model) == weights(whole)


class Plain(BaseEstimator):
    """A network of a user, whose ``repr`` is an address."""

    __repr__ = object.__repr__

    def encoder(self, n_features, n_outputs):
        return nn.Linear(n_features, n_outputs)

    def decoder(self, n_components, n_outputs):
        return nn.Linear(n_components, n_outputs)


def test_a_network_is_compared_by_its_content(X):
    """A copy of it, from a pickle for example, is the same network."""
    model = VariationalAutoencoder(
        network=Plain(), warm_start=True, random_state=0, max_iter=2
    ).fit(X)
    other = pickle.loads(pickle.dumps(model)).set_params(network=Plain()).fit(X)
    assert other.n_iter_ == 4


def test_other_data_begin_a_new_training(X):
    """The moments of Adam are those of other rows."""
    model = VariationalAutoencoder(
        learning_rate="constant", warm_start=True, random_state=0, max_iter=4
    ).fit(X)
    other = copy.deepcopy(model)
    other._training_state = None
    assert weights(model.fit(X[:70])) == weights(other.fit(X[:70]))


def test_a_plateau_ends_a_constant_rate(X):
    """Without a cooldown, and also a warm start has nothing left to train."""
    model = VariationalAutoencoder(
        learning_rate="constant", warm_start=True, random_state=0,
        max_iter=100, tol=1.0, n_iter_no_change=3,
    ).fit(X)  # fmt: skip
    n_iter = model.n_iter_
    assert n_iter < 20
    before = weights(model)
    model.fit(X)
    assert model.n_iter_ == n_iter
    assert weights(model) == before


def test_a_constant_rate_is_constant(X):
    """Epochs do not depend on how many are planned."""
    fits = [
        VariationalAutoencoder(
            learning_rate="constant", random_state=0, max_iter=n, n_iter_no_change=n
        ).fit(X)
        for n in (5, 9)
    ]
    assert fits[0].loss_curve_ == fits[1].loss_curve_[:5]
    with pytest.raises(ValueError, match="'learning_rate' parameter"):
        VariationalAutoencoder(learning_rate="adaptive").fit(X)
