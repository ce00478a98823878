"""Estimators with random parameters, and the other arguments of a fit."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from torch import nn

from benchmarks.campaign.tables import OF_CATEGORIES, mapped
from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS, LogisticLikelihood
from skae.networks import ACTIVATIONS, MLP
from skae.objectives import CyclicalSchedule, DecreasingSchedule, LinearSchedule
from skae.scales import SCALES, legal_combinations

# One fit in this many has parameters that contradict each other.
_CONTRADICTIONS = 20
# Largest number of epochs; fits whose epochs are long have one or two.
_MOST_EPOCHS = 10


class Sequential(BaseEstimator):
    """A network of a user, whose layers have an analytic gradient."""

    def encoder(self, n_features, n_outputs):
        return nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Linear(4, n_outputs))

    decoder = encoder


class Dropout(BaseEstimator):
    """A network of a user that draws random numbers and needs autograd."""

    def encoder(self, n_features, n_outputs):
        return nn.Sequential(
            nn.Linear(n_features, 4), nn.GELU(), nn.Dropout(0.3), nn.Linear(4, n_outputs)
        )

    decoder = encoder


@dataclass
class Case:
    """A fit of the campaign.

    Attributes
    ----------
    kind : str
        Name of the kind of table.
    must_fail : bool
        Whether the fit must raise ValueError or TypeError.
    X : object
        The table.
    estimator : BaseEstimator
        The estimator, not fitted.
    arguments : dict
        Other arguments of `fit`.
    factor : float
        Factor of the table that a warm start continues with.
    support : str
        Name of the numbers that the likelihood is for.
    settings : int
        Position of the settings of a user under which the fit is repeated.
    """

    kind: str
    must_fail: bool
    X: Any
    estimator: BaseEstimator
    arguments: dict[str, Any] = field(default_factory=dict)
    factor: float = 1.0
    support: str = "real"
    settings: int = 0


def draw_case(kind, rng):
    """Draw a table of a kind, an estimator, and the other arguments of its fit."""
    X = kind.make(rng)
    estimator = draw_estimator(rng)
    support = support_of(estimator)
    # A mixed table may have columns of any kind.
    if not (getattr(estimator, "likelihood", None) == "mixed" and rng.random() < 0.5):
        X = mapped(X, support, rng)
    arguments = {}
    n = shape_of(X)[0]
    must_fail = kind.must_fail
    if support == "category" and kind.name in OF_CATEGORIES:
        must_fail = False
    if must_fail or n == 0:
        return Case(kind.name, must_fail, X, estimator, support=support)
    # Categories of rows of weight 0 are unknown, and refused later.
    if rng.random() < 0.4 and support != "category":
        arguments["sample_weight"] = draw_weight(rng, n)
        if np.sum(np.minimum(arguments["sample_weight"], 1e6)) > 10_000:
            estimator.set_params(max_iter=1, n_init=1, batch_size="auto")
    if rng.random() < 0.25:
        arguments["X_val"] = draw_validation(rng, X, support)
    if estimator.variance_mode == "fixed":
        estimator.set_params(scale=draw_scale(rng, X, estimator.covariance_type))
    factor = float(rng.choice([1, 1, 1 + 1e-9, 2, 1e-3, 1e3, 1e-12, 1e12, 1e30, -1]))
    if support != "real":
        factor = 1.0
    settings = int(rng.integers(6))
    return Case(kind.name, must_fail, X, estimator, arguments, factor, support, settings)


def likelihood_of(estimator):
    """Return the name of an estimator's likelihood, or of its class if it has none."""
    likelihood = getattr(estimator, "likelihood", None)
    if likelihood is None:
        return type(estimator).__name__
    return likelihood if isinstance(likelihood, str) else type(likelihood).__name__


def support_of(estimator):
    """Return the name of the support of an estimator's likelihood."""
    likelihood = getattr(estimator, "likelihood", None)
    if isinstance(likelihood, str):
        return LIKELIHOODS[likelihood].support
    return "real" if likelihood is None else likelihood.support


def shape_of(X):
    """Return the numbers of rows and columns of a table, or zeros if it has none."""
    shape = np.shape(X) if not hasattr(X, "shape") else X.shape
    return shape if len(shape) == 2 else (0, 0)


def pick(rng, *values, p=None):
    """Choose one of some values of any type."""
    return values[int(rng.choice(len(values), p=p))]


def power(rng, low, high):
    """Draw a power of 10 whose exponent is uniform between two limits."""
    return float(10 ** rng.uniform(low, high))


