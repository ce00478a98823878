"""Copies of what the epochs of a training change in a model, to go back to."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae._optim import Adam, FlatParameters, ModelSnapshot
from skae.scales import Scale

# Parts of a model that have buffers which change in training.
_NETWORKS = "encoder", "decoder"
_SCALE = "scale"


@dataclass(frozen=True)
class Snapshot:
    """Parameters of a model, and its buffers such as running means.

    Attributes
    ----------
    values : Tensor of shape (n_parameters,)
        The parameters, see `FlatParameters.get`.
    buffers : dict of str to Tensor
        Buffers of the networks and of the scale, see `copy_buffers`.
    """

    values: Tensor
    buffers: Mapping[str, Tensor]

    def restore(
        self,
        module: AutoencoderModule,
        parameters: FlatParameters,
        model: int,
        *,
        with_scale: bool,
    ) -> None:
        """Put the copies back; the model may have another place than when they were made.

        Without the scale, one in closed form goes on where it is.
        """
        parameters.put(model, self.values)
        restore_buffers(module, self.buffers, with_scale=with_scale)

    def without_scale(self) -> dict[str, Tensor]:
        """Return the buffers of the networks."""
        return {k: v for k, v in self.buffers.items() if not k.startswith(_SCALE)}


@dataclass(frozen=True)
class EpochState:
    """A model after an epoch.

    Attributes
    ----------
    snapshot : ModelSnapshot
        Parameters and moments.
    buffers : mapping of str to Tensor
        Copies of the buffers of networks and scale, by their names in the module.
    has_finite_buffers : bool
        Whether the buffers of the networks are finite.
    scale : Scale
        The scale, on the CPU.
    validation_score : float or None
        The validation score, if it was computed together with those of other models.
    """

    snapshot: ModelSnapshot
    buffers: Mapping[str, Tensor]
    has_finite_buffers: bool
    scale: Scale
    validation_score: float | None = None


class EpochReader:
    """Reads R models from their device: by one copy for all, and as many operations.

    Parameters
    ----------
    optimizer : Adam
        The optimiser of the models.
    modules : sequence of R AutoencoderModule
        The models, of the same shapes.
    validate : callable, default=None
        Returns the validation scores of the models, None for those without one.
    """

    def __init__(
        self,
        optimizer: Adam,
        modules: Sequence[AutoencoderModule],
        validate: Callable[[], Sequence[float | None]] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.modules = modules
        self.validate = validate or (lambda: [None] * len(modules))
        scales = [module.scale for module in modules]
        if modules[0].device.type != "cpu":
            # Copies of the first, because all their numbers are replaced.
            first = copy.deepcopy(scales[0]).cpu()
            scales = [copy.deepcopy(first) for _ in scales]
        self.scales = scales

    def __call__(self, totals: Tensor) -> tuple[np.ndarray, list[EpochState]]:
        """Return sums of the metrics, ``(R, n_metrics)``, float64, and the models."""
        R, snapshot = len(self.modules), self.optimizer.snapshot()
        parts = [dict(_changing_buffers(module)) for module in self.modules]
        buffers = {name: torch.stack([own[name] for own in parts]) for name in parts[0]}
        finite = [snapshot.finite_sums(), *_are_finite(buffers)]
        own = self._numbers_of_scales(buffers)
        flat = [totals, *(x[:, None] for x in finite), *(x.reshape(R, -1) for x in own)]
        numbers = torch.cat([x.to(totals.dtype) for x in flat], dim=1).cpu().double()
        sizes = [x.shape[1] for x in flat]
        sums, has_finite_sum, *others = numbers.split(sizes, dim=1)
        are_finite = torch.ones(R, dtype=torch.bool, device="cpu")
        for x in others[: len(finite) - 1]:
            are_finite &= x[:, 0] > 0
        self._set_scales(others[len(finite) - 1 :])
        snapshots = snapshot.by_model((has_finite_sum[:, 0] > 0).tolist())
        scores = self.validate()
        states = [
            EpochState(
                snapshots[r],
                {name: values[r] for name, values in buffers.items()},
                bool(are_finite[r]),
                self.scales[r],
                scores[r],
            )
            for r in range(R)
        ]
        return sums.numpy(), states

    def _numbers_of_scales(self, buffers: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what changes in the scales, if they are elsewhere, each ``(R, ...)``."""
        first = self.modules[0].scale
        if self.scales[0] is first:
            return []
        own = [dict(module.scale.named_parameters()) for module in self.modules]
        with torch.no_grad():
            of_parameters = [torch.stack([each[name] for each in own]) for name in own[0]]
        of_buffers = [buffers[f"{_SCALE}.{name}"] for name, _ in first.named_buffers()]
        return of_parameters + of_buffers

    def _set_scales(self, numbers: Sequence[Tensor]) -> None:
        """Set the scales on the CPU to numbers of those of the models, each ``(R, m)``."""
        if not numbers:
            return
        with torch.no_grad():
            for r, scale in enumerate(self.scales):
                own = [*scale.parameters(), *scale.buffers()]
                for value, new in zip(own, numbers, strict=True):
                    value.copy_(new[r].view_as(value))


def _changing_buffers(module: AutoencoderModule) -> list[tuple[str, Tensor]]:
    """Return the buffers of networks and scale, with their names in the module."""
    return [
        named
        for part in (*_NETWORKS, _SCALE)
        for named in module.get_submodule(part).named_buffers(part)
    ]


def copy_buffers(module: AutoencoderModule) -> dict[str, Tensor]:
    """Copy the buffers of networks and scale, by their names in the module."""
    return {name: buffer.clone() for name, buffer in _changing_buffers(module)}


def _are_finite(buffers: Mapping[str, Tensor]) -> list[Tensor]:
    """Return whether buffers ``(R, ...)`` of the networks are finite, each ``(R,)``."""
    return [
        value.isfinite().flatten(1).all(dim=1) if value.ndim > 1 else value.isfinite()
        for name, value in buffers.items()
        if not name.startswith(_SCALE) and value.is_floating_point()
    ]


def restore_buffers(
    module: AutoencoderModule, buffers: Mapping[str, Tensor], *, with_scale: bool
) -> None:
    """Put copies of buffers back.

    A buffer that is another tensor meanwhile is overwritten, too.
    """
    with torch.no_grad():
        for name, value in buffers.items():
            if name.startswith(_SCALE) and not with_scale:
                continue
            path, _, leaf = name.rpartition(".")
            owner, buffer = module.get_submodule(path), module.get_buffer(name)
            if buffer.shape == value.shape and buffer.dtype == value.dtype:
                # In place, because several modules may share a buffer.
                buffer.copy_(value)
            else:
                setattr(owner, leaf, value.clone())
