"""Tests of the values that `history_` records for each epoch."""

import numpy as np
import pytest
import scipy.stats
import torch

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.helpers import Recording, every_model, models_in_turns
from tests.likelihoods.references import scipy_of


@every_model
def test_history(likelihood, variance_mode, covariance_type, X):
    """One finite number per epoch and name."""
    model = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        beta=3.0,
        max_iter=5,
        random_state=0,
    ).fit(X, X_val=X[:20])
    history = model.history_
    expected = {"objective", "log_likelihood", "kl", "beta", "active_units"}
    expected |= {"validation_score"}
    if variance_mode != "predicted":
        expected |= {"scale"}
        assert (history["scale"] > 0).all()
    assert history.keys() == expected
    for name, values in history.items():
        assert isinstance(values, np.ndarray), name
        assert values.shape == (5,), name
        assert np.isfinite(values).all(), name
    np.testing.assert_array_equal(history["beta"], 3.0)
    assert set(history["active_units"]) <= {0, 1, 2}


def optimal_log_likelihood(likelihood, deviation, axis):
    """Mean log-density at the optimal scale of groups of residuals, summed over features.

    The deviations are squares (Gaussian) or absolute values (Laplace); a group are those
    along `axis`, and its mean deviation is the variance or the scale itself.
    """
    mean = deviation.mean(axis=axis)
    if likelihood == "gaussian":
        of_a_feature = -0.5 * (np.log(2 * np.pi * mean) + 1)
    else:
        of_a_feature = -(np.log(2 * mean) + 1)
    return deviation.shape[-1] * of_a_feature.mean()


def expected_log_likelihood(model, X, draws):
    """Mean over rows and draws of the log-density that a step of training maximises."""
    mean, std = model.posterior(X)
    Z = (mean + std * draws[:, None]).reshape(-1, mean.shape[1])
    residual = X - model.inverse_transform(Z).reshape(len(draws), *X.shape)
    if model.variance_mode in ("optimal", "profile"):
        power = {"gaussian": 2, "laplace": 1}[model.likelihood]
        # One group for each scale: of a feature, of all features, or of a row.
        axis = (0, 1) if model.covariance_type == "diag" else (0, 1, 2)
        axis = (0, 2) if model.variance_mode == "profile" else axis
        return optimal_log_likelihood(model.likelihood, np.abs(residual) ** power, axis)
    scale = model.scale_
    if scale is None:
        module, unit = model.module_, X.std(axis=0)
        if model.covariance_type == "spherical":
            unit = np.sqrt(np.mean(unit**2))
        _, outputs = module.decode(torch.tensor(Z, dtype=torch.float32))
        outputs = outputs[:, : module.scale.n_outputs]
        scale = module.scale.log_scale(outputs).exp().detach().numpy() * unit
    residual = residual.reshape(len(Z), -1)
    distribution, mean = scipy_of(model, Z)
    return distribution.logpdf(residual + scale * mean, scale=scale).sum(axis=-1).mean()


@models_in_turns
def test_numbers_of_an_epoch_recomputed(likelihood, variance_mode, covariance_type, X):
    """With one batch for an epoch they are of the model that the epoch before left.

    The callback's models give the posteriors and reconstructions, of which the KL is the
    closed form and the log-likelihood the mean over draws of the test's own.
    """
    seen = Recording()
    model = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        scale=3.0 if variance_mode == "fixed" else 1.0,
        beta=3.0,
        n_mc_samples=200,
        init="random",
        batch_size=120,
        # So that the epochs differ.
        learning_rate_init=0.05 if likelihood == "mixture" else 0.02,
        max_iter=4,
        random_state=0,
    )
    model.set_callbacks(seen).fit(X)
    history = model.history_
    uniform = scipy.stats.qmc.Sobol(2, seed=0).random(512)
    draws = scipy.stats.norm.ppf(uniform)
    log_likelihood, kl = np.empty(3), np.empty((3, 2))
    for epoch, snapshot in enumerate(seen.fitted[:3]):
        mean, std = snapshot.posterior(X)
        kl[epoch] = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).mean(axis=0)
        log_likelihood[epoch] = expected_log_likelihood(snapshot, X, draws)
    # The 24,000 draws of a step leave an error of about 0.01.
    close = {"rtol": 0, "atol": 0.05}
    assert np.ptp(log_likelihood) > 0.1  # else the order of the epochs is not tested
    np.testing.assert_allclose(history["log_likelihood"][1:], log_likelihood, **close)
    np.testing.assert_allclose(history["kl"][1:], kl.sum(axis=1), rtol=1e-4)
    expected = 3.0 * kl.sum(axis=1) - log_likelihood
    np.testing.assert_allclose(history["objective"][1:], expected, **close)
    np.testing.assert_array_equal(history["active_units"][1:], (kl > 0.01).sum(axis=1))
    # The scale is that of the model that the epoch itself left.
    if variance_mode != "predicted":
        scale = [scipy.stats.gmean(np.ravel(s.scale_)) for s in seen.fitted[:4]]
        np.testing.assert_allclose(history["scale"], scale, rtol=1e-6)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize(
    ("estimator", "density"),
    [(GaussianAutoencoder, scipy.stats.norm), (LaplaceAutoencoder, scipy.stats.laplace)],
)
def test_log_likelihood_is_the_mean_over_weighted_batches(
    estimator, density, covariance_type, X
):
    """With tiny steps, each batch has the optimal scale of its own residuals."""
    weight = np.random.default_rng(0).choice([0.125, 0.25, 1.0], 120)
    model = estimator(
        covariance_type=covariance_type,
        batch_size=40,
        shuffle=False,
        max_iter=1,
        learning_rate_init=1e-12,
        random_state=0,
    ).fit(X, sample_weight=weight)
    deviation = np.abs(X - model.reconstruct(X))
    power = 2 if estimator is GaussianAutoencoder else 1
    of_batches, scales = [], []
    for batch in np.split(np.arange(120), 3):
        w = weight[batch]
        mean = np.average(deviation[batch] ** power, axis=0, weights=w)
        if covariance_type == "spherical":
            mean = mean.mean()
        scale = mean ** (1 / power)
        log_prob = density.logpdf(deviation[batch], scale=scale).sum(axis=1)
        # A batch counts by the weight of its rows.
        of_batches.append((w * log_prob).sum() / (40 * weight.mean()))
        scales.append(scale)
    assert np.ptp(scales, axis=0).max() > 0.02
    expected = np.mean(of_batches)
    assert model.history_["log_likelihood"] == pytest.approx(expected, rel=1e-5)
    assert model.history_["objective"] == pytest.approx(-expected, rel=1e-5)


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
def test_history_of_deterministic_autoencoders(estimator, X):
    """Without KL and beta, the objective is minus the log-likelihood."""
    history = estimator(max_iter=3, random_state=0).fit(X).history_
    assert history.keys() == {"objective", "log_likelihood", "scale"}
    np.testing.assert_array_equal(history["objective"], -history["log_likelihood"])


