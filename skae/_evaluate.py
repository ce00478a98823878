"""A model over the rows of an array, in chunks of bounded memory."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from skae._module import AutoencoderModule
from skae._products import is_large, large_products
from skae._rows import Rows
from skae._units import Units
from skae.engine import is_known
from skae.objectives import Objective
from skae.scales import Scale

# (y, draws) -> a statistic of each row, 2-D.
Statistic = Callable[[Tensor, Tensor], Tensor]

# Numbers that the widest intermediate result of a chunk may hold: about a megabyte, so
# that what one operation writes the next one still finds in the cache.
_CHUNK_NUMBERS = 2**18
# Rows times draws that are enough for the mean of a statistic over the training set; each
# row takes a pair of draws at least. (On the benchmarks' data a closed-form spherical scale
# is within a thousandth of what all draws give.)
_MEAN_EVALUATIONS = 2**11
# Draws of the posterior that follow the validation score during training.
_VALIDATION_DRAWS = 8


def to_precision(
    module: AutoencoderModule, units: Units, dtype: torch.dtype
) -> AutoencoderModule:
    """The module in a precision; a copy, unless it has it already.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    units : Units
        Statistics of the training data, to all digits.
    dtype : torch.dtype
        Precision wanted.

    Returns
    -------
    AutoencoderModule
        The model in that precision.
    """
    if module.ratio.dtype == dtype:
        return module
    module = copy.deepcopy(module).to(dtype)
    module.ratio.copy_(torch.tensor(units.ratio))
    return module


def over_rows(
    function: Callable[[Tensor], Tensor],
    X: np.ndarray,
    units: Units,
    module: AutoencoderModule,
    *,
    n_draws: int = 1,
    index: np.ndarray | None = None,
) -> np.ndarray:
    """Apply a function of standardised rows to an array, chunk by chunk.

    Parameters
    ----------
    function : callable
        From ``(n, n_features)`` to ``(n, ...)``.
    X : ndarray of shape (n_samples, n_features)
        Data; centred in float64, whatever the precision.
    units : Units
        Statistics of the training data.
    module : AutoencoderModule
        What the function applies: its precision and device are those of the computation,
        its width bounds the size of a chunk. In evaluation mode meanwhile.
    n_draws : int, default=1
        How many times the function repeats each row inside.
    index : ndarray of int, default=None
        Rows of X to use; all by default.

    Returns
    -------
    ndarray of shape (n, ...)
        The results.
    """
    n = len(X) if index is None else len(index)
    result = np.empty(0)
    with _evaluating(module, n_draws * n):
        for first, y in _blocks(X, units, module, n_draws, index):
            values = function(y).cpu().numpy()
            if first == 0:
                # Small pieces between the large temporaries would tear the heap.
                result = np.empty((n, *values.shape[1:]), dtype=values.dtype)
            result[first : first + len(values)] = values
    return result


@contextmanager
def _evaluating(module: AutoencoderModule, n_rows: int) -> Iterator[None]:
    """No gradients, the module in evaluation mode, and the fastest products."""
    n_rows = min(n_rows, _CHUNK_NUMBERS // module.width)
    # Modules that users wrote are left alone.
    is_wide = (
        is_large(n_rows * module.largest, module.ratio)
        and is_known(module.encoder)
        and is_known(module.decoder)
    )
    training = module.training
    if training:
        module.eval()
    try:
        with torch.inference_mode(), large_products(n_rows) if is_wide else nullcontext():
            yield
    finally:
        if training:
            module.train()


def _blocks(
    X: np.ndarray,
    units: Units,
    module: AutoencoderModule,
    n_draws: int,
    index: np.ndarray | None,
) -> Iterator[tuple[int, Tensor]]:
    """Standardised rows, block by block, with the place of the first of them."""
    n = len(X) if index is None else len(index)
    size = max(1, _CHUNK_NUMBERS // (n_draws * module.width))
    for first in range(0, n, size):
        part = slice(first, first + size)
        block = X[part] if index is None else X[index[part]]
        y = torch.from_numpy((block - units.mean) / units.std)
        yield first, y.to(module.ratio)


def mean_over_rows(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    units: Units,
    statistic: Statistic,
) -> Tensor:
    """Weighted mean over rows, and over their posteriors, of a statistic.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What a code is.
    rows : Rows
        Data.
    units : Units
        Statistics of the training data.
    statistic : callable
        Function of standardised rows ``(n, n_features)`` and of draws
        ``(n_draws, n or 1, n_components)`` with a 2-D result.

    Returns
    -------
    Tensor of shape (1, m)
        The mean.
    """
    draws = objective.draws(module.spec).to(module.ratio)
    # The draws are pairs, z and -z, half the set apart. Few rows take all of them; many
    # rows take some each, in turn, so that together they use the whole set evenly.
    half = len(draws) // 2
    n_pairs = min(half, -(-_MEAN_EVALUATIONS // (2 * len(rows))))
    weights = torch.as_tensor(rows.weight).to(draws.device)
    n_draws = max(2 * n_pairs, 1)
    total: Tensor | float = 0.0
    with _evaluating(module, n_draws * len(rows)):
        for first, y in _blocks(rows.X, units, module, n_draws, rows.index):
            used = draws[:, None]  # (n_draws, 1, k)
            if n_pairs < half:
                used = _in_turn(draws, n_pairs, first, len(y))  # (2 n_pairs, n, k)
            weight = weights[first : first + len(y)]
            total = total + (weight @ statistic(y, used).double())[None]
    # A copy, since a tensor made above could not be used with gradients.
    return torch.as_tensor(total).clone().div_(len(rows)).to(module.ratio)


def _in_turn(draws: Tensor, n_pairs: int, first: int, n: int) -> Tensor:
    """Some of the pairs for each of n rows: where a row's end, those of the next begin."""
    half, k = len(draws) // 2, draws.shape[1]
    start = first * n_pairs % half
    stop = start + n * n_pairs
    turns = draws.view(2, half, k).repeat(1, -(-stop // half), 1)[:, start:stop]
    return turns.reshape(2, n, n_pairs, k).transpose(1, 2).reshape(2 * n_pairs, n, k)


def training_objective(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    units: Units,
) -> float:
    """What training minimises, over all rows and with the final weight of the KL.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What training minimises.
    rows : Rows
        Training data.
    units : Units
        Their statistics.

    Returns
    -------
    float
        The objective, in nats, in the likelihood's units.
    """
    kl_weight = objective.kl_weight(1.0)

    def statistic(y: Tensor, draws: Tensor) -> Tensor:
        return objective.log_likelihood(module, y, draws, kl_weight)[:, None]

    mean = mean_over_rows(module, objective, rows, units, statistic)
    return -float(mean)


def settle(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> float:
    """Take a closed-form scale from all rows, and say what training minimises with it.

    Parameters
    ----------
    module : AutoencoderModule
        The model; its scale is finalised.
    objective : Objective
        What training minimises.
    rows : Rows
        Training data.
    units : Units
        Their statistics.

    Returns
    -------
    float
        The objective, in nats, in the likelihood's units.
    """
    scale, likelihood = module.scale, module.spec.likelihood
    if not scale.needs_optimal_scale:
        return training_objective(module, objective, rows, units)

    def deviation_of(x: Tensor, loc: Tensor, _: Tensor) -> Tensor:
        # The memory of the location is at hand, and nobody asks for that any more.
        return scale.pool(likelihood.deviation(x - loc, out=loc))

    def statistic(y: Tensor, draws: Tensor) -> Tensor:
        deviation, kl = objective.expectation(module, y, draws, deviation_of)
        return torch.cat([deviation, kl.sum(dim=1, keepdim=True)], dim=1)

    mean = mean_over_rows(module, objective, rows, units, statistic)
    deviation, kl = mean[:, :-1], float(mean[0, -1])
    scale.finalize(deviation)
    # The log-density is linear in the deviation, so its mean is that of a residual whose
    # deviation is the mean one: for most likelihoods the best scale itself.
    residual = likelihood.optimal_scale(deviation)
    gap = (likelihood.deviation(residual) - deviation).abs()
    if not (gap <= 1e-5 * deviation).all():
        return training_objective(module, objective, rows, units)
    log_scale = scale.log_scale(module.ratio.new_empty(1, 0))
    log_prob = likelihood.log_prob(residual, torch.zeros_like(residual), log_scale)
    expected = float(log_prob.double().mean()) * module.spec.n_features
    return objective.kl_weight(1.0) * kl - expected


def validation_score(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> float:
    """Weighted mean score of some rows while training.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    objective : Objective
        What a score means.
    rows : Rows
        Validation data.
    units : Units
        Statistics of the training data.

    Returns
    -------
    float
        The score, in nats, in the units of X.
    """
    draws = objective.draws(module.spec, _VALIDATION_DRAWS)[:, None]
    draws = draws.to(module.ratio.device)
    scores = over_rows(
        lambda y: objective.log_likelihood(module, y, draws),
        rows.X,
        units,
        module,
        n_draws=len(draws),
        index=rows.index,
    )
    return float(np.mean(scores.astype(np.float64) * rows.weight)) - units.log_unit


def shared_scale(scale: Scale, units: Units) -> float | np.ndarray | None:
    """A model's scale as it stands.

    Parameters
    ----------
    scale : Scale
        The model's.
    units : Units
        Statistics of the training data.

    Returns
    -------
    float, ndarray of shape (n_features,) or None
        The scale in the units of X; None if it is a function of the code.
    """
    if not scale.is_shared:
        return None
    with torch.no_grad():
        log_scale = scale.log_scale(scale.floor.new_empty(1, 0))
    value = np.exp(log_scale.cpu().numpy()[0].astype(np.float64)) * units.unit
    return value if scale.covariance_type == "diag" else float(value[0])
