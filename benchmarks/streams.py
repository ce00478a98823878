"""One pass of partial_fit against a fit of as many steps, streams that drift, and sizes.

    python benchmarks/streams.py                     # all parts, and the page
    python benchmarks/streams.py --parts drift       # one part, and the page with all
    python benchmarks/streams.py --no-page
    python benchmarks/streams.py --rows 10000000     # the largest memmap of the sizes

The sizes end at the first one that takes longer than ``--seconds`` (CPU time).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from report import RESULTS, write_page
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skae import LaplaceAutoencoder, VariationalAutoencoder

# The tables of each part, from which the page is made.
ROOT = Path(__file__).parent / "results"
SEEDS = range(3)
BATCH_SIZE = 32
_TEXT = """
A stream is seen once, block by block (:doc:`../guide/streams`). This page has what that
costs against ``fit`` with as many steps (one epoch of the same batch size), what becomes of
streams that drift, and time and memory of large files. The rules of the stream were chosen
on digits, diabetes, breast cancer and the curved surface with a Gaussian likelihood; the
other rows were only reported. Numbers are held-out scores in nats per sample.
"""


def curved(n, d=20, seed=0):
    """Draw rows near a curved three-dimensional surface in d dimensions."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    A, B = fixed.normal(size=(6, d)), fixed.normal(size=(3, 6))
    z = rng.normal(size=(n, 3))
    h = np.tanh(1.5 * z @ B) + 0.3 * np.sin(2 * z @ B)
    return h @ A + 0.2 * rng.normal(size=(n, d))


def blobs(n, d=12):
    """Draw rows of eight correlated groups, with heavy tails."""
    rng = np.random.default_rng(5)
    maps, centres = rng.normal(size=(8, d, d)) / 3, 2 * rng.normal(size=(8, d))
    group = rng.integers(0, 8, size=n)
    noise = rng.standard_t(4, size=(n, d))
    return np.einsum("nij,nj->ni", maps[group], noise) + centres[group]


def tables():
    """Return tables by name."""
    cancer = np.log1p(load_breast_cancer().data)
    return {
        "digits": load_digits().data,
        "diabetes": 20 * load_diabetes().data,
        "breast cancer (logarithms)": cancer / cancer.std(axis=0),
        "curved surface, 40,000 x 20": curved(40_000),
        "eight groups, 8,000 x 12": blobs(8_000),
    }


MODELS = {
    "Gaussian": lambda **p: VariationalAutoencoder(4, **p),
    "Gaussian, diag": lambda **p: VariationalAutoencoder(4, covariance_type="diag", **p),
    "Laplace": lambda **p: VariationalAutoencoder(4, likelihood="laplace", **p),
    "LaplaceAutoencoder": lambda **p: LaplaceAutoencoder(4, **p),
}


def stream(model, X, size, first=None):
    """Pass blocks of rows to a model; the first one may have another size."""
    start = 0
    while start < len(X):
        stop = start + (first if first and start == 0 else size)
        model.partial_fit(X[start:stop])
        start = stop
    return model


def halves(X, seed):
    """Shuffle rows, and divide them into three quarters and one quarter."""
    X = np.random.default_rng(seed).permutation(X)
    n = len(X) * 3 // 4
    return X[:n], X[n:]


def quality():
    """Compare one pass with a fit of one epoch."""
    rows = []
    for name, X in tables().items():
        for label, make in MODELS.items():
            found = []
            for seed in SEEDS:
                train, test = halves(X, seed)
                parameters = {"batch_size": BATCH_SIZE, "random_state": seed}
                found.append(
                    [
                        make(max_iter=1, **parameters).fit(train).score(test),
                        *(
                            stream(make(**parameters), train, size).score(test)
                            for size in (50, 500)
                        ),
                        PCA(4).fit(train).score(test),
                    ]
                )
            fit, small, large, pca = np.mean(found, axis=0)
            gaps = [
                f"{gap:+.2f}{' (lost)' if gap < -0.1 else ''}"
                for gap in (small - fit, large - fit)
            ]
            shown = f"{pca:.2f}" if label.startswith("Gaussian") else "no density"
            rows.append([name, label, f"{fit:.2f}", *gaps, shown])
            print(rows[-1], flush=True)
    header = [
        "data",
        "model",
        "fit, one epoch",
        "stream, blocks of 50",
        "stream, blocks of 500",
        "PCA of all rows",
    ]
    note = """
Means of three seeds: the score of the fit, and how far one pass of ``partial_fit`` is above
it. More than 0.1 nats below counts as lost. The score of a deterministic autoencoder is no
density, so PCA's cannot be compared with it.
"""
    return "One pass against a fit of as many steps", note, header, rows


