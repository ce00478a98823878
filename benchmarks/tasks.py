"""Compare autoencoders with simpler models on small tasks, some of which these win.

    python benchmarks/tasks.py              # about three minutes
    python benchmarks/tasks.py --seconds    # with CPU seconds; nothing else may run

All tables are in scikit-learn, and every process has one thread. Writes
docs/results/tasks.rst.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from report import RESULTS, write_page
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skae import VariationalAutoencoder
from skae.outlier import LikelihoodOutlierDetector
from skae.recipes import make_density_estimator, make_outlier_estimator

SEEDS = range(5)
N_NEIGHBORS = 5
N_MALIGNANT = 18
N_DRAWS = 500
FOLDS = 5

TEXT = f"""
Where simpler models win, and where they do not. Models have their defaults where nothing
else is said, and nothing is tuned, except for the components and covariances of
``GaussianMixture``.

In short, from the tables below:

- A small network makes a better map than PCA, a larger one with a longer training a much
  better map, and t-SNE the best one of the rows of the fit.
- ``IsolationForest`` finds malignant tumours among benign ones best, if the fit sees both;
  the detector of skae is within its error, and the default model far behind. If the fit
  sees benign ones only, all are level, but for the default model.
- A logistic regression needs no autoencoder before it. If the code has to be small, that of
  an autoencoder is better than that of PCA on digits, and level on the other tables.
- The defaults have lower densities than factor analysis on small tables, and far lower ones
  than a mixture of Gaussians on breast_cancer. The recipe for densities is ahead of both.

