"""The torch module of an autoencoder: encoder, decoder, likelihood and scale."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._utils.cached import cached
from skae._utils.capabilities import Capabilities
from skae._utils.random import (
    further_streams,
    random_linear,
    replaced_global_generators,
)
from skae._utils.settings import built_on_cpu
from skae.likelihoods import GeneralizedLinear, Likelihood, n_outputs, n_parameters
from skae.networks import Network, is_built_in
from skae.networks.fill import LinearFill
from skae.networks.layers import has_hooks, network_capabilities
from skae.scales import make_scale

# Buffers of a module whose likelihood, or a part of it, is a generalised linear model.
LINK_BUFFERS = "loc_offset", "input_mean", "input_std"


@dataclass(frozen=True)
class Spec:
    """Description of a module, from which it is built; without its weights.

    Attributes
    ----------
    n_features, n_components : int
        Sizes of the data and of the code.
    n_heads : int
        Outputs of the encoder for each component: 1 for a code, 2 for the mean and the
        spread of a posterior.
    network : Network
        Recipe of the nonlinear encoder and decoder.
    likelihood : Likelihood
        Density of a feature given the decoder's output.
    variance_mode, covariance_type : str
        Where the scale comes from, and whether features share it.
    has_missing : bool, default=False
        Whether the model is trained on rows with missing entries. The network of the
        encoder, if it is a built-in one, then sees which entries are missing.
    """

    n_features: int
    n_components: int
    n_heads: int
    network: Network
    likelihood: Likelihood
    variance_mode: str
    covariance_type: str
    has_missing: bool = False

    @property
    def n_row(self) -> int:
        """Numbers of a row with missing entries, see `AutoencoderModule.prepare`."""
        further = self.n_components if self.n_heads == 2 else 0
        return 2 * self.n_features + further

    @property
    def n_network_inputs(self) -> int:
        """Inputs of the encoder's network."""
        sees_holes = self.has_missing and is_built_in(self.network)
        return 2 * self.n_features if sees_holes else self.n_features