def test_history_is_in_the_units_of_the_data(X):
    """Data times 4 give the same fit, with 4 times the scale and 4**-6 the density."""
    small = VariationalAutoencoder(max_iter=3, random_state=0).fit(X, X_val=X)
    large = VariationalAutoencoder(max_iter=3, random_state=0).fit(4 * X, X_val=4 * X)
    shift = 6 * np.log(4)
    for name in ("log_likelihood", "validation_score"):
        np.testing.assert_allclose(
            large.history_[name], small.history_[name] - shift, rtol=1e-9
        )
    np.testing.assert_allclose(
        large.loss_curve_, np.add(small.loss_curve_, shift), rtol=1e-9
    )
    np.testing.assert_allclose(large.history_["scale"], 4 * small.history_["scale"])
    np.testing.assert_array_equal(large.history_["kl"], small.history_["kl"])


def test_kl_of_probabilistic_pca():
    """Half the logarithm of eigenvalue over noise for each component, in closed form.

    The mean KL of a component is (v + m - 1 - log v) / 2 with v the variance of the
    posterior and m the mean square of its mean, and v + m = 1 at the maximum likelihood.
    """
    kl = np.array([0.5, 0.02, 0.005])  # two components above 0.01 nats, and one below
    noise = 1.7
    rows = np.random.default_rng(0).normal(size=(200, 8))
    white = np.sqrt(200) * np.linalg.qr(rows - rows.mean(axis=0))[0]
    X = np.sqrt(noise) * white * np.exp([*kl, *5 * [0.0]])
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, ddof=0))[::-1] / noise
    np.testing.assert_allclose(np.log(eigenvalues[:3]) / 2, kl, rtol=1e-9)
    model = VariationalAutoencoder(
        3,
        hidden_layer_sizes=(),
        batch_size=200,
        max_iter=1,
        learning_rate_init=1e-12,
        random_state=0,
    ).fit(X)
    assert model.history_["kl"] == pytest.approx(kl.sum(), rel=1e-4)
    assert model.history_["active_units"] == 2


def test_active_units_counts_the_components_in_use():
    """Of 4 components, 2 are active on data with 2 strong directions."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(300, 2)) * 5
    X = np.column_stack([Z, np.zeros((300, 3))]) + 0.1 * rng.normal(size=(300, 5))
    model = VariationalAutoencoder(
        4, hidden_layer_sizes=(), beta=2.0, max_iter=100, random_state=0
    ).fit(X)
    assert model.history_["active_units"][-1] == 2
    assert (model.posterior(X)[0].var(axis=0) > 0.1).sum() == 2


@pytest.mark.parametrize("variance_mode", ["optimal", "profile"])
def test_validation_data_change_no_other_column(variance_mode, X):
    """A validation score needs a final scale; the running scale is restored after it."""
    parameters = {"variance_mode": variance_mode, "max_iter": 6, "random_state": 0}
    plain = VariationalAutoencoder(**parameters).fit(X[:80]).history_
    validated = VariationalAutoencoder(**parameters).fit(X[:80], X_val=X[80:]).history_
    assert validated.keys() - plain.keys() == {"validation_score"}
    for name, values in plain.items():
        np.testing.assert_array_equal(validated[name], values, err_msg=name)
