"""Means over rows and over their posteriors."""

from collections.abc import Callable

import torch
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation.blocks import Kept, blocks_of, evaluation_mode
from skae._module import AutoencoderModule
from skae._utils.device import move_double, to_double
from skae.objectives import Objective

# (y, draws) -> a statistic of each row, 2-D.
Statistic = Callable[[Tensor, Tensor], Tensor]

# Rows times draws that are enough for the mean of a statistic over the training set. On the
# data of the benchmarks a closed-form spherical scale is within a thousandth of the value
# from all draws.
_MEAN_EVALUATIONS = 2**11
# Rows from which on each takes one draw, of a pair that it shares with its neighbour. Fewer
# take at least one pair each.
_MANY_ROWS = 2**16


def mean_over_rows(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    statistic: Statistic,
    kept: Kept | None = None,
) -> Tensor:
    """Average a statistic over weighted rows and over their posteriors, ``(1, m)``.

    The statistic takes standardised rows ``(n, n_features)`` and draws
    ``(n_draws, n or 1, n_components)`` and returns ``(n, m)``. ``kept`` is for further
    calls with the same rows.
    """
    kept = kept or Kept()
    draws = draws_of(module, objective, kept)
    n_pairs = n_pairs_of(draws, rows)
    weights = kept.get(
        "weights", lambda: move_double(torch.from_numpy(rows.weight), draws.device)
    )
    n_draws = max(2 * n_pairs, 1)
    total = weights.new_zeros(())
    with evaluation_mode(module, n_draws * len(rows)):
        blocks = blocks_of(rows.X, standardization, module, n_draws, rows.index, kept=kept)
        for first, y in blocks:
            used = draws_of_rows(draws, n_pairs, rows.first + first, len(y))
            weight = weights[first : first + len(y)]
            total = total + (weight @ to_double(statistic(y, used)))[None]
        rows.peers.sum_(total)
    # A copy, because a tensor made in inference mode cannot be used with gradients.
    return total.clone().div_(rows.total).to(module.std_in_units)


def draws_of(module: AutoencoderModule, objective: Objective, kept: Kept) -> Tensor:
    """Return the draws of a mean over rows, ``(n_draws, k)``: pairs, half the set apart."""
    return kept.get("draws", lambda: objective.draws(module.spec).to(module.std_in_units))


def n_pairs_of(draws: Tensor, rows: Rows) -> int:
    """Return how many pairs of the draws each row takes; 0 if each takes a single draw.

    Few rows take all of them. Many rows take some pairs each, in turn, so that all pairs
    are used equally often.
    """
    if rows.total >= _MANY_ROWS:
        return 0
    return min(len(draws) // 2, -(-_MEAN_EVALUATIONS // (2 * rows.total)))


def draws_of_rows(draws: Tensor, n_pairs: int, first: int, n: int) -> Tensor:
    """Return the draws of n rows from a position on, ``(n_draws, n or 1, k)``."""
    half, k = len(draws) // 2, draws.shape[1]
    if n_pairs >= half:
        return draws[:, None]
    if n_pairs == 0:
        halves = draws.view(2, half, k).transpose(0, 1).reshape(2 * half, k)
        start = first % len(halves)
        turns = halves.repeat(-(-(start + n) // len(halves)), 1)
        return turns[None, start : start + n]
    start = first * n_pairs % half
    stop = start + n * n_pairs
    turns = draws.view(2, half, k).repeat(1, -(-stop // half), 1)[:, start:stop]
    return turns.reshape(2, n, n_pairs, k).transpose(1, 2).reshape(2 * n_pairs, n, k)


def mean_of_residuals(
    statistic: Callable[[Tensor], Tensor],
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Average a statistic of the residuals over rows, posteriors and observed entries.

    The statistic maps residuals ``(n_draws, n, n_features)``, which it may overwrite, to
    numbers of that shape. Returns the mean over the entries that share a scale, ``(1, 1)``
    or ``(1, n_features)``; the share of them that is observed, or None if all are; and the
    mean KL, without axes.
    """

    def pooled(y: Tensor, draws: Tensor) -> Tensor:
        return pooled_residuals(
            module,
            y,
            draws,
            objective=objective,
            statistic=statistic,
            has_missing=rows.has_missing,
            # The memory of the location is free.
            in_place=True,
        )

    mean = mean_over_rows(module, objective, rows, standardization, pooled, kept)
    return split_mean(module, mean, statistic, rows.has_missing)


def pooled_residuals(
    module: AutoencoderModule,
    y: Tensor,
    draws: Tensor,
    *,
    objective: Objective,
    statistic: Callable[[Tensor], Tensor],
    has_missing: bool,
    in_place: bool,
) -> Tensor:
    """Pool a statistic of residuals over draws, and over features that share a scale.

    Returns for each row, side by side, the statistic, with missing entries the share of
    the observed ones, and the KL: ``(n, m)``.
    """
    pool, observed = module.scale.pool, module.observed(y)

    def of_entries(x: Tensor, loc: Tensor, _: Tensor) -> Tensor:
        values = statistic(torch.sub(x, loc, out=loc if in_place else None))
        if observed is not None:
            values = values.masked_fill(~observed, 0.0)
        return pool(values)

    values, kl = objective.expectation(module, y, draws, of_entries)
    parts = [values, kl.sum(dim=1, keepdim=True)]
    if observed is not None:
        parts.insert(1, pool(observed.to(values)))
    elif has_missing:
        parts.insert(1, torch.ones_like(values))
    return torch.cat(parts, dim=1)


def split_mean(
    module: AutoencoderModule,
    mean: Tensor,
    statistic: Callable[[Tensor], Tensor],
    has_missing: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Split a mean of `pooled_residuals`, ``(1, m)``; see `mean_of_residuals`."""
    m = module.scale.n_scales
    values, kl = mean[:, :m], mean[0, -1]
    if not has_missing:
        return values, None, kl
    share = mean[:, m : 2 * m]
    # If some rows lack all values of a feature, its residual counts as its deviation.
    unknown = module.scale.pool(statistic(module.std_in_units[None].clone()))
    return torch.where(share > 0, values / share, unknown), share, kl
