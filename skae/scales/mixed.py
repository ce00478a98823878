"""The scales of a mixed likelihood: one for each of its parts."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn

from skae.likelihoods import Likelihood
from skae.scales.base import Scale


class MixedScale(Scale):
    """Scales of the parts of a mixed likelihood.

    Each feature has its own. A part without scale has the log-scale 0. See `Scale`.

    Parameters
    ----------
    likelihood : Likelihood
        The density that the scale belongs to.
    covariance_type : "diag"
        One scale per feature.
    n_features : int
        Number of features, d.
    floor : Tensor of shape (1, d)
        Smallest scale that can be reached.
    make : callable
        Makes the scale of a part, from its likelihood, number of features and floor.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        covariance_type: str,
        n_features: int,
        floor: Tensor,
        make: Callable[[Likelihood, int, Tensor], Scale],
    ) -> None:
        super().__init__(likelihood, covariance_type, n_features, floor)
        scales, self.slices = [], []
        for part, family in likelihood.parts(n_features):
            scales.append(make(family, part.stop - part.start, floor[:, part]))
            self.slices.append(part)
        self.scales = nn.ModuleList(scales)
        self.needs_optimal_scale = any(s.needs_optimal_scale for s in scales)
        self.is_trained = any(s.is_trained for s in scales)
        self.is_shared = all(s.is_shared for s in scales)

    @property
    def parts(self) -> list[tuple[slice, Scale]]:
        """Ranges of features, and the scale of each."""
        scales = [scale for scale in self.scales if isinstance(scale, Scale)]
        return list(zip(self.slices, scales, strict=True))

    @property
    def has_analytic_gradient(self) -> bool:
        """Whether all parts provide their own derivatives."""
        return all(scale.has_analytic_gradient for _, scale in self.parts)

    @property
    def is_thread_safe(self) -> bool:
        """Whether all parts may be computed in any thread."""
        return all(scale.is_thread_safe for _, scale in self.parts)

    @property
    def batch_key(self) -> Hashable:
        """See `ModelPart.batch_key`."""
        return type(self), tuple((p.start, p.stop, s.batch_key) for p, s in self.parts)

    @property
    def n_outputs(self) -> int:
        return sum(scale.n_outputs for _, scale in self.parts)

    def _outputs(self, outputs: Tensor) -> Sequence[Tensor]:
        """Split outputs ``(..., n_outputs)`` into those of each part."""
        return outputs.split([scale.n_outputs for _, scale in self.parts], dim=-1)

    def _join(self, values: Sequence[Tensor]) -> Tensor:
        """Join values of the parts, ``(..., 1 or width)``, to one for each feature."""
        shape = torch.broadcast_shapes(*(v.shape[:-1] for v in values))
        widths = [part.stop - part.start for part in self.slices]
        expanded = [v.expand(*shape, w) for v, w in zip(values, widths, strict=True)]
        return torch.cat(expanded, dim=-1)

    def start(self, scale: Tensor) -> Tensor:
        return torch.cat([own.start(scale[:, part]) for part, own in self.parts])

    def log_scale(self, outputs: Tensor) -> Tensor:
        pieces = self._outputs(outputs)
        return self._join(
            [s.log_scale(o) for (_, s), o in zip(self.parts, pieces, strict=True)]
        )

    def training_log_scale(
        self,
        residual: Tensor,
        outputs: Tensor,
        weight: Tensor,
        scratch: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        found = [
            scale.training_log_scale(
                residual[..., part],
                own,
                weight,
                observed=None if observed is None else observed[..., part],
            )
            for (part, scale), own in zip(self.parts, self._outputs(outputs), strict=True)
        ]
        return self._join(found)

    def backward(self, grad: Tensor, outputs: Tensor, grad_outputs: Tensor) -> None:
        pieces = self._outputs(outputs), self._outputs(grad_outputs)
        for (part, scale), own, grad_own in zip(self.parts, *pieces, strict=True):
            if scale.is_trained:
                scale.backward(grad[..., part], own, grad_own)

    def finalize(self, mean_deviation: Tensor) -> None:
        for part, scale in self.parts:
            scale.finalize(mean_deviation[:, part])
