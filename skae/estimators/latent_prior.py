"""A density that is fitted to the codes and replaces the standard normal prior."""

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation import over_rows
from skae._module import AutoencoderModule
from skae._utils.messages import warn_user
from skae._utils.namespaces import of_numpy
from skae._utils.random import draw_seed
from skae.objectives import ELBO

# Smallest and largest number of codes that the density is fitted to; between them, there is
# a code for each sample. More would make estimators slow whose time grows with the square
# of the samples.
_FEWEST_CODES, _MOST_CODES = 2**13, 2**14
# Samples for each component of the prior "mixture", and its most components: for few
# samples, and for many. docs/results/recipes.rst has the measurements.
_FEW = 25, 40
_MANY = 150, 128
# Gain of the mixture's log-likelihood (nats for each code) below which its fit ends. The
# default, 1e-3, takes several times as long and gives no better density of new codes.
_TOL = 1e-2
# Codes that a fitted density is tried with; more than one, so that a wrong axis is seen.
_N_TRIED = 5


def make_prior(prior: Any, n_samples: float) -> Any:
    """Return the density estimator of a prior, for "mixture" one by the samples."""
    if not isinstance(prior, str):
        return prior
    n_components = max(min(n_samples // each, most) for each, most in (_FEW, _MANY))
    return GaussianMixture(max(int(n_components), 1), tol=_TOL)


def check_prior(prior: Any) -> None:
    """Raise if a prior cannot be fitted. See `VariationalAutoencoder`.

    Raises TypeError for a class, or for an estimator that cannot be cloned. Raises
    ValueError for a parameter of the prior that is out of range.
    """
    if isinstance(prior, type):
        raise TypeError(
            f"prior must be an estimator, but is the class {prior.__name__}. Pass an "
            f"instance: prior={prior.__name__}()."
        )
    if hasattr(prior, "_parameter_constraints"):
        prior._validate_params()
    if prior is None or isinstance(prior, str):
        return
    try:
        clone(prior)
    except TypeError as error:
        raise TypeError(f"prior cannot be used: {error}") from error


def check_prior_size(prior: Any, n_samples: float) -> None:
    """Raise ValueError if a mixture has more components than there are rows.

    The mixture itself cannot tell, because it is fitted to several draws of each row.
    """
    if isinstance(prior, (GaussianMixture, BayesianGaussianMixture)) and (
        prior.n_components > n_samples
    ):
        raise ValueError(
            f"Expected n_samples >= n_components of the prior {type(prior).__name__}, but "
            f"got n_components = {prior.n_components}, n_samples = {n_samples:.0f}. Lower "
            "n_components of the prior: prior='mixture' takes a component for "
            f"{_FEW[0]} rows, and for {_MANY[0]} in large tables."
        )


def fit_prior(
    prior: Any,
    module: AutoencoderModule,
    objective: ELBO,
    rows: Rows,
    standardization: Standardization,
    random_state: RandomState,
) -> Any:
    """Fit a clone of a density estimator to draws of the posteriors of the rows.

    See `VariationalAutoencoder`.
    The random state is the source of the draws, and of a seed if the estimator has a
    ``random_state`` of None. If the estimator cannot be fitted, sampled or scored, or if
    what it returns has another shape or NaN, the result is None, with a warning.
    """
    # A row is chosen in proportion to its weight, since the estimator may not support
    # weights. Evenly spaced positions add no sampling error.
    n_codes = int(np.clip(rows.n_samples, _FEWEST_CODES, _MOST_CODES))
    X, index, counts = rows.in_proportion(n_codes)
    posterior = over_rows(
        lambda y: torch.stack(objective.posterior(module, y), dim=1),
        X,
        standardization,
        module,
        index=index,
    )
    posterior = np.repeat(posterior.astype(np.float64), counts, axis=0)
    mean, log_std = posterior.swapaxes(0, 1)
    codes = mean + np.exp(log_std) * random_state.standard_normal(mean.shape)
    fitted = _with_seed(clone(prior), random_state, only_where_missing=True)
    name, k = type(prior).__name__, codes.shape[1]
    try:
        with of_numpy():
            fitted.fit(codes)
        # What cannot be sampled or scored must be found now and not in a later call. A
        # copy, because a draw may move a random state inside.
        tried = copy.deepcopy(fitted)
        drawn = _draw(tried, _N_TRIED, RandomState(0))
        _check_result(f"{name}.sample({_N_TRIED})", drawn, (_N_TRIED, k))
        with of_numpy():
            densities = tried.score_samples(codes[:: len(codes) // _N_TRIED][:_N_TRIED])
        _check_result(f"{name}.score_samples of {_N_TRIED} codes", densities, (_N_TRIED,))
        return fitted
    # A user-defined estimator may raise any exception; the trained model is kept.
    except Exception as error:
        warn_user(
            f"The prior {prior!r} could not be fitted to the codes, sampled or scored, so "
            f"the standard normal prior is used: {error!r}",
            ConvergenceWarning,
        )
        return None


def _check_result(name: str, result: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError if a prior returns another shape, NaN or infinity."""
    try:
        values = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError):
        values = None
    expected = f"The prior's {name} must return numbers of shape {shape}, but returned"
    if values is None:
        raise ValueError(f"{expected} {type(result).__name__}.")
    if values.shape != shape:
        raise ValueError(f"{expected} shape {values.shape}.")
    # A density may be 0, and its logarithm minus infinity.
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError(f"{expected} NaN or infinity.")


def log_ratio(prior: Any, z: Tensor) -> Tensor:
    """Return log p(z) under a fitted prior minus that under N(0, I), in nats, ``(m,)``.

    Codes z are ``(m, n_components)``. See `VariationalAutoencoder.score_samples`.
    """
    codes = z.double().cpu().numpy()
    finite = np.isfinite(codes).all(axis=1)
    codes = np.where(finite[:, None], codes, 0.0)
    with np.errstate(over="ignore", invalid="ignore"), of_numpy():
        squared = np.square(codes).sum(axis=1)
        normal = -0.5 * (squared + codes.shape[1] * math.log(2 * math.pi))
        ratio = prior.score_samples(codes) - normal
    # Where a density overflows, the ratio is 0, as if the prior were N(0, I) there.
    is_valid = finite & np.isfinite(normal)
    return torch.from_numpy(np.where(is_valid, ratio, 0.0)).to(z)


def sample_prior(prior: Any, n_samples: int, random_state: RandomState) -> np.ndarray:
    """Draw codes ``(n_samples, n_components)`` from a fitted prior, in random order.

    See `VariationalAutoencoder.sample`.
    """
    codes = np.asarray(_draw(prior, n_samples, random_state))
    # A mixture returns the draws sorted by component.
    return codes[random_state.permutation(n_samples)]


def _draw(prior: Any, n_samples: int, random_state: RandomState) -> Any:
    """Return what a fitted prior gives as codes ``(n_samples, n_components)``."""
    with of_numpy():
        if "random_state" in prior.get_params():
            drawn = _with_seed(copy.copy(prior), random_state).sample(n_samples)
        else:
            seed = draw_seed(random_state)
            drawn = prior.sample(n_samples, random_state=seed)
    # A mixture returns an array of the components, too.
    return drawn[0] if isinstance(drawn, tuple) else drawn


def without_tree(prior: Any) -> Any:
    """Return a fitted prior as plain arrays: the tree of a kernel density as its codes.

    A tree is an object of compiled code, which does not check the numbers of its state.
    """
    if type(prior) is not KernelDensity:
        return prior
    plain = copy.copy(prior)
    plain.tree_ = np.array(prior.tree_.data)
    return plain


def with_tree(prior: Any) -> Any:
    """Return a fitted prior that :func:`without_tree` changed as it was."""
    codes = getattr(prior, "tree_", None)
    if type(prior) is not KernelDensity or not isinstance(codes, np.ndarray):
        return prior
    return KernelDensity.fit(prior, codes)


def _with_seed(
    estimator: Any, random_state: RandomState, only_where_missing: bool = False
) -> Any:
    """Set the ``random_state`` of an estimator that has one, and return it."""
    seed = draw_seed(random_state)
    parameters = estimator.get_params(deep=False)
    if "random_state" not in parameters:
        return estimator
    if only_where_missing and parameters["random_state"] is not None:
        return estimator
    return estimator.set_params(random_state=seed)
