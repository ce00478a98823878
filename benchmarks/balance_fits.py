"""The fits of the study of beta: see balance.py, which makes its page."""

import copy
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from data import N_COMPONENTS, load

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV

SETS = ["wine", "breast_cancer", "diabetes", "digits, 47 columns"]
LIKELIHOODS = ["gaussian", "laplace"]
MODES = ["fixed", "learned"]
METHODS = {
    "fixed": {"variance_mode": "fixed"},
    "fixed, annealed": {"variance_mode": "fixed", "kl_schedule": "decreasing"},
    "KL times error": {"variance_mode": "optimal"},
    "learned": {"variance_mode": "learned"},
}
STARTS = {
    "warm-up": {"init": "random", "kl_schedule": "linear"},
    "pca": {},
}
UNITS = [0.25, 1.0, 4.0]
UNIT_SETS = ["wine", "diabetes"]


class Study(NamedTuple):
    """The size of the study."""

    n_splits: int = 4
    n_epochs: int = 60
    betas: np.ndarray = np.logspace(-2, 1, 13)
    unit_betas: np.ndarray = np.logspace(-4, 2.5, 27)
    n_draws: int = 128  # of the importance-weighted bound


def measure(study):
    """Return scores over beta, those in several units, and norms of gradients over epochs.

    Each is a dict of dicts of arrays, whose first axis is the split.
    """
    scores, units, histories = {}, {}, {}
    judge = partial(over_betas, betas=study.betas, n_draws=study.n_draws)
    for name, likelihood in product(SETS, LIKELIHOODS):
        fit = partial(over_splits, study, name, likelihood=likelihood)
        for method, parameters in METHODS.items():
            scores[name, likelihood, method] = fit(judge, **parameters)
        for start, mode in product(STARTS, MODES):
            histories[name, likelihood, start, mode] = fit(
                gradients, variance_mode=mode, gradient_balance=True, **STARTS[start]
            )
        for unit in UNITS if name in UNIT_SETS else []:
            in_unit = partial(over_betas, betas=study.unit_betas, unit=unit)
            units[name, likelihood, unit] = fit(in_unit, variance_mode="fixed")
        print(name, likelihood, flush=True)
    return scores, units, histories


def over_splits(study, name, measure_split, **parameters):
    """Return what is measured on each split, stacked.

    The models train for all epochs, and without the L2 penalty: it would be one more scale.
    """
    model = VariationalAutoencoder(
        N_COMPONENTS[name],
        alpha=0.0,
        max_iter=study.n_epochs,
        n_iter_no_change=study.n_epochs,
        **parameters,
    )
    found = [
        measure_split(model.set_params(random_state=split), *load(name, split))
        for split in range(study.n_splits)
    ]
    return {key: np.array([each[key] for each in found]) for key in found[0]}


def gradients(model, train, test):
    """Return the norms and cosines of the gradients in each epoch."""
    history = model.fit(train).history_
    return {key: value for key, value in history.items() if key.startswith("grad_")}


def over_betas(model, train, test, betas, unit=1.0, n_draws=1):
    """Return the held-out ELBO and importance-weighted bound for each beta."""
    train, test = unit * train, unit * test

    def judge(model, X, y=None):
        if model.variance_mode == "fixed":
            model = with_best_scale(model, train)
        return {"elbo": model.score(X), "bound": model.log_marginal(X, n_draws).mean()}

    fold = np.arange(len(train)), len(train) + np.arange(len(test))
    search = BatchedGridSearchCV(
        model, {"beta": betas}, scoring=judge, cv=[fold], refit=False, error_score="raise"
    ).fit(np.vstack([train, test]))
    return {key: search.cv_results_[f"mean_test_{key}"] for key in ("elbo", "bound")}


def with_best_scale(model, X):
    """Return a copy whose constant scale is the most likely one for X."""
    mean, std = model.posterior(X)
    kl = (0.5 * (std**2 + mean**2 - 1) - np.log(std)).sum(axis=1).mean()
    per_feature, s = (model.score(X) + kl) / X.shape[1], model.scale_
    # E log p of a feature is -log(2 pi s^2)/2 - D/(2 s^2), or -log(2 s) - D/s for Laplace,
    # with an error D that does not depend on s; the best s^2, or s, is D.
    if model.likelihood == "gaussian":
        best = s * np.sqrt(-2 * per_feature - np.log(2 * np.pi * s**2))
    else:
        best = s * (-per_feature - np.log(2 * s))
    model = copy.deepcopy(model)
    model.module_.scale.value += float(np.log(best / s))
    model.scale_ = best
    return model
