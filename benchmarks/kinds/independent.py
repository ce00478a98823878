"""Distributions of single columns: references without a network."""

import math

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.stats import nbinom
from sklearn.mixture import GaussianMixture

# Components of the density of a column of numbers.
_N_COMPONENTS = 5
# Rows that each level has besides its rows, so that none has the mass 0.
_PSEUDO_ROWS = 0.5


def independent_negative_binomials(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the log-mass of test rows, ``(n,)``, with independent columns fitted to train.

    Each column has the mean of the training rows and the size of the largest likelihood.
    """
    total = np.zeros(len(test))
    for column, values in zip(train.T, test.T, strict=True):
        # A column without a count would have the mass 0 for any other value.
        mean = max(column.mean(), 0.5 / len(column))

        def loss(log_size: float, column: np.ndarray = column, mean: float = mean) -> float:
            size = math.exp(log_size)
            return -nbinom.logpmf(column, size, size / (size + mean)).sum()

        size = math.exp(minimize_scalar(loss, bounds=(-7, 12), method="bounded").x)
        total += nbinom.logpmf(values, size, size / (size + mean))
    return total


class IndependentColumns:
    """A distribution for each column of a table with columns of several kinds.

    It is a mixture of normal densities for numbers, a negative binomial for counts, and
    frequencies for flags and categories.
    """

    def __init__(self, numbers: list[str], counts: list[str], discrete: list[str]) -> None:
        self.numbers, self.counts, self.discrete = numbers, counts, discrete

    def fit(self, frame: pd.DataFrame) -> "IndependentColumns":
        """Fit to the rows of a table."""
        self.train = frame
        self.densities = {
            name: GaussianMixture(_N_COMPONENTS, random_state=0).fit(
                frame[[name]].to_numpy()
            )
            for name in self.numbers
        }
        return self

    def score_samples(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the log-probability of each row, (n,)."""
        total = independent_negative_binomials(
            self.train[self.counts].to_numpy(float), frame[self.counts].to_numpy(float)
        )
        for name, density in self.densities.items():
            total += density.score_samples(frame[[name]].to_numpy())
        for name in self.discrete:
            counts = self.train[name].value_counts() + _PSEUDO_ROWS
            total += np.log(frame[name].map(counts / counts.sum()).to_numpy(float))
        return total

    def sample(self, n: int, random_state: int) -> pd.DataFrame:
        """Draw rows whose columns come from different training rows."""
        rng = np.random.default_rng(random_state)
        rows = {
            name: self.train[name].iloc[rng.integers(len(self.train), size=n)].to_numpy()
            for name in self.train
        }
        return pd.DataFrame(rows).astype(self.train.dtypes)
