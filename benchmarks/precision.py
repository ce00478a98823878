"""Measure the limits of float32 and float64, in the units of a user.

``python benchmarks/precision.py`` takes less than a minute. docs/guide/precision.rst
explains the numbers.
"""

import warnings

import numpy as np
import torch
from report import RESULTS, write_page
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from skae import GaussianAutoencoder, VariationalAutoencoder

torch.set_num_threads(1)
TABLES = {
    "iris": load_iris().data,
    "wine": load_wine().data,
    "breast_cancer": load_breast_cancer().data,
    "digits": load_digits().data,
}
# Messages about short trainings on columns without structure, not about limits.
_OF_TRAINING = "Training did not improve", "No component of the code"
rng = np.random.default_rng(0)
NORMAL = rng.normal(size=(500, 6))


def fit(X, estimator=VariationalAutoencoder, **parameters):
    """Fit a model; return it, or None if it is refused, and the first words of messages."""
    parameters = {"max_iter": 10, "random_state": 0} | parameters
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = estimator(**parameters).fit(X)
        except ValueError as error:
            return None, f"refused: {short(error)}"
    messages = {short(warning.message) for warning in caught}
    messages = sorted(m for m in messages if not m.startswith(_OF_TRAINING))
    return model, "; ".join(messages) or "no message"


def short(message):
    """Return the first words of a message."""
    return " ".join(str(message).split()[:9]) + " ..."


def exact_ppca(X, k):
    """Return the log-likelihood (nats) of maximum-likelihood probabilistic PCA.

    Columns of spread 1 and one of a huge spread: without a Gram matrix, whose small
    eigenvalues would be lost.
    """
    n, d = X.shape
    A = (X - X.mean(axis=0)) / np.sqrt(n)
    values = np.linalg.svd(A, compute_uv=False) ** 2
    noise = values[k:].mean()
    log_det = np.log(values[:k]).sum() + (d - k) * np.log(noise)
    return -0.5 * (d * np.log(2 * np.pi) + log_det + d)


def spreads():
    """Fit six columns of one spread: the smallest and the largest."""
    rows = []
    for exponent in (-310, -304, -302, -300, -150, -30, 30, 150, 153, 155):
        X = NORMAL * 10.0**exponent
        model, message = fit(X)
        gap = "" if model is None else f"{model.score(X) + 6 * np.log(10) * exponent:.4f}"
        rows.append([f"1e{exponent}", gap, message])
    return rows


def offsets():
    """Fit columns of spread 1 on an offset, stored in float32 and in float64."""
    rows = []
    reference = fit(NORMAL)[0].score(NORMAL)
    for dtype in (np.float32, np.float64):
        for exponent in (2, 4, 6, 7, 8, 10, 12, 14, 15, 16):
            if dtype == np.float32 and exponent > 8:
                continue
            X = (NORMAL + 10.0**exponent).astype(dtype)
            model, message = fit(X)
            change = f"{model.score(X) - reference:+.4f}"
            step = float(np.spacing(dtype(10.0**exponent)))
            rows.append([f"1e{exponent}", dtype.__name__, f"{step:.1g}", change, message])
    return rows


def unequal():
    """Fit a column of a large spread beside five of spread 1, under one scale."""
    rows = []
    for exponent in (2, 3, 4, 6, 7, 8, 9):
        X = NORMAL * [10.0**exponent, 1, 1, 1, 1, 1]
        exact = exact_ppca(X, 2)
        cells = []
        for parameters in (
            {},
            {"precision": "float64"},
            {"precision": "float64", "min_scale": 1e-3},
        ):
            model, _ = fit(X, hidden_layer_sizes=(), max_iter=1, **parameters)
            cells += [f"{model.score(X) - exact:+.3f}"]
        message = fit(X, hidden_layer_sizes=(), max_iter=1)[1]
        diag = fit(X, covariance_type="diag", hidden_layer_sizes=())[0]
        rows.append([f"1e{exponent}", *cells, f"{diag.score(X) - exact:+.3f}", message])
    return rows


