"""Copies of what the epochs of a training change in a model, to go back to."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae._optim import FlatParameters

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


def copy_buffers(module: AutoencoderModule) -> dict[str, Tensor]:
    """Copy the buffers of networks and scale, by their names in the module."""
    return {
        name: buffer.clone()
        for part in (*_NETWORKS, _SCALE)
        for name, buffer in module.get_submodule(part).named_buffers(part)
    }


def are_finite(buffers: Mapping[str, Tensor]) -> bool:
    """Whether the buffers of the networks are finite."""
    return all(
        bool(value.isfinite().all())
        for name, value in buffers.items()
        if not name.startswith(_SCALE) and value.is_floating_point()
    )


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
