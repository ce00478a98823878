"""The systems for tables with columns of several kinds.

A one-hot model has one likelihood for all columns, which are numbers, counts and a column
for each level of flags and categories. A mixed model has a likelihood for each kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from kinds.fits import fit, log_marginal, n_draws
from kinds.independent import IndependentColumns
from kinds.masses import (
    GivenCode,
    count_edges,
    importance_bound,
    log_mass_of_categories,
)
from kinds.one_hot import OneHot
from kinds.samples import mean_total_variation, two_sample_auc
from kinds.tables import MixedTable, Task

from skae.likelihoods import Mixed

# Rows of a sample whose frequencies are compared with those of the test rows.
_SAMPLE_ROWS = 5000
# Draws of the uniform noise in the score of a dequantised model.
_N_NOISE = 4
_SMALLEST = 1e-300

Scores = dict[str, Any]


def discrete_names(table: MixedTable) -> tuple[str, ...]:
    """Return the names of flags and categories."""
    return (*table.flags, *table.categories)


def compare_samples(task: Task, sample: pd.DataFrame) -> Scores:
    """Compare a sample with the test rows."""
    test, names = task.parts.test, discrete_names(task.table)
    return {
        "variation": mean_total_variation(sample, test, names),
        "auc": two_sample_auc(sample, test, task.seed),
    }


def log_conditional(encoding: OneHot, X: np.ndarray, given: GivenCode) -> np.ndarray:
    """Return the log-probability of decoded rows X given a code, (n,).

    It is a density of the numbers, and a mass of the rounded counts and of the categories.
    """
    numbers, counts = encoding.numbers, encoding.counts
    density = given.log_density(X)[:, numbers].sum(axis=1)
    mass = given.mass(*count_edges(np.rint(X)))[:, counts]
    discrete = log_mass_of_categories(given, X, list(encoding.groups.values()))
    return density + np.log(np.maximum(mass, _SMALLEST)).sum(axis=1) + discrete


def _run_one_hot(family: str, task: Task) -> Scores:
    """Fit one likelihood to all columns; score it as is, decoded and dequantised."""
    encoding = OneHot(task.table, task.parts.train)
    train, validation, test = (encoding.encode(part) for part in task.parts)
    options = {"variance_mode": "predicted"}
    model, seconds = fit(train, family, task.seed, task.quick, **options)

    def decoded(X: np.ndarray) -> float:
        conditional = partial(log_conditional, encoding, X)
        return float(importance_bound(model, X, conditional, n_draws(task.quick)).mean())

    rng = np.random.default_rng(task.seed)
    noisy = train + encoding.noise(len(train), rng)
    dequantised, further = fit(noisy, family, task.seed, task.quick, **options)
    bound = [
        log_marginal(dequantised, test + encoding.noise(len(test), rng), task.quick).mean()
        for _ in range(_N_NOISE)
    ]
    raw = model.sample(_SAMPLE_ROWS, random_state=task.seed)
    return {
        "validation": decoded(validation),
        "score": decoded(test),
        "as_is": float(log_marginal(model, test, task.quick).mean()),
        "dequantised": float(np.mean(bound)),
        "valid": float(encoding.is_valid(raw).mean()),
        "seconds": seconds + further,
        **compare_samples(task, encoding.decode(raw)),
    }


def _named(table: MixedTable, numbers: list[str], family: str) -> Mixed:
    """Return a likelihood for each kind of column, and one for the columns `numbers`."""
    kinds = (
        (numbers, family),
        ([name for name in table.counts if name not in numbers], "negative_binomial"),
        (list(table.flags), "bernoulli"),
        (list(table.categories), "categorical"),
    )
    return Mixed([(names, kind) for names, kind in kinds if names])


def _run_mixed(family: str, task: Task) -> Scores:
    """Fit a likelihood to each kind of column."""
    likelihood = _named(task.table, list(task.table.numbers), family)
    return _run_frame(likelihood, task, variance_mode="predicted")


def _run_counts_as_numbers(family: str, task: Task) -> Scores:
    """Fit counts plus uniform noise as numbers; the score is a bound on the log-mass."""
    table, rng = task.table, np.random.default_rng(task.seed)
    likelihood = _named(table, [*table.numbers, *table.counts], family)

    def with_noise(rows: pd.DataFrame) -> pd.DataFrame:
        noise = {name: rows[name] + rng.uniform(size=len(rows)) for name in table.counts}
        return rows.assign(**noise)

    options = {"variance_mode": "predicted"}
    return _run_frame(likelihood, task, with_noise, **options)


def _run_auto(task: Task, **options: Any) -> Scores:
    """Fit the likelihoods that skae chooses by the values of the columns."""
    return _run_frame(Mixed("auto", **options), task, variance_mode="auto")


def _run_frame(
    likelihood: Any,
    task: Task,
    transform: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    **parameters: Any,
) -> Scores:
    """Fit a mixed likelihood to a data frame; its score is the probability of a row.

    `transform` may add noise to counts; then samples are rounded down.
    """
    parts, table, quick = task.parts, task.table, task.quick
    n_noise = 1 if transform is None else _N_NOISE
    transform = transform or (lambda rows: rows)
    model, seconds = fit(transform(parts.train), likelihood, task.seed, quick, **parameters)

    def score(rows: pd.DataFrame) -> float:
        bounds = [log_marginal(model, transform(rows), quick) for _ in range(n_noise)]
        return float(np.mean(bounds))

    sample = model.sample(_SAMPLE_ROWS, random_state=task.seed)
    valid = np.all([sample[name] >= 0 for name in table.counts], axis=0)
    rounded = {name: np.floor(sample[name].clip(lower=0)) for name in table.counts}
    decoded = sample.assign(**rounded).astype(parts.test.dtypes)
    # A category that is not known has become a missing value.
    valid &= decoded.notna().all(axis=1)
    return {
        "validation": score(parts.validation),
        "score": score(parts.test),
        "valid": float(valid.mean()),
        "seconds": seconds,
        **compare_samples(task, decoded),
    }


def _run_independent(task: Task) -> Scores:
    """Fit each column alone."""
    table, parts = task.table, task.parts
    kinds = (list(table.numbers), list(table.counts), list(discrete_names(table)))
    model = IndependentColumns(*kinds).fit(parts.train)
    return {
        "validation": float(model.score_samples(parts.validation).mean()),
        "score": float(model.score_samples(parts.test).mean()),
        "valid": 1.0,
        "seconds": 0.0,
        **compare_samples(task, model.sample(_SAMPLE_ROWS, task.seed)),
    }


def _run_training_rows(task: Task) -> Scores:
    """Take training rows for a sample, which shows the noise of the comparison."""
    rows = task.parts.train.sample(len(task.parts.test), random_state=task.seed)
    return {
        "validation": None,
        "score": None,
        "valid": 1.0,
        "seconds": 0.0,
        **compare_samples(task, rows),
    }


@dataclass(frozen=True)
class System:
    """A model of a table; the validation part chooses among those of one kind."""

    kind: str
    run: Callable[[Task], Scores]


# Four of each kind, of which the validation part chooses one.
_ONE_HOT = ("gaussian", "laplace", "logistic", "mixture")
_MIXED = ("gaussian", "logistic", "mixture")

SYSTEMS = {
    **{f"{f}, one-hot": System("one-hot", partial(_run_one_hot, f)) for f in _ONE_HOT},
    **{f"{f}, mixed": System("mixed", partial(_run_mixed, f)) for f in _MIXED},
    "mixture, mixed, counts as numbers": System(
        "mixed", partial(_run_counts_as_numbers, "mixture")
    ),
    'Mixed("auto")': System("auto", _run_auto),
    'Mixed("auto", real="mixture")': System(
        "auto, mixture", partial(_run_auto, real="mixture")
    ),
    "independent columns": System("independent", _run_independent),
    "training rows": System("reference", _run_training_rows),
}
