"""A mixture of logistic densities for each feature, whose shape the decoder predicts."""

import copy
import math
from numbers import Integral

import torch
from torch import Tensor

from skae.likelihoods.base import LocationScale
from skae.likelihoods.logistic import LogisticLikelihood

_LOGISTIC = LogisticLikelihood()
# Offsets of the outermost components at the start, in units of the scale: the components
# differ, and the density is still close to that of one component.
_REACH = 1.0
# Excess of the widths over 1 at the start.
_EXCESS = 0.01


class LogisticMixtureLikelihood(LocationScale):
    r"""Mixture of logistic densities, whose shape is a function of the code.

    .. math:: p(x) = \sum_{j=1}^K \pi_j \frac{f(u_j)}{w_j s}, \quad
        u_j = \frac{t - \delta_j}{w_j}, \quad t = \frac{x-\mu}{s}

    Here f is the standard logistic density. Weights :math:`\pi_j`, offsets
    :math:`\delta_j` and widths :math:`w_j \ge 1` are outputs of the decoder for each
    feature, so one code stands for a density with several modes, or a skew one. No width
    is below 1, so the floor of the scale is that of each component.

    Mixtures of logistic densities were introduced by Salimans et al. (2017), as the
    distribution of a pixel. The optimal scale has no closed form.

    Parameters
    ----------
    n_components : int, default=3
        Number of components, K.

    Raises
    ------
    ValueError
        If `n_components` is not an int of at least 2.

    References
    ----------
    T. Salimans, A. Karpathy, X. Chen and D. P. Kingma (2017). "PixelCNN++: improving the
    PixelCNN with discretized logistic mixture likelihood and other modifications". ICLR.
    Section 2.1.
    """

    is_thread_safe = True
    # Further outputs (..., 3 * K * d) of the decoder; those of the start without a model.
    _outputs: Tensor | None = None

    def __init__(self, n_components: int = 3) -> None:
        is_count = isinstance(n_components, Integral) and n_components >= 2
        if not is_count or isinstance(n_components, bool):
            raise ValueError(
                f"n_components must be an int of at least 2, got {n_components!r}."
            )
        self.n_components = n_components

    @property
    def unit_stddev(self) -> float:
        """Standard deviation for the scale 1, with the shape of the start."""
        k = self.n_components
        offset_variance = _REACH**2 * (k + 1) / (3 * (k - 1))
        return math.hypot((1 + _EXCESS) * _LOGISTIC.unit_stddev, math.sqrt(offset_variance))

    def start_outputs(self, n_features: int) -> Tensor:
        offset = torch.linspace(
            -_REACH, _REACH, self.n_components, dtype=torch.float64, device="cpu"
        )
        h = torch.full_like(offset, math.log(_EXCESS))
        shape = torch.stack([offset, h, torch.zeros_like(h)])  # (3, K)
        return shape[..., None].expand(-1, -1, n_features).reshape(-1)

    def given(self, outputs: Tensor) -> "LogisticMixtureLikelihood":
        likelihood = copy.copy(self)
        likelihood._outputs = outputs
        return likelihood

    def _shape(self, t: Tensor) -> Tensor:
        """Return offsets, free widths h and logits, ``(3, K, ...)``, to broadcast with t."""
        if self._outputs is None:
            start = self.start_outputs(1).to(t)
            return start.view(3, self.n_components, *t.ndim * [1])
        return self._by_component(self._outputs)

    def _by_component(self, outputs: Tensor) -> Tensor:
        """View outputs ``(..., 3 * K * d)`` as ``(3, K, ..., d)``."""
        return outputs.unflatten(-1, (3, self.n_components, -1)).movedim((-3, -2), (0, 1))

    def standard_log_prob(self, t: Tensor, *, out: Tensor | None = None) -> Tensor:
        shape = self._shape(t)
        joint, *_ = _components(t, shape)
        return torch.sub(joint.logsumexp(dim=0), shape[2].logsumexp(dim=0), out=out)

    def differentiate_(self, t: Tensor, *, out: Tensor, grad_outputs: Tensor) -> Tensor:
        # With responsibilities r and the logistic influence psi, the derivatives of log f
        # are r psi / w by an offset, minus their sum by t, (r psi u - r) / w by a width,
        # and r - pi by a logit.
        shape = self._shape(t)
        joint, u, width = _components(t, shape)
        responsibility, weight = joint, shape[2].clone()
        log_sum = _normalize_(responsibility)
        torch.sub(log_sum, _normalize_(weight), out=out)
        grad_offset, grad_h, grad_logit = self._by_component(grad_outputs)
        torch.sub(responsibility, weight, out=grad_logit)
        over_width = responsibility.div_(width)
        torch.mul(_LOGISTIC.influence_(u.clone()), over_width, out=grad_offset)
        torch.mul(u, grad_offset, out=grad_h).sub_(over_width)
        # dw/dh = exp(min(h, 0)) is the excess of w over 1 below h = 0, and 1 above.
        grad_h.mul_(_excess(shape[1]).clamp_(max=1))
        return torch.sum(grad_offset, dim=0, out=t)

    def mean(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        offset, _, logit = self._shape(loc)
        return loc + torch.exp(log_scale) * (logit.softmax(dim=0) * offset).sum(dim=0)

    def sample(self, loc: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        offset, h, logit = self._shape(loc)
        uniform = torch.empty_like(loc).uniform_(generator=generator)
        bounds = logit.softmax(dim=0).cumsum(dim=0)[:-1]
        component = (uniform >= bounds).sum(dim=0, keepdim=True)  # (1, *loc.shape)
        offset, width = (
            values.expand(-1, *loc.shape).gather(0, component)[0]
            for values in (offset, _excess(h) + 1)
        )
        centre = loc + torch.exp(log_scale) * offset
        return _LOGISTIC.sample(centre, log_scale + width.log(), generator)


def _components(t: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute log f(u) - log w + logit, u and the width w of each component, ``(K, ...)``."""
    offset, h, logit = shape
    width = _excess(h) + 1
    u = (t - offset) / width
    return _LOGISTIC.standard_log_prob(u) - width.log() + logit, u, width


def _excess(h: Tensor) -> Tensor:
    """Compute w - 1 = exp(h), with the exponential made linear above h = 0."""
    # The sum of both parts has no dead zone; see `skae.scales.base.log_floored_exp`.
    return torch.exp(h.clamp(max=0)) + torch.relu(h)


def _normalize_(log_weights: Tensor) -> Tensor:
    """Replace log-weights ``(K, ...)`` by weights of sum 1; return the log of the sum."""
    largest = log_weights.amax(dim=0)
    total = log_weights.sub_(largest).exp_().sum(dim=0)
    log_weights.div_(total)
    return total.log_().add_(largest)
