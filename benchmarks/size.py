"""Measure time and memory against the size of the data.

``python benchmarks/size.py`` takes about fifteen minutes; with a number as argument, rows
are limited to it. Times are CPU times of one thread. Each figure is that of a process of
its own, so that no memory is left from others.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from epoch_ends import EpochEnds
from report import RESULTS, write_page
from threadpoolctl import threadpool_limits

from skae import VariationalAutoencoder
from skae._data import measure
from skae._data.rows import select_rows

LIKELIHOODS = ("gaussian", "laplace", "logistic", "poisson")
TABLES = ("numbers", "flags", "rare flags", "integers to 9", "flags, integers, numbers")
FEATURES = (10, 100, 1000, 1001, 5000, 20_000)
# Rows that are drawn and written together.
BLOCK = 100_000


def draw(n, d, seed=0):
    """Draw n rows near a curved surface of four dimensions, float32."""
    W, curvature = np.random.default_rng(0).normal(size=(2, 4, d)).astype(np.float32)
    rng = np.random.default_rng([1, seed])
    Z = rng.standard_normal(size=(n, 4), dtype=np.float32)
    noise = rng.standard_normal(size=(n, d), dtype=np.float32)
    return Z @ W + np.sin(Z @ curvature) + np.float32(0.3) * noise


def draw_table(kind, n, d=25):
    """Draw a table of columns of one kind, float32."""
    rng = np.random.default_rng(0)
    if kind == "flags":
        X = rng.integers(0, 2, size=(n, d))
    elif kind == "rare flags":
        X = rng.random((n, d)) < 0.02
    elif kind == "integers to 9":
        X = rng.integers(0, 10, size=(n, d))
    elif kind == "flags, integers, numbers":
        X = draw(n, d)
        X[:, :10] = X[:, :10] > 0
        X[:, 10:20] = X[:, 10:20].round().clip(-3, 3)
    else:
        X = draw(n, d)
    return X.astype(np.float32)


def draw_counts(n, d):
    """Draw counts around the rows of `draw`, float32."""
    rates = np.exp(0.3 * draw(n, d).clip(-5, 5))
    return np.random.default_rng(1).poisson(rates).astype(np.float32)


def write_rows(path, n, d):
    """Write rows to a file in blocks, and open it as a memory map."""
    X = np.memmap(path, dtype=np.float32, mode="w+", shape=(n, d))
    for block, first in enumerate(range(0, n, BLOCK)):
        part = X[first : first + BLOCK]
        part[:] = draw(len(part), d, seed=block)
    X.flush()
    return np.memmap(path, dtype=np.float32, mode="r", shape=(n, d))


def cpu(function):
    """Return the CPU time of a call in seconds, and its result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def anonymous_memory():
    """Return the bytes of this process that are not pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("this system does not tell the memory of a process")


def grown(function):
    """Return by how many MB the memory grows during a call, at most."""
    before, peak, is_done = anonymous_memory(), [0], threading.Event()

    def watch():
        while not is_done.wait(0.005):
            peak[0] = max(peak[0], anonymous_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    function()
    peak[0] = max(peak[0], anonymous_memory())
    is_done.set()
    thread.join()
    return (peak[0] - before) / 1e6


def measure_order(kind, n):
    """Return the seconds to order and merge rows, and those to measure them."""
    X = draw_table(kind, n)
    seconds, rows = cpu(lambda: select_rows(X, np.ones(n), True))
    statistics, _ = cpu(lambda: measure(rows, "spherical"))
    return [seconds, statistics]


def measure_costs(kind, n, d, parameters):
    """Return preparation, epoch, score and codes in seconds, and the memory of a fit."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "file":
            X = write_rows(Path(folder) / "rows.dat", n, d)
        else:
            X = draw_counts(n, d) if kind == "counts" else draw(n, d)

        def fit(max_iter, X=X, ends=None):
            model = VariationalAutoencoder(
                random_state=0, max_iter=max_iter, n_iter_no_change=9, **parameters
            )
            if ends is not None:
                model.set_callbacks(ends)
            return model.fit(X)

        fit(1, np.array(X[:500]))  # libraries load parts of themselves at the first call
        memory = grown(lambda: fit(1))
        epochs, ends = 2 if n > 1_000_000 else 4, EpochEnds(time.process_time)
        whole, model = cpu(lambda: fit(epochs, ends=ends))
        epoch = float(np.median(np.diff(ends.times)))
        score, _ = cpu(lambda: model.score_samples(X))
        codes, _ = cpu(lambda: model.transform(X))
    return [whole - epochs * epoch, epoch, score, codes, memory]


