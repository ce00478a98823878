"""Compare rules for the number of components, on data whose dimension is known.

``python benchmarks/components.py`` takes about two minutes.
"""

import warnings

import numpy as np
import torch
from report import write
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import GaussianAutoencoder, VariationalAutoencoder

torch.set_num_threads(1)
warnings.simplefilter("ignore")
N_SAMPLES, N_FEATURES, MOST = 500, 20, 7
DIMENSIONS = (1, 2, 4)
SEEDS = range(3)


def draw(dimension, curvature, seed):
    """Draw rows near a curved surface: signals of variance 1, and noise of variance 0.1."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(N_SAMPLES, dimension))
    hidden = np.tanh(Z @ rng.normal(size=(dimension, 8)) + rng.normal(size=8))
    bent = hidden @ rng.normal(size=(8, N_FEATURES))
    flat = Z @ rng.normal(size=(dimension, N_FEATURES))
    X = curvature * bent / bent.std(axis=0) + (1 - curvature) * flat / flat.std(axis=0)
    return X / X.std(axis=0) + 0.1**0.5 * rng.normal(size=X.shape)


def by_error_and_score(train, test):
    """Return the first k after which the error hardly falls, and that of the best score."""
    models = [GaussianAutoencoder(k, random_state=0).fit(train) for k in range(1, MOST + 1)]
    errors = [((test - train.mean(axis=0)) ** 2).mean()]
    errors += [((test - model.reconstruct(test)) ** 2).mean() for model in models]
    falls = 1 - np.array(errors[1:]) / errors[:-1]
    # Directions that are left before each component.
    n_left = N_FEATURES - np.arange(MOST)
    small = np.append(falls < 2 / n_left, True)
    scores = [model.score(test) for model in models]
    return int(np.argmax(small)), 1 + int(np.argmax(scores))


def by_activity(train, test):
    """Return how many components of a variational model are active."""
    model = VariationalAutoencoder(MOST, random_state=0).fit(train)
    mean, std = model.posterior(test)
    kl = (0.5 * (mean**2 + std**2 - 1) - np.log(std)).mean(axis=0)
    return int((kl > 0.01).sum())


def by_variance(train, test):
    """Return how many components PCA needs for 90 % of the variance."""
    return int(PCA(0.9).fit(train).n_components_)


RULES = [
    "error falls by less than 2 / (d - k)",
    "best held-out score",
    "VariationalAutoencoder: active components",
    "PCA: 90 % of the variance",
]
rows = []
for curvature in (0.0, 1.0):
    for dimension in DIMENSIONS:
        found = []
        for seed in SEEDS:
            X = draw(dimension, curvature, seed)
            parts = train_test_split(X, random_state=seed)
            rest = by_activity(*parts), by_variance(*parts)
            found.append([*by_error_and_score(*parts), *rest])
        cells = [", ".join(map(str, column)) for column in zip(*found, strict=True)]
        rows.append([curvature, dimension, *cells])
        print(rows[-1], flush=True)
write(
    "components",
    "The number of components",
    "python benchmarks/components.py",
    f"""
How many components some rules choose, for {N_SAMPLES} rows of {N_FEATURES} features near a
surface whose dimension is known. A feature is a function of the dimensions with variance 1,
plus noise of variance 0.1. The function is linear (curvature 0), or a network of 8 units of
tanh (1). A quarter of the rows is held out. The numbers are those of
{len(SEEDS)} seeds; at most {MOST} components are tried.

The first two rules are for :class:`~skae.GaussianAutoencoder`. Error is the mean squared
error of held-out rows; the first rule begins with 0 components and the mean, and ends where
one more lowers the error by less than 2 / (d - k) of itself.
""",
    ["curvature", "dimension", *RULES],
    rows,
)
