"""Centre, spread and resolution of the features of some rows."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse

from skae._data.blocks import BLOCK_NUMBERS, ColumnReader
from skae._data.rows import Rows
from skae._data.standardization import LARGEST_SCALE, Links, Standardization
from skae._utils.column_errors import ColumnError

# Rows that are enough to see how finely a feature was measured.
_RESOLUTION_ROWS = 1000
# Largest weight of rows in a mean over all blocks of a stream.
LARGEST_WEIGHT = 1e150
# Spread below which a feature counts as constant: its differences would include numbers
# below 2e-308, which a training takes as 0.
_SMALLEST_SPREAD = 1e-303
# Rows that are reduced together.
_ROWS_TOGETHER = 16
# Exponent of a spread of 0: below that of each other number.
_NO_EXPONENT = -2000


@dataclass(frozen=True)
class FeatureMoments:
    """Mean, spread and size of each feature of some rows; each array is ``(n_features,)``.

    Attributes
    ----------
    weight : ndarray
        Sum of the weights of the rows that have the feature.
    mean : ndarray
        Weighted mean.
    variance, exponent : ndarray
        Weighted variance in units of ``4**exponent``, so that no square underflows.
    magnitude : ndarray
        Largest absolute value.
    spread : ndarray
        Largest distance from the mean, or a bound of it.
    """

    weight: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    exponent: np.ndarray
    magnitude: np.ndarray
    spread: np.ndarray

    @classmethod
    def of_fit(cls, own: Standardization, n_samples: float) -> "FeatureMoments":
        """Return what the statistics of a fit of so many samples say."""
        mantissa, exponent = np.frexp(own.std)
        variance = np.square(mantissa)
        if own.is_constant is not None:
            variance[own.is_constant], exponent[own.is_constant] = 0.0, _NO_EXPONENT
        zeros = np.zeros_like(variance)
        weight = np.full_like(variance, n_samples)
        return cls(weight, own.mean, variance, exponent, zeros, zeros)

    def merge(self, other: "FeatureMoments") -> "FeatureMoments":
        """Return the moments of the rows of both (Chan, Golub and LeVeque 1983)."""
        weight = self.weight + other.weight
        share = np.divide(other.weight, weight, out=np.zeros_like(weight), where=weight > 0)
        # Of a feature without observed values nothing is known, its mean included.
        shift = np.where(other.weight > 0, other.mean - self.mean, 0.0)
        exponent = np.maximum(np.maximum(self.exponent, other.exponent), _exponent(shift))
        own, others = (
            np.ldexp(m.variance, 2 * (m.exponent - exponent)) for m in (self, other)
        )
        between = share * (1 - share) * np.square(np.ldexp(shift, -exponent))
        step = share * shift
        return FeatureMoments(
            weight,
            self.mean + step,
            (1 - share) * own + share * others + between,
            exponent,
            np.maximum(self.magnitude, other.magnitude),
            np.maximum(self.spread + np.abs(step), other.spread + np.abs(shift - step)),
        )

    def units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Return deviations, which features are constant, rounding errors, typical size.

        A constant feature has the typical deviation. Raises ValueError as `measure` does.
        """
        std = np.ldexp(np.sqrt(self.variance), self.exponent)
        # Of float64, because float32 numbers are the same numbers: a column of float32
        # whose values differ varies. A constant that was computed has an error of some
        # units.
        rounding = 16 * np.finfo(np.float64).eps * self.magnitude
        # Training takes numbers below the normal range for 0, and cannot divide by them.
        constant = std <= np.maximum(rounding, _SMALLEST_SPREAD)
        if constant.all() and (std > rounding).any():
            raise ValueError(
                f"X has differences below {_SMALLEST_SPREAD:.2g}, which underflow "
                "float64; rescale it."
            )
        typical = 1.0
        if not constant.all():
            largest = self.exponent[~constant].max()
            common = np.ldexp(self.variance, 2 * (self.exponent - largest))
            typical = float(np.ldexp(np.sqrt(np.mean(common[~constant])), largest))
        std[constant] = typical
        _check_distance(self.spread / std)
        return std, constant, rounding, typical

    def standardization(
        self, covariance_type: str, resolution: np.ndarray, links: Links | None = None
    ) -> Standardization:
        """Return the statistics with these moments; raises ValueError as `measure` does."""
        std, constant, _, typical = self.units()
        unit = std if covariance_type == "diag" else np.full_like(std, typical)
        if links is not None:
            unit = np.where(links.is_linked, 1.0, unit)
        return Standardization(self.mean, std, unit, resolution, links, constant)


def measure(
    rows: Rows, covariance_type: str, moments: FeatureMoments | None = None
) -> Standardization:
    """Measure centre, spread and resolution of some rows, whose moments may be known.

    Raises ValueError if the squares of the values overflow float64, if all differences
    underflow, or if values are too far from the mean, which only rows of a tiny weight can
    be.
    """
    if moments is None:
        moments = measure_moments(rows)
    _, constant, rounding, typical = moments.units()
    resolution = _resolution(rows, constant, rounding, typical)
    return moments.standardization(covariance_type, resolution)


