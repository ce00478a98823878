"""The expected log-density of a score, from few draws where few are enough."""

from collections.abc import Callable

import torch
from torch import Tensor

from skae._module import Spec
from skae.objectives.base import Conditional
from skae.objectives.draws import matched_normal

# Numbers of draws for likelihoods with an expectation in closed form or by quadrature. Four
# pairs are the fewest whose spread says something of their error.
_FIRST_DRAWS, _MORE_DRAWS = 8, 32
# Standard error of the first draws, in nats, from which on a score takes more of them. It
# is that of independent pairs; draws of low discrepancy have a fifth to a half of it, and
# the scores of rows differ by several nats.
TOLERANCE = 1.0
# Numbers of draws for other likelihoods. Here the draws integrate the log-density itself,
# not only the curvature of the decoder, and a kink needs many.
_FEW_DRAWS, _MANY_DRAWS = 32, 256
# Variance of what the linear part leaves, over that of the log-density, up to which the
# whole linear part is used, beside a rest within the tolerance. Usual models are below it,
# and with 1 their errors were not smaller; a rate whose linear part explodes is above 1e6.
_LARGEST_REST = 100.0
# Supports on which a density is a probability.
_DISCRETE = {"boolean", "category", "nonnegative_integer"}


def n_draws_of_means(spec: Spec) -> int:
    """Return the smallest number of draws of the means over a training set."""
    return _MANY_DRAWS if spec.likelihood.heavy_tailed else _FEW_DRAWS


def draws_of_scores(spec: Spec) -> list[Tensor]:
    """Return the draws of a score, and those of rows that need more, ``(n_draws, 1, k)``.

    The list has one set if all rows take the same draws.
    """
    families = [family for _, family in spec.likelihood.parts(spec.n_features)]
    if all(f.has_expectation for f in families):
        numbers = [_FIRST_DRAWS, _MORE_DRAWS]
    elif all(f.has_expectation or f.is_smooth for f in families):
        numbers = [_FEW_DRAWS]
    else:
        numbers = [n_draws_of_means(spec)]
    k = spec.n_components
    return [matched_normal(k, n)[:, None] for n in sorted({max(n, 2 * k) for n in numbers})]


