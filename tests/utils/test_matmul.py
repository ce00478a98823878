"""Products by oneDNN: equal to the products of MKL or float64."""

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
def onednn_products(monkeypatch):
    """Compute all float32 products by oneDNN, and return the list of their arguments."""
    products, product = [], matmul.large_product

    def recording_product(*args):
        products.append(args)
        return product(*args)

    monkeypatch.setattr(matmul, "_LARGE_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(matmul, "is_onednn_faster", lambda: True)
    monkeypatch.setattr(matmul, "large_product", recording_product)
    monkeypatch.setattr("skae._engine.layers.large_product", recording_product)
    return products


def with_gaps(t):
    """Return the same numbers as part of a larger tensor."""
    return torch.cat([t, t], dim=1)[:, : t.shape[1]]


LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.t().contiguous().t(),
    "part of rows": with_gaps,
    "part of columns": lambda t: with_gaps(t.t()).t(),
}


@pytest.mark.parametrize("layout_b", LAYOUTS)
@pytest.mark.parametrize("layout_a", LAYOUTS)
def test_product_in_all_layouts(layout_a, layout_b):
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(37, 19, generator=generator),
        torch.randn(23, 19, generator=generator),
    )
    bias = torch.randn(23, generator=generator)
    found = matmul.large_product(LAYOUTS[layout_a](a), LAYOUTS[layout_b](b), bias)
    expected = (a.double() @ b.double().t() + bias.double()).float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_large_products_are_float32_on_cpu(monkeypatch):
    monkeypatch.setattr(matmul, "is_onednn_faster", lambda: True)
    x = torch.zeros(1)
    assert matmul.is_large(matmul._LARGE_MULTIPLY_ADDS, x)
    assert not matmul.is_large(matmul._LARGE_MULTIPLY_ADDS - 1, x)
    assert not matmul.is_large(matmul._LARGE_MULTIPLY_ADDS, x.double())
    assert not matmul.is_large(matmul._LARGE_MULTIPLY_ADDS, torch.zeros(1, device="meta"))
    monkeypatch.setattr(matmul, "is_onednn_faster", lambda: False)
    assert not matmul.is_large(matmul._LARGE_MULTIPLY_ADDS, x)


@pytest.mark.parametrize(
    ("processor", "is_faster"),
    [
        ("vendor_id\t: GenuineIntel\ncpu family\t: 26\n", False),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 25\n", False),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\n", True),
        ("AMD64 Family 26 Model 36 Stepping 0, AuthenticAMD", True),  # on Windows
        ("AuthenticAMD", False),
    ],
)
def test_processors_with_faster_onednn(processor, is_faster, monkeypatch):
    monkeypatch.setattr(matmul, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert matmul.is_onednn_faster.__wrapped__() is is_faster
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not matmul.is_onednn_faster.__wrapped__()


@pytest.mark.parametrize("R", [1, 3])
def test_step_equals_double_precision(R, onednn_products):
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
    # Three layers in encoder and decoder: outputs, weight gradients, and input gradients of
    # all layers but the first.
    assert len(onednn_products) == R * (6 + 6 + 5)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [GaussianAutoencoder, VariationalAutoencoder])
def test_methods_of_a_model_use_onednn(model, X, onednn_products):
    fitted = model(max_iter=2, random_state=0).fit(X)
    X32 = X.astype(np.float32)
    n_before = len(onednn_products)
    found = fitted.transform(X32), fitted.reconstruct(X32), fitted.score_samples(X32)
    assert len(onednn_products) > n_before
    n_before = len(onednn_products)
    expected = fitted.transform(X), fitted.reconstruct(X), fitted.score_samples(X)
    assert len(onednn_products) == n_before  # in double precision
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, exact, rtol=2e-3, atol=2e-3)
