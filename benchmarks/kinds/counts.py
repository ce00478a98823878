"""The systems for tables of counts: one network, four likelihoods.

Each has four candidates, of which the validation part chooses one by its log-mass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from kinds.fits import fit, log_marginal, n_draws
from kinds.independent import independent_negative_binomials
from kinds.masses import (
    importance_bound,
    log_density_of_counts,
    log_mass_of_counts,
)
from kinds.tables import Task

Candidate = Mapping[str, Any]
Score = Callable[[np.ndarray], np.ndarray]

_PENALTIES = tuple({"alpha": alpha} for alpha in (1.0, 3.0, 10.0, 30.0))
_MODES = tuple(
    {"alpha": alpha, "variance_mode": mode}
    for alpha in (3.0, 10.0)
    for mode in ("learned", "predicted")
)
# A density fitted to integers may be narrow at them; with noise of a unit it is not.
_DENSITIES = tuple(
    {"variance_mode": mode, "noise": noise}
    for mode in ("learned", "predicted")
    for noise in (False, True)
)
_QUICK_CANDIDATES = 2


class Fitted(NamedTuple):
    """The scores of a fitted model; `log_density` is that at integers, if it has one."""

    log_mass: Score
    log_density: Score | None
    seconds: float


@dataclass(frozen=True)
class System:
    """A model of counts with its candidates."""

    fit: Callable[..., Fitted]
    candidates: Sequence[Candidate]

    def run(self, task: Task) -> dict[str, Any]:
        """Fit all candidates, choose one, and score the test part."""
        _, parts, seed, quick = task
        candidates = self.candidates[:_QUICK_CANDIDATES] if quick else self.candidates
        found, seconds = [], 0.0
        for candidate in candidates:
            fitted = self.fit(parts.train, seed, quick, **candidate)
            score = float(fitted.log_mass(parts.validation).mean())
            seconds += fitted.seconds
            found.append((score, candidate, fitted))
        validation, chosen, fitted = max(found, key=lambda one: one[0])
        density = fitted.log_density
        return {
            "validation": validation,
            "score": float(fitted.log_mass(parts.test).mean()),
            "density": float(density(parts.test).mean()) if density else None,
            "chosen": dict(chosen),
            "n_candidates": len(candidates),
            "seconds": seconds,
        }


def _fit_mass(
    family: str, train: np.ndarray, seed: int, quick: bool, **candidate: Any
) -> Fitted:
    """Fit a family of counts."""
    model, seconds = fit(train, family, seed, quick, **candidate)
    return Fitted(lambda X: log_marginal(model, X, quick), None, seconds)


def _fit_density(
    log1p: bool,
    train: np.ndarray,
    seed: int,
    quick: bool,
    *,
    noise: bool,
    **candidate: Any,
) -> Fitted:
    """Fit a normal density to counts, or to the logarithms of 1 + count."""

    def transformed(X: np.ndarray) -> np.ndarray:
        return np.log1p(X) if log1p else X

    if noise:
        train = train + np.random.default_rng(seed).uniform(-0.5, 0.5, size=train.shape)
    model, seconds = fit(transformed(train), "gaussian", seed, quick, **candidate)

    def log_mass(X: np.ndarray) -> np.ndarray:
        def conditional(given: Any) -> np.ndarray:
            return log_mass_of_counts(given, X, log1p)

        return importance_bound(model, transformed(X), conditional, n_draws(quick))

    def log_density(X: np.ndarray) -> np.ndarray:
        own = log_marginal(model, transformed(X), quick)
        return log_density_of_counts(own, X) if log1p else own

    return Fitted(log_mass, log_density, seconds)


def _fit_independent(train: np.ndarray, seed: int, quick: bool) -> Fitted:
    """Fit a negative binomial to each column, the reference without a network."""
    return Fitted(partial(independent_negative_binomials, train), None, 0.0)


SYSTEMS = {
    "negative binomial": System(partial(_fit_mass, "negative_binomial"), _MODES),
    "Poisson": System(partial(_fit_mass, "poisson"), _PENALTIES),
    "Gaussian": System(partial(_fit_density, False), _DENSITIES),
    "Gaussian of log(1 + x)": System(partial(_fit_density, True), _DENSITIES),
    "independent negative binomials": System(_fit_independent, ({},)),
}
