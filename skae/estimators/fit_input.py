"""Validation of the input of a fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skae._data import measure
from skae._fitting.link_start import add_links, statistics_type
from skae._fitting.lockstep import shared_result
from skae._utils.column_errors import columns_named
from skae._utils.compat import check_sample_weight
from skae._utils.device import resolve_device
from skae._utils.namespaces import Home, device_name
from skae._utils.numbers import as_numbers
from skae._utils.random import local_random_state
from skae.estimators.binding import bind_table, check_same_likelihood
from skae.estimators.resume import make_continuation
from skae.estimators.training_data import (
    HELD_OUT,
    TrainingData,
    check_min_scale,
    check_observed,
    check_precision,
    warn_of_far_values,
    warn_of_flags,
    warn_of_network,
    warn_of_other_units,
    warn_of_spread,
)
from skae.estimators.warm_start import WARM_START
from skae.objectives import Objective
from skae.scales import check_scale
from skae.scales.fixed import check_fixed_scale, warn_of_ignored_scale


def validate_fit(
    estimator: Any,
    X: ArrayLike,
    sample_weight: ArrayLike | None,
    X_val: ArrayLike | None,
    objective: Objective,
    home: Home | None,
) -> TrainingData:
    """Validate the input of a fit, which was at home; see `fit`."""
    is_continued = estimator.warm_start and estimator.__sklearn_is_fitted__()
    likelihood = estimator._make_likelihood()
    check_scale(estimator.variance_mode, estimator.covariance_type, likelihood)
    device = resolve_device(device_name(estimator.device, home))
    check_precision(estimator.precision, device)
    if is_continued:
        check_same_likelihood(estimator, X, likelihood, WARM_START)
    if is_continued and estimator._table.columns is not None:
        table = estimator._table
    else:
        given = estimator.__dict__.pop("_given_table", None)
        table = given or bind_table(estimator, X, likelihood, sample_weight)
    covariance_type = table.covariance_type(estimator.covariance_type)
    check_scale(estimator.variance_mode, covariance_type, table.likelihood)
    new = not is_continued
    features = table.encode(estimator, X, reset=new, takes_unknown=new)
    data = table.to_input(features)
    weight = check_sample_weight(
        as_numbers(sample_weight, "sample_weight"),
        data,
        dtype=np.float64,
        # Beside other processes, this one may have no samples.
        ensure_non_negative=data.shape[0] > 0,
        allow_all_zero_weights=estimator._fewest_samples == 0,
    )
    fixed_scale = None
    if estimator.variance_mode == "fixed":
        fixed_scale = check_fixed_scale(
            estimator.scale, covariance_type, estimator.n_features_in_
        )
        fixed_scale = table.per_feature(fixed_scale)
    elif not is_continued:
        warn_of_ignored_scale(estimator.scale, estimator.variance_mode)
    if not is_continued:
        warn_of_network(estimator)
    held_out = None
    if X_val is not None:
        try:
            held_out = table.to_input(table.encode(estimator, X_val))
        except (TypeError, ValueError) as error:
            raise type(error)(f"X_val cannot be used: {error}") from error
    continuation = make_continuation(
        estimator,
        objective,
        local_random_state(estimator.random_state),
        device,
        {
            "X": data,
            "sample_weight": None if sample_weight is None else weight,
            "X_val": held_out,
            "columns": table.columns,
        },
        estimator.module_ if is_continued else None,
    )
    random_state = continuation.random_state
    rows, validation, are_shared = estimator._divide(data, weight, held_out, random_state)
    names = table.feature_names(getattr(estimator, "feature_names_in_", None))
    kind = statistics_type(table.likelihood, covariance_type)
    has_part = estimator.early_stopping and held_out is None
    check_observed(rows, names, HELD_OUT if has_part else "")
    if is_continued:
        standardization = estimator._standardization
        standardization.check_range(data)
        warn_of_other_units(standardization, data, names)
    else:
        with columns_named(names):
            standardization = (
                shared_result(measure, rows, kind) if are_shared else measure(rows, kind)
            )
    if are_shared:
        rows = replace(rows, X=data)
    if not is_continued:
        warn_of_far_values(rows, standardization, names)
        warn_of_flags(rows, table, names)
        standardization = add_links(standardization, rows, table.likelihood)
        if covariance_type == "spherical":
            warn_of_spread(standardization, table, names)
    if fixed_scale is not None:
        if table.columns is None:
            standardization.check_proportion("scale", estimator.scale)
        fixed_scale = standardization.per_scale(fixed_scale, covariance_type)
    elif not isinstance(estimator.min_scale, str):
        check_min_scale(standardization, estimator.min_scale, estimator.precision)
    return TrainingData(
        data,
        features if table.columns is None else X,
        table,
        rows,
        validation,
        standardization,
        fixed_scale,
        device,
        is_continued,
        continuation,
        home,
    )
