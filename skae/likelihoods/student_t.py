"""Student's t density: tails that fall as a power, of fixed or learned heaviness."""

import copy
import math
from collections.abc import Hashable
from numbers import Real

import torch
from torch import Tensor

from skae.likelihoods.gamma import digamma_rise, log_rising
from skae.likelihoods.location_scale import LocationScale

# Degrees of freedom at the start, if they are learned, and their smallest number: the
# variance is finite above 2.
_START_DF, _SMALLEST_DF = 5.0, 2.0


class StudentTLikelihood(LocationScale):
    r"""Student's t density.

    .. math::
        \log p(x) = \log\Gamma\tfrac{\nu+1}2 - \log\Gamma\tfrac\nu2 - \tfrac12\log\pi\nu
        - \log s - \tfrac{\nu+1}2 \log\left(1 + t^2/\nu\right), \quad t = (x-\mu)/s

    Its tails fall as a power of t, so an outlier has almost no influence on a fit. As the
    degrees of freedom :math:`\nu` grow, it becomes the normal density. The optimal scale
    has no closed form.

    Parameters
    ----------
    df : float or "learned", default=5.0
        Degrees of freedom, above 2, so that the standard deviation is finite. "learned"
        trains a number for each feature with the weights.

    Raises
    ------
    ValueError
        If `df` is neither above 2 nor "learned".
    """

    is_thread_safe = True
    has_expectation = True
    # Free numbers h of each feature (..., d), see `_df`; None if df is fixed.
    _outputs: Tensor | None = None

    def __init__(self, df: float | str = _START_DF) -> None:
        is_number = isinstance(df, Real) and not isinstance(df, bool)
        is_valid = is_number and _SMALLEST_DF < float(df) < math.inf
        if df != "learned" and not is_valid:
            raise ValueError(f"df must be a number above 2, or 'learned', got {df!r}.")
        self.df = df

    def __repr__(self) -> str:
        """Return the class and the parameter."""
        return f"{type(self).__name__}(df={self.df!r})"

    @property
    def batch_key(self) -> Hashable:
        """See `ModelPart.batch_key`."""
        return type(self), self.df

    @property
    def unit_stddev(self) -> float:
        """Standard deviation for the scale 1, at the start."""
        df = _START_DF if isinstance(self.df, str) else float(self.df)
        return math.sqrt(df / (df - 2))

    def start_parameters(self, n_features: int) -> Tensor:
        if not isinstance(self.df, str):
            return super().start_parameters(n_features)
        start = _START_DF - _SMALLEST_DF - 1
        return torch.full((n_features,), start, dtype=torch.float64, device="cpu")

    def given(self, outputs: Tensor) -> "StudentTLikelihood":
        likelihood = copy.copy(self)
        likelihood._outputs = outputs if isinstance(self.df, str) else None
        return likelihood

    def _df(self, t: Tensor) -> Tensor:
        """Return the degrees of freedom, which broadcast against residuals t."""
        if not isinstance(self.df, str):
            return t.new_full((), self.df)
        if self._outputs is None:
            return t.new_full((), _START_DF)
        # The excess is exp(h), made linear above h = 0, so that nothing overflows.
        h = self._outputs
        return _SMALLEST_DF + torch.exp(h.clamp(max=0)) + torch.relu(h)

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        df = self._df(t)
        log_kernel = torch.log1p(torch.div(torch.square(t), df))
        return torch.sub(_log_constant(df), (df + 1) / 2 * log_kernel, out=out)

    def differentiate_(self, t: Tensor, *, out: Tensor, grad_outputs: Tensor) -> Tensor:
        df = self._df(t)
        ratio = torch.square(t).div_(df)
        log_kernel = torch.log1p(ratio)
        torch.sub(_log_constant(df), (df + 1) / 2 * log_kernel, out=out)
        if grad_outputs.shape[-1]:
            # (df + 1)/2 * ratio/(1 + ratio)/df - log(1 + ratio)/2, and the constant's.
            slope = ratio.div_(ratio + 1).mul_((df + 1) / (2 * df))
            slope.sub_(log_kernel, alpha=0.5).add_(_slope_of_log_constant(df))
            assert self._outputs is not None
            torch.mul(slope, torch.exp(self._outputs.clamp(max=0)), out=grad_outputs)
        # (df + 1) t / (df + t^2), divided by t: no square overflows, and t = 0 gives 0.
        return t.add_(df / t).reciprocal_().mul_(df + 1)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        # A point in the plane in polar form (Bailey 1994); as df grows, the radius becomes
        # that of Box and Muller.
        df = self._df(loc)
        exponential = torch.empty_like(loc).exponential_(generator=generator)
        angle = torch.empty_like(loc).uniform_(0, 2 * math.pi, generator=generator)
        radius = (df * torch.expm1(2 / df * exponential)).sqrt()
        return loc + torch.exp(log_scale) * radius * torch.cos(angle)


def _log_constant(df: Tensor) -> Tensor:
    """Compute the logarithm of the density at 0."""
    return log_rising(df.new_full((), 0.5), df / 2) - 0.5 * math.log(2 * math.pi)


def _slope_of_log_constant(df: Tensor) -> Tensor:
    """Compute the derivative of :func:`_log_constant`."""
    return 0.5 * (digamma_rise(df.new_full((), 0.5), df / 2) - 1 / df)
