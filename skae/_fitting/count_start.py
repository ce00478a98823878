"""How far the logarithms of expected counts follow the code at the start."""

import numpy as np
import torch
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation import SCALE_ROWS, mean_over_rows
from skae._fitting.pca_start import shift_of_predictors
from skae._module import AutoencoderModule
from skae.likelihoods.rates import CountLikelihood
from skae.objectives import Objective

# Factors of the loadings that are compared; with 0 a column has its mean in all rows.
_FACTORS = (1.0, 0.5, 0.25, 0.0)


def damp_log_rates(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> None:
    """Shrink the loadings of each column of counts for which they are worse than none.

    The closed form follows the logarithm of a count in a straight line. In a row far from
    the others, such as a long text among short ones, the exponential of that line may be
    many orders of magnitude above the count. The factor is the best by the expected
    log-probability of some rows.
    """
    is_count = np.zeros(module.spec.n_features, dtype=bool)
    for part, family in module.linked:
        is_count[part] = isinstance(family, CountLikelihood)
    if not is_count.any():
        return
    layer, d = module.linear_decoder, len(is_count)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    gain = module.loc_gain.cpu().double().numpy()
    variance = np.square(weight[:d].cpu().double().numpy() * gain[:, None]).sum(axis=1)
    shifts = np.array([shift_of_predictors(module, a**2 * variance) for a in _FACTORS])
    moves = (shifts - shifts[0]) / np.where(gain > 0, gain, 1.0)
    some = rows.subsample(SCALE_ROWS)

    def put(factors: np.ndarray, moves: np.ndarray) -> None:
        """Multiply the first loadings of each feature, and move its location."""
        factors, moves = np.where(is_count, factors, 1.0), np.where(is_count, moves, 0.0)
        with torch.no_grad():
            layer.weight[:d] = weight[:d] * torch.from_numpy(factors)[:, None].to(weight)
            layer.bias[:d] = bias[:d] + torch.from_numpy(moves).to(bias)

    def log_prob(x: Tensor, loc: Tensor, outputs: Tensor) -> Tensor:
        likelihood, log_scale = module.conditional(outputs)
        return likelihood.log_prob(x, loc, log_scale)

    def of_features(y: Tensor, draws: Tensor) -> Tensor:
        found, _ = objective.expectation(module, y, draws, log_prob)
        observed = module.observed(y)
        return found if observed is None else found.masked_fill(~observed, 0.0)

    values = []
    for factor, move in zip(_FACTORS, moves, strict=True):
        put(np.full(d, factor), move)
        values.append(mean_over_rows(module, objective, some, standardization, of_features))
    found = torch.cat(values).nan_to_num(nan=-torch.inf).cpu().numpy()
    # On usual tables, the whole loadings were the better start for a training.
    best = np.where(found[0] >= found[-1], 0, found.argmax(axis=0))
    put(np.array(_FACTORS)[best], moves[best, np.arange(d)])
