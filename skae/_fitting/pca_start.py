"""The linear path at probabilistic PCA, and the gains of what it leaves."""

import numpy as np
import torch

from skae._module import AutoencoderModule

# Gain of a feature over what PCA leaves of it, the larger of residual and noise. PCA's
# residual alone, which is 0 with as many components as features, switches the network off.
# On three splits of ten tables, 3 gave better training objectives than 1 or 2.
_LARGEST_RATIO = 3.0
# Smallest gain, relative to the standard deviation of a feature or a component.
_SMALLEST_GAIN = 1e-4
# Share of a feature's variance that components leave, up to which others determine it.
_SMALLEST_SHARE = 1e-4
# Smallest posterior standard deviation at the start.
_SMALLEST_STD = 1e-8
# Largest ratio of a feature's loadings to its standard deviation. Exact loadings are not
# above 1, and those of a feature far below all others are rounding errors.
_LARGEST_LOADING = 10.0
# Largest standard deviation of a linear predictor over the codes at the start: a factor of
# 7 in a rate or in odds.
_LARGEST_PREDICTOR = 2.0


def start_at_pca(
    module: AutoencoderModule,
    components: np.ndarray,
    eigenvalues: np.ndarray,
    noise: np.ndarray,
    beta: float,
    mean: np.ndarray,
    variance: np.ndarray,
) -> None:
    """Set the linear path to probabilistic PCA, and the gains to what it leaves.

    In units of the noise, with loadings W = V (L - beta)^(1/2) and M = W'W + beta, the
    posterior of the linear model has mean M^-1 W' x and variance beta M^-1 (Tipping and
    Bishop 1999, eq. 6 to 9, for beta = 1). A deterministic autoencoder is the case
    beta = 0: whitened principal components.

    ``components`` are eigenvectors ``(n_features, q)`` of the covariance in units of the
    noise, ``eigenvalues`` is ``(q,)``. ``noise``, ``mean`` and ``variance`` are of the same
    rows, ``(n_features,)`` in the likelihood's units.
    """
    k, (d, q) = module.spec.n_components, components.shape
    deviation = np.sqrt(noise)
    std_in_units = module.std_in_units.cpu().double().numpy()
    tiny = np.finfo(np.float32).tiny
    # A component below the noise keeps a small weight: with a weight of exactly 0 it would
    # have no gradient.
    squared = np.maximum(eigenvalues - beta, 1e-4 * eigenvalues)
    M = np.maximum(squared + beta, tiny)
    loadings = components * np.sqrt(squared)  # (d, q)
    E = (loadings / M).T * (std_in_units / deviation)  # (q, d), from standardised features
    W = loadings * deviation[:, None]
    norm = np.linalg.norm(W, axis=1)
    is_rounding = norm > _LARGEST_LOADING * std_in_units
    W[is_rounding] *= (std_in_units[is_rounding] / norm[is_rounding])[:, None]

    _bound_predictors(module, W)

    # Size of what the network may explain of a feature, and width of a posterior.
    explained = noise * (np.square(components) @ eigenvalues)
    # The rows of the start may lack outliers, which are left in all rows; but of a feature
    # that others determine, nothing is.
    is_determined = variance - explained <= _SMALLEST_SHARE * variance
    residual = np.where(is_determined, variance, np.square(std_in_units)) - explained
    width = beta if beta > 0 else 1.0
    # Training with beta equals training with beta times the noise.
    left = np.maximum(np.sqrt(width) * deviation, np.sqrt(np.maximum(residual, 0.0)))
    loc_gain = np.minimum(_LARGEST_RATIO * left, std_in_units)
    loc_gain = np.maximum(loc_gain, _SMALLEST_GAIN * std_in_units)
    # A feature that is held stays so.
    loc_gain[module.loc_gain.cpu().numpy() == 0] = 0.0
    # The penalty counts a weight in units of what is left.
    unit = np.maximum(left, np.maximum(loc_gain / _LARGEST_RATIO, tiny))
    loc_penalty = np.square(loc_gain / unit)
    code_gain = np.ones(k)
    code_gain[:q] = np.maximum(np.sqrt(width / (squared + width)), _SMALLEST_GAIN)

    encoder, decoder = module.linear_encoder, module.linear_decoder
    with torch.no_grad():
        for layer in (encoder, decoder):
            layer.weight.zero_()
            layer.bias.zero_()
        module.loc_gain.copy_(torch.from_numpy(loc_gain))
        module.loc_penalty.copy_(torch.from_numpy(loc_penalty))
        module.code_gain[:k] = torch.from_numpy(code_gain)
        encoder.weight[:q] = torch.from_numpy(E / code_gain[:q, None]).to(encoder.weight)
        # A gain of 0 belongs to a feature that is constant.
        gain = np.where(loc_gain > 0, loc_gain, 1.0)[:, None]
        decoder.weight[:d, :q] = torch.from_numpy(W / gain).to(decoder.weight)
        if module.spec.n_heads == 2:
            std = np.sqrt(np.maximum(beta / M, _SMALLEST_STD**2))
            encoder.bias[k : k + q] = torch.from_numpy(np.log(std)).to(encoder.bias)
        # A feature of no spread in the likelihood's units is filled with its mean.
        spread = np.where(std_in_units > 0, std_in_units, 1.0)
        center = mean / spread
        if center.any():
            encoder.bias[:q] = torch.from_numpy(-E @ center / code_gain[:q]).to(
                encoder.bias
            )
        shift = mean + shift_of_predictors(module, np.square(W).sum(axis=1))
        if shift.any():
            decoder.bias[:d] = torch.from_numpy(shift / gain[:, 0]).to(decoder.bias)
        if beta == 0:
            # Rows are filled by the mean of a distribution, which beta = 0 does not have.
            loadings = components * np.sqrt(np.maximum(eigenvalues - 1, 1e-4 * eigenvalues))
        module.fill.set(
            torch.from_numpy(center),
            # Beside a scale of 1e36, that of a feature may be beyond float32.
            torch.from_numpy(np.minimum(deviation / spread, np.finfo(np.float32).max)),
            torch.from_numpy(loadings),
            width,
        )


def _bound_predictors(module: AutoencoderModule, W: np.ndarray) -> None:
    """Bound the loadings ``(d, q)`` of linear predictors, in place.

    Their expansion at the mean holds for small changes only: a component of rare flags
    or counts would be extrapolated to a hundred times the odds.
    """
    for part, _ in module.linked:
        spread = module.input_std[part].cpu().double().numpy()
        norm = np.linalg.norm(W[part], axis=1)
        limit = np.maximum(_LARGEST_PREDICTOR, spread)
        W[part] *= np.minimum(1.0, limit / np.maximum(norm, limit))[:, None]


def shift_of_predictors(module: AutoencoderModule, variance: np.ndarray) -> np.ndarray:
    """Return by how much predictors of a variance ``(d,)`` move, for the mean of the data.

    It is 0 for a feature that is no generalised linear model, and without a prior of codes.
    """
    shift = np.zeros(len(variance))
    if module.spec.n_heads == 2:
        for part, family in module.linked:
            predictor = module.loc_offset[part].cpu().double().numpy()
            shift[part] = family.spread_predictor(predictor, variance[part]) - predictor
    return shift
