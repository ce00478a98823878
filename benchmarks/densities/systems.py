"""The systems of the density benchmark: their candidates, how they are fitted and scored.

A system with several candidates is tuned on the validation part of the training fold. All
of them have `N_CANDIDATES`. Then it is fitted again to the whole training fold. Flows need
the validation part to stop early, so the best candidate is kept as it is.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from densities.factor_analysers import MixtureOfFactorAnalysers
from densities.flows import LogDensity, fit_flow
from densities.recipe import make_recipe
from densities.tables import Fold
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skae import VariationalAutoencoder

N_CANDIDATES = 6
_QUICK_CANDIDATES = 2
# Draws of the importance-weighted bound.
N_DRAWS = 500
# Variance added to each feature of a mixture's covariances, or the smallest noise. The
# features have variance 1. With less, small components collapse onto repeated values.
_SMALLEST_VARIANCE = 1e-3

Candidate = Mapping[str, Any]
Fit = Callable[..., LogDensity]


@dataclass(frozen=True)
class System:
    """A model with its candidates.

    ``fit(train, validation, quick=..., **candidate)`` returns the log-density of rows.
    """

    fit: Fit
    candidates: Sequence[Candidate] = ({},)
    kept: bool = False

    def run(self, fold: Fold, quick: bool = False) -> dict[str, Any]:
        """Tune, fit and score; return the score of the test rows and the CPU seconds."""
        candidates = self.candidates[:_QUICK_CANDIDATES] if quick else self.candidates
        start = time.process_time()
        chosen, model, seconds = candidates[0], None, 0.0
        if len(candidates) > 1:
            chosen, model, seconds = self._search(fold, candidates, quick)
        search_seconds = time.process_time() - start
        if model is None or not self.kept:
            start = time.process_time()
            model = self.fit(fold.train, None, quick=quick, **chosen)
            seconds = time.process_time() - start
        scores = model(fold.test)
        return {
            "score": float(scores.mean()),
            "row_error": float(scores.std(ddof=1) / np.sqrt(len(scores))),
            "fit_seconds": seconds,
            "search_seconds": search_seconds if len(candidates) > 1 else 0.0,
            "chosen": dict(chosen),
            "n_candidates": len(candidates),
        }

    def _search(
        self, fold: Fold, candidates: Sequence[Candidate], quick: bool
    ) -> tuple[Candidate, LogDensity, float]:
        """Return the best candidate, its model and the seconds of its fit."""
        train, validation = fold.split()
        found = []
        for candidate in candidates:
            start = time.process_time()
            model = self.fit(train, validation, quick=quick, **candidate)
            seconds = time.process_time() - start
            found.append((float(model(validation).mean()), candidate, model, seconds))
        _, chosen, model, seconds = max(found, key=lambda one: one[0])
        return chosen, model, seconds


def _fit_estimator(
    make: Callable[..., Any],
    train: np.ndarray,
    validation: np.ndarray | None,
    *,
    quick: bool,
    **candidate: Any,
) -> LogDensity:
    """Fit an estimator of scikit-learn's kind."""
    return make(train.shape[1], **candidate).fit(train).score_samples


def _fit_ours(
    make: Callable[[], VariationalAutoencoder],
    train: np.ndarray,
    validation: np.ndarray | None,
    *,
    quick: bool,
) -> LogDensity:
    """Fit an estimator of skae, which is scored by its importance-weighted bound."""
    model = make()
    if quick:
        model.set_params(max_iter=5)
    model.fit(train)
    return lambda rows: model.log_marginal(rows, N_DRAWS)


def _fit_flow(
    name: str, train: np.ndarray, validation: np.ndarray, **options: Any
) -> LogDensity:
    """Train a flow of zuko."""
    return fit_flow(name, train, validation, **options)


def _share(n_features: int, share: float) -> int:
    """Return a number of components below the number of features."""
    return min(max(1, round(share * n_features)), n_features - 1)


def _make_pca(n_features: int, share: float) -> PCA:
    return PCA(_share(n_features, share))


def _make_fa(n_features: int, share: float) -> FactorAnalysis:
    return FactorAnalysis(_share(n_features, share), max_iter=3000)


def _make_kde(n_features: int, bandwidth: float) -> KernelDensity:
    # The relative error of a density costs less than 1e-4 nats, and saves much time.
    return KernelDensity(bandwidth=bandwidth, rtol=1e-4)


def _make_gmm(n_features: int, n_components: int, covariance_type: str) -> GaussianMixture:
    return GaussianMixture(
        n_components,
        covariance_type=covariance_type,
        reg_covar=_SMALLEST_VARIANCE,
        max_iter=300,
        random_state=0,
    )


def _make_mfa(n_features: int, n_components: int, share: float) -> MixtureOfFactorAnalysers:
    return MixtureOfFactorAnalysers(
        n_components,
        _share(n_features, share),
        min_noise=_SMALLEST_VARIANCE,
        random_state=0,
    )


def _make_defaults() -> VariationalAutoencoder:
    return VariationalAutoencoder(random_state=0)


def _grid(names: str, *values: tuple[Any, ...]) -> list[Candidate]:
    """Return the candidates of a list of values, one tuple each."""
    return [dict(zip(names.split(), row, strict=True)) for row in values]


_SHARES = _grid("share", (0.1,), (0.25,), (0.4,), (0.55,), (0.7,), (0.85,))
_BANDWIDTHS = _grid("bandwidth", (0.08,), (0.12,), (0.18,), (0.27,), (0.4,), (0.6,))
_MIXTURES = _grid(
    "n_components covariance_type",
    (4, "full"),
    (12, "full"),
    (35, "full"),
    (100, "full"),
    (60, "tied"),
    (100, "diag"),
)
_ANALYSERS = _grid(
    "n_components share", (5, 0.3), (15, 0.3), (40, 0.3), (15, 0.6), (40, 0.6), (80, 0.6)
)
_FLOWS = _grid(
    "transforms width weight_decay",
    (3, 64, 0.01),
    (3, 64, 1.0),
    (3, 128, 0.01),
    (3, 128, 1.0),
    (5, 64, 1.0),
    (5, 128, 1.0),
)

SYSTEMS = {
    "PCA": System(partial(_fit_estimator, _make_pca), _SHARES),
    "FactorAnalysis": System(partial(_fit_estimator, _make_fa), _SHARES),
    "KernelDensity": System(partial(_fit_estimator, _make_kde), _BANDWIDTHS),
    "GaussianMixture": System(partial(_fit_estimator, _make_gmm), _MIXTURES),
    "mixture of factor analysers": System(partial(_fit_estimator, _make_mfa), _ANALYSERS),
    "masked autoregressive flow": System(partial(_fit_flow, "MAF"), _FLOWS, kept=True),
    "neural spline flow": System(partial(_fit_flow, "NSF"), _FLOWS, kept=True),
    "skae, defaults": System(partial(_fit_ours, _make_defaults)),
    "skae, recipe": System(partial(_fit_ours, make_recipe)),
}
