"""What a training asks of its device in each epoch: launches, copies, waits."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae._data import batches
from skae._engine.analytic_step import AnalyticStep
from skae._utils import device as devices
from skae._utils.device import has_float64
from skae._utils.matmul import weighted_sum
from skae.model_selection import BatchedGridSearchCV
from tests.emulated.accelerator import (
    DEVICE,
    Accelerator,
    Event,
    Stream,
    accelerator,
    host,
)
from tests.families import table

N, BATCHES = 192, 6


def data(n=N, d=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + rng.normal(size=(n, d))


HOLES = np.where(np.random.default_rng(1).random((N, 5)) < 0.2, np.nan, data())
CASES = {
    "plain": (data(), {}),
    "a learned scale": (data(), {"variance_mode": "learned"}),
    "holes": (HOLES, {}),
    "a moving weight of the KL": (data(), {"kl_schedule": "cyclical"}),
    "early stopping": (data(), {"early_stopping": True}),
    "early stopping with holes": (HOLES, {"early_stopping": True}),
}


def fit(X, n_models=1, max_iter=2, **parameters):
    """Train several starts of a model side by side, without an early end."""
    return VariationalAutoencoder(
        2, device="emu", random_state=0, batch_size=N // BATCHES, n_init=n_models,
        max_iter=max_iter, n_iter_no_change=100, tol=0, **parameters,
    ).fit(X)  # fmt: skip


def search(X, n_models, max_iter, **parameters):
    """Train several candidates of a search, which have the same rows and random state."""
    model = VariationalAutoencoder(
        2, device="emu", random_state=0, batch_size=N // BATCHES,
        max_iter=max_iter, n_iter_no_change=100, tol=0, **parameters,
    )  # fmt: skip
    rows = np.arange(len(X))
    grid = {"beta": np.linspace(0.5, 2.0, n_models).tolist()}
    cv = [(rows, rows[:9])]
    BatchedGridSearchCV(model, grid, cv=cv, refit=False, error_score="raise").fit(X)


def counts_of_an_epoch(X, n_models, fit=fit, **parameters):
    """Count what a further epoch of models side by side asks for."""
    has_float64(DEVICE)  # asks the device, the first time
    found = []
    for max_iter in (2, 3):
        accelerator.reset()
        # Which start is kept, and how it is finished, depends on the training.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("skae._fitting.monitor.TrainingMonitor._finish", finish)
            with pytest.raises(FinishedError):
                fit(X, n_models, max_iter, **parameters)
        found.append(accelerator.counts.copy())
    two, three = found
    return {event: three[event] - two[event] for event in two.keys() | three.keys()}


class FinishedError(Exception):
    """The end of a training."""


def finish(trained):
    raise FinishedError


@pytest.mark.parametrize("name", CASES)
def test_an_epoch(name):
    """Copies and waits do not grow with the number of models."""
    X, parameters = CASES[name]
    two, five = (counts_of_an_epoch(X, R, **parameters) for R in (2, 5))
    is_validated = "early_stopping" in parameters
    for counts in two, five:
        assert counts.get("h2d", 0) == 0
        assert counts.get("sync", 0) == 0
        # What the monitors need, and the scores of the validation data.
        assert counts["d2h"] == 1 + is_validated
    # The positions of the rows, and the weight of the KL in the steps that change it.
    n_sent = 1 + BATCHES * ("kl_schedule" in parameters)
    assert two["h2d pinned"] == five["h2d pinned"] <= n_sent
    further = (five["launch"] - two["launch"]) / 3
    # The noise of each model, and two copies of one that is the best up to now.
    assert further <= (3 if is_validated else 1)
    # For each batch one graph, the copies of its inputs, and the update; one forward pass
    # of all models over validation rows, and one over rows that set the scale.
    assert two["launch"] <= 40 + 20 * BATCHES + 180 * is_validated


STARTS = {
    "plain": (data(), {}),
    "two starts to choose from": (data(), {"likelihood": "laplace"}),
    "counts": (table("poisson", N), {"likelihood": "poisson"}),
    "holes": (HOLES, {"variance_mode": "predicted"}),
    "random": (data(), {"init": "random", "variance_mode": "learned"}),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start(name, monkeypatch):
    """The first weights are computed on the CPU, and sent by one copy."""
    X, parameters = STARTS[name]
    has_float64(DEVICE)  # asks the device, the first time
    monkeypatch.setattr("skae.estimators.base.train", finish)
    accelerator.reset()
    with pytest.raises(FinishedError):
        VariationalAutoencoder(2, device="emu", **parameters).fit(X)
    counts = accelerator.counts
    assert counts["h2d pinned"] == 1
    # The rows, their weights and the draws of the objective of the start.
    assert counts["h2d"] == 3
    # Whether the device can be used.
    assert counts["d2h"] == 1
    # The objective, and where data with holes are prepared.
    assert counts["sync"] <= (6 if name == "holes" else 4)
    assert counts["launch"] <= 160


@pytest.mark.parametrize("n", [N, N - 3], ids=["full batches", "filled batches"])
def test_noise_of_a_search(n):
    """Candidates that would draw the same numbers take those of one launch."""
    two, five = (counts_of_an_epoch(data(n), R, search) for R in (2, 5))
    assert two == five
    # Those of several starts differ: one launch for each, and a copy for all.
    two, five = (counts_of_an_epoch(data(n), R)["launch"] for R in (2, 5))
    assert five == two + 3


@pytest.fixture
def streamed(monkeypatch):
    """Let data be sent in three blocks of two batches of two models."""
    monkeypatch.setattr(accelerator, "free", 0)
    monkeypatch.setattr(batches, "BLOCK_NUMBERS", 2 * 2 * (N // BATCHES) * 5)


@pytest.mark.parametrize("n_in_block", [2, 4])
def test_copies_of_streamed_data_overlap(n_in_block, streamed, monkeypatch):
    """The host waits for no step, and copies are made beside steps.

    The last block may have fewer batches.
    """
    monkeypatch.setattr(batches, "BLOCK_NUMBERS", n_in_block * 2 * (N // BATCHES) * 5)
    counts = counts_of_an_epoch(data(), 2)
    n_blocks = -(-BATCHES // n_in_block)
    assert counts.get("h2d", 0) == counts.get("h2d ahead", 0) == counts.get("sync", 0) == 0
    assert (counts["h2d pinned"], counts["d2h"]) == (n_blocks, 1)
    # For the copy of the block before the last, from the same memory.
    assert counts["wait for an event"] == n_blocks
    assert counts["copy beside other work"] == n_blocks


def test_a_copy_waits_for_steps_with_its_buffer(streamed, monkeypatch):
    monkeypatch.setattr(Stream, "wait_event", lambda stream, event: None)
    with pytest.raises(RuntimeError, match="does not wait for another one"):
        fit(data(), 2)


def test_steps_wait_for_their_copy(streamed, monkeypatch):
    monkeypatch.setattr(Stream, "wait_stream", lambda stream, other: None)
    with pytest.raises(RuntimeError, match="does not wait for another one"):
        fit(data(), 2)


def test_locked_memory_is_not_overwritten_before_its_copy(streamed, monkeypatch):
    monkeypatch.setattr(Event, "synchronize", lambda event: None)
    with pytest.raises(RuntimeError, match="overwritten before its copy"):
        fit(data(), 2)


def test_weights_of_rows_are_sent(monkeypatch):
    model = VariationalAutoencoder(2, device="emu", max_iter=2, random_state=0)
    weight = np.linspace(0.5, 1.5, N)
    counts = []
    for given in (None, weight):
        accelerator.reset()
        clone(model).fit(data(), sample_weight=given)
        counts.append(accelerator.counts["h2d pinned"])
    # Those of the rows in each of two epochs, in place of once for all.
    assert counts[1] == counts[0] + 1


@pytest.fixture
def without_streams(monkeypatch):
    """A device such as "mps": torch frees the source of a copy before it has been made."""
    devices._has_pinned_memory.cache_clear()
    monkeypatch.delattr(Accelerator, "current_stream")
    monkeypatch.delattr(Accelerator, "CUDAGraph")
    yield
    devices._has_pinned_memory.cache_clear()


@pytest.mark.parametrize("is_resident", [True, False])
def test_a_device_without_streams_gets_no_copy_ahead(
    is_resident, without_streams, monkeypatch
):
    if not is_resident:
        monkeypatch.setattr(accelerator, "free", 0)
    accelerator.reset()
    fit(data(), 2, kl_schedule="cyclical")
    assert accelerator.counts["h2d pinned"] == accelerator.counts["h2d ahead"] == 0
    assert accelerator.largest_pinned == 0


def test_resident_data_lock_no_memory(monkeypatch):
    """Only positions of rows, first weights and small numbers go through locked memory."""
    accelerator.reset()
    fit(data(d=40))
    assert accelerator.largest_pinned < 4 * 40 * N
    monkeypatch.setattr(accelerator, "free", 0)
    fit(data(d=40))
    assert accelerator.largest_pinned >= 4 * 40 * N


def test_a_second_fit_need_not_stream(monkeypatch):
    """Memory that torch keeps from the first is free."""
    monkeypatch.setattr(accelerator, "free", 0)
    monkeypatch.setattr(accelerator, "reserved", 2**20)
    assert counts_of_an_epoch(data(), 1).get("sync", 0) == 0


def test_one_capture_and_one_stream():
    """A graph for each set of models; the stream of all captures is the same."""
    fit(data())
    n_streams = len(accelerator.streams)
    accelerator.reset()
    fit(data(), 3)
    assert accelerator.counts["capture"] == 1
    # The main stream, that of captures and that of copies.
    assert len(accelerator.streams) == n_streams <= 3


def test_masks_wait_here():
    """The host has to know how many places a mask has, unless one number is written."""
    x = torch.arange(4.0, device=DEVICE)
    mask = x > 1
    accelerator.reset()
    x[mask] = 0.0
    x.masked_fill(mask, 1.0)
    assert accelerator.counts["sync"] == 0
    x[mask] = x[mask]
    assert accelerator.counts["sync"] == 2


# TF32


@pytest.fixture
def rounded_products(monkeypatch):
    monkeypatch.setattr(accelerator, "rounds_products", True)


def test_products_are_rounded_here(rounded_products):
    """Else the next tests would show nothing."""
    third = torch.full((1, 1), 1 / 3, device=DEVICE)
    assert (third @ torch.ones_like(third)).item() == pytest.approx(1 / 3, rel=5e-4)
    assert (third @ torch.ones_like(third)).item() != pytest.approx(1 / 3, rel=1e-5)


def test_weighted_sums_are_not_rounded(rounded_products):
    values = torch.rand(3, 100, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.full((3, 100, 1), 1 / 100)
    found = weighted_sum(weight.to(DEVICE), values.to(DEVICE))
    torch.testing.assert_close(found.cpu(), values.mean(dim=1, keepdim=True))


@pytest.mark.parametrize("variance_mode", ["optimal", "profile", "learned"])
def test_objective_and_scale_have_no_bias(variance_mode, rounded_products, monkeypatch):
    """The metrics of a batch are the means of those of its rows."""
    seen, run = [], AnalyticStep.run

    def recorded(step, y, row_weight, noise):
        metrics = run(step, y, row_weight, noise)
        if accelerator.graph is None:
            mean = host(row_weight).mT.double() @ host(step._row_metrics).double()
            seen.append((host(metrics).double().clone(), mean[:, 0]))
        return metrics

    monkeypatch.setattr(AnalyticStep, "run", recorded)
    # A batch of 30 rows: unlike 1/32, 1/30 is rounded.
    model = VariationalAutoencoder(2, device="emu", max_iter=1, batch_size=30)
    model.set_params(variance_mode=variance_mode).fit(data(120))
    assert seen
    for metrics, means in seen:
        torch.testing.assert_close(metrics, means, rtol=1e-5, atol=1e-6)
