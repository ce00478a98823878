"""The same fits on a GPU: graphs, resident and streamed data, several models.

What can be is run on a CPU too, so that these tests are tested where there is no GPU.
"""

import pickle
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._engine import cuda_graph, flatten
from skae._engine.analytic_step import AnalyticStep
from skae._engine.cuda_graph import GraphedStep
from skae._engine.step import make_step
from skae.model_selection import BatchedGridSearchCV
from skae.scales import legal_combinations
from tests.engine.test_step import FITS, OBJECTIVES, N, batch, make_module
from tests.helpers import answers, weights
from tests.surroundings import nothing_global_changes

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that torch can use"
)
every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=needs_gpu)]
)
every_estimator = pytest.mark.parametrize(
    "Model", [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
)
pytestmark = [
    # A thread of autograd's may be the first to multiply on a GPU: torch minds.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current"),
    pytest.mark.filterwarnings("ignore:The scale of .* at its floor min_scale"),
]


def data(n=300, d=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.1 * rng.normal(size=(n, d))


# The step


class Pretended:
    """A CUDA graph for a CPU: it runs the step again, where the inputs were captured."""

    def __init__(self):
        self.owner = None

    def replay(self):
        self.owner.step.run(*self.owner.inputs)


@pytest.fixture
def pretended(monkeypatch):
    """Graphs that work without a GPU, as far as the memory of their inputs goes."""

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            pass

    @contextmanager
    def capture(cuda_graph, stream, capture_error_mode):
        run = AnalyticStep.run
        with pytest.MonkeyPatch.context() as patch:
            # A capture notes what is to be done, and does nothing.
            patch.setattr(AnalyticStep, "run", lambda *args: None)
            yield
        assert AnalyticStep.run is run

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Pretended)

    class Graphed(GraphedStep):
        captures = 0

        def _capture_here(self, *inputs):
            super()._capture_here(*inputs)
            self.graph.owner = self
            Graphed.captures += 1

    return Graphed


def two_steps(make, combination, kind, R, device):
    """Metrics, gradients and buffers after two different batches."""
    objectives = [OBJECTIVES[kind]() for _ in range(R)]
    modules = [
        make_module(combination, objectives[0].n_heads, seed=r).to(device) for r in range(R)
    ]
    parameters = flatten(modules, objectives[0])
    step = make(modules, objectives, parameters, N)
    found, given = [], []
    for seed in (0, 1):
        inputs = [t.to(device) for t in batch(R, objectives[0].n_mc_samples, seed)]
        metrics = step(*inputs, [0.1 + 0.2 * seed] * R)
        buffers = torch.cat([b.reshape(-1) for m in modules for b in m.buffers()])
        found += [metrics, parameters.grads, buffers]
        # Copies, since the next step writes to the same places; a GPU is waited for.
        found[-3:] = [t.cpu().clone() for t in found[-3:]]
        given += [t.fill_(torch.nan) for t in inputs]
    # What was given to the step stays the caller's own.
    assert all(t.isnan().all() for t in given)
    return found


@every_device
@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", legal_combinations(), ids="-".join)
def test_a_graphed_step_is_the_compiled_step(combination, kind, R, device, request):
    expected = two_steps(make_step, combination, kind, R, "cpu")
    kinds = []

    def make(*args):
        step = make_step(*args)
        if device == "cpu":
            step = request.getfixturevalue("pretended")(step)
        kinds.append(step)
        return step

    found = two_steps(make, combination, kind, R, device)
    assert isinstance(kinds[0], GraphedStep)
    # In float64, which no GPU rounds to TF32; sums may be in another order.
    for ours, cpus in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, cpus, rtol=1e-9, atol=1e-11)


def test_capturing_is_not_training(pretended, monkeypatch):
    """However often a step is run before, what the running scale has seen is one batch."""
    found = []
    for warm_up in (1, 5):
        monkeypatch.setattr(cuda_graph, "_WARM_UP", warm_up)
        found.append(
            two_steps(
                lambda *args: pretended(make_step(*args)),
                ("gaussian", "optimal", "diag"),
                "posterior",
                1,
                "cpu",
            )
        )
    torch.testing.assert_close(*found, rtol=0, atol=0)
    # Two trainings of two steps, and each was captured once.
    assert pretended.captures == 2


# The fit