def measure_moments(rows: Rows) -> FeatureMoments:
    """Measure mean and spread of each feature of some rows, block by block.

    Raises ValueError if the squares of the values overflow float64.
    """
    row_weight = rows.weight / rows.total
    chunks, peers = rows.parts(), rows.peers
    # In two passes: the second one centres, so that an offset costs no digits. The error
    # of the first pass is added to the mean.
    pivot = _first_observed(rows)
    # The weight of what is observed of a feature: 1 without missing entries.
    share: float | np.ndarray = 1.0
    if rows.has_missing:
        share = rows.observed_share()
    known = np.where(share > 0, share, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        shift, smallest, largest = (np.zeros_like(pivot) for _ in range(3))
        for c in chunks:
            distance = _distance(rows, c, pivot)
            shift += _weighted_sum(row_weight[c], distance)
            np.minimum(smallest, _over_rows(np.minimum, distance), out=smallest)
            np.maximum(largest, _over_rows(np.maximum, distance), out=largest)
        shift = peers.sum(shift) / known
        largest, smallest = peers.largest(largest), -peers.largest(-smallest)
        mean = pivot + shift
        magnitude = np.maximum(np.abs(pivot + smallest), np.abs(pivot + largest))
        spread = np.maximum(largest - shift, shift - smallest)
        overflows = np.flatnonzero(~np.isfinite(np.square(spread))).tolist()
        if overflows:
            raise ColumnError(
                "X has values whose squares overflow float64 in {}: correct these values, "
                "or rescale the column.",
                overflows,
            )
    # A power of 2 for each feature, so that no square underflows and no digit is lost. In
    # two factors, because one may be beyond the range of float64.
    exponent = _exponent(spread)
    half = exponent // 2
    factors = np.ldexp(1.0, -half), np.ldexp(1.0, half - exponent)
    variance = np.zeros_like(mean)
    for c in chunks:
        residual = _distance(rows, c, mean)
        for factor in factors:
            residual *= factor
        variance += _weighted_sum(row_weight[c], np.square(residual, out=residual))
    variance = peers.sum(variance) / known
    # Weights may be beyond the range of float64, and shares of them must not be NaN.
    weight = np.full_like(mean, min(rows.n_samples, LARGEST_WEIGHT)) * share
    return FeatureMoments(weight, mean, variance, exponent, magnitude, spread)


def _exponent(values: np.ndarray) -> np.ndarray:
    """Return the exponents of 2 of numbers ``(d,)``, of 0 the smallest."""
    _, exponent = np.frexp(values)
    return np.where(values == 0, _NO_EXPONENT, exponent)


def _first_observed(rows: Rows) -> np.ndarray:
    """Return the first observed value of each feature, ``(d,)``, float64."""
    first = rows.block(slice(1))[0].astype(np.float64)
    columns = np.flatnonzero(np.isnan(first))
    X = ColumnReader(rows.X) if issparse(rows.X) and len(columns) else rows.X
    for column in map(int, columns):
        values = X[rows.index, column]
        first[column] = values[np.argmin(np.isnan(values))]
    found = np.array(rows.peers.gather(first[None]))[:, 0]
    chosen = np.isnan(found).argmin(axis=0)
    return np.asarray(found[chosen, np.arange(len(first))])


def _weighted_sum(weight: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Add up rows ``(m, d)`` with weights ``(m,)``; no number of threads changes a bit."""
    return np.einsum("i,ij->j", weight, block)


def _over_rows(extreme: np.ufunc, block: np.ndarray) -> np.ndarray:
    """Return the extreme value of each column of a block ``(m, d)``."""
    # Several rows as a long one, because short ones take several times as long.
    n, d = len(block) // _ROWS_TOGETHER, block.shape[1]
    together = block[: n * _ROWS_TOGETHER].reshape(n, _ROWS_TOGETHER * d)
    found = [block[n * _ROWS_TOGETHER :]]
    if n:
        found.append(extreme.reduce(together, axis=0).reshape(_ROWS_TOGETHER, d))
    return np.asarray(extreme.reduce(np.concatenate(found), axis=0))


def _distance(rows: Rows, part: slice, centre: np.ndarray | float) -> np.ndarray:
    """Subtract a centre from some rows, ``(m, d)``; 0 for what is missing."""
    distance = rows.block(part) - centre
    if rows.has_missing:
        distance[np.isnan(distance)] = 0.0
    return distance


def _check_distance(distance: np.ndarray) -> None:
    """Raise ValueError if float32 cannot compute with these deviations, ``(d,)``."""
    column = int(distance.argmax())
    if distance[column] > LARGEST_SCALE:
        raise ColumnError(
            f"X has a value in {{}} that is {distance[column]:.3g} weighted standard "
            f"deviations from the mean; at most {LARGEST_SCALE:g} are allowed. Only a row "
            "with a tiny sample_weight can be so far away. Set its weight to 0.",
            [column],
        )


def _gaps(X: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Return the smallest gap above the rounding in each column; infinity if none."""
    gaps = np.diff(np.sort(X.astype(np.float64), axis=0), axis=0)
    gaps[~(gaps > rounding)] = np.inf  # NaN is sorted to the end
    return gaps.min(axis=0, initial=np.inf)


def _resolution(
    rows: Rows,
    constant: np.ndarray,
    rounding: np.ndarray,
    typical: float,
) -> np.ndarray:
    """Measure the smallest gap between different values of each feature, ``(d,)``."""
    chosen = np.arange(min(rows.total, _RESOLUTION_ROWS))
    if rows.total > _RESOLUTION_ROWS:
        draw = np.random.RandomState(0).choice
        chosen = draw(rows.total, _RESOLUTION_ROWS, replace=False)
    if issparse(rows.X):
        some = rows.X[rows.index[chosen]].tocsc()
        # In blocks of columns, of which there may be many.
        width = max(1, BLOCK_NUMBERS // len(chosen))
        columns = [slice(i, i + width) for i in range(0, some.shape[1], width)]
        parts = [_gaps(some[:, c].toarray(), rounding[c]) for c in columns]
        resolution = np.concatenate(parts)
    else:
        resolution = _gaps(rows.values_at(chosen), rounding)
    # A feature without a gap is assumed to be as fine as the finest other feature.
    known = np.isfinite(resolution) & ~constant
    return np.where(known, resolution, resolution[known].min() if known.any() else typical)
