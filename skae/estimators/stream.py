"""One block of a stream: what `partial_fit` goes on from, and what it keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning

from skae._data import (
    LARGEST_WEIGHT,
    FeatureMoments,
    Rows,
    Standardization,
    measure,
    measure_moments,
    select_rows,
)
from skae._fitting import diagnosis
from skae._fitting.checkpoint import random_state_to_json, restored_random_state
from skae._fitting.floor import is_at_floor
from skae._fitting.initialization import build_module, move, release
from skae._fitting.link_start import add_links, statistics_type
from skae._fitting.problem import CONTINUED, FitProblem, TrainingOptions
from skae._fitting.stream import BlockResult, StreamState, first_state, train_block
from skae._module import AutoencoderModule
from skae._utils.column_errors import columns_named
from skae._utils.device import resolve_device
from skae._utils.messages import raise_deferred, warn_user, warnings_deferred
from skae._utils.namespaces import device_name
from skae._utils.random import local_random_state
from skae.estimators.automatic import make_options, make_spec
from skae.estimators.fitted import fitted_attributes
from skae.estimators.resume import Continuation
from skae.estimators.stream_input import (
    PARTIAL_FIT,
    Block,
    validate_block,
    warn_of_far_block,
)
from skae.estimators.training_data import (
    TrainingData,
    attributes_at,
    check_min_scale,
    check_observed,
    warn_of_far_values,
    warn_of_flags,
    warn_of_spread,
)
from skae.estimators.warm_start import concatenate_histories, continue_from
from skae.objectives import Objective
from skae.scales.fixed import check_fixed_scale

# Rows that the start in closed form needs: so many, and so many for each feature. Fewer
# lose more at the start than a short stream makes up for (docs/results/streams.rst).
_FEWEST_ROWS, _ROWS_PER_FEATURE = 256, 5
# Numbers of the first rows that are kept until then, which bounds the memory: 16 MB.
_MOST_NUMBERS = 2**21
# Blocks of which the history is kept: enough to see whether the training still improves.
_HISTORY = 100
# Steps after which a model is judged for the first time, and rows that a judgement needs.
# Later it is judged whenever the steps have doubled.
_FIRST_JUDGED, _FEWEST_JUDGED = 100, 32
# What an older model, of a file, is taken to have seen.
_UNKNOWN_FIT = 1000.0, 1000
_FIRST_BLOCK = "Or let the first block of the stream have a value of each column."
# What is said of a model whose blocks have too few rows to tell the causes.
_SMALL_BLOCKS_AT_FLOOR = (
    "A scale of the likelihood is at its floor min_scale: what the model leaves "
    "unexplained of some feature is below min_scale. Set min_scale to the precision of the "
    "measurement, drop constant features, lower n_components, or use variance_mode='fixed'."
)
_SMALL_BLOCKS_INACTIVE = (
    "No component of the code was active in the newest blocks: transform returns nearly "
    "the same code for all samples. Lower beta."
)


def partial_fit(
    estimator: Any, X: ArrayLike, sample_weight: ArrayLike | None
) -> dict[str, Any] | None:
    """Train by one pass over a block; return the new fitted attributes.

    They are None if the block says nothing: all of its weights are 0, or all entries are
    missing. The estimator stays as it is, but for the names and number of its columns.
    """
    objective = estimator._make_objective()
    kept = estimator.__dict__.get("_stream")
    is_fitted = estimator.__sklearn_is_fitted__()
    # Errors of a user's network come before warnings of the data.
    with warnings_deferred():
        block = validate_block(estimator, X, sample_weight, is_first=not is_fitted)
        is_empty = is_fitted and len(block.informative()) == 0
        is_begun = is_fitted and (kept is None or "first/X" not in kept["arrays"])
        if not is_fitted:
            return _begin(estimator, block, objective, None)
        state = _state_of(estimator)
        if not is_empty:
            names = block.table.feature_names(getattr(estimator, "feature_names_in_", None))
            state.progress["warned"] = warn_of_far_block(
                block,
                state.moments,
                estimator._standardization,
                names,
                state.progress["warned"],
            )
        if not (is_empty or is_begun):
            return _begin(estimator, block, objective, state)
        raise_deferred()
    if is_empty:
        return None
    return _continue(estimator, block, objective, state)


def _begin(
    estimator: Any,
    block: Block,
    objective: Objective,
    kept: StreamState | None,
) -> dict[str, Any]:
    """Start a model from the first rows, and train it by one pass over them.

    ``kept`` is what the estimator keeps of former blocks, if there were some.
    """
    n_before, table = 0, block.table
    if kept is not None:
        arrays = kept.arrays
        n_before = len(arrays["first/weight"])
        X_all = np.concatenate([arrays["first/X"], block.X])
        weights = np.concatenate([arrays["first/weight"], block.weight])
        block = replace(block, X=X_all, weight=weights)
    rows = select_rows(block.X, block.weight, bool(estimator.shuffle))
    names = table.feature_names(getattr(estimator, "feature_names_in_", None))
    covariance_type = table.covariance_type(estimator.covariance_type)
    kind = statistics_type(table.likelihood, covariance_type)
    check_observed(rows, names, _FIRST_BLOCK)
    with columns_named(names):
        moments = measure_moments(rows)
        standardization = add_links(measure(rows, kind, moments), rows, table.likelihood)
    informative = block.informative()
    if n_before < _FEWEST_JUDGED <= len(informative):
        warn_of_far_values(rows, standardization, names)
        warn_of_flags(rows, table, names)
        if covariance_type == "spherical":
            warn_of_spread(standardization, table, names)
    _check_min_scale(estimator, standardization, is_first=kept is None)
    random_state = local_random_state(estimator.random_state)
    if kept is None:
        initial = random_state_to_json(random_state)
    else:
        initial = json.loads(estimator._stream["random_state"])
        random_state = restored_random_state(random_state, initial)
    data = _training_data(
        estimator, block, rows, standardization, random_state, is_continued=False
    )
    spec, options = make_spec(estimator, objective, data), _options(estimator, data)
    (problem,) = estimator._build_problems(spec, objective, options, data)
    state = first_state(problem.module, moments)
    if kept is not None:
        # Blocks that are trained on again are counted, too.
        of_all = "n_blocks", "n_divergences", "warned"
        state.progress.update({name: kept.progress[name] for name in of_all})
    result = train_block(problem, state, moments)
    first = {}
    # An epoch takes copies of little weight together.
    if max(rows.epoch_size, len(informative)) < _n_first(block.X.shape[1]):
        first = {
            "first/X": block.X[informative],
            "first/weight": block.weight[informative],
        }
    attributes = _attributes(estimator, problem, data, result, names)
    attributes["_stream"]["arrays"] |= first
    attributes["_stream"]["random_state"] = json.dumps(initial)
    return attributes


def _check_min_scale(
    estimator: Any, standardization: Standardization, *, is_first: bool
) -> None:
    """Raise ValueError for a scale out of proportion; the first block warns of it, too."""
    min_scale = estimator.min_scale
    if estimator.variance_mode == "fixed" or isinstance(min_scale, str):
        return
    if is_first:
        check_min_scale(standardization, min_scale, estimator.precision)
    else:
        standardization.check_proportion("min_scale", min_scale, smallest=0.0)


def _n_first(n_features: int) -> int:
    """Return how many rows the start in closed form should have."""
    wanted = max(_FEWEST_ROWS, _ROWS_PER_FEATURE * n_features)
    return min(wanted, max(_MOST_NUMBERS // n_features, 1))


def _continue(
    estimator: Any, block: Block, objective: Objective, state: StreamState
) -> dict[str, Any]:
    """Go on with the model of the estimator by one pass over a block."""
    rows = select_rows(block.X, block.weight, bool(estimator.shuffle))
    last, table = estimator._standardization, block.table
    covariance_type = table.covariance_type(estimator.covariance_type)
    kind = statistics_type(table.likelihood, covariance_type)
    names = table.feature_names(getattr(estimator, "feature_names_in_", None))
    with columns_named(names):
        moments = state.moments.merge(measure_moments(rows))
        standardization = moments.standardization(kind, last.resolution, last.links)
    _check_min_scale(estimator, standardization, is_first=False)
    data = _training_data(
        estimator, block, rows, standardization, RandomState(0), is_continued=True
    )
    spec = make_spec(estimator, objective, data)
    options = replace(_options(estimator, data), init=CONTINUED)
    module = build_module(
        spec, standardization, estimator.min_scale, options.dtype, data.device, seed=0
    )
    move(module, data.device)
    continue_from(estimator.module_, module, data.fixed_scale, PARTIAL_FIT)
    _set_units(module, standardization)
    release(module, rows, standardization)
    names = table.feature_names(getattr(estimator, "feature_names_in_", None))
    problem = FitProblem(
        module,
        objective,
        rows,
        None,
        standardization,
        options,
        callbacks=None,
        random_state=RandomState(0),
        feature_names=names,
    )
    result = train_block(problem, state, moments)
    return _attributes(estimator, problem, data, result, names)


def _set_units(module: AutoencoderModule, standardization: Standardization) -> None:
    """Let a module go on in new units: what it does to standardised rows stays.

    The gains of locations are in units of the data, and grow with the deviations.
    """
    buffers = standardization.module_buffers
    old = module.std_in_units.double().cpu().numpy()
    ratio = np.divide(buffers["std_in_units"], old, out=np.ones_like(old), where=old > 0)
    if standardization.links is not None:
        ratio[standardization.links.is_linked] = 1.0
    module.loc_gain.mul_(torch.from_numpy(ratio).to(module.loc_gain))
    for name, values in buffers.items():
        module.get_buffer(name).copy_(torch.from_numpy(values))


def _state_of(estimator: Any) -> StreamState:
    """Return what a block goes on from: the last block, or a fit."""
    kept = estimator.__dict__.get("_stream")
    if kept is not None:
        return StreamState(kept["arrays"], json.loads(kept["progress"]))
    n_samples, n_steps = getattr(estimator, "_fit_size", _UNKNOWN_FIT)
    n_samples = min(n_samples, LARGEST_WEIGHT)
    moments = FeatureMoments.of_fit(estimator._standardization, n_samples)
    state = first_state(estimator.module_, moments, int(n_steps), n_samples)
    state.progress["n_blocks"] = estimator.n_iter_
    return state


def _training_data(
    estimator: Any,
    block: Block,
    rows: Rows,
    standardization: Standardization,
    random_state: RandomState,
    *,
    is_continued: bool,
) -> TrainingData:
    """Collect what a model is made and trained with; see `TrainingData`."""
    table, fixed_scale = block.table, None
    covariance_type = table.covariance_type(estimator.covariance_type)
    if estimator.variance_mode == "fixed":
        n_columns = estimator.n_features_in_
        given = check_fixed_scale(estimator.scale, covariance_type, n_columns)
        if table.columns is None:
            standardization.check_proportion("scale", estimator.scale)
        fixed_scale = standardization.per_scale(table.per_feature(given), covariance_type)
    continuation = Continuation({}, random_state, None, None, False, {})
    device = resolve_device(device_name(estimator.device, block.home))
    return TrainingData(
        block.X,
        None,
        table,
        rows,
        None,
        standardization,
        fixed_scale,
        device,
        is_continued,
        continuation,
        block.home,
    )


def _options(estimator: Any, data: TrainingData) -> TrainingOptions:
    """Collect the parameters of one pass; a block has a line of its own for verbose."""
    return replace(make_options(estimator, data), max_iter=1, verbose=0)


def _attributes(
    estimator: Any,
    problem: FitProblem,
    data: TrainingData,
    result: BlockResult,
    names: Sequence[str] | None,
) -> dict[str, Any]:
    """Return the fitted attributes after a block, and warn of what is wrong."""
    progress = result.state.progress
    empty = {name: np.empty(0) for name in ("objective", "log_likelihood")}
    history: dict[str, np.ndarray] = getattr(estimator, "history_", empty)
    if result.epoch is None:
        warn_user(
            "The training diverged: a loss or parameter was not finite. The block is left "
            "out, and the next ones have half the learning rate. Set learning_rate_init="
            f"{result.learning_rate:.3g} for a new stream.",
            ConvergenceWarning,
        )
    else:
        now = {name: np.array([value]) for name, value in result.epoch.items()}
        history = concatenate_histories(history, now) if len(history["objective"]) else now
        history = {name: values[-_HISTORY:] for name, values in history.items()}
        progress["warned"] = _judge(problem, history, progress)
        if estimator.verbose:
            print(
                f"{type(estimator).__name__}, block {progress['n_blocks']:,}: "
                f"{problem.rows.epoch_size:,} samples, "
                f"objective {result.epoch['objective']:.4f}\n",
                end="",
                flush=True,
            )
    counts = {
        "n_iter_": progress["n_blocks"],
        "best_iter_": progress["n_blocks"],
        "_stream": {
            "arrays": dict(result.state.arrays),
            "progress": json.dumps(progress),
        },
    }
    if result.epoch is None and data.is_continued:
        # The model stays in the units of the block before.
        return counts
    fitted = fitted_attributes(problem.module, data.standardization, data.table)
    return {
        **fitted,
        **attributes_at(data.home, fitted["scale_"]),
        **estimator._extra_fitted_attributes(None),
        "history_": history,
        "loss_curve_": list(map(float, history["objective"])),
        "_training_state": None,
        **counts,
    }


def _judge(
    problem: FitProblem, history: dict[str, np.ndarray], progress: dict[str, Any]
) -> list[str]:
    """Warn of a model that is not what was asked for; return what was warned of so far.

    A stream warns of each thing once, after some steps, or when they have doubled.
    """
    warned: list[str] = progress["warned"]
    if progress["n_steps"] < progress.get("judged_from", _FIRST_JUDGED):
        return warned
    progress["judged_from"] = 2 * progress["n_steps"]
    if len(problem.rows) >= _FEWEST_JUDGED:
        found = diagnosis.model_messages(problem)
    else:
        found = {}
        if is_at_floor(problem).any():
            found["floor"] = _SMALL_BLOCKS_AT_FLOOR
        if not history.get("active_units", np.ones(1)).any():
            found["inactive"] = _SMALL_BLOCKS_INACTIVE
    for name, message in found.items():
        if name not in warned:
            warn_user(message, ConvergenceWarning)
    return sorted({*warned, *found})