def smallest_scale():
    """Fit with a given min_scale, in units of the standard deviation of the columns."""
    X = np.outer(NORMAL[:, 0], np.ones(6)) + 1e-9 * NORMAL
    rows = []
    for precision in ("auto", "float64"):
        for min_scale in (1e-4, 1e-5, 1e-7, 1e-9, 1e-12):
            model, message = fit(
                X,
                GaussianAutoencoder,
                hidden_layer_sizes=(),
                n_components=6,
                min_scale=min_scale,
                precision=precision,
            )
            rows.append([precision, f"{min_scale:g}", f"{model.scale_:.2g}", message])
    return rows


def float32_scores():
    """Compare scores of float32 and float64 numbers by one fitted model."""
    rows = []
    for name, X in TABLES.items():
        for covariance_type in ("spherical", "diag"):
            model, _ = fit(X, covariance_type=covariance_type, n_components=3)
            X32 = X.astype(np.float32)
            same = model.score_samples(X32.astype(np.float64))
            gap = np.abs(model.score_samples(X32) - same)
            stored = abs(model.score(X32.astype(np.float64)) - model.score(X))
            mean = abs(model.score(X32) - same.mean())
            row = [f"{mean:.0e}", f"{gap.max():.0e}", f"{stored:.0e}"]
            rows.append([f"{name}, {covariance_type}", *row])
    for ratio in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        X = np.outer(NORMAL[:, 0], np.ones(6)) + ratio * NORMAL
        model, _ = fit(X, hidden_layer_sizes=(), n_components=1, precision="float64")
        X32 = X.astype(np.float32)
        same = model.score_samples(X32.astype(np.float64))
        gap = np.abs(model.score_samples(X32) - same)
        stored = abs(model.score(X32.astype(np.float64)) - model.score(X))
        row = [f"{abs(np.mean(gap)):.0e}", f"{gap.max():.0e}", f"{stored:.0e}"]
        rows.append([f"residual {ratio:g} of the spread", *row])
    return rows


def precisions():
    """Compare the scores of fits in all precisions."""
    rows = []
    for name, X in TABLES.items():
        scores = {
            precision: fit(X, precision=precision, max_iter=40, n_components=3)[0].score(X)
            for precision in ("float64", "auto", "float32", "tf32", "bf16")
        }
        exact = scores.pop("float64")
        rows.append([name, *(f"{score - exact:+.3f}" for score in scores.values())])
    return rows


def distant():
    """Score and transform rows of any size, by a model of columns of spread 1."""
    model, _ = fit(NORMAL)
    rows = []
    for dtype, exponents in (
        (np.float32, (4, 18, 19, 38)),
        (np.float64, (19, 153, 155, 307)),
    ):
        for exponent in exponents:
            row = np.full((1, 6), 10.0**exponent).astype(dtype)
            code, score = model.transform(row)[0, 0], model.score_samples(row)[0]
            location = model.reconstruct(row)[0, 0]
            cells = [f"{value:.2g}" for value in (code, location, score)]
            rows.append([f"1e{exponent}", dtype.__name__, *cells])
    return rows


