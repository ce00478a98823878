"""The torch module of an autoencoder: encoder, decoder, likelihood and scale."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._random import seeded
from skae.likelihoods import Likelihood
from skae.networks import Network
from skae.scales import make_scale


@dataclass(frozen=True)
class Spec:
    """All that a module is made from, its weights apart.

    Attributes
    ----------
    n_features, n_components : int
        Sizes of the data and of the code.
    n_heads : int
        Numbers that the encoder gives for each component: 1 for a code, 2 for the mean
        and the spread of a posterior.
    network : Network
        Recipe for the nonlinear halves.
    likelihood : Likelihood
        Density of a feature given the decoder's output.
    variance_mode, covariance_type : str
        Where the scale comes from, and for how many features it stands.
    """

    n_features: int
    n_components: int
    n_heads: int
    network: Network
    likelihood: Likelihood
    variance_mode: str
    covariance_type: str


class AutoencoderModule(nn.Module):
    """Encoder, decoder, likelihood and scale, on standardised data.

    Two systems of units meet here. The networks see and produce features of mean 0 and
    variance 1. The likelihood is stated in the units of X divided by ``unit``, so that one
    spherical scale is one scale in the units of X; ``ratio`` (a feature's standard
    deviation over its unit) leads from one to the other.

    Both halves are a linear path plus the network, times a gain: started from the closed
    form, the linear path is probabilistic PCA, the network learns what that leaves over,
    and the gain is the size of what it leaves over. So a step of the optimizer means as
    much for a feature of variance 1e6 that PCA explains to the last digit as for any other.

    Parameters
    ----------
    spec : Spec
        What to build.
    ratio : Tensor of shape (n_features,)
        Standard deviation of each feature in the likelihood's units.
    floor : Tensor of shape (1, 1) or (1, n_features)
        Smallest scale in the likelihood's units.
    """

    ratio: Tensor
    code_gain: Tensor
    loc_gain: Tensor

    def __init__(self, spec: Spec, ratio: Tensor, floor: Tensor) -> None:
        super().__init__()
        d, k = spec.n_features, spec.n_components
        self.spec = spec
        self.register_buffer("ratio", ratio)
        self.scale = make_scale(
            spec.variance_mode, spec.covariance_type, spec.likelihood, d, floor
        )
        self.register_buffer("loc_gain", ratio.clone())
        self.register_buffer("code_gain", torch.ones(spec.n_heads * k))
        n_codes, n_outputs = spec.n_heads * k, d + self.scale.n_outputs
        self.linear_encoder = nn.Linear(d, n_codes)
        self.linear_decoder = nn.Linear(k, n_outputs)
        self.encoder = spec.network.encoder(d, n_codes)
        self.decoder = spec.network.decoder(k, n_outputs)

    @cached_property
    def n_weights(self) -> int:
        """Number of all parameters: about the multiply-adds that a row costs."""
        return sum(p.numel() for p in self.parameters())

    @cached_property
    def largest(self) -> int:
        """Number of weights of the largest layer."""
        return max(p.numel() for p in self.parameters())

    @cached_property
    def width(self) -> int:
        """Largest number of numbers that a row takes inside."""
        return max(max(p.shape) for p in self.parameters())

    def target(self, y: Tensor) -> Tensor:
        """Standardised data in the likelihood's units.

        Parameters
        ----------
        y : Tensor of shape (n, n_features)
            Standardised data.

        Returns
        -------
        Tensor of shape (n, n_features)
            The same, in the likelihood's units.
        """
        return y * self.ratio

    def encode(self, y: Tensor) -> Tensor:
        """What the encoder says of standardised data.

        Parameters
        ----------
        y : Tensor of shape (n, n_features)
            Standardised data.

        Returns
        -------
        Tensor of shape (n, n_heads * n_components)
            The heads, side by side.
        """
        return (self.linear_encoder(y) + self.encoder(y)) * self.code_gain

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Location, and whatever the scale asked the decoder for.

        Parameters
        ----------
        z : Tensor of shape (n, n_components)
            Codes.

        Returns
        -------
        loc : Tensor of shape (n, n_features)
            Location in the likelihood's units.
        outputs : Tensor of shape (n, n_outputs)
            The scale's own outputs.
        """
        decoded = self.linear_decoder(z) + self.decoder(z)
        d = self.spec.n_features
        return decoded[:, :d] * self.loc_gain, decoded[:, d:]

    def leave_shared_memory(self) -> None:
        """Give parameters and buffers memory of their own; in training models share it."""
        for parameter in self.parameters():
            own = parameter.data.clone(memory_format=torch.contiguous_format)
            parameter.data, parameter.grad = own, None
        for buffer in self.buffers():
            buffer.data = buffer.data.clone(memory_format=torch.contiguous_format)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Parameters and buffers as numpy arrays.

        Returns
        -------
        dict of str to ndarray
            Copies, by name.
        """
        return {k: v.detach().cpu().numpy().copy() for k, v in self.state_dict().items()}

    @classmethod
    def from_arrays(cls, spec: Spec, arrays: dict[str, Any]) -> "AutoencoderModule":
        """The module that :meth:`get_arrays` describes, on the CPU.

        Parameters
        ----------
        spec : Spec
            What to build.
        arrays : dict of str to ndarray
            Parameters and buffers.

        Returns
        -------
        AutoencoderModule
            The module.
        """
        tensors = {name: torch.tensor(np.asarray(a)) for name, a in arrays.items()}
        with seeded(0):
            module = cls(spec, tensors["ratio"], tensors["scale.floor"])
        module.to(tensors["ratio"].dtype).load_state_dict(tensors)
        return module.requires_grad_(False).eval()
