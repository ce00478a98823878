"""Fit variational autoencoders that differ in nothing but the likelihood."""

import time
from typing import Any

from skae import VariationalAutoencoder
from skae.likelihoods import Likelihood

# Draws of an importance-weighted bound.
N_DRAWS = 100
COMMON = {
    "n_components": 8,
    "covariance_type": "diag",
    "hidden_layer_sizes": (64,),
    "max_iter": 150,
    # No training ends early.
    "n_iter_no_change": 150,
    "prior": "mixture",
}
_QUICK_EPOCHS = 3


def fit(
    rows: Any,
    likelihood: str | Likelihood,
    seed: int,
    quick: bool,
    **parameters: Any,
) -> tuple[VariationalAutoencoder, float]:
    """Fit a model with the common settings; return it and the CPU seconds."""
    model = VariationalAutoencoder(
        likelihood=likelihood, random_state=seed, **{**COMMON, **parameters}
    )
    if quick:
        model.set_params(max_iter=_QUICK_EPOCHS)
    start = time.process_time()
    model.fit(rows)
    return model, time.process_time() - start


def log_marginal(model: VariationalAutoencoder, rows: Any, quick: bool) -> Any:
    """Return the importance-weighted bound of each row (nats), ``(n,)``."""
    return model.log_marginal(rows, n_draws(quick))


def n_draws(quick: bool) -> int:
    """Return the number of draws of a bound."""
    return 4 if quick else N_DRAWS