@every_estimator
@every_device
@pytest.mark.parametrize("streamed", [False, True])
def test_a_fit_is_as_good(Model, device, streamed, monkeypatch):
    """As one on a CPU with another seed: a GPU draws other noise."""
    X = data()
    model = Model(2, device="cpu", random_state=1, max_iter=30).fit(X)
    if streamed:
        monkeypatch.setattr("skae._data.batches._RESIDENT_SHARE", 0.0)
        monkeypatch.setattr("skae._data.batches._RESIDENT_BYTES", 0)
    other = Model(2, device=device, random_state=0, max_iter=30).fit(X)
    assert other.device_.startswith(device)
    assert {p.device.type for p in other.module_.parameters()} == {device}
    # Eight seeds on a CPU are within 0.03.
    assert other.score(X) == pytest.approx(model.score(X), abs=0.1)


@every_device
@pytest.mark.parametrize("model", FITS, ids=str)
def test_all_that_is_registered_can_be_fitted(model, device):
    X = data()
    fits = [
        clone(model).set_params(device=device, max_iter=2, random_state=0).fit(X)
        for _ in range(2)
    ]
    assert np.isfinite(fits[0].score_samples(X)).all()
    # To the bit, as on a CPU.
    assert weights(fits[0]) == weights(fits[1])
    if model.warm_start:
        fits[0].fit(X)
        assert fits[0].n_iter_ == 4
        assert np.isfinite(fits[0].history_["grad_kl_outputs"]).all()


@every_estimator
@every_device
def test_a_fitted_model_travels(Model, device):
    """A pickle is for any machine, and says there what it said on the GPU."""
    X = data()
    model = Model(2, device=device, random_state=0, max_iter=3).fit(X)
    there = pickle.loads(pickle.dumps(model))
    assert there.device_ == "cpu"
    expected, found = answers(model, X), answers(there, X)
    assert list(expected) == list(found)
    for name in expected.keys() - {"sample"}:  # whose noise is the device's own
        # In float64, as X is; a GPU's functions may differ in the last bits.
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-7, atol=1e-7)
    if Model is VariationalAutoencoder:
        draws = model.sample(10_000, random_state=0)
        assert isinstance(draws, np.ndarray)
        np.testing.assert_allclose(draws.mean(axis=0), X.mean(axis=0), atol=0.3)
        again = model.sample(10_000, random_state=0)
        np.testing.assert_array_equal(draws, again)


@every_device
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision(precision, device):
    X = data()
    exact, low = (
        VariationalAutoencoder(2, device=device, precision=p, random_state=0, max_iter=30)
        .fit(X)
        .score(X)
        for p in ("float32", precision)
    )
    assert low == pytest.approx(exact, abs=0.2)


@needs_gpu
@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0),
    reason="needs a GPU that has TF32",
)
def test_tf32_is_used_where_it_is_asked_for():
    """By layers that are large enough for a GPU to bother."""
    X = data(2048, 256)
    model = GaussianAutoencoder(
        32, device="cuda", hidden_layer_sizes=256, batch_size=1024, max_iter=1, alpha=0,
        learning_rate_init=1e-3, random_state=0,
    )  # fmt: skip
    exact, low = (clone(model).set_params(precision=p).fit(X) for p in ("float32", "tf32"))
    assert weights(exact) != weights(low)
    with nothing_global_changes():
        again = clone(model).fit(X)
    assert weights(again) == weights(exact)


@every_device
def test_several_starts(device):
    X = data()
    models = [
        VariationalAutoencoder(2, device=device, n_init=n, random_state=0, max_iter=20)
        for n in (1, 4)
    ]
    one, four = (model.fit(X).score(X) for model in models)
    assert four > one - 0.05


@every_device
def test_a_search(device):
    """Folds and candidates together; one of them, alone, ends near the same score."""
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
def test_nothing_global_changes_on_a_device(device):
    X = data()
    gpu = torch.cuda.get_rng_state_all() if device == "cuda" else []
    with nothing_global_changes():
        model = VariationalAutoencoder(2, device=device, precision="tf32", max_iter=2)
        answers(model.fit(X), X)
        model.sample(3)
    if device == "cuda":
        now = torch.cuda.get_rng_state_all()
        assert all(map(torch.equal, gpu, now))
        assert torch.cuda.current_device() == 0
