"""The training loop on least squares."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from skae._optim import Adam, CosineSchedule, FlatParameters, minimize
from tests.data.test_batches import make_batches


class Hooks:
    """Hooks that record their calls, and stop after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls, self.metrics, self.progress = [], [], []

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self, metrics, progress, state):
        self.calls.append("end")
        self.metrics.append(metrics)
        self.progress.append(progress)
        return len(self.metrics) == self.stop_after


def read(totals):
    """Return the metrics as numbers, and no state."""
    return totals.double().numpy(), [None] * len(totals)


def linear_regression(n=101, d=4):
    """Draw inputs, targets and weights of a linear regression."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, d))
    b = A @ [1, -2, 3, 0.5] + 4 + rng.normal(size=n)
    weight = rng.uniform(0.2, 3, size=n)
    return A, b, weight / weight.mean()


def run(batch_size, n_epochs, hooks=None, l2=0.0, rate=0.1, schedule=None):
    """Train a linear regression; return its parameters, the hooks and the progress."""
    A, b, weight = linear_regression()
    layer = nn.Linear(4, 1).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    flat = FlatParameters([list(layer.parameters())], penalized=[layer.weight])
    data = np.column_stack([A, b])
    batches = make_batches(
        data, weight=weight, batch_size=batch_size, mean_weight=1 / weight.max()
    )
    hooks = hooks or Hooks()
    seen = []

    def step(y, row_weight, noise, progress):
        seen.append(progress[0])
        flat.grads.zero_()
        error = y[0, :, 4:] - layer(y[0, :, :4])
        value = 0.5 * (row_weight[0] * error.square()).sum()
        value.backward()
        mean = (row_weight[0, :, 0] * y[0, :, 0]).sum()
        return torch.stack([value.detach(), mean])[None]

    schedule = schedule or CosineSchedule(rate, n_epochs)
    minimize(step, batches, Adam(flat, [l2]), [schedule], [hooks], read)
    return flat.get(0).numpy(), hooks, seen


def solution(l2=0.0):
    """Solve the weighted least squares with an L2 penalty."""
    A, b, weight = linear_regression()
    A1, root = np.column_stack([A, np.ones(len(A))]), np.sqrt(weight)[:, None]
    ridge = math.sqrt(l2 * len(A)) * np.eye(5)[:4]
    rows = np.vstack([root * A1, ridge])
    return np.linalg.lstsq(rows, np.append(root[:, 0] * b, np.zeros(4)))[0]


@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_training_on_all_rows_solves_least_squares(l2):
    values, hooks, _ = run(batch_size=200, n_epochs=600, l2=l2)
    np.testing.assert_allclose(values, solution(l2), atol=1e-6)
    A, b, weight = linear_regression()
    error = b - A @ values[:4] - values[4]
    final = 0.5 * np.mean(weight * error**2)
    assert hooks.metrics[-1][0] == pytest.approx(final, rel=1e-9)
    assert hooks.metrics[-1].dtype == np.float64


def test_training_on_batches_is_near_least_squares():
    values, _, _ = run(batch_size=16, n_epochs=300)
    np.testing.assert_allclose(values, solution(), atol=0.02)


@pytest.mark.parametrize(("batch_size", "n_epochs"), [(200, 1), (200, 3), (16, 1), (25, 6)])
def test_progress_ends_at_one(batch_size, n_epochs):
    _, hooks, seen = run(batch_size, n_epochs)
    n_steps = n_epochs * math.ceil(101 / batch_size)
    np.testing.assert_allclose(seen, np.arange(1, n_steps + 1) / n_steps, rtol=1e-15)
    assert seen[-1] == hooks.progress[-1] == 1
    assert hooks.calls == n_epochs * ["begin", "end"]


def test_metrics_are_means_over_the_batches():
    A, _, weight = linear_regression()
    _, hooks, _ = run(batch_size=200, n_epochs=2)
    for metrics in hooks.metrics:
        assert metrics[1] == pytest.approx(np.mean(weight * A[:, 0]), rel=1e-12)
    _, hooks, _ = run(batch_size=25, n_epochs=2)  # batches of 20 and 21
    for metrics in hooks.metrics:
        assert metrics[1] == pytest.approx(np.mean(weight * A[:, 0]), abs=0.01)


def test_hook_stops_training():
    _, hooks, seen = run(25, 10, Hooks(stop_after=3))
    assert hooks.calls == 3 * ["begin", "end"]
    assert len(seen) == 3 * 5
    assert seen[-1] == pytest.approx(0.3)


def test_cooldown_shortens_training():
    schedule = CosineSchedule(0.1, 50)

    class Cooling(Hooks):
        def on_epoch_end(self, metrics, progress, state):
            super().on_epoch_end(metrics, progress, state)
            if len(self.metrics) == 10:
                schedule.end_soon(10, 4)
            return False

    _, hooks, seen = run(25, 50, Cooling(), schedule=schedule)
    assert len(hooks.metrics) == 14
    assert len(seen) == 14 * 5


def test_rate_of_zero_keeps_parameters():
    values, _, _ = run(batch_size=25, n_epochs=2, rate=0.0)
    np.testing.assert_array_equal(values, 0)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_steps_leave_the_number_of_threads(error):
    """At the end of each epoch, and after an interrupt."""

    class Counting(Hooks):
        def on_epoch_begin(self):
            self.calls.append(torch.get_num_threads())

        def on_epoch_end(self, *args):
            self.calls.append(torch.get_num_threads())
            return super().on_epoch_end(*args)

    class Restless(CosineSchedule):
        def rate(self, epoch):
            torch.set_num_threads(3)  # as a step may do
            if error is not None and epoch >= 2:
                raise error
            return super().rate(epoch)

    hooks = Counting(stop_after=3)
    with pytest.raises(error) if error else nullcontext():
        run(32, 5, hooks, schedule=Restless(0.1, 5))
    assert set(hooks.calls) <= {1, "end"}
    assert torch.get_num_threads() == 1
