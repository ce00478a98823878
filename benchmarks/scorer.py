"""Compare searches by the ELBO with searches by the importance-weighted bound.

``python benchmarks/scorer.py`` takes about two minutes of CPU time.
"""

import time
import warnings

import numpy as np
import torch
from data import N_COMPONENTS, load
from report import RESULTS, write_page

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV, log_marginal_scorer

torch.set_num_threads(1)
warnings.simplefilter("ignore")
BETAS = [0.5, 1.0, 2.0]
GRID = {"beta": BETAS, "alpha": [1.0, 3.0, 10.0], "max_iter": [30, 100]}
MODELS = {
    "Gaussian": {},
    "Laplace": {
        "likelihood": "laplace",
        "covariance_type": "diag",
        "variance_mode": "predicted",
    },
}
SETTINGS = [
    ("wine", "Gaussian"),
    ("wine", "Laplace"),
    ("breast_cancer", "Gaussian"),
    ("breast_cancer", "Laplace"),
    ("digits, 47 columns", "Gaussian"),
]
# Draws of the bound of single fits, so many that its own gap is small.
N_SAMPLES = 1024
# Fits whose gap is shown on the data of the fit and on new rows.
GAP_SETTINGS = [("wine", "Laplace"), ("breast_cancer", "Gaussian")]
GAP_EPOCHS = [30, 100, 300]
TEXT = f"""
A search over ``beta`` {BETAS}, ``alpha`` {GRID["alpha"]} and ``max_iter``
{GRID["max_iter"]} in five folds of the training part (80%), once with ``scoring=None``,
the ELBO, and once with ``scoring=log_marginal_scorer``, the importance-weighted bound with
128 draws. The chosen models are fitted to the training part, and scored on the test part by
the bound with {N_SAMPLES} draws, in nats per sample. Everything else is at its default,
with ``random_state=0``; data are float32. "Gaussian" has one optimal scale, "Laplace" a
predicted scale for each feature.
"""


def searched(name: str, model: str) -> dict[str, tuple[BatchedGridSearchCV, float]]:
    """Return the search by each scorer, with the CPU seconds of its fits and scores."""
    train, _ = load_float32(name)
    searches = {}
    for key, scoring in (("ELBO", None), ("bound", log_marginal_scorer)):
        search = BatchedGridSearchCV(make_vae(name, model), GRID, scoring=scoring)
        start = time.process_time()
        search.fit(train)
        searches[key] = search, time.process_time() - start
    return searches


def make_vae(name: str, model: str, **parameters) -> VariationalAutoencoder:
    """Return a model to fit."""
    parameters = MODELS[model] | parameters
    return VariationalAutoencoder(N_COMPONENTS[name], random_state=0, **parameters)


def load_float32(name: str) -> list[np.ndarray]:
    """Return training and test part in float32."""
    return [X.astype(np.float32) for X in load(name)]


def shown(search: BatchedGridSearchCV) -> str:
    """Return the chosen beta, alpha and max_iter."""
    return ", ".join(f"{search.best_params_[key]:g}" for key in GRID)


def choices(name: str, model: str, searches) -> list[str]:
    """Return the row of a table: both choices and their bounds on the test part."""
    _, test = load_float32(name)
    elbo, bound = (
        s.best_estimator_.log_marginal(test, N_SAMPLES).astype(np.float64)
        for s, _ in searches.values()
    )
    gain = bound - elbo
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return [
        *(name, model),
        *(shown(search) for search, _ in searches.values()),
        *(f"{scores.mean():.2f}" for scores in (elbo, bound)),
        f"{gain.mean():.2f} ({error:.2f})",
        *(f"{seconds:.1f}" for _, seconds in searches.values()),
    ]


def best_of_each_beta(name: str, model: str, searches) -> list[str]:
    """Return the row of a table: for each beta the best ELBO and bound, and their gap."""
    elbo, bound = (s.cv_results_["mean_test_score"] for s, _ in searches.values())
    betas = searches["ELBO"][0].cv_results_["param_beta"].astype(float)
    of_beta = [betas == beta for beta in BETAS]
    values = [scores[i].max() for scores in (elbo, bound) for i in of_beta]
    values += [(bound - elbo)[i].mean() for i in of_beta]
    return [name, model, *(f"{value:.2f}" for value in values)]


def gaps(name: str, model: str) -> list[list[str]]:
    """Return rows of a table: ELBO and bound on both parts, by beta and epochs."""
    parts = load_float32(name)
    rows = []
    for beta in (1.0, 2.0):
        for epochs in GAP_EPOCHS:
            vae = make_vae(name, model, beta=beta, max_iter=epochs).fit(parts[0])
            cells = []
            for X in parts:
                elbo, bound = vae.score(X), vae.log_marginal(X, N_SAMPLES).mean()
                cells += [f"{value:.2f}" for value in (elbo, bound, bound - elbo)]
            rows.append([name, model, f"{beta:g}", epochs, *cells])
    return rows


def main() -> None:
    """Run all searches, and write docs/results/scorer.rst."""
    chosen, by_beta = [], []
    for setting in SETTINGS:
        searches = searched(*setting)
        chosen.append(choices(*setting, searches))
        by_beta.append(best_of_each_beta(*setting, searches))
        print(*chosen[-1], "|", *by_beta[-1], flush=True)
    header = ["data", "model", "choice by the ELBO", "by the bound"]
    header += ["test, by the ELBO", "by the bound", "difference (s.e.)"]
    header += ["CPU s, by the ELBO", "by the bound"]
    keys = ("ELBO", "bound", "gap")
    betas = [f"{key}, beta {beta:g}" for key in keys for beta in BETAS]
    columns = [f"{what}, {part}" for part in ("training", "test") for what in keys]
    write_page(
        RESULTS / "scorer.rst",
        "A search by the ELBO or by its bound",
        "python benchmarks/scorer.py",
        TEXT,
        [
            (
                "What both searches choose",
                "A choice is beta, alpha, max_iter. A difference above 0 is for the bound.",
                header,
                chosen,
            ),
            (
                "The scores of each beta",
                "Cross-validated: the best ELBO and the best bound over alpha and "
                "max_iter, and the gap, bound minus ELBO, as a mean over both.",
                ["data", "model", *betas],
                by_beta,
            ),
            (
                "The gap on the data of a fit and on new rows",
                "Fits to the training part, with the default alpha.",
                ["data", "model", "beta", "max_iter", *columns],
                [row for setting in GAP_SETTINGS for row in gaps(*setting)],
            ),
        ],
    )


if __name__ == "__main__":
    main()