Means over {len(SEEDS)} seeds, and behind ± their standard deviation.
"""


def _cpu_seconds(function, *args):
    """Return the result of a call, and its CPU seconds."""
    start = time.process_time()
    result = function(*args)
    return result, time.process_time() - start


def maps():
    """Return the rows of the map: system, accuracy of all rows, of new rows, seconds."""
    X, y = load_digits(return_X_y=True)
    wide = {"hidden_layer_sizes": (256, 128), "max_iter": 300}
    systems = {
        "PCA": lambda seed: PCA(2),
        "defaults: (64,), 100 epochs": lambda seed: VariationalAutoencoder(
            2, random_state=seed
        ),
        "(64,), 300 epochs": lambda seed: VariationalAutoencoder(
            2, max_iter=300, random_state=seed
        ),
        "(256, 128), 100 epochs": lambda seed: VariationalAutoencoder(
            2, hidden_layer_sizes=(256, 128), random_state=seed
        ),
        "(256, 128), 300 epochs": lambda seed: VariationalAutoencoder(
            2, random_state=seed, **wide
        ),
        "t-SNE": lambda seed: TSNE(2, random_state=seed, n_jobs=1),
    }
    rows = []
    for name, make in systems.items():
        of_all, of_new, seconds = [], [], []
        for seed in SEEDS:
            Z, spent = _cpu_seconds(make(seed).fit_transform, X)
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
            neighbors = KNeighborsClassifier(N_NEIGHBORS)
            of_all.append(cross_val_score(neighbors, Z, y, cv=folds).mean())
            seconds.append(spent)
            if name != "t-SNE":
                # One fold is enough, since each is another fit.
                train, test = next(folds.split(X, y))
                model = make(seed).fit(X[train])
                neighbors.fit(model.transform(X[train]), y[train])
                of_new.append(neighbors.score(model.transform(X[test]), y[test]))
        new = _mean(of_new) if of_new else "no map"
        rows.append([name, _mean(of_all), new, f"{np.median(seconds):.1f}"])
        print(rows[-1], flush=True)
    return rows


def outliers():
    """Return the rows of the outliers: detector, AUC with and without outliers."""
    X, y = load_breast_cancer(return_X_y=True)
    benign, malignant = X[y == 1], X[y == 0]

    def vae(seed, **parameters):
        return VariationalAutoencoder(random_state=seed, **parameters)

    systems = {
        "IsolationForest": lambda seed: IsolationForest(random_state=seed),
        "GaussianMixture, 1 component": lambda seed: GaussianMixture(random_state=seed),
        "VariationalAutoencoder, defaults": vae,
        "the same, predicted scale of a feature": lambda seed: vae(
            seed, variance_mode="predicted", covariance_type="diag"
        ),
        "make_outlier_estimator": lambda seed: make_outlier_estimator(random_state=seed),
        "LikelihoodOutlierDetector": lambda seed: LikelihoodOutlierDetector(
            random_state=seed
        ),
    }
    rows = []
    for name, make in systems.items():
        mixed, clean = [], []
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            chosen = malignant[rng.choice(len(malignant), N_MALIGNANT, replace=False)]
            table = np.vstack([benign, chosen])
            unusual = np.arange(len(table)) >= len(benign)
            model = make_pipeline(StandardScaler(), make(seed)).fit(table)
            mixed.append(roc_auc_score(unusual, -model.score_samples(table)))
            # The test part: malignant tumours, and benign ones that were not in the fit.
            order = rng.permutation(len(benign))
            train, test = benign[order[:250]], benign[order[250:]]
            model = make_pipeline(StandardScaler(), make(seed)).fit(train)
            tested = np.vstack([test, chosen])
            unusual = np.arange(len(tested)) >= len(test)
            clean.append(roc_auc_score(unusual, -model.score_samples(tested)))
        rows.append([name, _mean(mixed), _mean(clean)])
        print(rows[-1], flush=True)
    return rows


def classification():
    """Return the rows of the classifier: what is before it, accuracy on each table."""
    tables = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}
    steps = {"all features": lambda seed: None}
    for k in (2, 8):
        steps[f"PCA({k})"] = lambda seed, k=k: PCA(k)
        steps[f"VariationalAutoencoder({k})"] = lambda seed, k=k: VariationalAutoencoder(
            k, random_state=seed
        )
    rows = []
    for name, make in steps.items():
        cells = []
        for load in tables.values():
            X, y = load(return_X_y=True)
            scores = []
            for seed in SEEDS:
                step = make(seed) or "passthrough"
                classifier = LogisticRegression(max_iter=5000)
                # Codes have other spreads than features, so they are standardised too.
                model = make_pipeline(StandardScaler(), step, StandardScaler(), classifier)
                folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
                scores.append(cross_val_score(model, X, y, cv=folds).mean())
            cells.append(_mean(scores))
        rows.append([name, *cells])
        print(rows[-1], flush=True)
    return ["before the classifier", *tables], rows


def densities():
    """Return the rows of the densities: model, mean log-density on each table."""
    tables = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}
    mixture = GridSearchCV(
        GaussianMixture(reg_covar=1e-3, random_state=0),
        {"n_components": [1, 2, 3, 5], "covariance_type": ["diag", "tied", "full"]},
        cv=3,
    )
    systems = {
        "FactorAnalysis(2)": FactorAnalysis(2),
        "GaussianMixture, tuned": mixture,
        "VariationalAutoencoder, defaults": VariationalAutoencoder(random_state=0),
        "make_density_estimator": make_density_estimator(random_state=0),
    }
    rows = []
    for name, model in systems.items():
        bounds, scores = [], []
        for load in tables.values():
            X = load().data
            means = []
            for seed in SEEDS:
                folds = KFold(FOLDS, shuffle=True, random_state=seed)
                parts = [_densities(model, X, *fold) for fold in folds.split(X)]
                means.append(np.mean(parts, axis=0))
            bound, score = np.transpose(means)
            bounds.append(_mean(bound, digits=2))
            scores.append(_mean(score, digits=2))
        rows.append([name, *bounds])
        if hasattr(model, "log_marginal"):
            rows.append(["the same, its score", *scores])
        print(*rows[-2:], flush=True)
    return ["model", *tables], rows


def _densities(model, X, train, test):
    """Return the mean log-density of standardised test rows or its bound, and the score.

    Both are in nats.
    """
    scaler = StandardScaler().fit(X[train])
    fitted = clone(model).fit(scaler.transform(X[train]))
    rows = scaler.transform(X[test])
    score = fitted.score(rows)
    if hasattr(fitted, "log_marginal"):
        return fitted.log_marginal(rows, n_samples=N_DRAWS).mean(), score
    return score, score


def _mean(values, digits=3):
    """Return mean and standard deviation as text."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def main():
    """Run all tasks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", action="store_true", help="add the CPU seconds")
    with_seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        header = ["map", "all rows", "new rows", "CPU seconds of a fit"]
        n_columns = len(header) if with_seconds else len(header) - 1
        tables = [
            (
                "A map of the digits",
                f"Accuracy of a classifier by the {N_NEIGHBORS} nearest rows in the map: "
                f"by {FOLDS} folds of\nthe rows of the fit, and for rows that were not in "
                "it. t-SNE has no map for new rows.",
                header[:n_columns],
                [row[:n_columns] for row in maps()],
            ),
            (
                "Malignant tumours among benign ones",
                f"breast_cancer, standardised: area under the ROC curve of 357 benign and "
                f"{N_MALIGNANT} malignant\nrows, trained on all of them, and of "
                f"{N_MALIGNANT} malignant rows and 107 benign ones, trained\non the 250 "
                "other benign rows. A seed draws the malignant rows.",
                ["detector", "trained on all", "trained on benign rows"],
                outliers(),
            ),
            (
                "A classifier on codes",
                f"Accuracy of a logistic regression, by {FOLDS} folds.",
                *classification(),
            ),
            (
                "Densities of small tables",
                f"Mean log-density of the rows of {FOLDS} folds, standardised by their "
                f"training folds, in nats;\nof the autoencoders the bound with {N_DRAWS} "
                "draws. A seed divides the rows.",
                *densities(),
            ),
        ]
    command = "python benchmarks/tasks.py" + (" --seconds" if with_seconds else "")
    title = "Tasks beside simpler models"
    write_page(RESULTS / "tasks.rst", title, command, TEXT, tables)


if __name__ == "__main__":
    main()
