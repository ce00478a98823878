"""Fits on an accelerator: graphs, data in its memory or streamed, several models.

Most of these tests run on a CPU too, so that the tests themselves are tested there.
"""

import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._engine import Captures, flatten, graphed_step
from skae._engine.analytic_step import AnalyticStep
from skae._engine.graphed_step import GraphedStep
from skae._engine.step import make_step
from skae.model_selection import BatchedGridSearchCV
from tests.engine.test_step import (
    FITS,
    OBJECTIVES,
    N,
    batch,
    batch_with_holes,
    make_module,
)
from tests.families import location_scale_combinations
from tests.helpers import answers, weights
from tests.surroundings import nothing_global_changes

# The kind of the accelerator of this machine, or None.
ACCELERATOR = getattr(
    torch.accelerator.current_accelerator(check_available=True), "type", None
)
needs_accelerator = pytest.mark.skipif(
    ACCELERATOR is None, reason="needs an accelerator that torch can use"
)
every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param(ACCELERATOR, marks=needs_accelerator, id="accelerator")]
)
every_estimator = pytest.mark.parametrize(
    "Model", [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
)

pytestmark = [
    # Torch warns if a thread of autograd is the first that multiplies on a GPU.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current"),
    pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale"),
]


def data(n=300, d=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.1 * rng.normal(size=(n, d))


# The step


class ReplayingGraph:
    """A graph for a CPU, which runs the step again on the captured inputs."""

    def __init__(self):
        self.owner = None
        self.patch = pytest.MonkeyPatch()

    def capture_begin(self, capture_error_mode):
        # A capture records the operations without running them.
        self.patch.setattr(AnalyticStep, "run", lambda *args: None)

    def capture_end(self):
        self.patch.undo()

    def replay(self):
        self.owner.step.run(*self.owner.inputs)


@pytest.fixture
def graphed_on_cpu(monkeypatch):
    """Return a graphed step that runs on a CPU and counts its captures."""

    monkeypatch.setattr(graphed_step, "make_graph", lambda device: ReplayingGraph())
    for context in ("as_current", "on_capture_stream"):
        monkeypatch.setattr(graphed_step, context, lambda device: nullcontext())
    monkeypatch.setattr(graphed_step, "wait_for_capture_stream", lambda device: None)

    class GraphedOnCPU(GraphedStep):
        n_captures = 0

        def __init__(self, step):
            super().__init__(step, Captures())

        def _record(self, device):
            graph = super()._record(device)
            graph.owner = self
            GraphedOnCPU.n_captures += 1
            return graph

    return GraphedOnCPU


def results_of_two_steps(make, combination, kind, R, device, has_missing=False):
    """Compute metrics, gradients and buffers after each of two different batches."""
    objectives = [OBJECTIVES[kind]() for _ in range(R)]
    modules = [
        make_module(combination, objectives[0].n_heads, None, r, has_missing)
        for r in range(R)
    ]
    n_draws = objectives[0].n_mc_samples
    batches = [
        batch_with_holes(modules, n_draws, seed) if has_missing else batch(R, n_draws, seed)
        for seed in (0, 1)
    ]
    modules = [module.to(device) for module in modules]
    parameters = flatten(modules, objectives[0])
    step = make(modules, objectives, parameters, N)
    found, given = [], []
    for seed in (0, 1):
        inputs = [t.to(device) for t in batches[seed]]
        metrics = step(*inputs, [0.1 + 0.2 * seed] * R)
        buffers = torch.cat([b.reshape(-1) for m in modules for b in m.buffers()])
        found += [metrics, parameters.grads, buffers]
        # Copies, because the next step overwrites these tensors. Copying waits for the GPU.
        found[-3:] = [t.cpu().clone() for t in found[-3:]]
        given += [t.fill_(torch.nan) for t in inputs]
    # The step copies its inputs, so the caller may overwrite them.
    assert all(t.isnan().all() for t in given)
    return found


@every_device
@pytest.mark.parametrize(
    ("R", "has_missing"), [(1, False), (3, True)], ids=["R1-False", "R3-True"]
)
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", location_scale_combinations(), ids="-".join)
def test_graphed_step_equals_analytic_step(
    combination, kind, R, has_missing, device, request
):
    arguments = combination, kind, R
    expected = results_of_two_steps(make_step, *arguments, "cpu", has_missing)
    kinds = []

    def make(*args):
        step = make_step(*args)
        if device == "cpu":
            step = request.getfixturevalue("graphed_on_cpu")(step)
        kinds.append(step)
        return step

    found = results_of_two_steps(make, *arguments, device, has_missing)
    assert isinstance(kinds[0], GraphedStep)
    # No GPU rounds float64 to TF32. The order of the terms in a sum may differ.
    for ours, cpus in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, cpus, rtol=1e-9, atol=1e-11)


def test_capture_restores_buffers(graphed_on_cpu, monkeypatch):
    """The number of warm-up steps does not change the running scale."""
    found = []
    for warm_up in (1, 5):
        monkeypatch.setattr(graphed_step, "_N_WARM_UP", warm_up)
        found.append(
            results_of_two_steps(
                lambda *args: graphed_on_cpu(make_step(*args)),
                ("gaussian", "optimal", "diag"),
                "posterior",
                1,
                "cpu",
            )
        )
    torch.testing.assert_close(*found, rtol=0, atol=0)
    # Two trainings of two steps each, with one capture each.
    assert graphed_on_cpu.n_captures == 2


# The fit


@every_estimator
@every_device
@pytest.mark.parametrize("streamed", [False, True])
def test_score_is_near_that_of_another_seed_on_cpu(Model, device, streamed, monkeypatch):
    """A GPU draws other noise, so equal seeds give other models."""
    X = data()
    model = Model(2, device="cpu", random_state=1, max_iter=30).fit(X)
    if streamed:
        monkeypatch.setattr("skae._data.batches._RESIDENT_FRACTION", 0.0)
        monkeypatch.setattr("skae._data.batches._RESIDENT_BYTES", 0)
    other = Model(2, device=device, random_state=0, max_iter=30).fit(X)
    assert other.device_.startswith(device)
    assert {p.device.type for p in other.module_.parameters()} == {device}
    # Eight seeds on a CPU are within 0.03.
    assert other.score(X) == pytest.approx(model.score(X), abs=0.1)


@every_device
@pytest.mark.parametrize("model", FITS, ids=str)
def test_registered_models_fit_reproducibly(model, device):
    X = data()
    fits = [
        clone(model).set_params(device=device, max_iter=2, random_state=0).fit(X)
        for _ in range(2)
    ]
    assert np.isfinite(fits[0].score_samples(X)).all()
    # Bit by bit, as on a CPU.
    assert weights(fits[0]) == weights(fits[1])
    if model.warm_start:
        fits[0].fit(X)
        assert fits[0].n_iter_ == 4
        assert np.isfinite(fits[0].history_["grad_kl_outputs"]).all()


@every_estimator
@every_device
def test_pickle_loads_on_cpu(Model, device):
    """A pickle loads on any machine, and gives the results of the GPU there."""
    X = data()
    model = Model(2, device=device, random_state=0, max_iter=3).fit(X)
    there = pickle.loads(pickle.dumps(model))
    assert there.device_ == "cpu"
    expected, found = answers(model, X), answers(there, X)
    assert list(expected) == list(found)
    for name in expected.keys() - {"sample"}:  # its noise depends on the device
        # X is float64. The functions of a GPU may differ in the last bits.
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-7, atol=1e-7)
    if Model is VariationalAutoencoder:
        draws = model.sample(10_000, random_state=0)
        assert isinstance(draws, np.ndarray)
        np.testing.assert_allclose(draws.mean(axis=0), X.mean(axis=0), atol=0.3)
        again = model.sample(10_000, random_state=0)
        np.testing.assert_array_equal(draws, again)


