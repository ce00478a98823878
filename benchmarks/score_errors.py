"""Measure the error of the score of a row, and what the further draws bring.

``python benchmarks/score_errors.py`` takes about two minutes.
"""

import warnings
from unittest.mock import patch

import numpy as np
import torch
from report import RESULTS, write_page
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from skae.objectives import elbo
from skae.objectives.draws import matched_normal
from skae.objectives.expectation import TOLERANCE, expect

# Draws of the reference: its own error is below that of 8 draws by a factor of 20 or more.
MANY = 4096
LIKELIHOODS = ("gaussian", "laplace")


def curved(n, d, k, noise):
    """Draw n rows near a curved surface of k dimensions."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, k))
    W, curvature = rng.normal(size=(2, k, d))
    return Z @ W + np.sin(Z @ curvature) + noise * rng.standard_normal((n, d))


def tables():
    """Return the data, the number of components and further parameters by name."""
    cancer, wine, digits = (
        load().data for load in (load_breast_cancer, load_wine, load_digits)
    )
    scale = StandardScaler().fit_transform
    return {
        "curved, 4 dimensions, 20 columns": (curved(4000, 20, 4, 0.3), 2, {}),
        "the same, all dimensions": (curved(4000, 20, 4, 0.3), 4, {}),
        "curved, 2 dimensions, 12 columns": (curved(3000, 12, 2, 0.1), 2, {}),
        "breast_cancer": (scale(cancer), 7, {"covariance_type": "diag"}),
        "wine": (scale(wine), 3, {}),
        "digits": (digits, 8, {}),
    }


def scores(model, X, numbers, errors=None):
    """Return scores with given numbers of draws; collect their estimated errors."""

    def sets(spec):
        k = spec.n_components
        return [matched_normal(k, max(n, 2 * k))[:, None] for n in numbers]

    def expect_and_note(evaluate, y, heads, draws):
        if errors is not None:
            errors.append(evaluate(y, heads, draws[0])[1])
        return expect(evaluate, y, heads, draws)

    with (
        patch.object(elbo, "draws_of_scores", sets),
        patch.object(elbo, "expect", expect_and_note),
    ):
        return model.score_samples(X)


def rms(values):
    """Return the root mean square of numbers."""
    return np.sqrt(np.square(values).mean())


def cells(X, k, likelihood, parameters):
    """Return the cells of a row."""
    model = VariationalAutoencoder(
        k, likelihood=likelihood, random_state=0, **parameters
    ).fit(X)
    exact, errors = scores(model, X, [MANY]), []
    few = scores(model, X, [8], errors) - exact
    estimated = torch.cat(errors).numpy()
    both, many = (scores(model, X, n) - exact for n in ([8, 32], [32]))
    return [
        f"{exact.std():.1f}",
        f"{rms(both):.3f}",
        f"{both.mean():+.3f}",
        f"{rms(few):.3f}",
        f"{rms(many):.3f}",
        f"{(estimated > TOLERANCE / 2).mean():.1%}",
        f"{rms(few) / rms(estimated):.2f}",
    ]


def main() -> None:
    """Measure all tables and write the page."""
    warnings.simplefilter("ignore")
    rows = []
    for name, (X, k, parameters) in tables().items():
        for likelihood in LIKELIHOODS:
            rows.append([name, likelihood, *cells(X, k, likelihood, parameters)])
            print(rows[-1], flush=True)
    header = [
        "data",
        "likelihood",
        "spread of the scores",
        "error",
        "mean error",
        "error of 8 draws",
        "error of 32 draws",
        "rows with more than 8 draws",
        "error over its estimate",
    ]
    note = (
        "In nats; errors of rows are root mean squares. The last column is the error of 8 "
        "draws over its estimate, the standard error that independent pairs would have."
    )
    write_page(
        RESULTS / "score_errors.rst",
        "The error of a score",
        "python benchmarks/score_errors.py",
        f"""
The scores of :doc:`../guide/scores` against the same scores with {MANY} draws, on the rows
of the fit. All parameters have their defaults, except that breast_cancer has a scale for
each column. Components: as many as dimensions or 2 for curved data, 7, 3 and 8 for the
others.
""",
        [("Errors", note, header, rows)],
    )


if __name__ == "__main__":
    main()
