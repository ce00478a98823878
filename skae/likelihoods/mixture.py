"""A mixture of densities for each feature, whose shape the decoder predicts."""

import copy
import math
from collections.abc import Callable
from functools import reduce
from numbers import Integral

import torch
from torch import Tensor

from skae.likelihoods.gaussian import GaussianLikelihood
from skae.likelihoods.laplace import LaplaceLikelihood
from skae.likelihoods.location_scale import LocationScale
from skae.likelihoods.logistic import LogisticLikelihood

_COMPONENTS: dict[str, LocationScale] = {
    "gaussian": GaussianLikelihood(),
    "laplace": LaplaceLikelihood(),
    "logistic": LogisticLikelihood(),
}
# Offsets of the outermost components at the start, in units of the width: the components
# differ, and the density is still close to that of one component.
_REACH = 1.0
# Excess of the widths over 1 at the start.
_EXCESS = 0.01


class MixtureLikelihood(LocationScale):
    r"""Mixture of location-scale densities, whose shape is a function of the code.

    .. math:: p(x) = \sum_{j=1}^K \pi_j \frac{f(u_j)}{w_j s}, \quad
        u_j = \frac{t}{w_j} - \delta_j, \quad t = \frac{x-\mu}{s}

    Here f is the standard density of a component. Weights :math:`\pi_j`, widths
    :math:`w_j \ge 1` and offsets :math:`\delta_j`, in units of the width, are outputs of
    the decoder for each feature. So the density given a code may be skew, or have several
    modes. No width is below 1, so the floor of the scale holds for each component. The
    optimal scale has no closed form.

    A network whose outputs are a mixture of normal densities is the mixture density network
    of Bishop (1994); mixtures of logistic densities are due to Salimans et al. (2017).

    Parameters
    ----------
    n_components : int, default=3
        Number of components, K, for each feature.
    component : {"gaussian", "laplace", "logistic"}, default="logistic"
        Density of a component.

    Raises
    ------
    ValueError
        If `n_components` is not an int of at least 2, or `component` is no such name.

    References
    ----------
    C. M. Bishop (1994). "Mixture density networks". Technical report NCRG/94/004, Aston
    University. Equations 20 to 24.

    T. Salimans, A. Karpathy, X. Chen and D. P. Kingma (2017). "PixelCNN++: improving the
    PixelCNN with discretized logistic mixture likelihood and other modifications". ICLR.
    Section 2.1.

    Examples
    --------
    >>> from skae.likelihoods import MixtureLikelihood
    >>> likelihood = MixtureLikelihood(n_components=2, component="gaussian")
    >>> len(likelihood.start_outputs(n_features=5))  # 2 weights, widths and offsets each
    30
    """

    is_thread_safe = True
    # Further outputs (..., 3 * K * d) of the decoder; None is the shape of the start.
    _outputs: Tensor | None = None

    def __init__(self, n_components: int = 3, component: str = "logistic") -> None:
        is_count = isinstance(n_components, Integral) and n_components >= 2
        if not is_count or isinstance(n_components, bool):
            raise ValueError(
                f"n_components must be an int of at least 2, got {n_components!r}."
            )
        if component not in _COMPONENTS:
            raise ValueError(
                f"component must be one of {list(_COMPONENTS)}, got {component!r}."
            )
        self.n_components = n_components
        self.component = component

    @property  # an attribute of all other classes, which mypy tells apart
    def is_smooth(self) -> bool:  # type: ignore[override]
        """Whether the components are smooth."""
        return type(self) is MixtureLikelihood and self.component != "laplace"

    @property
    def unit_stddev(self) -> float:
        """Standard deviation for the scale 1, with the shape of the start."""
        k = self.n_components
        offset = _REACH * math.sqrt((k + 1) / (3 * (k - 1)))
        return (1 + _EXCESS) * math.hypot(_COMPONENTS[self.component].unit_stddev, offset)

    def start_outputs(self, n_features: int) -> Tensor:
        offset = torch.linspace(
            -_REACH, _REACH, self.n_components, dtype=torch.float64, device="cpu"
        )
        h = torch.full_like(offset, math.log(_EXCESS))
        shape = torch.stack([offset, h, torch.zeros_like(h)])  # (3, K)
        return shape[..., None].expand(-1, -1, n_features).reshape(-1)

    def given(self, outputs: Tensor) -> "MixtureLikelihood":
        likelihood = copy.copy(self)
        likelihood._outputs = outputs
        return likelihood

    def _shape(self, t: Tensor) -> Tensor:
        """Return offsets, free widths h and logits, ``(3, K, ...)``, for residuals t."""
        if self._outputs is None:
            start = self.start_outputs(1).to(t)
            return start.view(3, self.n_components, *t.ndim * [1])
        return self._by_component(self._outputs)

    def _by_component(self, outputs: Tensor) -> Tensor:
        """View outputs ``(..., 3 * K * d)`` as ``(3, K, ..., d)``."""
        return outputs.unflatten(-1, (3, self.n_components, -1)).movedim((-3, -2), (0, 1))

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        offset, h, logit = self._shape(t)
        width = _width(h)
        log_f = _COMPONENTS[self.component].standard_log_prob(t / width - offset)
        log_terms = log_f - width.log() + logit
        return torch.sub(log_terms.logsumexp(dim=0), logit.logsumexp(dim=0), out=out)

    def differentiate_(self, t: Tensor, *, out: Tensor, grad_outputs: Tensor) -> Tensor:
        # With responsibilities r and a component's influence psi, the derivatives of log f
        # are r psi by an offset, -sum r psi / w by t, (r psi t / w - r) / w by a width, and
        # r - pi by a logit.
        component = _COMPONENTS[self.component]
        offset, h, logit = self._shape(t)
        grad_offset, grad_h, grad_logit = self._by_component(grad_outputs)
        # Also the derivative of the width by h.
        slope = torch.exp(h.clamp(max=0))
        width = torch.relu(h).add_(slope).add_(1)
        ratio = t / width
        u = ratio - offset
        responsibility = torch.sub(component.standard_log_prob(u), width.log())
        responsibility.add_(logit)
        weight = logit.clone()
        torch.sub(_normalize_(responsibility), _normalize_(weight), out=out)
        torch.sub(responsibility, weight, out=grad_logit)
        torch.mul(component.influence_(u), responsibility, out=grad_offset)
        torch.mul(grad_offset, ratio, out=grad_h).sub_(responsibility)
        grad_h.mul_(slope.div_(width))
        return t.copy_(_combine(torch.add, grad_offset / width))

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        offset, h, logit = self._shape(loc)
        mean = (logit.softmax(dim=0) * _width(h) * offset).sum(dim=0)
        return loc + torch.exp(log_scale) * mean

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        offset, h, logit = self._shape(loc)
        uniform = torch.empty_like(loc).uniform_(generator=generator)
        bounds = logit.softmax(dim=0).cumsum(dim=0)[:-1]
        chosen = (uniform >= bounds).sum(dim=0, keepdim=True)  # (1, *loc.shape)
        offset, width = (
            values.expand(-1, *loc.shape).gather(0, chosen)[0]
            for values in (offset, _width(h))
        )
        log_width = log_scale + width.log()
        centre = loc + torch.exp(log_width) * offset
        return _COMPONENTS[self.component].sample(centre, log_width, generator)


def _width(h: Tensor) -> Tensor:
    """Compute the width 1 + exp(h), with the exponential made linear above h = 0."""
    # The sum of both parts has no dead zone; see `skae.scales.base.log_floored_exp`.
    return torch.exp(h.clamp(max=0)) + torch.relu(h) + 1


def _normalize_(log_weights: Tensor) -> Tensor:
    """Replace log-weights ``(K, ...)`` by weights of sum 1; return the log of the sum."""
    largest = _combine(torch.maximum, log_weights)
    total = _combine(torch.add, log_weights.sub_(largest).exp_())
    log_weights.div_(total)
    return total.log_().add_(largest)


def _combine(operation: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """Combine values ``(K, ...)`` of the components, for few K faster than a reduction."""
    return reduce(operation, values.unbind())