def draw_estimator(rng):
    """Draw an estimator with parameters from everywhere in their ranges."""
    # Equally many of each likelihood, however many scales it can have.
    likelihood = pick(rng, *LIKELIHOODS)
    combinations = [c for c in legal_combinations() if c[0] == likelihood]
    # The parts of a mixed one decide.
    combinations = combinations or [
        (likelihood, mode, "diag") for mode in ("auto", *SCALES)
    ]
    _, variance_mode, covariance_type = pick(rng, *combinations)
    deterministic = {"gaussian": GaussianAutoencoder, "laplace": LaplaceAutoencoder}
    if rng.random() < 1 / _CONTRADICTIONS:
        variance_mode, covariance_type = pick(rng, *SCALES), "diag"
    precision = pick(
        rng, "auto", "float32", "float64", "tf32", "bf16", p=[0.5, 0.1, 0.2, 0.1, 0.1]
    )
    parameters = {
        "n_components": int(rng.integers(1, 10)),
        "variance_mode": variance_mode,
        "covariance_type": covariance_type,
        "min_scale": pick(rng, "auto", power(rng, -12, 3), p=[0.6, 0.4]),
        "network": pick(
            rng, "mlp", MLP((8,)), Sequential(), Dropout(), p=[0.8, 0.06, 0.07, 0.07]
        ),
        "hidden_layer_sizes": pick(rng, (), 1, (3,), [64], (8, 4), (2, 2, 2), (16,)),
        "activation": pick(rng, *ACTIVATIONS),
        "init": pick(rng, "pca", "random"),
        "n_init": int(rng.choice([1, 2, 3], p=[0.8, 0.1, 0.1])),
        "batch_size": pick(rng, "auto", 1, 2, 7, 1000, p=[0.7, 0.03, 0.07, 0.1, 0.1]),
        "max_iter": int(rng.integers(1, _MOST_EPOCHS + 1)),
        "learning_rate_init": power(rng, -5, 2),
        "alpha": pick(rng, 1.0, 0.0, power(rng, -6, 6), 1e300, p=[0.5, 0.1, 0.35, 0.05]),
        "early_stopping": bool(rng.random() < 0.25),
        "validation_fraction": rng.uniform(0.05, 0.95),
        "n_iter_no_change": int(rng.integers(1, 11)),
        "tol": pick(rng, 1e-4, 0.0, power(rng, -10, 10)),
        "shuffle": bool(rng.random() < 0.7),
        "precision": precision,
        "random_state": int(rng.integers(2**31)),
    }
    if likelihood in deterministic and rng.random() < 0.5:
        return deterministic[likelihood](**parameters)
    schedules = [
        *("constant", "linear", "cyclical", "decreasing"),
        *(LinearSchedule(1.0), CyclicalSchedule(3), DecreasingSchedule(100.0)),
        _square_root,
    ]
    priors = GaussianMixture(2), BayesianGaussianMixture(n_components=3)
    return VariationalAutoencoder(
        likelihood=LogisticLikelihood() if likelihood == "logistic" else likelihood,
        beta=pick(rng, 1.0, 0.0, power(rng, -6, 6), p=[0.4, 0.1, 0.5]),
        kl_schedule=pick(rng, *schedules),
        n_mc_samples=int(rng.choice([1, 2, 5], p=[0.8, 0.1, 0.1])),
        prior=pick(rng, None, *priors, p=[0.9, 0.06, 0.04]),
        gradient_balance=bool(rng.random() < 0.1),
        **parameters,
    )


def _square_root(progress):
    """Return the factor of beta at a time, as a function of a user."""
    return progress**0.5


def draw_weight(rng, n):
    """Draw sample weights, of usual and of extreme sizes; not all of them are zero."""
    weight = pick(
        rng,
        np.ones(n),
        rng.uniform(0, 2, size=n),
        rng.integers(0, 4, size=n),
        (rng.random(n) < 0.1).astype(float),
        np.full(n, 1e-300),
        10 ** rng.uniform(-300, 0, size=n),
        rng.uniform(0.5, 1, size=n) * 1e307,
        np.where(np.arange(n) == 0, 1e15, 1.0),
        rng.uniform(0, 2, size=n).astype(np.float32),
    )
    if not weight.any():
        weight[0] = 1
    return weight


def draw_validation(rng, X, support):
    """Draw validation data from the rows of a table, some of them out of its range."""
    if hasattr(X, "columns") or isinstance(X, list) or X.dtype == object:
        return X[: max(1, len(X) // 2)]
    rows = X[rng.integers(0, len(X), size=int(rng.choice([1, 2, 30])))]
    if X.dtype.kind != "f" or support != "real":
        return rows
    return rows * X.dtype.type(rng.choice([1, 1, 0.5, 0, -1]))


def draw_scale(rng, X, covariance_type):
    """Draw a fixed scale around the spread of a table, one for each feature if allowed."""
    try:
        values = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.ones((1, 1))
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(values.std(), posinf=1.0)
    scale = (spread or 1.0) * power(rng, -6, 6)
    if covariance_type == "diag" and rng.random() < 0.5:
        return np.full(values.shape[1], scale) * 10 ** rng.uniform(-1, 1, values.shape[1])
    return float(scale)