class AutoencoderModule(nn.Module):
    """Encoder, decoder, likelihood and scale, on standardised data.

    There are two systems of units. The networks take and return features of mean 0 and
    variance 1. The likelihood is stated in the units of X divided by the likelihood's
    unit, so that one spherical scale is one scale in the units of X. A feature's standard
    deviation over that unit, ``std_in_units``, converts one into the other.

    Encoder and decoder are each a linear path plus a network, times a gain. Started from
    the closed form, the linear path is probabilistic PCA and the network learns what PCA
    leaves. The gain of a location is three times what is left, the larger of PCA's residual
    and PCA's noise, up to the spread of the feature. So a step of the optimiser has the
    same relative effect on a feature of variance 1e6 that PCA explains to the last digit as
    on any other feature. With more components than the start has, the decoder sees a fifth
    of the others, ``latent_gain``, because they are noise at first.

    The larger gain would let the weights escape their penalty. So the penalty of a weight
    to a location has a factor, ``loc_penalty``: it counts the weight in units of what PCA
    leaves of the feature.

    The location of a generalised linear model is not in units of the data. Then
    ``std_in_units`` is the spread of the linear predictor, ``loc_offset`` its value for the
    mean of the data, and ``input_mean`` and ``input_std`` lead from standardised features
    back to the data; see `GeneralizedLinear`. Without such a likelihood, these buffers do
    not exist.

    Rows with missing entries are filled by the linear model of the start, see
    `skae.networks.fill`, and :meth:`prepare` adds what is missing to them.

    Parameters
    ----------
    spec : Spec
        What to build.
    std_in_units : Tensor of shape (n_features,)
        Standard deviation of each feature in the likelihood's units.
    floor : Tensor of shape (1, 1) or (1, n_features)
        Smallest scale in the likelihood's units.
    generator : torch.Generator
        Source of the first weights, on the CPU.
    links : mapping of str to Tensor of shape (n_features,), default=None
        The buffers of a generalised linear model; by default there is none.
    """

    std_in_units: Tensor
    loc_offset: Tensor
    input_mean: Tensor
    input_std: Tensor
    code_gain: Tensor
    latent_gain: Tensor
    loc_gain: Tensor
    loc_penalty: Tensor
    fill: LinearFill
    # A key of precision and layers, and the module in that precision; no submodule.
    _copy: "tuple[Any, AutoencoderModule] | None" = None

    def __init__(
        self,
        spec: Spec,
        std_in_units: Tensor,
        floor: Tensor,
        generator: torch.Generator,
        links: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        d, k = spec.n_features, spec.n_components
        self.spec = spec
        self.register_buffer("std_in_units", std_in_units)
        self.scale = make_scale(
            spec.variance_mode, spec.covariance_type, spec.likelihood, d, floor
        )
        self.register_buffer("latent_gain", std_in_units.new_ones(k))
        self.register_buffer("loc_gain", std_in_units.clone())
        self.register_buffer("loc_penalty", torch.ones_like(std_in_units))
        self.register_buffer("code_gain", std_in_units.new_ones(spec.n_heads * k))
        self.linked = linked_parts(spec)
        for name, values in (links or {}).items():
            self.register_buffer(name, values.clone())
        n_shape = n_parameters(spec.likelihood, d)
        # Free parameters of the likelihood, which all rows share.
        self.shape = nn.Parameter(std_in_units.new_zeros(1, n_shape)) if n_shape else None
        self.fill = LinearFill(d, k).to(std_in_units)
        n_further = self.scale.n_outputs + n_outputs(spec.likelihood, d)
        n_codes, n_decoded = spec.n_heads * k, d + n_further
        self.linear_encoder = random_linear(d, n_codes, generator)
        self.linear_decoder = random_linear(k, n_decoded, generator)
        self.encoder, self.decoder = _make_networks(
            spec.network, (spec.n_network_inputs, n_codes), (k, n_decoded), generator
        )

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.std_in_units.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self.std_in_units.dtype

    @property
    def network_capabilities(self) -> Capabilities:
        """Capabilities of both networks together."""
        return network_capabilities(self.encoder) & network_capabilities(self.decoder)

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of all parts together; those of the objective are apart."""
        spec = self.spec
        parts = (self.linear_encoder, self.encoder, self.linear_decoder, self.decoder)
        weights = [p for part in parts for p in part.parameters()]
        own = Capabilities(
            # No weight is frozen, or in two parts at once.
            has_analytic_gradient=len({id(p) for p in weights}) == len(weights)
            and all(p.requires_grad for p in weights),
            is_thread_safe=True,
            batch_key=(
                spec.n_features,
                spec.n_components,
                spec.n_heads,
                spec.has_missing,
            ),
        )
        likelihood, scale = spec.likelihood.capabilities, self.scale.capabilities
        return own & self.network_capabilities & likelihood & scale

    @cached
    def n_weights(self) -> int:
        """Number of all parameters: about the multiply-adds of a row."""
        return sum(p.numel() for p in self.parameters())

    @cached
    def largest(self) -> int:
        """Number of weights of the largest layer."""
        return max(p.numel() for p in self.parameters())

    @cached
    def width(self) -> int:
        """Largest width of a layer: numbers that a row takes inside."""
        return max(max(p.shape) for p in self.parameters())

    def in_precision(
        self, dtype: torch.dtype, exact: Mapping[str, np.ndarray]
    ) -> "AutoencoderModule":
        """Return the module in a precision: itself, or a copy.

        A deep copy takes much longer than a score of one row. So the copy is kept, and its
        numbers are overwritten at each call. A module with a user's network or with hooks,
        whose state is not known, is copied anew at each call.

        ``exact`` are buffers, ``(n_features,)``, in float64, by name.
        """
        if self.dtype == dtype:
            return self
        key = self.network_capabilities.batch_key
        is_known = key is not None and not any(map(has_hooks, self.modules()))
        if is_known and self._copy is not None and self._copy[0] == (dtype, key):
            module = self._copy[1]
            module.spec, module.scale.likelihood = self.spec, self.scale.likelihood
            copies = dict(chain(module.named_parameters(), module.named_buffers()))
            with torch.no_grad():
                for name, tensor in chain(self.named_parameters(), self.named_buffers()):
                    # Another thread may use the copy, so its buffers stay exact.
                    if name not in exact:
                        copies[name].copy_(tensor)
        else:
            with torch.inference_mode(False):
                module = copy.deepcopy(self).to(dtype)
            if is_known:
                self.__dict__["_copy"] = (dtype, key), module
        with torch.no_grad():
            for name, values in exact.items():
                module.get_buffer(name).copy_(torch.tensor(values, device="cpu"))
        return module

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles, without the copy in another precision."""
        return {name: value for name, value in vars(self).items() if name != "_copy"}

    def prepare(self, y: Tensor) -> Tensor:
        """Prepare standardised rows ``(n, n_features)``, in which NaN is missing.

        Complete rows stay as they are, if the model was trained on such rows. Else the
        result is ``(n, n_row)``: the filled rows, 1 for each entry that is observed and 0
        for each that is missing, and, of a model with posteriors, what the missing entries
        add to the log of the posterior's standard deviation. It has the precision of the
        module, on its device.
        """
        n_further = self.spec.n_row - 2 * self.spec.n_features
        # The sum is NaN if a number is, and faster than a look at each number.
        if not y.sum().isfinite() and y.isnan().any():
            missing = y.isnan()
            filled, widening = self.fill(y, missing)
            parts: tuple[Tensor, ...] = filled, ~missing, widening[:, :n_further]
        elif self.spec.has_missing:
            parts = y, torch.ones_like(y), y.new_zeros(len(y), n_further)
        else:
            return y.to(self.std_in_units)
        return torch.cat([part.to(self.std_in_units) for part in parts], dim=1)

    def observed(self, y: Tensor) -> Tensor | None:
        """Return which entries of prepared rows are observed, ``(n, n_features)``.

        It is None if all are.
        """
        d = self.spec.n_features
        return y[..., d : 2 * d] != 0 if y.shape[-1] > d else None

    def target(self, y: Tensor) -> Tensor:
        """Convert prepared rows to the likelihood's units, ``(n, n_features)``.

        Of a generalised linear model they are the data.
        """
        y = y[..., : self.spec.n_features]
        if not self.linked:
            return y * self.std_in_units
        return from_inputs(self.linked, y * self.input_std + self.input_mean)

    def encode(self, y: Tensor) -> Tensor:
        """Encode prepared rows, see :meth:`prepare`.

        Returns the heads side by side, ``(n, n_heads * n_components)``. They are 0, the
        prior, for a row without observed entries.
        """
        d = self.spec.n_features
        if y.shape[1] == d:
            return (self.linear_encoder(y) + self.encoder(y)) * self.code_gain
        network_inputs = y[:, : self.spec.n_network_inputs]
        heads = self.linear_encoder(y[:, :d]) + self.encoder(network_inputs)
        heads = heads * self.code_gain
        if self.spec.n_heads == 2:
            widening = y[:, 2 * d :]
            heads = heads + torch.cat([torch.zeros_like(widening), widening], dim=1)
        is_empty = ~y[:, d : 2 * d].any(dim=1, keepdim=True)
        return heads.masked_fill(is_empty, 0.0)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Decode codes ``(n, n_components)``.

        Returns the location in the likelihood's units, ``(n, n_features)``, and the
        further outputs ``(n, n_outputs)``, which :meth:`split_outputs` divides.
        """
        z = z * self.latent_gain
        decoded = self.linear_decoder(z) + self.decoder(z)
        d = self.spec.n_features
        loc, outputs = decoded[:, :d] * self.loc_gain, decoded[:, d:]
        if self.linked:
            loc = loc + self.loc_offset
        if self.shape is not None:
            outputs = torch.cat([outputs, self.shape.expand(len(z), -1)], dim=1)
        return loc, outputs

    def split_outputs(self, outputs: Tensor) -> tuple[Tensor, Likelihood]:
        """Divide further outputs ``(..., n_outputs)`` between scale and likelihood.

        Returns the outputs of the scale, and the likelihood given its own outputs.
        """
        n = self.scale.n_outputs
        return outputs[..., :n], self.spec.likelihood.given(outputs[..., n:])

    def conditional(self, outputs: Tensor) -> tuple[Likelihood, Tensor]:
        """Return likelihood and log-scale, given further outputs ``(..., n_outputs)``."""
        scale_outputs, likelihood = self.split_outputs(outputs)
        return likelihood, self.scale.log_scale(scale_outputs)

    def leave_shared_memory(self) -> None:
        """Copy parameters and buffers out of the memory that models in training share."""
        for parameter in self.parameters():
            own = parameter.data.clone(memory_format=torch.contiguous_format)
            parameter.data, parameter.grad = own, None
        for buffer in self.buffers():
            buffer.data = buffer.data.clone(memory_format=torch.contiguous_format)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Return copies of parameters and buffers as numpy arrays, by name."""
        return {k: v.detach().cpu().numpy().copy() for k, v in self.state_dict().items()}

    @classmethod
    def from_arrays(cls, spec: Spec, arrays: dict[str, Any]) -> "AutoencoderModule":
        """Rebuild a module on the CPU from the arrays of :meth:`get_arrays`."""
        tensors = {
            name: torch.tensor(np.asarray(a), device="cpu") for name, a in arrays.items()
        }
        generator = torch.Generator("cpu").manual_seed(0)
        links = {k: tensors[k] for k in LINK_BUFFERS if k in tensors}
        units, floor = tensors["std_in_units"], tensors["scale.floor"]
        module = cls(spec, units, floor, generator, links)
        # Models of former versions fill with the mean, and decode all of the code.
        added = {f"fill.{k}": v for k, v in module.fill.state_dict().items()}
        tensors = added | {"latent_gain": module.latent_gain} | tensors
        module.to(tensors["std_in_units"].dtype).load_state_dict(tensors)
        return module.requires_grad_(False).eval()


def linked_parts(spec: Spec) -> list[tuple[slice, GeneralizedLinear]]:
    """Return the ranges of features that are generalised linear models, and these."""
    parts = spec.likelihood.parts(spec.n_features)
    return [(part, f) for part, f in parts if isinstance(f, GeneralizedLinear)]


def from_inputs(linked: list[tuple[slice, GeneralizedLinear]], t: Tensor) -> Tensor:
    """Replace features ``(..., d)`` of generalised linear models by the data, in place."""
    for part, family in linked:
        t[..., part] = family.from_input(t[..., part])
    return t


def _make_networks(
    network: Network,
    encoder_sizes: tuple[int, int],
    decoder_sizes: tuple[int, int],
    generator: torch.Generator,
) -> tuple[nn.Module, nn.Module]:
    """Build encoder and decoder, with first weights from a generator.

    The sizes are the widths of input and output.
    """
    if is_built_in(network):
        return (
            network.encoder(*encoder_sizes, generator=generator),
            network.decoder(*decoder_sizes, generator=generator),
        )
    streams = generator, *further_streams(generator.initial_seed())
    with replaced_global_generators(*streams), built_on_cpu():
        built = network.encoder(*encoder_sizes), network.decoder(*decoder_sizes)
    for method, part in zip(("encoder", "decoder"), built, strict=True):
        if not isinstance(part, nn.Module):
            raise TypeError(
                f"{type(network).__name__}.{method} must return a torch.nn.Module, but "
                f"returned {part!r}."
            )
    # A specification may return modules that it, or the caller, keeps. Together, because
    # both may use one parameter.
    try:
        return copy.deepcopy(built)
    # A user's module, such as one with torch's weight_norm, may refuse to be copied by any
    # error. It is then trained itself.
    except Exception:
        return built
