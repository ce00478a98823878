"""Axis 2: how the scale of the likelihood is determined (``variance_mode``)."""

from torch import Tensor

from skae.likelihoods import LIKELIHOODS, Likelihood
from skae.scales.base import Scale
from skae.scales.closed_form import OptimalScale, ProfileScale
from skae.scales.fixed import FixedScale
from skae.scales.trained import LearnedScale, PredictedScale

SCALES: dict[str, type[Scale]] = {
    "fixed": FixedScale,
    "optimal": OptimalScale,
    "profile": ProfileScale,
    "learned": LearnedScale,
    "predicted": PredictedScale,
}


def check_scale(variance_mode: str, covariance_type: str, likelihood: Likelihood) -> None:
    """Raise if a variance mode does not fit the covariance type or the likelihood.

    Parameters
    ----------
    variance_mode : str
        A key of ``SCALES``.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    likelihood : Likelihood
        The density that the scale belongs to.

    Raises
    ------
    ValueError
        If the variance mode does not allow the covariance type, or if it needs a closed
        form that the likelihood lacks.
    """
    kind = SCALES[variance_mode]
    if covariance_type not in kind.covariance_types:
        raise ValueError(
            f"variance_mode={variance_mode!r} does not go with "
            f"covariance_type={covariance_type!r}: the optimal scale of a single element "
            "is its own residual. So, without a mean over features, the gradient "
            "2 / (x - loc) of the loss log (x - loc)**2 explodes near a residual of 0. "
            "Use covariance_type='spherical' or variance_mode='optimal'."
        )
    if kind.needs_optimal_scale and not likelihood.has_optimal_scale:
        open_modes = [name for name, s in SCALES.items() if not s.needs_optimal_scale]
        raise ValueError(
            f"variance_mode={variance_mode!r} needs a closed form of the optimal scale, "
            f"and {type(likelihood).__name__} has none. Use one of {open_modes}."
        )


def legal_combinations() -> list[tuple[str, str, str]]:
    """Return all (likelihood, variance_mode, covariance_type) names that fit together.

    Returns
    -------
    list of tuple of str
        The triples, in the order of the registries.
    """
    return [
        (name, mode, covariance_type)
        for name, likelihood in LIKELIHOODS.items()
        for mode, kind in SCALES.items()
        for covariance_type in kind.covariance_types
        if likelihood.has_optimal_scale or not kind.needs_optimal_scale
    ]


def make_scale(
    variance_mode: str,
    covariance_type: str,
    likelihood: Likelihood,
    n_features: int,
    floor: Tensor,
) -> Scale:
    """Make the scale of a variance mode, a key of ``SCALES``. See `Scale`."""
    return SCALES[variance_mode](likelihood, covariance_type, n_features, floor)


__all__ = [
    "SCALES",
    "FixedScale",
    "LearnedScale",
    "OptimalScale",
    "PredictedScale",
    "ProfileScale",
    "Scale",
    "legal_combinations",
    "make_scale",
]
