"""The balance of the gradients, against autograd and finite differences, and in fits."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._data.feature_moments import measure
from skae._data.rows import select_rows
from skae._evaluation import choose_balance_data
from skae.model_selection import BatchedGridSearchCV
from skae.networks import MLP
from skae.objectives import ELBO, NegativeLogLikelihood, gradient_balance
from tests.families import LOCATION_SCALE, location_scale_combinations
from tests.objectives import models
from tests.objectives.models import D, K

N, DRAWS = 7, 6
KEYS = [
    f"grad_{what}_{of}"
    for of in ("outputs", "parameters")
    for what in ("reconstruction", "kl", "cosine")
]
# With larger weights, a cosine that is estimated from so few draws may be above 1.
make_module = partial(models.make_module, spread=0.25)
every_combination = pytest.mark.parametrize(
    "combination", location_scale_combinations(), ids="-".join
)


class DroppedOut(MLP):
    """Network that differs between training and evaluation."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)
        return nn.Sequential(nn.BatchNorm1d(n_features), nn.Dropout(0.5), network)


def make_batch():
    rng = np.random.default_rng(1)
    row_weight = rng.uniform(0.2, 2, size=(N, 1))
    draws = rng.normal(size=(DRAWS, N, K))
    arrays = (rng.normal(size=(N, D)), row_weight / row_weight.sum(), draws)
    return tuple(map(torch.tensor, arrays))


def expected_balance(module, objective, y, row_weight, draws, progress):
    """Compute the balance by ``backward()`` of losses, for each half of the draws."""
    module = copy.deepcopy(module).eval()
    free = ELBO(0.0, "constant", 1)
    scale = module.scale
    if scale.needs_optimal_scale:  # of all draws, without a gradient
        with torch.no_grad():
            z, _ = free.latents(module, y, draws)
            loc, outputs = module.decode(z)
            residual = module.target(y).repeat(DRAWS, 1) - loc
            constant = scale.training_log_scale(residual, outputs, row_weight)
        scale.training_log_scale = lambda residual, *_, **__: constant[: len(residual)]

    def gradient(objective, wanted, draws):
        for p in [*module.parameters(), *wanted]:
            p.grad = None
        objective.loss(module, y, row_weight, draws, progress)[0].backward()
        return torch.cat([p.grad.reshape(-1) for p in wanted]).numpy()

    def compared(wanted, weight):
        a, b = (gradient(free, wanted, half) for half in draws.chunk(2))
        kl = gradient(objective, wanted, draws) - (a + b) / 2
        norms = [math.sqrt(np.sum(a * b / weight)), math.sqrt(np.sum(kl**2 / weight))]
        return [*norms, np.sum((a + b) / 2 * kl / weight) / np.prod(norms)]

    encoder = [*module.linear_encoder.parameters(), *module.encoder.parameters()]
    parameters = compared(encoder, 1)
    heads = module.encode(y).detach().requires_grad_()
    module.encode = lambda y: heads
    # The gradient of a row's term is that of the weighted mean, over the row's weight.
    outputs = compared([heads], row_weight.repeat(1, 2 * K).reshape(-1).numpy())
    return dict(zip(KEYS, outputs + parameters, strict=True))


@every_combination
def test_equals_backward(combination):
    module, batch = make_module(combination), make_batch()
    objective = ELBO(0.7, "linear", 1)
    expected = expected_balance(module, objective, *batch, 0.2)
    actual = gradient_balance(module, objective, *batch, 0.2)
    assert list(actual) == KEYS
    for key in KEYS:
        assert actual[key] == pytest.approx(expected[key], rel=1e-9), key


@pytest.mark.parametrize("likelihood", LOCATION_SCALE)
def test_outputs_are_the_slopes_of_the_terms(likelihood):
    """The reference is finite differences, independent of autograd."""
    module = make_module((likelihood, "predicted", "diag"))
    y, row_weight, draws = make_batch()
    objective = ELBO(0.7, "constant", 1)
    heads = module.encode(y).detach()
    slopes = torch.zeros(3, N, 2 * K, dtype=torch.float64)

    def terms(heads):
        z, kl = objective.latents_of(heads, draws)
        loc, outputs = module.decode(z)
        x = module.target(y).repeat(DRAWS, 1)
        of_scale, own = outputs.tensor_split([module.scale.n_outputs], dim=1)
        likelihood, log_scale = module.spec.likelihood, module.scale.log_scale(of_scale)
        log_prob = likelihood.given(own).log_prob(x, loc, log_scale).sum(dim=1)
        by_half = -log_prob.view(2, -1, N).mean(dim=1)
        return torch.cat([by_half, 0.7 * kl.sum(dim=1)[None]])

    with torch.no_grad():
        for j in range(2 * K):
            step = torch.zeros_like(heads)
            step[:, j] = 1e-6
            slopes[:, :, j] = (terms(heads + step) - terms(heads - step)) / 2e-6
    first, second, kl = slopes
    norms = [
        (row_weight * first * second).sum().sqrt(),
        (row_weight * kl * kl).sum().sqrt(),
    ]
    cosine = (row_weight * (first + second) / 2 * kl).sum() / (norms[0] * norms[1])
    actual = gradient_balance(module, objective, y, row_weight, draws)
    found = [actual[key] for key in KEYS[:3]]
    np.testing.assert_allclose(found, [*norms, cosine], rtol=1e-6)