def users():
    """Fit tables of users, with each scale in its own column."""
    n = 2000
    year = rng.integers(1990, 2025, size=n).astype(float)
    euros = np.round(np.exp(rng.normal(8, 1, size=n)), 2)
    pressure = 101_325 + 0.15 * rng.normal(size=n)
    seconds = 1.7e9 + np.cumsum(rng.exponential(60, size=n))
    filled = np.where(rng.random(n) < 0.05, 1e19, euros)
    small = np.where(rng.random(n) < 0.05, -9999, euros)
    tables = {
        "years 1990 to 2024": year,
        "air pressure in Pa, 101325 +- 0.15": pressure,
        "timestamps in seconds, 33 hours": seconds,
        "timestamps in nanoseconds, 33 hours": seconds * 1e9,
        "euros, rounded to cents": euros,
        "euros with the fill value -9999": small,
        "euros with the fill value 1e19": filled,
    }
    rows = []
    for name, column in tables.items():
        X = np.column_stack([column, rng.normal(size=n)])
        cells = []
        for dtype in (np.float64, np.float32):
            model, message = fit(X.astype(dtype), covariance_type="diag", n_components=1)
            cells.append(f"{model.score(X.astype(dtype)):.3f}")
        lost = np.spacing(np.float32(abs(column).max())) / column.std()
        rows.append([name, f"{column.std():.3g}", f"{lost:.0e}", *cells, message])
    return rows


PAGE = [
    (
        "Spread of a column",
        spreads,
        """
Six columns of one spread. A score shifts by -d log a if all columns are multiplied by a.
The second column is the score plus d log a, which would be one number without rounding.
""",
        ["spread", "score + d log a", "message"],
    ),
    (
        "Offset of a column",
        offsets,
        """
Six columns of spread 1 on an offset, stored in one of two dtypes. *Step* is the distance
between neighbouring numbers at that offset. The change of the score is that from a table
without offset.
""",
        ["offset", "stored in", "step", "change of the score", "message"],
    ),
    (
        "Columns of unequal spread",
        unequal,
        """
A column of a large spread beside five of spread 1. The numbers are scores of linear models
minus the exact log-likelihood of probabilistic PCA. The last model has a scale per feature:
its density is another one, so it may have a better score.
""",
        [
            "ratio of the spreads",
            "default",
            '``precision="float64"``',
            "and ``min_scale=1e-3``",
            '``covariance_type="diag"``',
            "message of the default",
        ],
    ),
    (
        "Smallest scale",
        smallest_scale,
        """
Columns of spread 1 that the model reproduces to within 1e-9, with a given ``min_scale``.
""",
        ["precision", "``min_scale``", "``scale_``", "message"],
    ),
    (
        "Scores of float32 numbers",
        float32_scores,
        """
Differences in nats between the scores of float32 numbers and those of the same numbers as
float64, by one model: of the mean score, and the largest of a row. *Storing* is the change
of the mean score by rounding the table to float32. In the last rows, the columns have
spread 1 and the residual is far below.
""",
        ["table", "mean score", "largest of a row", "storing"],
    ),
    (
        "Precision of the training",
        precisions,
        """
Scores on the training data after 40 epochs, minus that of ``precision="float64"``, in nats.
On a CPU, "tf32" is float32.
""",
        ["table", "auto", "float32", "tf32", "bf16"],
    ),
    (
        "Distant rows",
        distant,
        """
First component, first reconstructed value and score of rows of any size, by a model of
columns of spread 1. A score beyond the range is the smallest number of the dtype.
""",
        ["size of the values", "dtype", "code", "reconstruction", "score"],
    ),
    (
        "Tables of users",
        users,
        """
Each is one column, beside a standard normal one, with a scale per feature. *Rounding* is
the distance between neighbouring float32 numbers at the largest value, over the standard
deviation. The scores are those of the same table in float64 and stored in float32.
""",
        ["column", "std", "rounding", "float64", "float32", "message of float32"],
    ),
]


def main():
    """Measure everything and write the page."""
    text = """
What :doc:`../guide/precision` refers to. Models are variational autoencoders with default
parameters and 10 epochs, unless a section names others. Scores are in nats per sample.
Messages that training did not improve on its start are left out.
"""
    tables = [(heading, note, head, make()) for heading, make, note, head in PAGE]
    title = "Limits of float32 and float64"
    write_page(
        RESULTS / "precision.rst", title, "python benchmarks/precision.py", text, tables
    )


if __name__ == "__main__":
    main()
