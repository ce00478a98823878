"""Copies of what the epochs of a training change in a model, to go back to."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skae._module import AutoencoderModule
from skae._optim import FlatParameters


@dataclass(frozen=True)
class Snapshot:
    """Parameters of a model, and buffers of its networks such as running means.

    Buffers of the scale are not among them: a scale in closed form is set anew from the
    data, once the parameters are restored.

    Attributes
    ----------
    values : Tensor of shape (n_parameters,)
        The parameters, see `FlatParameters.get`.
    buffers : dict of str to Tensor
        Buffers of encoder and decoder.
    """

    values: Tensor
    buffers: dict[str, Tensor]

    @classmethod
    def take(
        cls, module: AutoencoderModule, parameters: FlatParameters, model: int
    ) -> "Snapshot":
        """Copy the state of a module, whose parameters are those of a model."""
        buffers = {
            name: buffer.clone() for name, buffer in _networks(module).named_buffers()
        }
        return cls(parameters.get(model), buffers)

    def restore(
        self, module: AutoencoderModule, parameters: FlatParameters, model: int
    ) -> None:
        """Put the copies back; the model may have another place than when they were made.

        A buffer that is another tensor meanwhile is overwritten, too.
        """
        parameters.put(model, self.values)
        networks = _networks(module)
        with torch.no_grad():
            for name, value in self.buffers.items():
                path, _, leaf = name.rpartition(".")
                owner, buffer = networks.get_submodule(path), networks.get_buffer(name)
                if buffer.shape == value.shape and buffer.dtype == value.dtype:
                    # In place, because several modules may share a buffer.
                    buffer.copy_(value)
                else:
                    setattr(owner, leaf, value.clone())


def _networks(module: AutoencoderModule) -> nn.Module:
    """Return encoder and decoder as one module."""
    return nn.ModuleList([module.encoder, module.decoder])
