"""The same fits on a GPU: graphs, resident and streamed data, several models."""

import numpy as np
import pytest
import torch

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.engine.graph import GraphedStep
from skae.engine.step import make_step
from skae.scales import legal_combinations
from tests.engine.test_step import OBJECTIVES, N, batch, flatten, make_module

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that torch can use"
)


def data(n=300, d=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.1 * rng.normal(size=(n, d))


@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", legal_combinations(), ids="-".join)
def test_a_graphed_step_is_the_compiled_step(combination, kind, R):
    found = []
    for device in ("cpu", "cuda"):
        objectives = [OBJECTIVES[kind]() for _ in range(R)]
        modules = [
            make_module(combination, objectives[0].n_heads, seed=r).to(device)
            for r in range(R)
        ]
        parameters = flatten(modules)
        step = make_step(modules, objectives, parameters, N)
        assert isinstance(step, GraphedStep) == (device == "cuda")
        for seed in (0, 1):
            inputs = [t.to(device) for t in batch(R, objectives[0].n_mc_samples, seed)]
            metrics = step(*inputs, [0.1 + 0.2 * seed] * R)
        buffers = torch.cat([b.reshape(-1) for m in modules for b in m.buffers()])
        found.append([t.cpu() for t in (metrics, parameters.grads, buffers)])
    for cpu, cuda in zip(*found, strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "Model", [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_fit_on_a_gpu_is_as_good(Model, streamed, monkeypatch):
    X = data()
    if streamed:
        monkeypatch.setattr("skae.training.data._RESIDENT_SHARE", 0.0)
    scores = {}
    for device in ("cpu", "cuda"):
        model = Model(2, device=device, random_state=0, max_iter=30).fit(X)
        assert str(model.device_).startswith(device)
        scores[device] = model.score(X)
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=0.3)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_on_a_gpu(precision):
    X = data()
    exact, low = (
        VariationalAutoencoder(2, device="cuda", precision=p, random_state=0, max_iter=30)
        .fit(X)
        .score(X)
        for p in ("float32", precision)
    )
    assert low == pytest.approx(exact, abs=0.5)


def test_several_starts_on_a_gpu():
    X = data()
    models = [
        VariationalAutoencoder(2, device="cuda", n_init=n, random_state=0, max_iter=20)
        for n in (1, 4)
    ]
    one, four = (model.fit(X).score(X) for model in models)
    assert four > one - 0.05
