"""Tests of validation scores and of the choice of an epoch by them."""

import numpy as np
import pytest
import scipy.stats
from sklearn.base import clone

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.helpers import Recording, every_estimator, weights


@pytest.fixture
def noisy():
    """Return training and validation rows that a large network soon overfits."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(140, 2)) @ rng.normal(size=(2, 15)) + rng.normal(size=(140, 15))
    return X[:40], X[40:]


OVERFIT = {
    "n_components": 4,
    "hidden_layer_sizes": (128,),
    "learning_rate_init": 0.02,
    "batch_size": 32,
    "alpha": 1.0,
    "max_iter": 60,
    "random_state": 0,
}


@every_estimator
def test_early_stopping_restores_the_best(estimator, noisy):
    """The fit returns the best epoch, whose score is well above that of the last epoch."""
    X, X_val = noisy
    recorded = estimator(**OVERFIT).fit(X, X_val=X_val).history_["validation_score"]
    assert recorded[-1] < recorded.max() - 1  # the last epoch is clearly worse
    model = estimator(early_stopping=True, n_iter_no_change=5, **OVERFIT)
    model.fit(X, X_val=X_val)
    validation = model.history_["validation_score"]
    assert model.n_iter_ < 60
    assert model.score(X_val) >= validation.max() - 0.5
    # Both fits have the same first epoch.
    assert validation[0] == recorded[0]


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
def test_small_steps_begin_at_the_best_epoch(estimator, noisy):
    """After a plateau training goes back to the best model, and cools down from there."""
    X, X_val = noisy
    model = estimator(early_stopping=True, n_iter_no_change=15, **OVERFIT)
    validation = model.fit(X, X_val=X_val).history_["validation_score"]
    assert model.n_iter_ < 60
    # The last epochs of the plateau, and the first of the 15 that follow.
    *plateau, small_steps = validation[-20:-14]
    assert small_steps - plateau[-1] > 2 * np.abs(np.diff(plateau)).max()


@every_estimator
def test_early_stopping_sets_rows_aside(estimator, X):
    """Early stopping sets rows aside, chosen by `random_state`, and does not fit them."""
    model = estimator(early_stopping=True, max_iter=3, random_state=0).fit(X)
    assert model.history_["validation_score"].shape == (3,)
    everything = estimator(max_iter=3, random_state=0).fit(X)
    assert "validation_score" not in everything.history_
    assert weights(everything) != weights(model)
    # The random state determines which rows are set aside.
    other = estimator(early_stopping=True, max_iter=3, random_state=1).fit(X)
    first = model.history_["validation_score"][0]
    assert other.history_["validation_score"][0] != pytest.approx(first, rel=1e-3)


def test_rows_set_aside_do_not_change_the_mean(X):
    """The mean of a feature is that of the training rows only."""
    X = X.copy()
    model = GaussianAutoencoder(
        early_stopping=True, validation_fraction=0.25, max_iter=1, random_state=0
    ).fit(X)
    location = model.inverse_transform(np.zeros((1, 2)))
    moved = []
    for i in range(0, 120, 6):
        other = X.copy()
        other[i] += 1e-3
        refit = clone(model).fit(other)
        moved.append(
            not np.array_equal(refit.inverse_transform(np.zeros((1, 2))), location)
        )
    # Some of the 20 rows were set aside, and some were not.
    assert 0 < sum(moved) < 20


@every_estimator
def test_validation_data_without_early_stopping_are_recorded(estimator, X):
    """Without early stopping, validation data are scored and change nothing else."""
    X_fit, X_val = X[:80], X[80:]
    model = estimator(max_iter=6, random_state=0).fit(X_fit, X_val=X_val)
    plain = estimator(max_iter=6, random_state=0).fit(X_fit)
    assert weights(model) == weights(plain)
    assert model.loss_curve_ == plain.loss_curve_
    assert model.history_["validation_score"].shape == (6,)
    assert "validation_score" not in plain.history_


@every_estimator
def test_recorded_validation_score_is_the_score(estimator, X):
    """The last recorded validation score is the score of the fitted model."""
    X_fit, X_val = X[:80], X[80:]
    model = estimator(variance_mode="learned", max_iter=20, random_state=0)
    model.fit(X_fit, X_val=X_val)
    # The recorded score of the variational model averages over fewer draws.
    tolerance = 0.02 if estimator is VariationalAutoencoder else 1e-3
    recorded = model.history_["validation_score"]
    assert model.score(X_val) == pytest.approx(recorded[-1], abs=tolerance)
    assert abs(recorded[0] - recorded[-1]) > 5 * tolerance
    # During training a closed-form scale is a running mean.
    model.set_params(variance_mode="optimal").fit(X_fit, X_val=X_val)
    recorded = model.history_["validation_score"]
    assert model.score(X_val) == pytest.approx(recorded[-1], abs=0.5)


@every_estimator
def test_validation_score_counts_sample_weights(estimator, X):
    """The recorded score is the weighted mean of `score_samples` over the rows set aside.

    The rows set aside are those that may move without moving the weighted mean of the
    training rows, at which the decoder of the start places the code 0.
    """
    X = X[:40]
    weight = np.random.default_rng(0).choice([0.01, 0.1, 1.0], len(X))
    start = estimator(
        hidden_layer_sizes=(),
        max_iter=1,
        learning_rate_init=1e-12,
        early_stopping=True,
        validation_fraction=0.25,
        shuffle=False,  # else the order of the rows depends on their values
        precision="float64",
        random_state=0,
    )

    def center(rows):
        model = clone(start).fit(rows, sample_weight=weight)
        return model.inverse_transform(np.zeros((1, 2)))

    before, row = center(X), np.eye(len(X))[:, :, None]
    # The smallest weight of a training row moves that mean by more than 1e-4.
    moves = np.abs([center(X + one) - before for one in row]).max(axis=(1, 2))
    aside = moves < 1e-6
    assert aside.sum() == 10
    model = clone(start).fit(X, sample_weight=weight)
    scores = model.score_samples(X[aside])
    expected = np.average(scores, weights=weight[aside])
    assert abs(expected - scores.mean()) > 0.1  # else this test shows nothing
    assert model.history_["validation_score"] == pytest.approx(expected, rel=1e-6)


def epochs_of(model, X):
    """The models that a callback receives after each epoch, and the recorded scores."""
    seen = Recording()
    model.set_params(max_iter=6, init="random", learning_rate_init=0.02, random_state=0)
    model.set_callbacks(seen).fit(X[:80], X_val=X[80:])
    return seen.fitted[:6], model.history_["validation_score"]


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_validation_score_of_each_epoch_is_that_of_its_model(estimator, early_stopping, X):
    """The score of a linear model has no sampling error; beta has no part in it."""
    model = estimator(
        hidden_layer_sizes=(), variance_mode="learned", early_stopping=early_stopping
    )
    if estimator is VariationalAutoencoder:
        model.set_params(beta=3.0)
    snapshots, recorded = epochs_of(model, X)
    expected = [snapshot.score(X[80:]) for snapshot in snapshots]
    np.testing.assert_allclose(recorded, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1  # else this test shows nothing


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("estimator", "density", "power"),
    [
        (GaussianAutoencoder, scipy.stats.norm, 2),
        (LaplaceAutoencoder, scipy.stats.laplace, 1),
    ],
)
def test_validation_score_takes_the_scale_of_the_training_rows(
    estimator, density, power, early_stopping, X
):
    """The closed-form scale of each epoch is that of all residuals of the training rows."""
    snapshots, recorded = epochs_of(estimator(early_stopping=early_stopping), X)
    expected = []
    for snapshot in snapshots:
        residual = np.abs(X - snapshot.reconstruct(X))
        scale = np.mean(residual[:80] ** power) ** (1 / power)
        log_prob = density.logpdf(residual[80:], scale=scale)
        expected.append(log_prob.sum(axis=1).mean())
    np.testing.assert_allclose(recorded, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1  # else this test shows nothing


@every_estimator
def test_early_stopping_never_returns_less_than_the_start(estimator, X):
    """With far too long steps the start is the best candidate, and is returned."""
    model = estimator(
        learning_rate_init=1e3, max_iter=5, early_stopping=True, random_state=0
    ).fit(X[:90], X_val=X[90:])
    start = estimator(learning_rate_init=1e-12, max_iter=1, random_state=0).fit(X[:90])
    assert model.score(X[90:]) >= start.score(X[90:]) - 0.1
