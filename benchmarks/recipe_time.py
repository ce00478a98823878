"""Measure the time of a fit of the recipe for densities.

``python benchmarks/recipe_time.py`` takes about six minutes.
"""

import time
import warnings

import numpy as np
from report import RESULTS, write_page
from sklearn.mixture import GaussianMixture

from skae.recipes import make_density_estimator

SHAPES = ((1000, 16), (5000, 16), (20_000, 16), (5000, 64))
REPEATS = 3
N_TEST = 2000


def draw(n, d):
    """Draw n rows near a curved surface of four dimensions."""
    rng = np.random.default_rng(0)
    W, curvature = rng.normal(size=(2, 4, d))
    Z = rng.normal(size=(n, 4))
    return Z @ W + np.sin(Z @ curvature) + 0.3 * rng.standard_normal((n, d))


def seconds(model, X):
    """Return the shortest of some wall-clock times of a fit."""
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        model.fit(X)
        found.append(time.perf_counter() - start)
    return min(found)


def cells(n, d):
    """Return the cells of a row."""
    X, test = np.split(draw(n + N_TEST, d), [n])
    recipe, mixture = make_density_estimator(random_state=0), GaussianMixture(20)
    times = [seconds(model, X) for model in (recipe, mixture)]
    scores = recipe.log_marginal(test, 500).mean(), mixture.score(test)
    return [
        f"{n:,}",
        str(d),
        str(recipe.n_iter_),
        *(f"{value:.1f}" for value in times),
        *(f"{value:.2f}" for value in scores),
    ]


def main() -> None:
    """Measure all shapes and write the page."""
    warnings.simplefilter("ignore")
    seconds(make_density_estimator(random_state=0, max_iter=2), draw(500, 16))
    rows = [cells(n, d) for n, d in SHAPES]
    header = [
        "rows",
        "features",
        "epochs",
        "recipe, s",
        "mixture, s",
        "recipe, nats",
        "mixture, nats",
    ]
    write_page(
        RESULTS / "recipe_time.rst",
        "Time of the recipe for densities",
        "python benchmarks/recipe_time.py",
        f"""
Wall-clock time of a fit with :func:`skae.recipes.make_density_estimator` and all cores, the
shortest of {REPEATS}, beside ``GaussianMixture`` with 20 components of full covariance. The
rows are drawn near a curved surface of four dimensions. The last columns are the mean
log-likelihood of {N_TEST:,} other rows; that of the recipe is a lower bound with 500 draws.
""",
        [("Fits", "The aim is less than 5 s for 5,000 rows of 16 features.", header, rows)],
    )


if __name__ == "__main__":
    main()
