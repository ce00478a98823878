"""The validated input of a fit, and what is said about its units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning

from skae._data import Rows, Standardization, select_rows, split_validation
from skae._data.far_values import Code, find_far_values
from skae._fitting.diagnosis import spread_message
from skae._fitting.lockstep import shared_result
from skae._utils.column_errors import list_columns
from skae._utils.device import has_float64
from skae._utils.messages import warn_user
from skae._utils.namespaces import Home
from skae.estimators.resume import Continuation
from skae.estimators.table import Table
from skae.likelihoods import ContinuousBernoulliLikelihood, GeneralizedLinear
from skae.networks import Conv
from skae.networks.conv import warn_of_channels_last


@dataclass(frozen=True)
class TrainingData:
    """The validated input of a fit.

    ``X`` is ``(n_samples, n_features)``, dense or sparse: what the encoder sees before it
    is standardised; ``given`` is the user's table, and ``table`` how one becomes the other.
    ``fixed_scale`` is ``(1, 1)`` or ``(1, n_features)``, in the likelihood's units, or
    None. ``is_continued`` is True if a warm start continues the last fit, and
    ``continuation`` says from where the training goes on. ``home`` is the library and the
    device of the user's X, if it is no array of numpy.
    """

    X: Any
    given: Any
    table: Table
    rows: Rows
    validation: Rows | None
    standardization: Standardization
    fixed_scale: np.ndarray | None
    device: torch.device
    is_continued: bool
    continuation: Continuation
    home: Home | None = None


def divide(
    X: Any,
    weight: np.ndarray,
    held_out: Any,
    fraction: float | None,
    random_state: RandomState,
    *,
    shuffle: bool,
) -> tuple[Rows, Rows | None, bool]:
    """Divide the data ``(n, d)`` into rows to train on and rows to validate with.

    The latter are ``held_out``, or a fraction of X if that is not None. The last value is
    whether fits side by side share the rows to train on.
    """
    rows = shared_result(select_rows, X, weight, shuffle)
    if held_out is not None:
        return rows, select_rows(held_out, np.ones(held_out.shape[0]), shuffle=False), True
    if fraction is not None:
        # Fits side by side share index and weights, but each has its own array.
        return *split_validation(replace(rows, X=X), fraction, random_state), False
    return rows, None, True


# Columns with far values that a message describes.
_MOST_FAR = 3
# Rows that are enough to see both values of a flag that is not rare.
_ROWS_OF_FLAGS = 256
HELD_OUT = "(early_stopping=True holds out a part of the rows.)"


def check_observed(rows: Rows, names: Sequence[str] | None, hint: str) -> None:
    """Raise ValueError if a column has no observed value among the rows to train on."""
    if not rows.has_missing:
        return
    observed = [(~np.isnan(block)).any(axis=0) for block in rows.blocks()]
    empty = np.flatnonzero(rows.peers.largest(np.any(observed, axis=0)) == 0)
    if len(empty):
        raise ValueError(
            f"There is no observed value of {list_columns(empty.tolist(), names)} to train "
            f"on: drop such columns. {hint}".rstrip()
        )


def warn_of_other_units(
    standardization: Standardization, X: Any, names: Sequence[str] | None
) -> None:
    """Warn if the data of a warm start seem to be in other units than the last fit's."""
    column = standardization.unlike_column(X)
    if column is not None:
        warn_user(
            "warm_start=True keeps the standardisation of the last fit, but X seems to be "
            "in other units: see the mean or deviation of "
            f"{list_columns([column], names)}. Set warm_start=False for a new fit.",
            UserWarning,
        )


def warn_of_spread(
    standardization: Standardization, table: Table, names: Sequence[str] | None
) -> None:
    """Warn if features differ too much in size for one spherical scale."""
    for part, family in table.likelihood.parts(len(standardization.std)):
        if not isinstance(family, GeneralizedLinear) and (
            message := spread_message(standardization, names, part)
        ):
            warn_user(message, ConvergenceWarning)


def warn_of_far_values(
    rows: Rows, standardization: Standardization, names: Sequence[str] | None
) -> None:
    """Warn of values far from the others of their column, such as codes for missing."""
    found, codes = find_far_values(rows, standardization.own_std)
    if codes:
        warn_user(_of_codes(codes, names), subject="data")
    if not found:
        return
    parts = []
    for far in found[:_MOST_FAR]:
        column = list_columns([far.column], names)
        more = f", and {far.n_far - 1:,} more rows" if far.n_far > 1 else ""
        place = f"{far.value:.6g} in row {far.row}{more}"
        parts.append(f"{column} ({place}; {far.distance:.2g} deviations)")
    parts += _rest(len(found))
    warn_user(
        "X has values that are hundreds of deviations of the middle half of their column "
        f"from its median, or more: {', '.join(parts)}. They decide the standard "
        "deviation, so the model can hardly see how the other values differ. If they are "
        "errors, or stand for what is missing, correct them or set them to NaN. If not, "
        "take the logarithm of the column, or arcsinh if it has negative numbers.",
        subject="data",
    )


