"""A constant scale: training minimises the squared or absolute error."""

import reprlib

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from torch import Tensor

from skae._utils.messages import warn_user
from skae._utils.numbers import as_numbers
from skae.likelihoods import Likelihood
from skae.scales.base import Scale

# Prints lists and arrays of many numbers in part.
_SHORT = reprlib.Repr()
_SHORT.maxother = 60


class FixedScale(Scale):
    """Constant scale, which the user gives: ``variance_mode="fixed"``.

    :meth:`start` sets it. With a scale of 1, training minimises half the sum of squared
    errors for a Gaussian likelihood, and the sum of absolute errors for a Laplace one, up
    to a constant. See `Scale`.

    Parameters
    ----------
    likelihood : Likelihood
        The density that the scale belongs to.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    n_features : int
        Number of features, d.
    floor : Tensor of shape (1, 1) or (1, d)
        Not used, because a scale that is given has no floor.
    """

    has_analytic_gradient = True
    is_thread_safe = True

    value: Tensor

    def __init__(
        self,
        likelihood: Likelihood,
        covariance_type: str,
        n_features: int,
        floor: Tensor,
    ) -> None:
        # A scale that the user gives has no floor.
        super().__init__(likelihood, covariance_type, n_features, torch.zeros_like(floor))
        self.register_buffer("value", floor.new_zeros(1, self.n_scales))

    def start(self, scale: Tensor) -> Tensor:
        self.value.copy_(scale.log())
        return self.value.new_empty(0)

    def log_scale(self, outputs: Tensor) -> Tensor:
        return self.value


def warn_of_ignored_scale(scale: ArrayLike, variance_mode: str) -> None:
    """Warn if a scale other than the default 1.0 is given to a mode that fits its own.

    Parameters
    ----------
    scale : float or array-like of shape (n_features,)
        The scale.
    variance_mode : str
        A variance mode other than "fixed".
    """
    if np.ndim(scale) > 0 or scale != 1:
        warn_user(
            f"scale={_SHORT.repr(scale)} is ignored: with "
            f"variance_mode={variance_mode!r} the scale is fitted. Set "
            "variance_mode='fixed' to use the given scale, or leave scale at its default."
        )


def check_fixed_scale(
    scale: ArrayLike, covariance_type: str, n_features: int
) -> np.ndarray:
    """Validate a constant scale, and return it for each feature.

    Parameters
    ----------
    scale : float or array-like of shape (n_features,)
        The scale.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    n_features : int
        Number of features.

    Returns
    -------
    ndarray of shape (n_features,)
        The scale, float64.

    Raises
    ------
    ValueError
        If the covariance type does not allow its shape, or if it is not positive.
    """
    scale = as_numbers(scale, "scale")
    shape = np.shape(scale)
    allowed = [()] if covariance_type == "spherical" else [(), (n_features,)]
    if shape not in allowed:
        raise ValueError(
            f"scale has shape {shape}; with covariance_type={covariance_type!r} it must "
            "be a number"
            + (f" or have shape ({n_features},)." if len(allowed) > 1 else ".")
        )
    checked = check_array(
        np.atleast_1d(scale), ensure_2d=False, dtype=np.float64, input_name="scale"
    )
    if not (checked > 0).all():
        raise ValueError("scale must be positive in every feature.")
    return np.broadcast_to(checked, (n_features,)).astype(np.float64)
