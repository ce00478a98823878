"""Measure the weak scaling of skae.spmd: a fixed number of rows for each process.

``python benchmarks/spmd.py`` takes some minutes on two cores. It starts one process, and
then two, several times in turns, so that other work on the machine affects both alike.
``--processes 1 2 4`` takes other numbers of processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = 20_000
# Name, features, hidden layers, components.
MODELS = [
    ("small", 32, (64,), 8),
    ("medium", 32, (128, 64), 8),
    ("large", 256, (512, 256), 32),
]
BATCH = 512
EPOCHS = 4
# Sums of the gradients that are timed alone.
N_SUMS = 50


def measure_rank(rank, size, store, out):
    """Fit the models as one of the processes, and write the seconds of an epoch."""
    import numpy as np
    import torch
    import torch.distributed as dist
    from epoch_ends import EpochEnds

    from skae.spmd import VariationalAutoencoder

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=5),
    )
    found = {}
    for name, d, widths, k in MODELS:
        rng = np.random.default_rng(rank)
        latent = rng.normal(size=(ROWS, 6))
        weights = np.random.default_rng(0).normal(size=(6, d))
        X = np.tanh(latent @ weights) + 0.1 * rng.normal(size=(ROWS, d))
        ends = EpochEnds(time.perf_counter)
        model = VariationalAutoencoder(
            k,
            hidden_layer_sizes=widths,
            batch_size=BATCH * size,
            max_iter=EPOCHS + 1,
            random_state=0,
        ).set_callbacks(ends)
        begin = time.perf_counter()
        model.fit(X.astype(np.float32))
        seconds = time.perf_counter() - begin
        gradient = torch.zeros(sum(p.numel() for p in model.module_.parameters()))
        dist.barrier()
        begin = time.perf_counter()
        for _ in range(N_SUMS):
            dist.all_reduce(gradient)
        alone = (time.perf_counter() - begin) / N_SUMS
        # The first epoch begins before the first end.
        epoch = (ends.times[-1] - ends.times[0]) / EPOCHS
        found[name] = epoch, alone * -(-ROWS // BATCH), seconds - epoch * (EPOCHS + 1)
        found[name] += (len(gradient),)
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    dist.destroy_process_group()


def measure(size):
    """Start some processes and return what the first of them has measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__, "--rank", str(rank),
                 "--size", str(size), "--store", f"{folder}/store", "--out", str(out)],
                env=environment,
            )
            for rank in range(size)
        ]  # fmt: skip
        try:
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(codes):
            raise RuntimeError(f"a process has ended with the codes {codes}")
        return json.loads(out.read_text())


def write_results(sizes, repeats):
    """Measure, and write the page of the results."""
    sys.path.append(str(Path(__file__).parent))
    from report import RESULTS, write_page

    runs = {size: [] for size in sizes}
    load = os.getloadavg()[2]
    for _ in range(repeats):
        for size in sizes:
            runs[size].append(measure(size))
    rows = []
    for name, d, widths, _ in MODELS:
        # Other work on the machine can only make a run slower.
        best = {n: [min(v) for v in zip(*(r[name] for r in runs[n]), strict=True)]
                for n in sizes}  # fmt: skip
        one = best[sizes[0]][0]
        for n in sizes:
            epoch, sums, rest, n_weights = best[n]
            rows.append(
                (
                    f"{name}: {d} features, {', '.join(map(str, widths))} hidden",
                    f"{n_weights:,}",
                    n,
                    f"{epoch:.2f}",
                    f"{one / epoch:.0%}",
                    f"{sums:.2f}" if n > 1 else "",
                    f"{rest:.2f}",
                )
            )
    text = f"""
Seconds for an epoch of a variational autoencoder with {ROWS:,} rows and a batch of {BATCH}
rows for each process, in float32. Each process has one thread, and all run on this machine
and exchange the gradients by gloo over the loopback. Efficiency is the time of one process
over that of n, which have n times the rows: 100% would be communication at no cost. "Sums
alone" are as many sums of buffers of that size as an epoch has steps, without any fit. The
rest of a fit is the statistics, the exchange of the rows, the start and the end.

Each number is the smallest of {repeats} runs. If the cores also serve other work, a process
waits in each step for the one that is late. The efficiency is then that of the machine,
and this page says nothing of the program. The load average of the 15 minutes before was
{load:.1f} processes that wait for a core.
"""
    header = (
        "model", "parameters", "processes", "s per epoch", "efficiency", "sums alone, s",
        "rest of the fit, s",
    )  # fmt: skip
    command = "python benchmarks/spmd.py"
    tables = [("Weak scaling", "", header, rows)]
    title = "Several processes: seconds per epoch"
    write_page(RESULTS / "spmd.rst", title, command, text, tables)


def main():
    """Read the arguments: one process of a measurement, or all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--store")
    parser.add_argument("--out")
    given = parser.parse_args()
    if given.rank is None:
        write_results(given.processes, given.repeats)
    else:
        measure_rank(given.rank, given.size, given.store, given.out)


if __name__ == "__main__":
    main()