@every_combination
@pytest.mark.parametrize("network", [MLP((5,)), DroppedOut((5,))], ids=["mlp", "dropout"])
def test_changes_nothing_in_the_module(combination, network):
    module, batch = make_module(combination, network=network), make_batch()
    module.train()
    for p in module.parameters():
        p.grad = torch.full_like(p, 3.0)
    grads = [p.grad for p in module.parameters()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    first = gradient_balance(module, ELBO(1.0, "constant", 1), *batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(m.training for m in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]), name
    for p, grad in zip(module.parameters(), grads, strict=True):
        assert p.grad is grad
        assert bool((grad == 3).all())
    with torch.no_grad():
        again = gradient_balance(module, ELBO(1.0, "constant", 1), *batch)
    assert again == first


def test_beta_weights_the_kl_only():
    module, batch = make_module(("gaussian", "learned", "spherical")), make_batch()
    one = gradient_balance(module, ELBO(1.0, "constant", 1), *batch)
    three = gradient_balance(module, ELBO(3.0, "constant", 1), *batch)
    assert three["grad_kl_outputs"] == pytest.approx(3 * one["grad_kl_outputs"])
    assert three["grad_kl_parameters"] == pytest.approx(3 * one["grad_kl_parameters"])
    for key in set(KEYS) - {"grad_kl_outputs", "grad_kl_parameters"}:
        assert three[key] == pytest.approx(one[key])


def test_without_a_kl_there_is_no_angle():
    module, batch = make_module(("gaussian", "fixed", "spherical")), make_batch()
    none = gradient_balance(module, ELBO(0.0, "constant", 1), *batch)
    assert none["grad_kl_outputs"] == none["grad_kl_parameters"] == 0
    assert math.isnan(none["grad_cosine_outputs"])
    assert math.isnan(none["grad_cosine_parameters"])
    module = make_module(("gaussian", "fixed", "spherical"), n_heads=1)
    code = gradient_balance(module, NegativeLogLikelihood(), *batch)
    assert code["grad_reconstruction_parameters"] > 0
    assert code["grad_kl_outputs"] == 0
    assert math.isnan(code["grad_cosine_parameters"])


def test_frozen_parameters_are_left_out():
    module, batch = make_module(("gaussian", "fixed", "spherical")), make_batch()
    objective = ELBO(1.0, "constant", 1)
    whole = gradient_balance(module, objective, *batch)
    module.encoder.requires_grad_(False)
    half = gradient_balance(module, objective, *batch)
    assert 0 < half["grad_kl_parameters"] < whole["grad_kl_parameters"]
    module.requires_grad_(False)
    frozen = gradient_balance(module, objective, *batch)
    assert frozen["grad_kl_parameters"] == 0
    # The gradients of the outputs do not depend on which parameters are frozen.
    for key in KEYS[:3]:
        assert frozen[key] == half[key] == whole[key]


# ------------------------------------------------------------------------------- fits


@pytest.mark.filterwarnings("ignore:The scales? of:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "parameters",
    [
        *(
            {"likelihood": likelihood, "variance_mode": mode, "covariance_type": kind}
            for likelihood, mode, kind in location_scale_combinations()
        ),
        {"network": DroppedOut((5,)), "variance_mode": "optimal"},
        {"early_stopping": True, "n_init": 2},
        {"kl_schedule": "cyclical", "n_mc_samples": 3, "precision": "float64"},
    ],
    ids=str,
)
def test_fits_are_the_same_to_the_bit(X, parameters):
    fits = []
    for is_recorded in (False, True):
        torch.manual_seed(0)
        model = VariationalAutoencoder(
            max_iter=5, random_state=0, gradient_balance=is_recorded, **parameters
        )
        fits.append(model.fit(X))
    without, with_it = fits
    for a, b in zip(
        without.module_.state_dict().values(),
        with_it.module_.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)
    for name, values in without.history_.items():
        np.testing.assert_array_equal(values, with_it.history_[name])
    assert set(with_it.history_) - set(without.history_) == set(KEYS)
    for key in KEYS:
        assert with_it.history_[key].shape == (with_it.n_iter_,)
        assert np.isfinite(with_it.history_[key]).all()


def test_last_epoch_is_the_fitted_model(X):
    """The last record equals the balance of the fitted model on the same rows."""
    model = VariationalAutoencoder(
        variance_mode="learned", beta=0.7, max_iter=30, random_state=0,
        precision="float64", gradient_balance=True,
    ).fit(X)  # fmt: skip
    rows = select_rows(X, np.ones(len(X)), shuffle=True)
    objective = ELBO(0.7, "constant", 1)
    module = copy.deepcopy(model.module_).requires_grad_()
    data = choose_balance_data(module, objective, rows, measure(rows, "spherical"))
    for key, value in gradient_balance(module, objective, *data, 1.0).items():
        assert model.history_[key][-1] == pytest.approx(value, rel=1e-9)


def test_few_draws_are_enough(X):
    """Compare the four draws of each row with four thousand."""
    model = VariationalAutoencoder(likelihood="laplace", max_iter=20, random_state=0).fit(X)
    rows = select_rows(X, np.ones(len(X)), shuffle=True)
    objective = ELBO(1.0, "constant", 1)
    module = copy.deepcopy(model.module_).requires_grad_()
    y, row_weight, draws = choose_balance_data(
        module, objective, rows, measure(rows, "spherical")
    )
    assert draws.shape == (4, len(rows), 2)
    np.testing.assert_allclose(draws.mean(dim=0), 0, atol=1e-6)
    few = gradient_balance(module, objective, y, row_weight, draws, 1.0)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4000, len(rows), 2, generator=generator)
    many = gradient_balance(module, objective, y, row_weight, draws, 1.0)
    for key in KEYS:
        assert few[key] == pytest.approx(many[key], rel=0.15), key


