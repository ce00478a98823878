"""The first weights of a model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from skae._data import Rows, Standardization
from skae._evaluation import SCALE_ROWS, mean_of_residuals, training_objective
from skae._fitting.count_start import damp_log_rates
from skae._fitting.moments import MOST_FEATURES, expected_moments
from skae._fitting.pca_start import start_at_pca
from skae._fitting.ppca import (
    components_of,
    factor_noise,
    factor_noise_of,
    noise_variance,
    principal_components,
    variance_of,
    winsorized,
)
from skae._fitting.user_parts import check_parts
from skae._module import AutoencoderModule, Spec
from skae._utils.device import send
from skae.networks import is_built_in
from skae.networks.mlp import NoCorrection
from skae.objectives import Objective

# Components for each feature up to which the start has them all, and those that the start
# has of more. They leave a network with a gain to learn by: on three tables, training with
# as many components as features was 0.5 to 2.8 nats worse than with half as many, and with
# this start it is not (docs/results/many_components.rst).
_MOST_COMPONENTS, _COMPONENTS_OF_MORE = 0.6, 0.5
# Largest gain of a predictor of which a stream first has one value, and then others. With
# 28, the deviation of half a row in 400, log-rates left the range in four blocks.
_LINKED_GAIN = 3.0
# Gain of a component that the start does not have. Its code is noise at first, and Adam
# makes steps of one size of the noise that its weights see: with the whole gain, the noise
# hides what the other components say. A gain of 0.03 was too low for linear data with more
# factors than the start has.
_IDLE_GAIN = 0.2
# Smallest variance of a component in the likelihood's units. A smaller one is a rounding
# error or a row of negligible weight, whose code would overflow float32.
_SMALLEST_VARIANCE = 1e-30


def build_module(
    spec: Spec,
    standardization: Standardization,
    min_scale: float | str,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> AutoencoderModule:
    """Build a module with first weights drawn from a seed; min_scale in units of X.

    With a user's network it is on the device, else on the CPU until :func:`move`.
    """
    if is_built_in(spec.network):
        spec.network.check_n_features(spec.n_features)
    is_float64 = dtype == torch.float64
    floor = standardization.floor(min_scale, spec.covariance_type, is_float64)
    buffers = {
        name: torch.tensor(values, device="cpu")
        for name, values in standardization.module_buffers.items()
    }
    module = AutoencoderModule(
        spec,
        buffers.pop("std_in_units"),
        torch.tensor(floor, device="cpu"),
        torch.Generator("cpu").manual_seed(seed),
        buffers,
    )
    module = module.to(dtype)
    _hold(module, standardization)
    if not is_built_in(spec.network):
        module = module.to(device)
    check_parts(module)
    return module


def _hold(module: AutoencoderModule, standardization: Standardization) -> None:
    """Hold the location of each constant feature at its mean, by a gain of 0.

    Its scale is at the floor. Steps of Adam have one size however small a gradient is: one
    step along a rounding error would move the location by a thousand such scales. A flag or
    a category that no row has stays at the share of half a row, since a longer training
    would move its log-probability without limit.
    """
    if standardization.is_constant is None:
        return
    # A copy, because a file that is mapped into memory may be read only.
    module.loc_gain[torch.tensor(standardization.is_constant, device="cpu")] = 0.0


def release(
    module: AutoencoderModule, rows: Rows, standardization: Standardization
) -> None:
    """Let the location of a held feature vary if it varies in these rows."""
    gain = module.loc_gain
    if bool(gain.all()):
        return
    mean = standardization.mean
    farthest = np.zeros_like(mean)
    for block in rows.blocks():
        np.fmax(farthest, np.fmax.reduce(np.abs(block - mean)), out=farthest)
    # A constant that was computed has an error of some units.
    rounding = 16 * np.finfo(np.float64).eps * np.abs(mean)
    varies = rows.peers.largest(farthest) > rounding
    is_free = torch.from_numpy(varies).to(gain.device) & (gain == 0)
    own = module.std_in_units
    if standardization.links is not None:
        # The deviation of the data was that of other features.
        is_linked = torch.tensor(standardization.links.is_linked, device="cpu")
        own = torch.where(is_linked.to(own.device), own.clamp(max=_LINKED_GAIN), own)
    gain[is_free] = own[is_free]
    module.loc_penalty[is_free] = 1.0


def move(module: AutoencoderModule, device: torch.device) -> None:
    """Move a module to a device, by one copy of all numbers."""
    if module.device == device:
        return
    own = [x.detach() for x in chain(module.parameters(), module.buffers())]
    flat = send(torch.cat([x.reshape(-1) for x in own]), device)
    module.to_empty(device=device)
    moved = [*module.parameters(), *module.buffers()]
    parts = zip(flat.split([x.numel() for x in moved]), moved, strict=True)
    with torch.no_grad():
        torch._foreach_copy_(moved, [part.view_as(x) for part, x in parts])
    # A likelihood of a user's may not work there.
    check_parts(module)


def initialize(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    *,
    init: str,
    fixed_scale: np.ndarray | None,
    device: torch.device,
) -> None:
    """Set the linear path and the scale to their first values, and move to the device.

    ``init`` is "pca" or "random"; a fixed scale, ``(1, 1)`` or ``(1, n_features)``, is in
    the likelihood's units. A closed-form scale is set by `FitProblem.start_objective`.
    """
    initializer = _Initializer(module, objective, rows, standardization, fixed_scale)
    if init == "pca" and module.spec.likelihood.heavy_tailed:
        initializer.choose_linear_path()
    else:
        if init == "pca":
            initializer.set_linear_path(rows)
        if not module.scale.needs_optimal_scale:
            initializer.set_scale()
    if init == "pca":
        damp_log_rates(module, objective, rows, standardization)
        initializer.set_idle_components()
    move(module, device)


@dataclass(frozen=True)
class _Initializer:
    """A model whose first values are being set; see :func:`initialize`."""

    module: AutoencoderModule
    objective: Objective
    rows: Rows
    standardization: Standardization
    fixed_scale: np.ndarray | None

    def choose_linear_path(self) -> None:
        """Choose the better of two starts: for all rows, or for rows without outliers."""
        module, found = self.module, []
        some = self.rows.subsample(SCALE_ROWS)
        for rows in (self.rows, winsorized(self.rows, self.standardization)):
            self.set_linear_path(rows)
            self.set_scale()
            value = training_objective(module, self.objective, some, self.standardization)
            found.append((value, {k: v.clone() for k, v in module.state_dict().items()}))
        module.load_state_dict(min(found, key=lambda start: start[0])[1])

    def set_scale(self) -> None:
        """Set the scale from the residuals of the linear path."""
        module, links = self.module, self.standardization.links
        likelihood = module.spec.likelihood
        if self.fixed_scale is not None:
            scale = torch.tensor(self.fixed_scale, device="cpu").to(module.std_in_units)
        else:
            scale = likelihood.start_scale(self._mean_of(likelihood.start_deviation))
            if links is not None:
                own = torch.from_numpy(links.scale).to(scale)
                is_linked = torch.from_numpy(links.is_linked).to(scale.device)
                scale = torch.where(is_linked, own, scale)
                if module.scale.n_scales == 1:
                    scale = scale.log().mean(dim=1, keepdim=True).exp()
        decoder, d = module.linear_decoder, module.spec.n_features
        outputs = module.scale.start(scale), likelihood.start_outputs(d).to(scale)
        with torch.no_grad():
            # A predicted scale begins as a constant, and so do a likelihood's outputs.
            decoder.weight[d:] = 0
            decoder.bias[d:] = torch.cat(outputs)
            if module.shape is not None:
                module.shape.copy_(likelihood.start_parameters(d))

    def _mean_of(self, statistic: Callable[[Tensor], Tensor]) -> Tensor:
        """Average a statistic of the residuals, ``(1, 1)`` or ``(1, n_features)``."""
        some = self.rows.subsample(SCALE_ROWS)
        model = self.module, self.objective
        return mean_of_residuals(statistic, *model, some, self.standardization)[0]

    def n_components(self) -> int:
        """Return the number of components that the start has, see `_MOST_COMPONENTS`."""
        spec = self.module.spec
        d, k = spec.n_features, spec.n_components
        is_linear = isinstance(self.module.decoder, NoCorrection)
        if is_linear or spec.n_heads == 1 or k <= _MOST_COMPONENTS * d:
            # Nothing but the start explains linear data as well, and a code without noise
            # hides nothing.
            return k
        return min(k, math.ceil(_COMPONENTS_OF_MORE * d))

    def set_idle_components(self) -> None:
        """Let the decoder see little of the components that the start does not have.

        Its network begins as one of the others alone would, also in size.
        """
        module, q = self.module, self.n_components()
        k = module.spec.n_components
        module.latent_gain[q:] = _IDLE_GAIN
        first = module.decoder[0] if isinstance(module.decoder, nn.Sequential) else None
        if q < k and type(first) is nn.Linear:
            with torch.no_grad():
                first.weight.mul_(math.sqrt(k / q))

    def set_linear_path(self, rows: Rows) -> None:
        """Set the linear path to the closed form for these rows."""
        module, standardization, fixed_scale = (
            self.module,
            self.standardization,
            self.fixed_scale,
        )
        spec, beta = module.spec, self.objective.kl_weight(1.0)
        d, k = spec.n_features, self.n_components()
        smallest = np.square(module.scale.floor.cpu().double().numpy())
        # Without a KL, factor analysis would copy single features, at no noise, into the
        # code.
        links = standardization.links
        is_linked = bool(module.linked)
        is_diagonal = (spec.covariance_type == "diag" or is_linked) and beta > 0
        given, moments = None, None
        if fixed_scale is not None:
            given = np.concatenate(
                [
                    np.square(fixed_scale[:, part] * family.unit_stddev).reshape(-1)
                    for part, family in spec.likelihood.parts(fixed_scale.shape[1])
                ]
            )
            if links is not None:
                given = np.where(links.is_linked, 0.0, given)
        if rows.has_missing and d <= MOST_FEATURES:
            moments = expected_moments(
                rows,
                standardization,
                k,
                is_diagonal=is_diagonal,
                smallest=smallest.reshape(-1),
                fixed_noise=given,
            )
        if given is None and is_diagonal:
            if moments is None:
                given = factor_noise(rows, standardization, k, beta, smallest)
            else:
                covariance = moments.covariance
                given = factor_noise_of(
                    covariance, np.diagonal(covariance), moments.noise, k, beta, smallest[0]
                )
        if given is not None and links is not None:
            # What the distribution of a flag or a count leaves, components cannot explain.
            given = np.maximum(given, links.noise)
        # Principal components of the data in units of their noise.
        deviation = np.sqrt(given) if given is not None else 1.0
        if moments is None:
            whitened = standardization.whitened(deviation)
            components, eigenvalues, rest = principal_components(rows, whitened, k)
        else:
            covariance = moments.covariance / np.outer(deviation, np.ones(d))
            components, eigenvalues, rest = components_of(covariance / deviation, min(k, d))
        if given is None:
            # They are those in any unit, if it is the same for all features.
            variance = max(noise_variance(eigenvalues, rest, d, beta), smallest.min())
            given, eigenvalues = np.full(d, variance), eigenvalues / variance
        eigenvalues = np.where(
            eigenvalues * given.max() < _SMALLEST_VARIANCE, 0.0, eigenvalues
        )
        noise = np.broadcast_to(given, d)
        mean = np.zeros(d) if moments is None else moments.mean
        variance = np.square(standardization.std_in_units)
        if moments is not None:
            variance = np.diagonal(moments.covariance)
        elif rows is not self.rows:
            variance = variance_of(rows, standardization)
        start_at_pca(module, components, eigenvalues, noise, beta, mean, variance)
