"""Tests of batch sizes, precision, penalty, start and networks."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.networks import MLP
from tests.helpers import assert_finite, every_estimator, weights
from tests.surroundings import nothing_global_changes


@every_estimator
def test_batch_sizes(estimator, X):
    """Batches of any size work, and "auto" has the documented size."""

    def fit(batch_size, n=120, max_iter=2):
        model = estimator(batch_size=batch_size, max_iter=max_iter, random_state=0)
        return model.fit(np.resize(X, (n, 6)) + np.arange(n)[:, None] * 0.01)

    for batch_size in (1, 7, 119, 120):
        model = fit(batch_size)
        assert model.n_iter_ == 2
        assert_finite(model, X)
    assert fit(120).loss_curve_ == fit(10_000).loss_curve_ != fit(60).loss_curve_
    # "auto" is an eighth of the rows as a power of 2, between 64 and 1,024.
    for n, automatic in ((120, 64), (2000, 256)):
        losses = fit(automatic, n, max_iter=1).loss_curve_
        assert fit("auto", n, max_iter=1).loss_curve_ == losses
        assert fit(2 * automatic, n, max_iter=1).loss_curve_ != losses


@every_estimator
@pytest.mark.parametrize("batch_size", [8, 40])
def test_rows_beyond_whole_batches(estimator, batch_size, X):
    """A row beyond whole batches is used in training, and the model is finite."""
    for n in (batch_size * 2 + 1, batch_size + 1, batch_size):
        model = estimator(batch_size=batch_size, max_iter=3, random_state=0).fit(X[:n])
        assert_finite(model, X)
        less = clone(model).fit(X[: n - 1])
        assert less.loss_curve_ != model.loss_curve_


@every_estimator
def test_one_epoch(estimator, X):
    """A fit with `max_iter=1` has one epoch and is finite."""
    model = estimator(max_iter=1, random_state=0).fit(X)
    assert model.n_iter_ == 1
    assert_finite(model, X)


@every_estimator
def test_precision(estimator, X):
    """`precision` sets the dtype of the parameters; the score changes by rounding only."""
    single = estimator(max_iter=3, random_state=0).fit(X)
    double = estimator(max_iter=3, random_state=0, precision="float64").fit(X)
    dtypes = [{t.dtype for t in m.module_.state_dict().values()} for m in (single, double)]
    assert dtypes == [{torch.float32}, {torch.float64}]
    explicit = estimator(max_iter=3, random_state=0, precision="float32").fit(X)
    assert weights(explicit) == weights(single)
    # Larger steps let the rounding grow to 2e-3 of the score within these three epochs. The
    # noise of the variational estimator depends on the precision.
    if estimator is not VariationalAutoencoder:
        assert double.score(X) == pytest.approx(single.score(X), rel=5e-3)
    assert double.transform(X.astype(np.float32)).dtype == np.float32


@every_estimator
def test_lower_precision(estimator, X):
    """Training in "bf16" or "tf32" keeps float32 parameters, with a similar score."""
    exact = estimator(max_iter=10, random_state=0, precision="float32").fit(X)
    with nothing_global_changes():
        low = estimator(max_iter=10, random_state=0, precision="bf16").fit(X)
        tf32 = estimator(max_iter=10, random_state=0, precision="tf32").fit(X)
    for model in (low, tf32):
        assert {t.dtype for t in model.module_.state_dict().values()} == {torch.float32}
        assert model.score(X) == pytest.approx(exact.score(X), abs=0.5)
    assert weights(low) != weights(exact)
    # A CPU has no TF32.
    if exact.device_ == "cpu":
        assert weights(tf32) == weights(exact)


def test_large_penalty_gives_the_linear_model(X):
    """The networks shrink as `alpha` grows, and with a huge `alpha` the model is PCA."""
    parameters = {"max_iter": 150, "n_iter_no_change": 150, "learning_rate_init": 0.01}
    parameters["random_state"] = 0
    free, light, heavy, linear = (
        GaussianAutoencoder(2, alpha=alpha, **parameters).fit(X)
        for alpha in (0, 1, 10, 1e7)
    )

    def size(model):
        networks = (model.module_.encoder, model.module_.decoder)
        matrices = [p for net in networks for p in net.parameters() if p.ndim > 1]
        return sum(float(matrix.square().sum()) for matrix in matrices)

    assert size(free) > 1.5 * size(light) > 1.5**2 * size(heavy)
    assert free.score(X) > light.score(X) > heavy.score(X) > linear.score(X)
    pca = PCA(2).fit(X)
    error = X - pca.inverse_transform(pca.transform(X))
    expected = -3 * (np.log(2 * np.pi * (error**2).mean()) + 1)
    assert linear.score(X) == pytest.approx(expected, abs=1e-3)


def test_penalty_balances_the_likelihood(X):
    """At the optimum the gradient of the mean log-density is `alpha / n` times a weight."""
    X, alpha, scale = X[:40], 0.5, 0.5
    model = GaussianAutoencoder(
        hidden_layer_sizes=(4,),
        activation="tanh",
        alpha=alpha,
        variance_mode="fixed",
        scale=scale,
        batch_size=40,
        max_iter=1000,
        n_iter_no_change=1000,
        learning_rate_init=0.02,
        precision="float64",
        random_state=0,
    ).fit(X)
    module = copy.deepcopy(model.module_).requires_grad_(True)
    centered, unit = X - X.mean(axis=0), np.sqrt(X.var(axis=0).mean())
    loc, _ = module.decode(module.encode(torch.tensor(centered / X.std(axis=0))))
    density = torch.distributions.Normal(loc * unit, scale)
    density.log_prob(torch.tensor(centered)).sum(dim=1).mean().backward()
    matrices = [
        p
        for net in (module.encoder, module.decoder)
        for p in net.parameters()
        if p.ndim > 1
    ]
    assert len(matrices) == 4
    for weight in matrices:
        # The factor of the weight in its gradient, by least squares; for the last layer in
        # units of what PCA leaves of each feature.
        unit = module.loc_penalty[:, None] if weight is matrices[-1] else 1.0
        factor = (weight.grad * weight).sum() / (unit * weight.square()).sum()
        assert factor.item() == pytest.approx(alpha / len(X), rel=0.05)


@every_estimator
def test_random_start(estimator, X):
    """`init="random"` starts below PCA, and exceeds the start at PCA after training."""
    pca, random = (
        estimator(init=init, max_iter=1, learning_rate_init=1e-9, random_state=0).fit(X)
        for init in ("pca", "random")
    )
    assert pca.score(X) > random.score(X) + 1
    trained = estimator(
        init="random", max_iter=300, learning_rate_init=0.01, random_state=0
    )
    assert trained.fit(X).score(X) > pca.score(X)


@every_estimator
def test_networks_by_name_and_by_object(estimator, X):
    """`network="mlp"` with its two parameters equals an MLP object with these."""
    by_name = estimator(
        hidden_layer_sizes=[9, 5], activation="tanh", max_iter=3, random_state=0
    ).fit(X)
    by_object = estimator(
        network=MLP((9, 5), activation="tanh"), max_iter=3, random_state=0
    ).fit(X)
    assert weights(by_name) == weights(by_object)
    an_int = estimator(hidden_layer_sizes=9, max_iter=3, random_state=0).fit(X)
    a_tuple = estimator(hidden_layer_sizes=(9,), max_iter=3, random_state=0).fit(X)
    assert weights(an_int) == weights(a_tuple) != weights(by_name)
