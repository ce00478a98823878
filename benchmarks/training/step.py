"""Where the time of a training step goes.

    python benchmarks/training/step.py    # a minute; nothing else may run meanwhile

Takes models as estimators start them, and times the parts of an epoch, each on its own.
Writes docs/results/step.rst.
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

from skae import VariationalAutoencoder, _fit
from skae._engine.layers import Dense
from skae._utils.threads import flushed_denormals

TEXT = """
Microseconds of a training step, for each of R models side by side, on the workloads of
:doc:`training`: the fastest of many repetitions of each part alone, its memory in the cache
where that fits. Products are those of the step's layers, the linear path among them.
Other operations are what is left of a step: the posterior, the likelihood and the scale,
activations, sums of biases, and the time to call all of them. Batches are gathered and get
their noise; Adam updates the parameters. S and W take one thread, M as many as there are.
"""
# Workload, models side by side, threads.
CASES = [("S", 1, 1), ("S", 16, 1), ("W", 1, 1), ("W", 16, 1), ("M", 1, 0)]


class _StopError(Exception):
    """Ends a fit where training begins."""


class _Count(TorchDispatchMode):
    """Counts torch's operations; those that only make views do no work."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))


def main() -> None:
    """Time all cases, and write the page."""
    n_threads = torch.get_num_threads()
    rows = []
    for name, n_models, threads in CASES:
        torch.set_num_threads(threads or n_threads)
        rows.append([name, n_models, *parts(WORKLOADS[name], n_models)])
        print(rows[-1], flush=True)
    header = ["workload", "R", "step", "products", "other", "operations", "Adam", "batches"]
    note = "Operations: how many of torch's there are in a step."
    page = "Where the time of a step goes"
    command = "python benchmarks/training/step.py"
    write_page(RESULTS / "step.rst", page, command, TEXT, [("A step", note, header, rows)])


def parts(workload, n_models):
    """Cells of a row: times of the parts for each model, and the number of operations."""
    X = make(workload, quick=True)
    problems = [start(workload, X, seed) for seed in range(n_models)]
    parameters = _fit.flatten(
        [problem.module for problem in problems], problems[0].objective
    )
    batches = _fit._make_batches(problems)
    adam = _fit.Adam(parameters, [1e-3] * n_models)
    modules, objectives = [j.module for j in problems], [j.objective for j in problems]
    step = _fit.make_step(modules, objectives, parameters, batches.size)
    y, row_weight, noise = next(batches.epoch())
    progress = [0.5] * n_models
    dense = [
        (layer, coder is step.decoder or i > 0)  # the data need no gradient
        for coder in (step.encoder, step.decoder)
        for i, layer in enumerate([coder.input_layer, *coder.later_layers.layers])
        if isinstance(layer, Dense)
    ]

    def products():
        with torch.inference_mode():
            for layer, needs_input_grad in dense:
                layer._multiply(layer.weight, layer.x, layer._x, layer._out)
                layer._multiply(layer._grad, layer._x, layer.x, layer.weight_grad)
                if needs_input_grad:
                    weight, out = layer._weight, layer._grad_input
                    layer._multiply(weight, layer.grad, layer._grad, out)

    def one_epoch():
        for _ in batches.epoch():
            pass

    with flushed_denormals():
        whole = fastest(lambda: step(y, row_weight, noise, progress))
        of_products = fastest(products)
        of_adam = fastest(lambda: adam.step([1e-3] * n_models))
        of_batches = fastest(one_epoch, 0.2) / batches.n_batches
    with _Count() as count:
        step(y, row_weight, noise, progress)
    times = [whole, of_products, whole - of_products]
    shown = [f"{1e6 * t / n_models:.0f}" for t in (*times, of_adam, of_batches)]
    return [*shown[:3], count.n, *shown[3:]]


def start(workload, X, seed):
    """A model as an estimator hands it over to training."""
    model = VariationalAutoencoder(
        workload.k,
        hidden_layer_sizes=workload.hidden,
        batch_size=workload.batch,
        random_state=seed,
    )
    problems = []

    def stop(some):
        problems.extend(some)
        raise _StopError

    with patch("skae.estimators.base.fit_together", stop):
        try:
            model.fit(X)
        except _StopError:
            return problems[0]
    raise RuntimeError("the fit did not get to its training")


def fastest(function, seconds=1.0):
    """Smallest time of a call, in that many seconds of trying."""
    function()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best


if __name__ == "__main__":
    main()