def drift():
    """Show streams whose first rows do not stand for the rest."""
    X, test = curved(20_000), curved(5_000, seed=1)
    direction = 10 * X.std() * np.linspace(-1, 1, X.shape[1])
    moving = X + np.linspace(0, 1, len(X))[:, None] * direction
    whole = test + np.linspace(0, 1, len(test))[:, None] * direction
    ordered = X[np.argsort(X[:, 0])]
    settings = {
        "shuffled": (X, 500, None, test),
        "first block of 20 rows": (X, 500, 20, test),
        "blocks of 20 rows": (X, 20, None, test),
        "sorted by a column": (ordered, 500, None, test),
        "mean moves by 10 deviations; rows of the end": (
            moving,
            500,
            None,
            test + direction,
        ),
        "mean moves by 10 deviations; rows of all times": (moving, 500, None, whole),
    }
    rows = []
    for name, (data, size, first, held_out) in settings.items():
        found = []
        for seed in SEEDS:
            model = VariationalAutoencoder(3, batch_size=BATCH_SIZE, random_state=seed)
            pca = PCA(3).fit(data)
            fit = VariationalAutoencoder(
                3, batch_size=BATCH_SIZE, max_iter=1, random_state=seed
            ).fit(data)
            stream(model, data, size, first)
            found.append([m.score(held_out) for m in (fit, model, pca)])
        fitted, streamed, reference = np.mean(found, axis=0)
        lost = " (lost)" if streamed < fitted - 0.1 else ""
        rows.append([name, f"{fitted:.2f}", f"{streamed:.2f}{lost}", f"{reference:.2f}"])
        print(rows[-1], flush=True)
    note = """
The curved surface, 20,000 rows in 20 dimensions, means of three seeds. The fit sees all
rows in random order. Steps of gradients forget what they have not seen for long: a stream
that is sorted loses much, and one that moves ends at where it is now. PCA is that of all
rows, whatever their order.
"""
    header = ["stream", "fit, one epoch", "stream", "PCA of all rows"]
    return "Streams that drift", note, header, rows


# Runs in a process of its own, because a peak of memory is that of a process.
_WORKER = """
import json, sys, threading, time, warnings
import numpy as np, torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
from skae import VariationalAutoencoder
path, n, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
X = np.memmap(path, dtype=np.float32, mode="r", shape=(n, 20))
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
model = VariationalAutoencoder(3, batch_size=512, max_iter=1, random_state=0)
model.fit(np.array(X[:1000]))
model.score_samples(np.array(X[:1000]))
base, peak, done = anonymous(), [0.0], threading.Event()
def watch():
    while not done.wait(0.01):
        peak[0] = max(peak[0], anonymous())
thread = threading.Thread(target=watch)
thread.start()
begin = time.process_time()
if kind == "fit":
    model.fit(X)
elif kind == "score_samples":
    model.score_samples(X)
else:
    model = VariationalAutoencoder(3, batch_size=512, random_state=0)
    for start in range(0, n, 10_000):
        model.partial_fit(X[start : start + 10_000])
seconds = time.process_time() - begin
done.set()
thread.join()
grown = max(peak[0], anonymous()) - base
print(json.dumps([seconds, grown, model.score(np.array(X[-5000:]))]))
"""


def sizes(largest, limit):
    """Measure time and memory for growing memmaps of float32 numbers."""
    rows, n = [], 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.dat"
        while n <= largest:
            X = np.memmap(path, dtype=np.float32, mode="w+", shape=(n, 20))
            for i in range(0, n, 10_000):
                X[i : i + 10_000] = curved(10_000, seed=i)
            X.flush()
            begin = time.process_time() + sum(_children())
            for kind in ("partial_fit", "fit", "score_samples"):
                command = [sys.executable, "-c", _WORKER, str(path), str(n), kind]
                found = subprocess.run(command, capture_output=True, check=True, text=True)
                seconds, megabytes, score = json.loads(found.stdout)
                rows.append(
                    [
                        f"{n:,}",
                        f"{X.nbytes / 2**20:,.0f}",
                        kind,
                        f"{seconds:.1f}",
                        f"{megabytes:.0f}",
                        f"{score:.2f}" if kind != "score_samples" else "n/a",
                    ]
                )
                print(rows[-1], flush=True)
            spent = time.process_time() + sum(_children()) - begin
            if spent > limit:
                break
            n *= 10
    note = """
A memmap of 20 columns of float32, batches of 512, and blocks of 10,000 rows for
``partial_fit``: CPU seconds on one thread, and the largest growth of the memory of the
process without the pages of the file, for one pass, one epoch, or the scores of all rows.
``fit`` sorts the rows and so needs memory for an index of them; neither makes a copy. The
last column is the score of the last 5,000 rows after the training.
"""
    header = ["rows", "file, MB", "call", "seconds", "memory, MB", "nats"]
    return "Time and memory", note, header, rows


def _children():
    """Return user and system CPU seconds of child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime, usage.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--parts", nargs="*", default=["quality", "drift", "sizes"])
    parser.add_argument("--no-page", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    measures = {
        "quality": quality,
        "drift": drift,
        "sizes": lambda: sizes(arguments.rows, arguments.seconds),
    }
    found = {part: measures[part]() for part in arguments.parts}
    if not arguments.no_page:
        for part, table in found.items():
            (ROOT / f"streams_{part}.json").write_text(json.dumps(table, indent=1))
        paths = [ROOT / f"streams_{part}.json" for part in measures]
        parts = [json.loads(path.read_text()) for path in paths if path.exists()]
        command = "python benchmarks/streams.py"
        write_page(RESULTS / "streams.rst", "Streams", command, _TEXT, parts)
