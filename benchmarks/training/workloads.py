"""Make the data, and save them as files that the workers read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import N_COMPONENTS, load
from sklearn.datasets import load_digits


@dataclass(frozen=True)
class Workload:
    """Data and an architecture."""

    name: str
    hidden: list[int]
    k: int
    batch: int
    # Lengths of the short and of the long fit, whose difference is the time of epochs.
    epochs_timed: tuple[int, int]
    # Number of times that a process runs both fits; the fastest ones count.
    pairs: int
    # Epochs of a fit that is timed as a whole; 0 for none.
    whole: int = 0
    # Shape of drawn data; 0 for the digits.
    n_rows: int = 0
    n_columns: int = 0

    def describe(self, X: np.ndarray) -> str:
        """Return the data and the architecture as text."""
        return (
            f"{len(X):,} x {X.shape[1]}, hidden layers {tuple(self.hidden)}, "
            f"{self.k} components, batches of {self.batch}, {X.dtype}"
        )

    def request(self) -> dict[str, object]:
        """Return the fields of a request that hold the architecture."""
        return {"hidden": self.hidden, "k": self.k, "batch": self.batch}


WORKLOADS = {
    "S": Workload("S", [64], 8, 128, (5, 25), 5, whole=100),
    "W": Workload("W", [128, 64], 8, 512, (1, 3), 2, n_rows=200_000, n_columns=32),
    "M": Workload("M", [512, 256], 32, 256, (1, 3), 2, n_rows=60_000, n_columns=784),
}


def draw(n_rows: int, n_columns: int) -> np.ndarray:
    """Draw rows near a curved surface of 16 dimensions, with unit variance, in float32."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((16, 64), dtype=np.float32)
    loadings = rng.standard_normal((64, n_columns), dtype=np.float32)
    z = rng.standard_normal((n_rows, 16), dtype=np.float32)
    X = np.sin(z @ mixing / 3) @ loadings
    X /= X.std(axis=0)
    X += 0.5 * rng.standard_normal(X.shape, dtype=np.float32)
    return (X - X.mean(axis=0)) / X.std(axis=0)


def make(workload: Workload, quick: bool) -> np.ndarray:
    """Return the data of a workload; ``quick`` makes drawn data 20 times smaller."""
    if not workload.n_rows:
        return (load_digits().data / 16).astype(np.float32)
    return draw(workload.n_rows // (20 if quick else 1), workload.n_columns)


QualitySet = tuple[np.ndarray, np.ndarray, list[int], int]


def quality_sets(drawn_rows: int) -> dict[str, QualitySet]:
    """Return training part, test part, widths and components of each set, in float32."""
    sets = {}
    for name in ("digits, 47 columns", "breast_cancer"):
        train, test = (part.astype(np.float32) for part in load(name))
        sets[name] = train, test, [64], N_COMPONENTS[name]
    if not drawn_rows:
        return sets
    X = draw(drawn_rows + drawn_rows // 10, 784)
    name = f"drawn, {drawn_rows:,} x 784"
    sets[name] = X[:drawn_rows], X[drawn_rows:], [512, 256], 32
    return sets


def save(folder: Path, name: str, X: np.ndarray) -> str:
    """Write an array to a new file and return its path."""
    path = folder / f"{len(list(folder.iterdir()))}-{name[:1]}.npy"
    np.save(path, X)
    return str(path)
