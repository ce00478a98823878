"""A module and its first weights."""

from collections.abc import Callable
from dataclasses import replace

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
    spec: Spec, units: Units, min_scale: float | str, dtype: torch.dtype, seed: int
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
    seed : int
        Seed of the first weights.

    Returns
    -------
    AutoencoderModule
        The module, on the CPU.
    """
    floor = units.floor(min_scale, spec.covariance_type)
    with seeded(seed):
        module = AutoencoderModule(spec, torch.tensor(units.ratio), torch.tensor(floor))
    return module.to(dtype)


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
    if init == "pca" and module.spec.likelihood.heavy_tailed:
        _start_at_the_better(module, objective, rows, units, fixed_scale)
    else:
        if init == "pca":
            _start_linear_path(module, objective, rows, units, fixed_scale)
        if not module.scale.needs_optimal_scale:
            _start_scale(module, objective, rows, units, fixed_scale)
    return settle(module, objective, rows, units)


def _start_at_the_better(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    units: Units,
    fixed_scale: np.ndarray | None,
) -> None:
    """Start from the closed form for all rows, or for rows without outliers."""
    found = []
    for weighted in (rows, winsorized(rows, units)):
        _start_linear_path(module, objective, weighted, units, fixed_scale)
        _start_scale(module, objective, rows, units, fixed_scale)
        some = rows.thin(_SCALE_ROWS)
        value = training_objective(module, objective, some, units)
        found.append((value, {k: v.clone() for k, v in module.state_dict().items()}))
    module.load_state_dict(min(found, key=lambda start: start[0])[1])


def _start_scale(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    units: Units,
    fixed_scale: np.ndarray | None,
) -> None:
    """Start the scale from the residuals that the linear path leaves."""
    likelihood, pool = module.spec.likelihood, module.scale.pool

    def mean_of(statistic: Callable[[Tensor], Tensor]) -> Tensor:
        def pooled(y: Tensor, draws: Tensor) -> Tensor:
            return objective.expectation(
                module, y, draws, lambda x, loc, _: pool(statistic(x - loc))
            )[0]

        some = rows.thin(_SCALE_ROWS)
        return mean_over_rows(module, objective, some, units, pooled)

    if fixed_scale is not None:
        scale = torch.tensor(fixed_scale).to(module.ratio)
    elif likelihood.has_optimal_scale:
        scale = likelihood.optimal_scale(mean_of(likelihood.deviation))
    else:
        scale = mean_of(torch.square).sqrt() / likelihood.unit_stddev
    outputs = module.scale.start(scale)
    decoder, d = module.linear_decoder, module.spec.n_features
    with torch.no_grad():
        # A predicted scale begins as a constant.
        decoder.weight[d:] = 0
        decoder.bias[d:] = outputs


def _start_linear_path(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    units: Units,
    fixed_scale: np.ndarray | None,
) -> None:
    """Start the linear path from the closed form for these rows."""
    spec, beta = module.spec, objective.kl_weight(1.0)
    d, k = spec.n_features, spec.n_components
    smallest = np.square(module.scale.floor.double().cpu().numpy())
    # Without a KL, factor analysis would copy single features, at no noise, into the code.
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
    start_at_pca(module, components, eigenvalues, np.broadcast_to(given, d), beta)


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
