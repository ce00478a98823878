"""Memory and time of fits to sparse data, beside those to the same data in a dense array.

    python benchmarks/sparse.py            # all rows, and the page
    python benchmarks/sparse.py --no-page

Each fit has a process of its own, with one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings

import scipy.sparse
from report import RESULTS, write_page

from skae import VariationalAutoencoder

# Rows, features and share of the numbers that are not 0.
SHAPES = [(20_000, 2000, 0.01), (50_000, 1000, 0.005), (3000, 20_000, 0.005)]
_EPOCHS = 3
# Rows whose scores and codes are computed.
_SCORED = 1000
_TEXT = """
The estimators make a dense block of sparse rows at a time: for a batch, for a chunk of
scores, for a sum over the rows. The table has the most memory that a process takes in a fit
of three epochs and in scores of 1,000 rows, less what it took after a small fit, and the
CPU time. Data are uniform numbers at random positions, the model is the default
``VariationalAutoencoder``.

"Dense" is the same data in an array of float64, whose own size is part of its memory. The
objective of a fit is that of the dense fit, to the bit. The last shape is an exception: its
principal components are computed by products of the sparse rows with vectors.
"""


def peak():
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(n, d, density, kind):
    """Fit and score in this process; return memory, seconds and the objective."""
    warnings.simplefilter("ignore")
    small = scipy.sparse.random_array((500, 50), density=0.1, format="csr", rng=0)
    VariationalAutoencoder(max_iter=1, random_state=0).fit(small).score(small)
    X = scipy.sparse.random_array((n, d), density=density, format="csr", rng=0)
    stored = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    before, begin = peak(), time.process_time()
    if kind == "dense":
        X = X.toarray()
        stored = X.nbytes
    model = VariationalAutoencoder(max_iter=_EPOCHS, random_state=0).fit(X)
    fitted = time.process_time()
    model.score(X[:_SCORED])
    scored = time.process_time()
    return {
        "stored": stored / 2**20,
        "memory": peak() - before,
        "fit": fitted - begin,
        "score": scored - fitted,
        "objective": model.loss_curve_[-1],
    }


def measure_all():
    """Return the rows of the table, each from two processes."""
    rows = []
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for n, d, density in SHAPES:
        for kind in ("sparse", "dense"):
            command = [
                sys.executable,
                __file__,
                "--one",
                str(n),
                str(d),
                str(density),
                kind,
            ]
            output = subprocess.check_output(command, env=one_thread, text=True)
            found = json.loads(output)
            rows.append(
                [
                    f"{n:,} x {d:,}, {density:.1%}",
                    kind,
                    f"{found['stored']:.0f}",
                    f"{found['memory']:.0f}",
                    f"{found['fit']:.1f}",
                    f"{found['score']:.2f}",
                    f"{found['objective']:.6f}",
                ]
            )
            print(rows[-1], flush=True)
    return rows


def main():
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-page", action="store_true")
    parser.add_argument("--one", nargs=4, metavar=("N", "D", "DENSITY", "KIND"))
    arguments = parser.parse_args()
    if arguments.one:
        n, d, density, kind = arguments.one
        print(json.dumps(measure(int(n), int(d), float(density), kind)))
        return
    rows = measure_all()
    if arguments.no_page:
        return
    header = ["data", "array", "MiB of X", "MiB more at the peak", "CPU s of fit"]
    header += [f"CPU s of {_SCORED:,} scores", "objective, nats per sample"]
    command = "python benchmarks/sparse.py"
    table = "Fits", "One process each, with one thread.", header, rows
    write_page(RESULTS / "sparse.rst", "Sparse data", command, _TEXT, [table])


if __name__ == "__main__":
    main()
