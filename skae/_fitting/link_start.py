"""Units and first predictors of features that are not numbers with a location and scale."""

from dataclasses import replace

import numpy as np
import torch

from skae._data import BLOCK_NUMBERS, Links, Rows, Standardization
from skae.likelihoods import GeneralizedLinear, Likelihood, Mixed, Moments

# Number of observed values from which half a value more is a rounding error. The sum of
# weights may be beyond the range of float64.
_MOST_OBSERVED = 1e15


def add_links(
    standardization: Standardization,
    rows: Rows,
    likelihood: Likelihood,
) -> Standardization:
    """Add what a likelihood of several parts, or without units, needs to the statistics.

    The statistics are those of :func:`statistics_type`. Those of any other likelihood stay
    as they are.
    """
    is_special = isinstance(likelihood, (GeneralizedLinear, Mixed))
    if not (is_special or likelihood.takes_logarithm):
        return standardization
    d = rows.X.shape[1]
    is_linked, is_log = np.zeros(d, dtype=bool), np.zeros(d, dtype=bool)
    predictor, noise = np.zeros(d), np.zeros(d)
    unit, scale, smallest_scale = np.ones(d), np.ones(d), np.ones(d)
    likelihood_unit = standardization.likelihood_unit.copy()
    for part, family in likelihood.parts(d):
        is_log[part] = family.takes_logarithm
        if isinstance(family, GeneralizedLinear):
            start = family.start(_moments(rows, part, family))
            is_linked[part] = True
            predictor[part], noise[part] = start.predictor, start.noise
            unit[part], scale[part] = 1 / start.slope, start.scale
            smallest_scale[part] = family.smallest_scale
            likelihood_unit[part] = 1.0
    links = Links(is_linked, is_log, predictor, unit, noise, scale, smallest_scale)
    return replace(standardization, likelihood_unit=likelihood_unit, links=links)


def statistics_type(likelihood: Likelihood, covariance_type: str) -> str:
    """Return the covariance type whose statistics :func:`add_links` takes."""
    has_own_units = isinstance(likelihood, (GeneralizedLinear, Mixed))
    return "diag" if has_own_units else covariance_type


def _moments(rows: Rows, part: slice, family: GeneralizedLinear) -> Moments:
    """Compute the weighted moments of the data of some features, in blocks of rows."""
    width = part.stop - part.start
    size = max(1, BLOCK_NUMBERS // width)
    share = np.zeros(width)
    first, second, first_input = np.zeros(width), np.zeros(width), np.zeros(width)
    for start in range(0, len(rows), size):
        chunk = slice(start, start + size)
        t = rows.block(chunk)[:, part].astype(np.float64)
        weight = rows.weight[chunk] / rows.total
        observed = ~np.isnan(t)
        t = np.where(observed, t, 0.0)
        x = np.where(observed, family.from_input(torch.from_numpy(t)).numpy(), 0.0)
        share += weight @ observed
        first += weight @ x
        with np.errstate(over="ignore"):
            second += weight @ np.square(x)
        first_input += weight @ t
    sums = rows.peers.sum(np.array([share, first, second, first_input]))
    share, first, second, first_input = sums
    mean = first / share
    # Squares of counts above 1e154 overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.maximum(second / share - np.square(mean), 0.0)
    largest = np.finfo(np.float64).max
    variance = np.nan_to_num(variance, nan=largest, posinf=largest)
    n = np.clip(rows.n_samples * share, 1.0, _MOST_OBSERVED)
    return Moments(n, mean, variance, first_input / share)
