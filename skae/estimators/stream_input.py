"""What `partial_fit` takes: its parameters, and a block of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skae._data import FeatureMoments, Standardization, are_empty, has_nan
from skae._utils.column_errors import list_columns
from skae._utils.compat import check_sample_weight
from skae._utils.device import resolve_device
from skae._utils.messages import warn_user
from skae._utils.namespaces import Home, device_name, home_of, on_host
from skae._utils.numbers import as_numbers
from skae.estimators.binding import bind_table, check_same_likelihood
from skae.estimators.table import Table
from skae.estimators.training_data import check_precision, warn_of_network
from skae.scales import check_scale
from skae.scales.fixed import warn_of_ignored_scale

# What goes on, and how to begin anew, in the words of an error.
PARTIAL_FIT = (
    "partial_fit goes on with the model",
    "Set it back, or call fit for a new model, or partial_fit of a clone.",
)
# Rows from which on a deviation is known, and values of a block that have a median.
_FEWEST_KNOWN, _FEWEST_IN_BLOCK = 32, 16
# Standard deviations of the rows before from their mean, from which on a block is far: the
# median distance of its values, and the largest one. A change of the unit by 100 has 67.
_FAR_MEDIAN, _FAR_VALUE = 30.0, 1000.0
# The square of a larger distance overflows, which is an error of its own.
_LARGEST_DISTANCE = 1e150
# Rows of a block that are standardised together, so that the block is not copied.
_ROWS_AT_ONCE = 4096
# Parameters with which a stream would not be what they ask for: the value that is allowed,
# what is against others, and the way out.
_ONLY: dict[str, tuple[Any, str]] = {
    "early_stopping": (
        False,
        "rows are set aside to compare epochs, and a stream has no epochs. Set "
        "early_stopping=False, and score held-out data between the calls.",
    ),
    "checkpoint": (
        None,
        "a checkpoint is for a call of fit. Set checkpoint=None, and save the estimator "
        "between the calls: it goes on as if it had not been saved.",
    ),
    "n_init": (
        1,
        "starts are compared on all samples, which a stream does not keep. Set n_init=1.",
    ),
    "gradient_balance": (
        False,
        "it is measured after each epoch of a fit. Set gradient_balance=False.",
    ),
    "prior": (
        None,
        "it is fitted to the codes of all samples, which a stream does not keep. Set "
        "prior=None, and fit a density to the result of transform.",
    ),
    "kl_schedule": (
        "constant",
        "it is a function of the part of the training that is done, and a stream has no "
        "planned end. Set kl_schedule='constant'; beta may change between the calls.",
    ),
}


@dataclass(frozen=True)
class Block:
    """A validated block of rows, or the first rows of a stream, and their table.

    ``X`` is ``(n, n_features)``, what the encoder sees before it is standardised; the
    weights are ``(n,)``. ``home`` is the library and the device of the user's block, if it
    is no array of numpy.
    """

    X: np.ndarray
    weight: np.ndarray
    table: Table
    home: Home | None

    def informative(self) -> np.ndarray:
        """Return which rows say something of the model, ``(m,)``."""
        index = np.flatnonzero(self.weight > 0)
        if len(index) and has_nan(self.X):
            index = index[~are_empty(self.X, index)]
        return index


def reason_against(estimator: Any) -> str | None:
    """Return why the parameters of an estimator make no sense in a stream, or None."""
    for name, (allowed, reason) in _ONLY.items():
        value = getattr(estimator, name, allowed)
        if value is not allowed and value != allowed:
            return f"partial_fit does not support {name}={value!r}: {reason}"
    return None


def validate_block(estimator: Any, X: Any, sample_weight: Any, *, is_first: bool) -> Block:
    """Validate a block; the first one defines the columns."""
    home = home_of(X)
    X, sample_weight = on_host(X), on_host(sample_weight)
    likelihood = estimator._make_likelihood()
    check_scale(estimator.variance_mode, estimator.covariance_type, likelihood)
    device = resolve_device(device_name(estimator.device, home))
    check_precision(estimator.precision, device)
    if is_first:
        table = bind_table(estimator, X, likelihood, sample_weight)
        if estimator.variance_mode != "fixed":
            warn_of_ignored_scale(estimator.scale, estimator.variance_mode)
        warn_of_network(estimator)
    else:
        check_same_likelihood(estimator, X, likelihood, PARTIAL_FIT)
        table = estimator._table
        if table.columns is None and not table.given:
            # Its numbers are compared when the model is.
            table = replace(table, likelihood=likelihood)
    covariance_type = table.covariance_type(estimator.covariance_type)
    check_scale(estimator.variance_mode, covariance_type, table.likelihood)
    features = table.encode(estimator, X, reset=is_first, takes_unknown=is_first)
    # A block of a stream is a part that is in memory.
    data = table.to_input(features.toarray() if issparse(features) else features)
    weight = check_sample_weight(
        as_numbers(sample_weight, "sample_weight"),
        data,
        dtype=np.float64,
        ensure_non_negative=True,
        # Later blocks may say nothing.
        allow_all_zero_weights=not is_first,
    )
    return Block(data, weight, table, home)


def warn_of_far_block(
    block: Block,
    known: FeatureMoments,
    standardization: Standardization,
    names: Sequence[str] | None,
    warned: Sequence[str],
) -> list[str]:
    """Warn of columns of a block that are far from the rows before it, each once.

    Given are the moments and the statistics of these rows, and what was warned of so far,
    which is returned with the columns that are new.
    """
    index = block.informative()
    largest = np.zeros(block.X.shape[1])
    for first in range(0, len(index), _ROWS_AT_ONCE):
        distance = _distance(block, index[first : first + _ROWS_AT_ONCE], standardization)
        largest = np.fmax(largest, np.fmax.reduce(distance, axis=0))
    is_known = (known.weight >= _FEWEST_KNOWN) & (largest < _LARGEST_DISTANCE)
    if standardization.is_constant is not None:
        is_known &= ~standardization.is_constant
    candidates = [
        i
        for i in map(int, np.flatnonzero(is_known & (largest > _FAR_MEDIAN)))
        if f"far column {i}" not in warned
    ]
    columns = []
    if candidates:
        some = np.linspace(0, len(index) - 1, min(len(index), _ROWS_AT_ONCE)).astype(int)
        distance = _distance(block, index[some], standardization)[:, candidates]
        for i, values in zip(candidates, distance.T, strict=True):
            observed = values[~np.isnan(values)]
            has_median = len(observed) >= _FEWEST_IN_BLOCK
            is_far = has_median and np.median(observed) > _FAR_MEDIAN
            if is_far or largest[i] > _FAR_VALUE:
                columns.append(i)
    if columns:
        warn_user(
            f"The block has values of {list_columns(columns, names)} that are up to "
            f"{largest[columns].max():.2g} standard deviations of the rows before from "
            "their mean. A column in another unit, or an error, moves the mean and the "
            "deviation of all later blocks. The block is trained on. To go on without it, "
            "take a copy of the model from before the call, and correct the values or set "
            "them to NaN. If such a warning is an error (warnings.simplefilter), the model "
            "stays as it was."
        )
    return sorted({*warned, *(f"far column {i}" for i in columns)})


def _distance(
    block: Block, index: np.ndarray, standardization: Standardization
) -> np.ndarray:
    """Return the distance of some rows from the mean in deviations, ``(m, n_features)``."""
    return np.abs(standardization.standardize(block.X[index]))
