"""Measure the time of preparation, epochs, scores and codes against the size of the data.

``python benchmarks/size.py`` takes about ten minutes; with a number as argument, rows are
limited to it. All times are CPU time of one thread.
"""

import sys
import time
import warnings

import numpy as np
import torch
from report import RESULTS, write_page

from skae import VariationalAutoencoder
from skae._data import measure
from skae._data.rows import select_rows

torch.set_num_threads(1)
warnings.simplefilter("ignore")
MOST_ROWS = int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_000_000
ROWS = [n for n in (10_000, 100_000, 1_000_000) if n <= MOST_ROWS]
FEATURES = (10, 100, 1000, 1001, 5000, 20_000)
LIKELIHOODS = ("gaussian", "laplace", "logistic", "poisson")


def draw(n, d, seed=0):
    """Draw n rows near a curved surface of four dimensions, float32."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 4)).astype(np.float32)
    W, curvature = rng.normal(size=(2, 4, d)).astype(np.float32)
    noise = rng.standard_normal(size=(n, d), dtype=np.float32)
    return Z @ W + np.sin(Z @ curvature) + 0.3 * noise


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


def cpu(function):
    """Return the CPU time of a call in seconds, and its result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def costs(X, **parameters):
    """Return preparation, epoch, score and codes in seconds."""

    def fit(max_iter):
        model = VariationalAutoencoder(
            random_state=0, max_iter=max_iter, n_iter_no_change=9, **parameters
        )
        return model.fit(X)

    short, _ = cpu(lambda: fit(1))
    long, model = cpu(lambda: fit(3))
    epoch = (long - short) / 2
    score, _ = cpu(lambda: model.score_samples(X))
    codes, _ = cpu(lambda: model.transform(X))
    return [max(short - epoch, 0.0), epoch, score, codes]


def cells(found):
    """Return the costs as text, and those of scores in epochs."""
    preparation, epoch, score, _ = found
    ratios = f"{preparation / (10 * epoch):.2f}", f"{score / epoch:.1f}"
    return [*(f"{seconds:.2f}" for seconds in found), *ratios]


ordering = []
for kind in ("numbers", "flags", "rare flags", "integers to 9", "flags, integers, numbers"):
    row = [kind]
    for n in ROWS:
        X = draw_table(kind, n)
        seconds, rows = cpu(lambda X=X, n=n: select_rows(X, np.ones(n), True))
        statistics, _ = cpu(lambda rows=rows: measure(rows, "spherical"))
        row.append(f"{seconds:.2f} + {statistics:.2f}")
    ordering.append(row)
    print(row, flush=True)

by_rows = []
for likelihood in LIKELIHOODS:
    for n in ROWS:
        X = draw(n, 20)
        if likelihood == "poisson":
            X = np.random.default_rng(1).poisson(np.exp(0.3 * X.clip(-5, 5)))
        by_rows.append([likelihood, f"{n:,}", *cells(costs(X, likelihood=likelihood))])
        print(by_rows[-1], flush=True)

by_features = []
for kind in ("spherical", "diag"):
    for d in FEATURES:
        found = costs(draw(2000, d), covariance_type=kind, n_components=8)
        by_features.append([kind, f"{d:,}", *cells(found)])
        print(by_features[-1], flush=True)

COLUMNS = ["preparation", "epoch", "score_samples", "transform"]
RATIOS = ["preparation / 10 epochs", "score_samples in epochs"]
write_page(
    RESULTS / "size.rst",
    "The time against the size of the data",
    "python benchmarks/size.py",
    """
CPU time of one thread, in seconds. All parameters have their defaults, except for those in
the tables. "Preparation" is a fit of one epoch less an epoch: rows are ordered and merged,
measured, and the start is computed. The aim is a tenth of ten epochs for it, and a tenth of
the former time of scores: 33 to 116 epochs for likelihoods other than the Gaussian, 6 to 15
for the Gaussian.
""",
    [
        (
            "Ordering and statistics",
            "Rows of 25 columns: seconds to order and merge them + to measure them.",
            ["columns", *(f"{n:,} rows" for n in ROWS)],
            ordering,
        ),
        (
            "Rows",
            "Rows of 20 features, 2 components.",
            ["likelihood", "rows", *COLUMNS, *RATIOS],
            by_rows,
        ),
        (
            "Features",
            "2,000 rows, 8 components, a Gaussian likelihood.",
            ["covariance_type", "features", *COLUMNS, *RATIOS],
            by_features,
        ),
    ],
)
