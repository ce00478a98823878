"""Time epochs and scores of skae beside other busy programs.

    python benchmarks/load.py            # ten minutes, on an otherwise idle machine
    python benchmarks/load.py --quick    # does everything run?

Each measurement is a process of its own, and so is each program beside it, which multiplies
numbers of Python for ever. "Torch" stands for a program that multiplies matrices with as
many threads as the machine has cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from report import RESULTS, write_page
from torch.utils.data import DataLoader, TensorDataset

from skae import VariationalAutoencoder

sys.path.append(str(Path(__file__).parent / "training"))
sys.path.append(str(Path(__file__).parent / "training" / "workers"))

from vae import VAE, negative_elbo
from workloads import WORKLOADS, draw

_TEXT = """
A second thread makes a step faster if a core is free for it. If other programs use the
cores, two threads wait for each other at each operation. So a fit measures how long its
steps take with one thread and with more, and looks again from time to time. All numbers of
threads that it uses give the same bits. Medians of several runs, which take turns; an epoch
is the difference between a long and a short fit.
"""
BUSY = {
    "alone": [],
    "one busy process": ["spin"],
    "two busy processes": ["spin", "spin"],
    "a program with torch threads": ["torch"],
}
SYSTEMS = {
    "skae": {},
    "skae, 1 thread": {"threads": 1},
    "textbook PyTorch loop": {"loop": True},
}


def fit_skae(X, workload, n_epochs):
    """Fit a model for some epochs."""
    return VariationalAutoencoder(
        n_components=workload.k,
        hidden_layer_sizes=tuple(workload.hidden),
        batch_size=workload.batch,
        max_iter=n_epochs,
        random_state=0,
    ).fit(X)


def fit_loop(X, workload, n_epochs):
    """Train by a usual tutorial loop."""
    model = VAE(X.shape[1], workload.hidden, workload.k)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = TensorDataset(torch.from_numpy(X))
    for _ in range(n_epochs):
        for (x,) in DataLoader(data, batch_size=workload.batch, shuffle=True):
            optimizer.zero_grad()
            negative_elbo(x, *model(x)).backward()
            optimizer.step()


def seconds(function, *args):
    """Return the seconds of a call."""
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def measure(name, n_rows, loop=False, threads=None):
    """Return the seconds of an epoch, and of the scores of all rows, in this process."""
    if threads is not None:
        torch.set_num_threads(threads)
    workload = WORKLOADS[name]
    X = draw(n_rows, workload.n_columns or 64)
    fit = fit_loop if loop else fit_skae
    few, many = (2, 12) if n_rows < 10_000 else (1, 4)
    fit(X[: n_rows // 10], workload, 1)
    times = [seconds(fit, X, workload, n) for n in (few, many)]
    epoch = (times[1] - times[0]) / (many - few)
    if loop:
        return {"epoch": epoch}
    model = fit_skae(X[: n_rows // 10], workload, 1)
    model.score_samples(X[:1000])
    return {"epoch": epoch, "score": seconds(model.score_samples, X)}


def spin(kind):
    """Compute until the process is killed."""
    a = torch.rand(1500, 1500)
    torch.set_num_threads(os.cpu_count())
    x = 1.0
    while True:
        if kind == "torch":
            a @ a
        else:
            x = x * 1.0000001 % 7


@contextmanager
def busy(kinds):
    """Run programs beside the block."""
    programs = [subprocess.Popen([sys.executable, __file__, "--spin", k]) for k in kinds]
    try:
        # The programs have to import torch first.
        time.sleep(6 if programs else 0)
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def run(request):
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--measure", json.dumps(request)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def compare(name, n_rows, n_rounds):
    """Return the rows of the table of a workload."""
    found = {}
    for _ in range(n_rounds):
        for load, kinds in BUSY.items():
            with busy(kinds):
                for system, options in SYSTEMS.items():
                    one = run({"name": name, "n_rows": n_rows, **options})
                    found.setdefault((system, load), []).append(one)
                    print(name, load, system, one, flush=True)
    rows = []
    for what in ("epoch", "score"):
        for system in SYSTEMS:
            medians = [
                np.median([one.get(what, np.nan) for one in found[system, load]])
                for load in BUSY
            ]
            if np.isfinite(medians[0]):
                times = [f"{s:.3f} ({s / medians[0]:.2f})" for s in medians]
                rows.append([what, system, *times])
    return rows


def main():
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rows, and no page")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--spin", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.spin:
        spin(arguments.spin)
    if arguments.measure:
        print(json.dumps(measure(**json.loads(arguments.measure))))
        return
    sizes = {"W": 50_000, "S": 1_797, "M": 10_000}
    if arguments.quick:
        sizes = {"W": 5_000}
    tables = [
        (
            f"{name}, {n_rows:,} x {WORKLOADS[name].n_columns or 64}, hidden layers "
            f"{tuple(WORKLOADS[name].hidden)}, batches of {WORKLOADS[name].batch}",
            "Seconds, and in brackets how many times as long as alone.",
            ["what", "system", *BUSY],
            compare(name, n_rows, 1 if arguments.quick else arguments.rounds),
        )
        for name, n_rows in sizes.items()
    ]
    if not arguments.quick:
        title, command = "Beside other programs", "python benchmarks/load.py"
        write_page(RESULTS / "load.rst", title, command, _TEXT, tables)


if __name__ == "__main__":
    main()
