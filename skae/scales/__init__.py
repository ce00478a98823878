"""Axis 2: how the scale of the likelihood is determined (``variance_mode``)."""

from torch import Tensor

from skae.likelihoods import LIKELIHOODS, Likelihood, Mixed
from skae.scales.base import Scale
from skae.scales.closed_form import OptimalScale, ProfileScale
from skae.scales.fixed import FixedScale
from skae.scales.mixed import MixedScale
from skae.scales.none import NoScale
from skae.scales.trained import LearnedScale, PredictedScale

SCALES: dict[str, type[Scale]] = {
    "fixed": FixedScale,
    "optimal": OptimalScale,
    "profile": ProfileScale,
    "learned": LearnedScale,
    "predicted": PredictedScale,
    "none": NoScale,
}


def resolve_variance_mode(variance_mode: str, likelihood: Likelihood) -> str:
    """Return the variance mode that a likelihood has with a given one.

    Parameters
    ----------
    variance_mode : str
        A key of ``SCALES``, or "auto": the closed form of the scale if there is one, else
        a learned scale.
    likelihood : Likelihood
        The density that the scale belongs to; it is one part of a mixed likelihood.

    Returns
    -------
    str
        A key of ``SCALES``; "none" for a likelihood without scale with "auto".
    """
    if variance_mode != "auto":
        return variance_mode
    if not likelihood.has_scale:
        return "none"
    return "optimal" if likelihood.has_optimal_scale else "learned"


def fits(variance_mode: str, likelihood: Likelihood) -> bool:
    """Whether a variance mode applies to a likelihood.

    Parameters
    ----------
    variance_mode : str
        A key of ``SCALES``.
    likelihood : Likelihood
        The density; it is one part of a mixed likelihood.

    Returns
    -------
    bool
        True if the likelihood has what the mode needs.
    """
    if not likelihood.has_scale:
        return variance_mode == "none"
    kind = SCALES[variance_mode]
    return variance_mode != "none" and (
        likelihood.has_optimal_scale or not kind.needs_optimal_scale
    )


def check_scale(variance_mode: str, covariance_type: str, likelihood: Likelihood) -> None:
    """Raise if a variance mode does not fit the covariance type or the likelihood.

    Parameters
    ----------
    variance_mode : str
        A key of ``SCALES``, or "auto", which always fits.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    likelihood : Likelihood
        The density that the scale belongs to.

    Raises
    ------
    ValueError
        If the variance mode does not allow the covariance type, or if it needs a scale, or
        a closed form of it, that the likelihood lacks.
    """
    if variance_mode == "auto":
        return
    if covariance_type not in SCALES[variance_mode].covariance_types:
        raise ValueError(
            f"variance_mode={variance_mode!r} does not go with "
            f"covariance_type={covariance_type!r}: the optimal scale of a single element "
            "is its own residual. So, without a mean over features, the gradient "
            "2 / (x - loc) of the loss log (x - loc)**2 explodes near a residual of 0. "
            + (
                "A mixed likelihood has a scale for each column: use variance_mode='auto'."
                if isinstance(likelihood, Mixed)
                else "Use covariance_type='spherical' or variance_mode='optimal'."
            )
        )
    families = [family for _, family in likelihood.parts(1)]
    if isinstance(likelihood, Mixed):
        # Parts without scale need none in any mode.
        families = [f for f in families if f.has_scale]
    for family in families:
        if not fits(variance_mode, family):
            raise ValueError(_misfit_message(variance_mode, family))


def _misfit_message(variance_mode: str, likelihood: Likelihood) -> str:
    """Say why a variance mode does not apply to a likelihood, and which ones do."""
    name = type(likelihood).__name__
    allowed = [mode for mode in SCALES if fits(mode, likelihood)]
    if not likelihood.has_scale:
        reason = f"needs a likelihood with a scale, and {name} has none"
    elif variance_mode == "none":
        reason = f"is for likelihoods without scale, and {name} has one"
    else:
        reason = f"needs a closed form of the optimal scale, and {name} has none"
    return f"variance_mode={variance_mode!r} {reason}. Use one of {allowed}, or 'auto'."


def legal_combinations() -> list[tuple[str, str, str]]:
    """Return all (likelihood, variance_mode, covariance_type) names that fit together.

    A mixed likelihood is left out, because its parts decide.

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
        if not issubclass(likelihood, Mixed) and fits(mode, likelihood())
    ]


def make_scale(
    variance_mode: str,
    covariance_type: str,
    likelihood: Likelihood,
    n_features: int,
    floor: Tensor,
) -> Scale:
    """Make the scale of a variance mode.

    Parameters
    ----------
    variance_mode : str
        A key of ``SCALES``, or "auto", see :func:`resolve_variance_mode`. A part of a mixed
        likelihood that has no scale takes "none" in any mode.
    covariance_type : {"spherical", "diag"}
        One scale for all features, or one per feature.
    likelihood : Likelihood
        The density that the scale belongs to.
    n_features : int
        Number of features, d.
    floor : Tensor of shape (1, 1) or (1, d)
        Smallest scale that can be reached.

    Returns
    -------
    Scale
        The scale, before its start.
    """
    if isinstance(likelihood, Mixed):

        def make(family: Likelihood, width: int, own_floor: Tensor) -> Scale:
            # A part without scale has none in any mode.
            mode = variance_mode if family.has_scale else "auto"
            return make_scale(mode, covariance_type, family, width, own_floor)

        return MixedScale(likelihood, covariance_type, n_features, floor, make)
    kind = SCALES[resolve_variance_mode(variance_mode, likelihood)]
    return kind(likelihood, covariance_type, n_features, floor)


__all__ = [
    "SCALES",
    "FixedScale",
    "LearnedScale",
    "MixedScale",
    "NoScale",
    "OptimalScale",
    "PredictedScale",
    "ProfileScale",
    "Scale",
    "fits",
    "legal_combinations",
    "make_scale",
    "resolve_variance_mode",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