def warn_of_flags(rows: Rows, table: Table, names: Sequence[str] | None) -> None:
    """Warn of columns of 0 and 1 with a density, which then grows without limit."""
    n_features = rows.X.shape[1]
    has_density = np.zeros(n_features, dtype=bool)
    for part, family in table.likelihood.parts(n_features):
        has_density[part] = isinstance(family, ContinuousBernoulliLikelihood)
    if not has_density.any():
        return
    some = rows.subsample(_ROWS_OF_FLAGS).block()
    is_flag = has_density & (some == 0).any(axis=0) & (some == 1).any(axis=0)
    if not is_flag.any():
        return
    others = [~((b == 0) | (b == 1) | np.isnan(b)).all(axis=0) for b in rows.blocks()]
    is_flag &= rows.peers.largest(np.any(others, axis=0).astype(float)) == 0
    if is_flag.any():
        columns = np.flatnonzero(is_flag).tolist()
        warn_user(
            f"X has only the numbers 0 and 1 in {list_columns(columns, names)}, of which "
            "likelihood='continuous_bernoulli' is a density that grows without limit as "
            "the model learns them: such a score means nothing. Set "
            "likelihood='bernoulli', or Mixed for columns of several kinds.",
            subject="data",
        )


def _rest(n: int) -> list[str]:
    """Return what to say of the columns that a message about n does not describe."""
    n_more = n - _MOST_FAR
    return [f"and {n_more} more column" + "s" * (n_more > 1)] if n_more > 0 else []


def _of_codes(codes: Sequence[Code], names: Sequence[str] | None) -> str:
    """Return what to say of numbers that seem to be codes."""
    parts = [
        f"{list_columns([code.column], names)} ({code.value:.6g} in {code.n_rows:,} rows, "
        f"the others from {code.low:.6g} to {code.high:.6g})"
        for code in codes[:_MOST_FAR]
    ]
    parts += _rest(len(codes))
    return (
        "X has columns in which many rows have one number far beside all others: "
        f"{', '.join(parts)}. It is learned as a measurement. If it stands for what is "
        "missing, set it to NaN, which a fit takes as missing. If it has a meaning of its "
        "own, add a column of flags that says which rows have it, and then set it to NaN."
    )


def check_min_scale(
    standardization: Standardization, min_scale: float, precision: str
) -> None:
    """Raise ValueError for a scale out of proportion, and warn of the limit of float32."""
    standardization.check_proportion("min_scale", min_scale, smallest=0.0)
    limit = standardization.smallest_scale()
    if precision != "float64" and min_scale < limit:
        warn_user(
            f"min_scale={min_scale!r} is below {limit:.3g}, the smallest scale that "
            "float32 can resolve for these data, which is used in its place. Set "
            "precision='float64', or raise min_scale.",
            UserWarning,
        )


def attributes_at(home: Home | None, scale: Any) -> dict[str, Any]:
    """Return the fitted attributes that are arrays of the library of X."""
    if home is None:
        return {}
    if isinstance(scale, np.ndarray):
        scale = home.bring(scale)
    return {"_fitted_to": home.bring(np.empty(0)), "scale_": scale}


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError for a training in float64 on a device that lacks it."""
    if precision == "float64" and not has_float64(device):
        raise ValueError(
            f"device={str(device)!r} has no float64, as precision='float64' needs. Set "
            "device='cpu', or another precision."
        )


def warn_of_network(estimator: Any) -> None:
    """Warn of parameters of the network that are not used, and of channels at the end.

    With "auto", recipes leave the widths to the data, which is no wish of a user.
    """
    network = estimator.network
    if isinstance(network, str):
        return
    if isinstance(network, Conv):
        warn_of_channels_last(network)
    parameters = signature(type(estimator)).parameters
    ignored = []
    for name in parameters.keys() & {"activation", "hidden_layer_sizes"}:
        value, default = getattr(estimator, name), parameters[name].default
        is_automatic = isinstance(value, str) and value == "auto"
        if not (is_automatic or np.array_equal(np.ravel(value), np.ravel(default))):
            ignored.append(f"{name}={value!r}")
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        warn_user(
            f"{' and '.join(sorted(ignored))} {verb} ignored: the network is a "
            f"{type(network).__name__}, which has parameters of its own."
        )


def warn_of_tables_as_y(X: Any, y: Any) -> None:
    """Warn if y seems to be validation data: as wide as X, and of another length."""
    shape: tuple[int, ...] = getattr(X, "shape", ())
    other: tuple[int, ...] = getattr(y, "shape", ())
    if len(shape) == len(other) == 2 and shape[1] == other[1] and shape[0] != other[0]:
        warn_user("y is ignored; pass validation data as X_val=.")