def test_rows_are_subsampled():
    X = np.random.default_rng(0).normal(size=(1200, 3))
    rows = select_rows(X, np.linspace(0.5, 1.5, 1200), shuffle=True)
    model = VariationalAutoencoder(max_iter=1, random_state=0).fit(X)
    module = copy.deepcopy(model.module_).requires_grad_()
    y, row_weight, draws = choose_balance_data(
        module, ELBO(1.0, "linear", 1), rows, measure(rows, "spherical")
    )
    assert y.shape == (512, 3)
    assert float(row_weight.sum()) == pytest.approx(1)
    assert float(row_weight.std()) > 0
    np.testing.assert_allclose(y.mean(dim=0), 0, atol=0.15)
    # Each row has two different antithetic pairs.
    first, second = draws.chunk(2)
    for half in (first, second):
        torch.testing.assert_close(half[0], -half[1])
    assert bool((first != second).any(dim=2).all())


def test_side_by_side(X):
    """Each of the models that are trained together has its own balance."""
    model = VariationalAutoencoder(
        max_iter=4, random_state=0, gradient_balance=True, precision="float64"
    )
    histories = {}

    def scoring(fitted, X, y=None):
        histories[fitted.beta, len(histories)] = fitted.history_
        return fitted.score(X)

    grid = {"beta": [0.5, 2.0]}
    BatchedGridSearchCV(model, grid, cv=2, scoring=scoring, refit=False).fit(X)
    assert len(histories) == 4
    for (beta, _), history in histories.items():
        alone = [
            model.set_params(beta=beta).fit(part).history_ for part in (X[60:], X[:60])
        ]
        assert any(
            all(np.allclose(history[key], one[key], rtol=1e-6) for key in KEYS)
            for one in alone
        )


def test_a_deterministic_autoencoder_has_no_balance(X):
    assert "gradient_balance" not in GaussianAutoencoder().get_params()
    assert not set(KEYS) & set(GaussianAutoencoder(max_iter=1).fit(X).history_)


def test_warm_start_continues_the_record(X):
    model = VariationalAutoencoder(
        max_iter=2, warm_start=True, gradient_balance=True, random_state=0
    ).fit(X)
    first = model.history_["grad_kl_outputs"]
    second = model.fit(X).history_["grad_kl_outputs"]
    np.testing.assert_array_equal(second[:2], first)
    assert len(second) == 4
