"""Time the parts of a training step.

    python benchmarks/training/step.py    # one minute, on an otherwise idle machine

The models are those that the estimators build before training. Each part of an epoch is
timed alone. The script writes docs/results/step.rst.
"""

import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.append(str(Path(__file__).parents[1]))  # data and report

from report import RESULTS, write_page
from workloads import WORKLOADS, make

from skae import VariationalAutoencoder
from skae._engine import flatten, make_step
from skae._engine.layers import Dense
from skae._fitting.trainer import make_batches
from skae._optim import Adam
from skae._utils.threads import flushed_denormals

TEXT = """
Microseconds per step and model, for R models trained side by side on the workloads of
:doc:`training`. Each part is timed alone, and the table has the shortest of many
repetitions; the memory of a part is in the cache if it fits there.

Products are the matrix products of the step's layers, the linear path included. Other
operations are the rest of the step: the posterior, the likelihood and the scale,
activations, sums of biases, and the time of the calls. "Batches" is the time to gather the
rows and to draw the noise; Adam updates the parameters. S and W use one thread, M uses all
threads.
"""
# Workload, models side by side, threads (0: all threads of torch).
CASES = [("S", 1, 1), ("S", 16, 1), ("W", 1, 1), ("W", 16, 1), ("M", 1, 0)]


# Learning rate of the timed Adam step; its value does not change the time.
_LEARNING_RATE = 1e-3


class _StopError(Exception):
    """Signal that ends a fit before its training."""


class _OperationCounter(TorchDispatchMode):
    """Counter of torch's operations, without those that only create views."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))


def main() -> None:
    """Time all cases and write the page."""
    n_threads = torch.get_num_threads()
    rows = []
    for name, n_models, threads in CASES:
        torch.set_num_threads(threads or n_threads)
        rows.append([name, n_models, *parts(WORKLOADS[name], n_models)])
        print(rows[-1], flush=True)
    header = ["workload", "R", "step", "products", "other", "operations", "Adam", "batches"]
    note = "Operations: the number of operations of torch in a step."
    page = "Where the time of a step goes"
    command = "python benchmarks/training/step.py"
    write_page(RESULTS / "step.rst", page, command, TEXT, [("A step", note, header, rows)])


def parts(workload, n_models):
    """Return the cells of a row: times per model (us) and the number of operations."""
    X = make(workload, quick=True)
    problems = [build_problem(workload, X, seed) for seed in range(n_models)]
    modules = [problem.module for problem in problems]
    objectives = [problem.objective for problem in problems]
    parameters = flatten(modules, objectives[0])
    for problem in problems:
        problem.make_generators()
    batches = make_batches(problems)
    l2 = [problem.l2 for problem in problems]
    adam, rates = Adam(parameters, l2), [_LEARNING_RATE] * n_models
    step = make_step(modules, objectives, parameters, batches.size)
    y, row_weight, noise = next(batches.epoch())
    progress = [0.5] * n_models
    dense = [
        # No gradient is computed for the data.
        (layer, coder is step.decoder or i > 0)
        for coder in (step.encoder, step.decoder)
        for i, layer in enumerate([coder.input_layer, *coder.later_layers.layers])
        if isinstance(layer, Dense)
    ]

    def products():
        with torch.inference_mode():
            for layer, has_input_gradient in dense:
                layer._multiply(layer.weight, layer.x, layer._x, layer._out)
                layer._multiply(layer._grad, layer._x, layer.x, layer.weight_grad)
                if has_input_gradient:
                    weight, out = layer._weight, layer._grad_input
                    layer._multiply(weight, layer.grad, layer._grad, out)

    def one_epoch():
        for _ in batches.epoch():
            pass

    with flushed_denormals():
        whole = fastest(lambda: step(y, row_weight, noise, progress))
        of_products = fastest(products)
        of_adam = fastest(lambda: adam.step(rates))
        of_batches = fastest(one_epoch, 0.2) / batches.n_batches
    with _OperationCounter() as counter:
        step(y, row_weight, noise, progress)
    times = [whole, of_products, whole - of_products]
    shown = [f"{1e6 * t / n_models:.0f}" for t in (*times, of_adam, of_batches)]
    return [*shown[:3], counter.n, *shown[3:]]


def build_problem(workload, X, seed):
    """Return the fit problem that an estimator passes to its training."""
    model = VariationalAutoencoder(
        workload.k,
        hidden_layer_sizes=workload.hidden,
        batch_size=workload.batch,
        random_state=seed,
    )
    problems = []

    def stop(passed):
        problems.extend(passed)
        raise _StopError

    with patch("skae.estimators.base.train", stop):
        try:
            model.fit(X)
        except _StopError:
            return problems[0]
    raise RuntimeError("fit returned without a call of train")


def fastest(function, seconds=1.0):
    """Return the shortest time of a call (seconds), repeated for ``seconds``."""
    function()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


if __name__ == "__main__":
    main()