@every_estimator
@every_device
def test_holes_are_filled(Model, device):
    X = data()
    mask = np.random.default_rng(0).random(X.shape) < 0.3
    holes = np.where(mask, np.nan, X)
    models = [
        Model(2, device=where, random_state=0, max_iter=20).fit(holes)
        for where in ("cpu", device)
    ]
    one, other = (np.square(m.impute(holes) - X)[mask].mean() for m in models)
    assert other == pytest.approx(one, rel=0.2)
    assert models[1].score(holes) == pytest.approx(models[0].score(holes), abs=0.2)


@every_device
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_keeps_the_score(precision, device):
    X = data()
    exact, low = (
        VariationalAutoencoder(2, device=device, precision=p, random_state=0, max_iter=30)
        .fit(X)
        .score(X)
        for p in ("float32", precision)
    )
    assert low == pytest.approx(exact, abs=0.2)


@pytest.mark.skipif(
    ACCELERATOR != "cuda" or torch.cuda.get_device_capability() < (8, 0),
    reason="needs a GPU that has TF32",
)
def test_tf32_changes_large_products():
    """The layers are so large that a GPU uses TF32 for them."""
    X = data(2048, 256)
    model = GaussianAutoencoder(
        32, device=ACCELERATOR, hidden_layer_sizes=256, batch_size=1024, max_iter=10,
        alpha=0, learning_rate_init=1e-3, random_state=0,
    )  # fmt: skip
    exact, low = (clone(model).set_params(precision=p).fit(X) for p in ("float32", "tf32"))
    assert weights(exact) != weights(low)
    with nothing_global_changes():
        again = clone(model).fit(X)
    assert weights(again) == weights(exact)


@every_device
def test_several_starts_keep_the_score(device):
    X = data()
    models = [
        VariationalAutoencoder(2, device=device, n_init=n, random_state=0, max_iter=20)
        for n in (1, 4)
    ]
    one, four = (model.fit(X).score(X) for model in models)
    assert four > one - 0.05


@every_device
def test_search_score_is_near_that_of_a_single_fit(device):
    """A search trains folds and candidates side by side."""
    X = data()
    model = VariationalAutoencoder(2, device=device, random_state=0, max_iter=20)
    grid = {"beta": [0.5, 1.0, 50.0], "early_stopping": [False, True]}
    search = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    scores = search.cv_results_["split0_test_score"]
    assert search.best_params_["beta"] < 50
    assert search.best_estimator_.device_.startswith(device)
    alone = clone(model).set_params(beta=0.5).fit(X[150:]).score(X[:150])
    assert scores[0] == pytest.approx(alone, abs=0.05)


@every_device
def test_global_state_is_unchanged(device):
    X = data()
    module = torch.get_device_module(device)
    before = module.get_rng_state_all() if device != "cpu" else []
    with nothing_global_changes():
        model = VariationalAutoencoder(2, device=device, precision="tf32", max_iter=2)
        answers(model.fit(X), X)
        model.sample(3)
    if device != "cpu":
        assert all(map(torch.equal, before, module.get_rng_state_all()))
        assert module.current_device() == 0
