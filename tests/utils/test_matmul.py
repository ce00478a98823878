"""Products by oneDNN: the same numbers, wherever they are used."""

import numpy as np
import pytest
import torch

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._engine import flatten
from skae._engine.analytic_step import AnalyticStep
from skae._utils import matmul
from skae.objectives import ELBO
from tests.engine.test_step import N, batch, by_parameter, make_module

pytestmark = pytest.mark.skipif(
    not (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ),
    reason="needs a torch with oneDNN",
)


@pytest.fixture
def used(monkeypatch):
    """Every product in float32 by oneDNN, whatever its size; the list of those made."""
    made, product = [], matmul.large_product

    def noted(*args):
        made.append(args)
        return product(*args)

    monkeypatch.setattr(matmul, "_LARGE", 0)
    monkeypatch.setattr(matmul, "has_wider_products", lambda: True)
    monkeypatch.setattr(matmul, "large_product", noted)
    monkeypatch.setattr("skae._engine.layers.large_product", noted)
    return made


def gappy(t):
    """The same numbers, as part of a larger tensor."""
    return torch.cat([t, t], dim=1)[:, : t.shape[1]]


LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.t().contiguous().t(),
    "part of rows": gappy,
    "part of columns": lambda t: gappy(t.t()).t(),
}


@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_products_in_all_layouts(of_a, of_b):
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(37, 19, generator=generator),
        torch.randn(23, 19, generator=generator),
    )
    bias = torch.randn(23, generator=generator)
    found = matmul.large_product(LAYOUTS[of_a](a), LAYOUTS[of_b](b), bias)
    expected = (a.double() @ b.double().t() + bias.double()).float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_only_large_products_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(matmul, "has_wider_products", lambda: True)
    x = torch.zeros(1)
    assert matmul.is_large(matmul._LARGE, x)
    assert not matmul.is_large(matmul._LARGE - 1, x)
    assert not matmul.is_large(matmul._LARGE, x.double())
    assert not matmul.is_large(matmul._LARGE, torch.zeros(1, device="meta"))
    monkeypatch.setattr(matmul, "has_wider_products", lambda: False)
    assert not matmul.is_large(matmul._LARGE, x)


@pytest.mark.parametrize("where", ["GenuineIntel", "AuthenticAMD"])
def test_which_processors_gain(where, monkeypatch):
    monkeypatch.setattr(matmul, "_processor", lambda: f"vendor_id : {where}")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert matmul.has_wider_products.__wrapped__() is (where == "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not matmul.has_wider_products.__wrapped__()


@pytest.mark.parametrize("R", [1, 3])
def test_a_step_is_the_one_in_double_precision(R, used):
    found = []
    for dtype in (torch.float32, torch.float64):
        objectives = [ELBO(0.7, "constant", 1) for _ in range(R)]
        combination = ("gaussian", "optimal", "diag")
        modules = [make_module(combination, 2, seed=r).to(dtype) for r in range(R)]
        parameters = flatten(modules, objectives[0])
        step = AnalyticStep(modules, objectives, parameters, N)
        metrics = step(*(t.to(dtype) for t in batch(R, 1)), [0.5] * R)
        grads = by_parameter(parameters, parameters.grads)
        found.append((metrics.double().clone(), grads.double()))
    # Of the three layers of each half, and the gradients of all but the data.
    assert len(used) == R * (6 + 6 + 5)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [GaussianAutoencoder, VariationalAutoencoder])
def test_answers_of_a_model(model, X, used):
    fitted = model(max_iter=2, random_state=0).fit(X)
    X32 = X.astype(np.float32)
    n_used = len(used)
    found = fitted.transform(X32), fitted.reconstruct(X32), fitted.score_samples(X32)
    assert len(used) > n_used
    n_used = len(used)
    expected = fitted.transform(X), fitted.reconstruct(X), fitted.score_samples(X)
    assert len(used) == n_used  # in double precision
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, exact, rtol=2e-3, atol=2e-3)