def expect(
    evaluate: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    y: Tensor,
    heads: Tensor,
    sets: list[Tensor],
) -> Tensor:
    """Compute a statistic of each row with as many draws as the row needs, ``(n, m)``.

    ``evaluate`` maps rows, their heads ``(n, ...)`` and draws to the statistic ``(n, m)``
    and its estimated standard error ``(n,)``. The result is a continuous function of the
    error: between half the tolerance and the tolerance, it moves from the result with few
    draws to that with more. So rounding cannot change it much.
    """
    few, *more = [draws.to(heads.device) for draws in sets]
    values, error = evaluate(y, heads, few)
    for draws in more:
        # A result that is not finite has no error; then the next one replaces it.
        weight = (2 * error / TOLERANCE - 1).nan_to_num(nan=1.0).clamp(0, 1)[:, None]
        rows = torch.nonzero(weight[:, 0])[:, 0]
        # Blocks of the same memory as the first evaluation.
        for part in rows.split(max(1, len(y) * len(few) // len(draws))):
            if len(part):
                better, _ = evaluate(y[part], heads[part], draws)
                blend = torch.lerp(values[part], better, weight[part])
                values[part] = torch.where(weight[part] < 1, blend, better)
    return values


def expected_log_prob(
    conditional: Conditional, x: Tensor, loc: Tensor, outputs: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Compute the expected log-density of each feature from pairs of draws.

    The location is a linear function of the draws, plus a rest. The linear part
    follows from the differences of the pairs, because the covariance of the draws is I.
    For the linear part alone, the location of a feature is normal, and the expectation has
    a closed form or a quadrature. So only the rest has a sampling error:

    .. math:: E f(g(z)) \approx c\, E f(l(z)) + \frac1S \sum_s [f(g(z_s)) - c f(l(z_s))]

    with c = 1. Where the rest varies much more than f(g(z)) itself, the linear part is no
    help: an exponential of it may be many orders of magnitude larger than that of the
    decoder. There c falls with the ratio of the variances over the pairs, and the
    correction by the linear part is at most the standard error of the plain mean, divided
    by 1 - c.

    x is ``(n, d)``; loc and outputs are ``(n_draws, n, ...)``, for draws with exact
    moments, z and -z half the set apart. Returns the expectation ``(n, d)``, and the
    summand of each pair ``(n_draws / 2, n, d)``, whose spread determines the error.
    """
    likelihood, log_scale = conditional(outputs)
    center, slope = _linear_part(loc)
    if likelihood.is_quadratic and log_scale.ndim == 2:
        # The squares of the slopes cancel in the summand of each pair.
        middle = loc.unflatten(0, (2, -1)).mean(dim=0)
        at_center = likelihood.log_prob(x, center, log_scale)
        rest = likelihood.log_prob(x, middle, log_scale) - at_center
        linear = likelihood.expected_log_prob(x, center, _norm(slope), log_scale)
        return linear + rest.mean(dim=0), rest
    values = likelihood.log_prob(x, loc, log_scale)
    plain = values.mean(dim=0)
    of_center = likelihood
    if outputs.shape[-1]:
        at_center, slope_of_outputs = _linear_part(outputs)
        of_center, _ = conditional(at_center)
        likelihood, _ = conditional(_at_draws(at_center, slope_of_outputs))
    if log_scale.ndim > 2:  # the scale depends on the code, which is left to the rest
        log_scale = log_scale.mean(dim=0)
    linear = likelihood.log_prob(x, _at_draws(center, slope), log_scale)
    correction = torch.zeros_like(plain)
    for part, family in of_center.parts(x.shape[-1]):
        if family.has_expectation:
            own = x[..., part], center[..., part], _norm(slope[..., part])
            of_linear = family.expected_log_prob(*own, _features(log_scale, part))
            correction[..., part] = of_linear - linear[..., part].mean(dim=0)
    of_pairs, of_linear_pairs = _means_of_pairs(values), _means_of_pairs(linear)
    rest = of_pairs - of_linear_pairs
    variance = of_pairs.var(dim=0)
    share = (_LARGEST_REST * variance + TOLERANCE**2) / rest.var(dim=0)
    share = share.nan_to_num(nan=1.0).clamp(max=1.0)  # NaN if both overflow
    # For a share of 1 there is no bound.
    most = ((variance / len(rest)).sqrt() / (1 - share)).nan_to_num(nan=torch.inf)
    expected = plain + (share * correction).clamp(-most, most)
    # The linear part may overflow where the decoder does not.
    expected = torch.where(expected.isfinite(), expected, plain)
    for part, family in of_center.parts(x.shape[-1]):
        if family.support in _DISCRETE:
            # A log-probability is not above 0; a density of a user may lack a constant.
            largest = values[..., part].amax(dim=0).clamp(min=0.0)
            expected[..., part] = torch.minimum(expected[..., part], largest)
    return expected, torch.where(share > 0, of_pairs.lerp(rest, share), of_pairs)


def _means_of_pairs(values: Tensor) -> Tensor:
    """Return the mean of each pair of draws, ``(n_draws / 2, n, m)``."""
    return values.unflatten(0, (2, -1)).mean(dim=0)


def _linear_part(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean ``(n, m)`` of values for pairs, and the slopes ``(n_pairs, n, m)``.

    A slope is the change along one draw: half the difference of a pair.
    """
    first, second = values.chunk(2)
    return values.mean(dim=0), (first - second).mul_(0.5)


def _at_draws(center: Tensor, slope: Tensor) -> Tensor:
    """Evaluate a linear function at the draws, ``(n_draws, n, m)``."""
    return torch.cat([center + slope, center - slope])


def _norm(slope: Tensor) -> Tensor:
    """Return the standard deviation of linear functions with these slopes, ``(n, m)``."""
    return slope.square().mean(dim=0).sqrt()


def _features(values: Tensor, part: slice) -> Tensor:
    """Return the features of a part of values that may have one for all features."""
    return values if values.shape[-1] == 1 else values[..., part]
