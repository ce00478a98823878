"""A density fitted to the codes, in place of the standard normal prior."""

import copy
import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skae._evaluate import over_rows
from skae._module import AutoencoderModule
from skae._rows import Rows
from skae._units import Units
from skae.objectives import ELBO

# Codes that the density is fitted to.
_CODES = 2**13
_SEEDS = np.iinfo(np.int32).max


def check_prior(prior: Any) -> None:
    """Refuse an estimator that cannot be fitted, before any training.

    Parameters
    ----------
    prior : estimator or None
        The estimator.

    Raises
    ------
    TypeError
        If it is a class, and not an instance of it, or cannot be cloned.
    ValueError
        If a parameter of its own is out of range.
    """
    if isinstance(prior, type):
        raise TypeError(
            f"prior must be an estimator, and is the class {prior.__name__}; call it."
        )
    if hasattr(prior, "_parameter_constraints"):
        prior._validate_params()
    if prior is None:
        return
    try:
        clone(prior)
    except TypeError as error:
        raise TypeError(f"prior cannot be used: {error}") from error


def fit_prior(
    prior: Any,
    module: AutoencoderModule,
    objective: ELBO,
    rows: Rows,
    units: Units,
    random_state: RandomState,
) -> Any:
    """Fit a density to draws of the posteriors of the training data.

    Parameters
    ----------
    prior : estimator
        What to fit a clone of.
    module : AutoencoderModule
        The trained model.
    objective : ELBO
        What a posterior is.
    rows : Rows
        Training data.
    units : Units
        Their statistics.
    random_state : RandomState
        Source of the draws, and of the estimator's own randomness if it has none.

    Returns
    -------
    estimator or None
        The fitted clone; None, with a warning, if it cannot be fitted.
    """
    # Each row as often as its weight says, evenly: whoever fits need not know of weights.
    shares = np.cumsum(rows.weight)
    moments = (np.arange(_CODES) + 0.5) / _CODES * shares[-1]
    chosen, counts = np.unique(np.searchsorted(shares, moments), return_counts=True)
    both = over_rows(
        lambda y: torch.stack(objective.posterior(module, y), dim=1),
        rows.X,
        units,
        module,
        index=rows.index[chosen],
    )
    mean, log_std = np.repeat(both.astype(np.float64), counts, axis=0).swapaxes(0, 1)
    codes = mean + np.exp(log_std) * random_state.standard_normal(mean.shape)
    fitted = _with_seed(clone(prior), random_state, only_where_missing=True)
    try:
        fitted.fit(codes)
        # What it cannot do it should say now, and not when it is asked for a sample.
        sample_prior(fitted, 1, RandomState(0))
        return fitted
    # It is anybody's estimator. What was trained must not be lost with it.
    except Exception as error:
        warnings.warn(
            f"The prior {prior!r} could not be fitted to the codes or sampled, so it "
            f"stays the standard normal: {error!r}",
            ConvergenceWarning,
            # Above are the estimator's _fit twice, fit, its wrapper, and who called.
            stacklevel=6,
        )
        return None


def log_ratio(prior: Any, z: Tensor) -> Tensor:
    """Log-density of codes under a fitted prior, less that under N(0, I).

    Parameters
    ----------
    prior : estimator
        The fitted density.
    z : Tensor of shape (m, n_components)
        Codes.

    Returns
    -------
    Tensor of shape (m,)
        The difference, in nats.
    """
    codes = z.double().cpu().numpy()
    finite = np.isfinite(codes).all(axis=1)
    codes = np.where(finite[:, None], codes, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        squared = np.square(codes).sum(axis=1)
        normal = -0.5 * (squared + codes.shape[1] * math.log(2 * math.pi))
        ratio = prior.score_samples(codes) - normal
    # So far out that neither density is a number, the likelihood says all there is to say.
    known = finite & np.isfinite(normal)
    return torch.from_numpy(np.where(known, ratio, 0.0)).to(z)


def sample_prior(prior: Any, n_samples: int, random_state: RandomState) -> np.ndarray:
    """Draw codes from a fitted prior.

    Parameters
    ----------
    prior : estimator
        The fitted density.
    n_samples : int
        Number of draws.
    random_state : RandomState
        Source of the randomness.

    Returns
    -------
    ndarray of shape (n_samples, n_components)
        Codes, in random order.
    """
    if "random_state" in prior.get_params():
        drawn = _with_seed(copy.copy(prior), random_state).sample(n_samples)
    else:
        seed = random_state.randint(_SEEDS)
        drawn = prior.sample(n_samples, random_state=seed)
    # A mixture also says which component each draw came from, and has them sorted by it.
    codes = np.asarray(drawn[0] if isinstance(drawn, tuple) else drawn)
    return codes[random_state.permutation(n_samples)]


def _with_seed(
    estimator: Any, random_state: RandomState, only_where_missing: bool = False
) -> Any:
    """The estimator, its own ``random_state`` set where it has one."""
    seed = random_state.randint(_SEEDS)
    parameters = estimator.get_params(deep=False)
    if "random_state" not in parameters:
        return estimator
    if only_where_missing and parameters["random_state"] is not None:
        return estimator
    return estimator.set_params(random_state=seed)
