"""Tests that arrays in files are never copied into memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

# A process of its own: the peak of memory is that of a process. The pages of the file do
# not count, because the system may drop them; anonymous memory is that of copies.
SCRIPT = """
import json, sys, threading, warnings
import numpy as np, torch
from skae import GaussianAutoencoder
warnings.simplefilter("ignore")
torch.set_num_threads(1)
path, dtype, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
X = np.memmap(path, dtype=dtype, mode="r", shape=(n, 100))
model = GaussianAutoencoder(2, hidden_layer_sizes=(8,), max_iter=1, batch_size=2048)
def call(name, X):
    getattr(model, name)(X)
for name in ("fit", "score_samples", "transform", "partial_fit"):
    call(name, np.array(X[:4000]))
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
grown = {}
for name in ("fit", "score_samples", "transform", "partial_fit"):
    base, peak, done = anonymous(), [0], threading.Event()
    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], anonymous())
    thread = threading.Thread(target=watch)
    thread.start()
    call(name, X)
    done.set()
    thread.join()
    grown[name] = max(peak[0], anonymous()) - base
print(json.dumps(grown))
"""
N_BYTES = 60_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has the memory of a process")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memmap_is_not_copied(dtype, tmp_path):
    """No call needs more than a part of the size of the file: index and batches."""
    path, width = tmp_path / "rows.dat", 100
    n = N_BYTES // (np.dtype(dtype).itemsize * width)
    X = np.memmap(path, dtype=dtype, mode="w+", shape=(n, width))
    rng = np.random.default_rng(0)
    for first in range(0, n, 5000):
        block = X[first : first + 5000]
        block[:] = rng.random(size=(len(block), 1)) + rng.random(size=(1, width))
        block[:, 0] += rng.random(size=len(block))
    X.flush()
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), dtype, str(n)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = json.loads(found.stdout)
    assert set(grown) == {"fit", "score_samples", "transform", "partial_fit"}
    # An array of the size of the file would be 60 MB more.
    assert max(grown.values()) < 0.6 * N_BYTES, grown