def in_own_process(name, *arguments):
    """Call a function of this file in a new process, and return its result."""
    call = json.dumps([name, arguments])
    done = subprocess.run(
        [sys.executable, __file__, "--call", call], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def cells(found, n, d):
    """Return the costs as text, and those of scores and preparation in epochs."""
    *seconds, memory = found
    preparation, epoch, score, _ = seconds
    return [
        *(f"{s:.3g}" for s in seconds),
        f"{memory:,.0f}",
        f"{n * d * 4 / 1e6:,.0f}",
        f"{preparation / (10 * epoch):.2f}",
        f"{score / epoch:.1f}",
    ]


def shown(row):
    """Print a row and return it."""
    print(row, flush=True)
    return row


def main():
    """Measure everything and write the page."""
    most = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000
    rows = [n for n in (10_000, 100_000, 1_000_000, 10_000_000) if n <= most]
    in_memory = [n for n in rows if n <= 1_000_000]

    ordering = []
    for kind in TABLES:
        found = [in_own_process("measure_order", kind, n) for n in in_memory]
        ordering.append(shown([kind, *(f"{a:.2f} + {b:.2f}" for a, b in found)]))

    of_files = []
    for n in rows:
        found = in_own_process("measure_costs", "file", n, 20, {})
        of_files.append(shown([f"{n:,}", *cells(found, n, 20)]))

    by_rows = []
    for likelihood in LIKELIHOODS:
        kind = "counts" if likelihood == "poisson" else "numbers"
        for n in in_memory:
            chosen = {"likelihood": likelihood}
            found = in_own_process("measure_costs", kind, n, 20, chosen)
            by_rows.append(shown([likelihood, f"{n:,}", *cells(found, n, 20)]))

    by_features = []
    for kind in ("spherical", "diag"):
        for d in FEATURES:
            chosen = {"covariance_type": kind, "n_components": 8}
            found = in_own_process("measure_costs", "numbers", 2000, d, chosen)
            by_features.append(shown([kind, f"{d:,}", *cells(found, 2000, d)]))

    write(ordering, of_files, by_rows, by_features, in_memory)


def write(ordering, of_files, by_rows, by_features, in_memory):
    """Write the page."""
    columns = [
        "preparation",
        "epoch",
        "score_samples",
        "transform",
        "memory, MB",
        "data, MB",
        "preparation / 10 epochs",
        "score_samples in epochs",
    ]
    write_page(
        RESULTS / "size.rst",
        "Time and memory against the size of the data",
        "python benchmarks/size.py",
        """
CPU time of one thread, in seconds; data in float32. All parameters have their defaults,
except for those in the tables. "Preparation" is a fit less its epochs: rows are ordered and
merged, measured, the start is computed, and at the end the scale and what is reported. The
aim is a tenth of ten epochs for it, and a tenth of the former time of scores, which is 3.3
to 11.6 epochs for likelihoods other than the Gaussian and 0.6 to 1.5 for the Gaussian.
Larger numbers in the last two columns miss it. "Memory" is by how much a fit raises the
memory of its process at most, beside the data; the pages of a file do not count, since the
system may drop them.
""",
        [
            (
                "Ordering and statistics",
                "Rows of 25 columns: seconds to order and merge them + to measure them.",
                ["columns", *(f"{n:,} rows" for n in in_memory)],
                ordering,
            ),
            (
                "A file",
                "A memory map of 20 features, 2 components, a Gaussian likelihood.",
                ["rows", *columns],
                of_files,
            ),
            (
                "Rows",
                "Rows of 20 features in memory, 2 components.",
                ["likelihood", "rows", *columns],
                by_rows,
            ),
            (
                "Features",
                "2,000 rows in memory, 8 components, a Gaussian likelihood.",
                ["covariance_type", "features", *columns],
                by_features,
            ),
        ],
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    threadpool_limits(1)  # of numpy's products
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--call"]:
        name, arguments = json.loads(sys.argv[2])
        print(json.dumps(globals()[name](*arguments)))
    else:
        main()
