"""A module and its first weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skae._evaluate import mean_over_rows, settle, training_objective
from skae._module import AutoencoderModule, Spec
from skae._ppca import factor_noise, noise_variance, principal_components, winsorized
from skae._random import seeded
from skae._rows import Rows
from skae._units import Units
from skae.objectives import Objective

# Rows that are enough to guess a scale and to tell two starts apart.
_SCALE_ROWS = 1024
# Smallest gain, relative to 1.
_SMALLEST_GAIN = 1e-4
# Smallest posterior deviation to start from.
_SMALLEST_STD = 1e-8


def build_module(
    spec: Spec,
    units: Units,
    min_scale: float | str,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> AutoencoderModule:
    """A module with first weights drawn from a seed.

    Parameters
    ----------
    spec : Spec
        What to build.
    units : Units
        Statistics of the training data.
    min_scale : float or "auto"
        Smallest scale, in the units of X.
    dtype : torch.dtype
        Precision.
    device : torch.device
        Where it is wanted.
    seed : int
        Seed of the first weights.

    Returns
    -------
    AutoencoderModule
        The module.
    """
    floor = units.floor(min_scale, spec.covariance_type)
    with seeded(seed):
        module = AutoencoderModule(spec, torch.tensor(units.ratio), torch.tensor(floor))
    return module.to(device, dtype)


def start(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    units: Units,
    *,
    init: str,
    fixed_scale: np.ndarray | None,
) -> float:
    """Give the linear path and the scale their first values.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What it will be trained for.
    rows : Rows
        Training data.
    units : Units
        Their statistics.
    init : {"pca", "random"}
        Whether the linear path starts from the closed form.
    fixed_scale : ndarray of shape (1, 1) or (1, n_features), or None
        The scale in the likelihood's units, where it is given.

    Returns
    -------
    float
        The training objective that this is, in nats, in the likelihood's units.
    """
    begun = _Start(module, objective, rows, units, fixed_scale)
    if init == "pca" and module.spec.likelihood.heavy_tailed:
        begun.at_the_better()
    else:
        if init == "pca":
            begun.linear_path(rows)
        if not module.scale.needs_optimal_scale:
            begun.scale()
    return settle(module, objective, rows, units)


@dataclass(frozen=True)
class _Start:
    """A model that is being started, and what for; see :func:`start`."""

    module: AutoencoderModule
    objective: Objective
    rows: Rows
    units: Units
    fixed_scale: np.ndarray | None

    def at_the_better(self) -> None:
        """Start from the closed form for all rows, or for rows without outliers."""
        module, found = self.module, []
        for weighted in (self.rows, winsorized(self.rows, self.units)):
            self.linear_path(weighted)
            self.scale()
            some = self.rows.thin(_SCALE_ROWS)
            value = training_objective(module, self.objective, some, self.units)
            found.append((value, {k: v.clone() for k, v in module.state_dict().items()}))
        module.load_state_dict(min(found, key=lambda start: start[0])[1])

    def scale(self) -> None:
        """Start the scale from the residuals that the linear path leaves."""
        module = self.module
        likelihood = module.spec.likelihood
        if self.fixed_scale is not None:
            scale = torch.tensor(self.fixed_scale).to(module.ratio)
        elif likelihood.has_optimal_scale:
            scale = likelihood.optimal_scale(self._mean_of(likelihood.deviation))
        else:
            scale = self._mean_of(torch.square).sqrt() / likelihood.unit_stddev
        outputs = module.scale.start(scale)
        decoder, d = module.linear_decoder, module.spec.n_features
        with torch.no_grad():
            # A predicted scale begins as a constant.
            decoder.weight[d:] = 0
            decoder.bias[d:] = outputs

    def _mean_of(self, statistic: Callable[[Tensor], Tensor]) -> Tensor:
        """Mean of a statistic of the residuals."""
        module, pool = self.module, self.module.scale.pool

        def pooled(y: Tensor, draws: Tensor) -> Tensor:
            return self.objective.expectation(
                module, y, draws, lambda x, loc, _: pool(statistic(x - loc))
            )[0]

        some = self.rows.thin(_SCALE_ROWS)
        return mean_over_rows(module, self.objective, some, self.units, pooled)

    def linear_path(self, rows: Rows) -> None:
        """Start the linear path from the closed form for these rows."""
        module, units, fixed_scale = self.module, self.units, self.fixed_scale
        spec, beta = module.spec, self.objective.kl_weight(1.0)
        d, k = spec.n_features, spec.n_components
        smallest = np.square(module.scale.floor.double().cpu().numpy())
        # Without a KL, factor analysis would copy single features, at no noise, into the
        # code.
        if fixed_scale is not None:
            given = np.square(fixed_scale * spec.likelihood.unit_stddev).reshape(-1)
        elif spec.covariance_type == "diag" and beta > 0:
            given = factor_noise(rows, units, k, beta, smallest)
        else:
            given = None
        # Principal components of the data in units of their noise.
        deviation = np.sqrt(given) if given is not None else 1.0
        whitened = replace(units, unit=units.unit * deviation)
        components, eigenvalues, total = principal_components(rows, whitened, k)
        if given is None:
            # They are those in any unit, if it is the same for all features.
            variance = max(noise_variance(eigenvalues, total, d, beta), smallest.min())
            given, eigenvalues = np.full(d, variance), eigenvalues / variance
        noise = np.broadcast_to(given, d)
        start_at_pca(module, components, eigenvalues, noise, beta)


def start_at_pca(
    module: AutoencoderModule,
    components: np.ndarray,
    eigenvalues: np.ndarray,
    noise: np.ndarray,
    beta: float,
) -> None:
    """Set the linear path to probabilistic PCA, and the gains to what it leaves over.

    In units of the noise, with loadings W = V (L - beta)^(1/2) and M = W'W + beta, the
    posterior of the linear model has mean M^-1 W' x and variance beta M^-1 (Tipping and
    Bishop 1999, eq. 6 to 9, for beta = 1). A deterministic autoencoder is the case
    beta = 0: whitened principal components.

    Parameters
    ----------
    module : AutoencoderModule
        Its linear path and gains are overwritten.
    components : ndarray of shape (n_features, q)
        Eigenvectors of the covariance in units of the noise.
    eigenvalues : ndarray of shape (q,)
        Eigenvalues.
    noise : ndarray of shape (n_features,)
        Noise variance of each feature in the likelihood's units.
    beta : float
        Weight of the KL term; 0 without one.
    """
    k, (d, q) = module.spec.n_components, components.shape
    deviation = np.sqrt(noise)
    ratio = module.ratio.double().cpu().numpy()
    tiny = np.finfo(np.float32).tiny
    # A component that the noise drowns keeps a small weight: at exactly 0 it would have
    # no gradient to wake it.
    squared = np.maximum(eigenvalues - beta, 1e-4 * eigenvalues)
    M = np.maximum(squared + beta, tiny)
    loadings = components * np.sqrt(squared)  # (d, q)
    E = (loadings / M).T * (ratio / deviation)  # (q, d), from standardised features
    W = loadings * deviation[:, None]

    # What the components leave of a feature, and the precision they leave to a code.
    left = np.square(ratio) - noise * (np.square(components) @ eigenvalues)
    loc_gain = np.sqrt(np.maximum(left, np.square(_SMALLEST_GAIN * ratio)))
    code_gain = np.ones(k)
    width = beta if beta > 0 else 1.0
    code_gain[:q] = np.maximum(np.sqrt(width / (squared + width)), _SMALLEST_GAIN)

    encoder, decoder = module.linear_encoder, module.linear_decoder
    with torch.no_grad():
        for layer in (encoder, decoder):
            layer.weight.zero_()
            layer.bias.zero_()
        module.loc_gain.copy_(torch.as_tensor(loc_gain))
        module.code_gain[:k] = torch.as_tensor(code_gain)
        encoder.weight[:q] = torch.as_tensor(E / code_gain[:q, None]).to(encoder.weight)
        decoder.weight[:d, :q] = torch.as_tensor(W / loc_gain[:, None]).to(decoder.weight)
        if module.spec.n_heads == 2:
            std = np.sqrt(np.maximum(beta / M, _SMALLEST_STD**2))
            encoder.bias[k : k + q] = torch.as_tensor(np.log(std)).to(encoder.bias)
