"""Compare floors of the scale for columns with few different values, by held-out mass.

``python benchmarks/min_scale.py`` takes about six minutes.
"""

import math
import warnings

import numpy as np
from report import write
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import VariationalAutoencoder

warnings.simplefilter("ignore")
# Floors as multiples of that of min_scale="auto", 1/sqrt(12) for values that are integers.
FACTORS = [1, 1 / 2, 1 / 4, 1 / 10, 1 / 100]
SEEDS = 3
DRAWS = 64
DISTRIBUTIONS = {"gaussian": stats.norm, "laplace": stats.laplace}


def drawn(kind, n=1000, d=12, k=3):
    """Draw integer columns that depend on k latent variables."""
    random = np.random.RandomState(0)
    logit = random.randn(n, k) @ random.randn(k, d) * 1.5
    if kind == "flags":
        return (random.rand(n, d) < 1 / (1 + np.exp(-logit))).astype(float)
    if kind == "counts":
        return random.poisson(np.exp(logit / 3)).astype(float)
    codes = [(part + random.gumbel(size=part.shape)).argmax(1) for part in
             np.split(logit, 3, axis=1)]  # fmt: skip
    return np.concatenate([np.eye(d // 3)[code] for code in codes], axis=1)


def log_mass(model, X):
    """Return the held-out bound of the log-mass of cells of width 1, ``(n,)``.

    The mass of a value is the integral of the likelihood over all numbers that round to
    it. It is at most 1 whatever the scale is, so it can be compared between floors.
    """
    distribution = DISTRIBUTIONS[model.likelihood]
    mean, std = model.posterior(X)
    kl = (0.5 * (std**2 + mean**2 - 1) - np.log(std)).sum(axis=1)
    random = np.random.RandomState(1)
    total = np.zeros(len(X))
    for _ in range(DRAWS):
        z = mean + std * random.standard_normal(mean.shape)
        distance = np.abs(X - model.inverse_transform(z))
        inner = distribution.logsf((distance - 0.5) / model.scale_)
        outer = distribution.logsf((distance + 0.5) / model.scale_)
        total += (inner + np.log1p(-np.exp(outer - inner))).sum(axis=1)
    return total / DRAWS - kl


digits = load_digits().data
tables = {
    "digits, 0 or 1": (digits > 7).astype(float),
    "digits, 0 to 16": digits,
    "flags, drawn": drawn("flags"),
    "one-hot, drawn": drawn("one-hot"),
    "counts, drawn": drawn("counts"),
}
rows = []
for name, X in tables.items():
    train, test = train_test_split(X, test_size=0.2, random_state=0)
    # A constant column has no scale of its own.
    varies = train.std(axis=0) > 0
    train, test = train[:, varies], test[:, varies]
    for likelihood in DISTRIBUTIONS:
        for covariance_type in ("spherical", "diag"):
            found = []
            for factor in FACTORS:
                masses = []
                for seed in range(SEEDS):
                    model = VariationalAutoencoder(
                        8,
                        likelihood=likelihood,
                        covariance_type=covariance_type,
                        min_scale=factor / math.sqrt(12),
                        random_state=seed,
                    ).fit(train)
                    masses.append(log_mass(model, test).mean())
                found.append(np.mean(masses))
            rows.append(
                [name, likelihood, covariance_type, *(f"{value:.2f}" for value in found)]
            )
            print(rows[-1], flush=True)

write(
    "min_scale",
    "The floor of the scale for columns with few values",
    "python benchmarks/min_scale.py",
    """
Held-out log-mass, in nats per sample, of tables of integers, for floors ``min_scale`` as
multiples of that of "auto" (1/sqrt(12), the standard deviation of rounding to integers).
The mass of a value is the integral of the likelihood over all numbers that round to it. It
is at most 1, so unlike a density it does not grow as the scale goes to 0. Each number is a
bound, E log-mass - KL, with 64 draws of the code, and a mean over 3 seeds. All models have
8 components; all other parameters have their defaults.

Floors for which the scale of the training data is above the floor give equal numbers. A
smaller floor than "auto" mostly gives a lower mass, most of all with a scale for each
feature: scales that follow the training data below the resolution are too small for new
data. So "auto" stays the default, and a fit whose scale ends at the floor says so. A
smaller floor gives samples with less noise, and a log-likelihood that is higher by any
amount and says nothing.
""",
    ["data", "likelihood", "covariance_type", "auto", "1/2", "1/4", "1/10", "1/100"],
    rows,
)
