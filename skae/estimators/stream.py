"""One block of a stream: what `partial_fit` checks, goes on from, and keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight

from skae._data import (
    FeatureMoments,
    Rows,
    Standardization,
    are_empty,
    has_nan,
    measure,
    measure_moments,
    select_rows,
)
from skae._fitting import diagnosis
from skae._fitting.checkpoint import random_state_to_json, restored_random_state
from skae._fitting.initialization import build_module, move
from skae._fitting.link_start import add_links, statistics_type
from skae._fitting.problem import CONTINUED, FitProblem, TrainingOptions
from skae._fitting.stream import BlockResult, StreamState, first_state, train_block
from skae._module import AutoencoderModule
from skae._utils.device import resolve_device
from skae._utils.messages import warn_user
from skae._utils.namespaces import on_host
from skae._utils.numbers import as_numbers
from skae._utils.random import local_random_state
from skae.estimators.automatic import make_options, make_spec
from skae.estimators.inference import fitted_attributes
from skae.estimators.resume import Continuation
from skae.estimators.table import Table, bind_table, check_same_likelihood
from skae.estimators.training_data import (
    TrainingData,
    check_min_scale,
    check_observed,
    warn_of_spread,
)
from skae.estimators.warm_start import concatenate_histories, continue_from
from skae.objectives import Objective
from skae.scales import check_scale
from skae.scales.fixed import check_fixed_scale, warn_of_ignored_scale

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
_WORDS = (
    "partial_fit goes on with the model",
    "Set it back, or call fit for a new model, or partial_fit of a clone.",
)
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
class _Block:
    """A validated block of rows, or the first rows of a stream, and their table.

    ``X`` is ``(n, n_features)``, what the encoder sees before it is standardised; the
    weights are ``(n,)``.
    """

    X: np.ndarray
    weight: np.ndarray
    table: Table

    def rows(self, *, shuffle: bool) -> Rows | None:
        """Select the rows that say something of the model; None without such rows."""
        index = np.flatnonzero(self.weight > 0)
        if len(index) == 0 or (has_nan(self.X) and are_empty(self.X, index).all()):
            return None
        return select_rows(self.X, self.weight, shuffle)


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
    block = _validate(estimator, X, sample_weight, is_first=not is_fitted)
    shuffle = bool(estimator.shuffle)
    if block.rows(shuffle=shuffle) is None and is_fitted:
        return None
    if is_fitted and (kept is None or "first/X" not in kept["arrays"]):
        return _continue(estimator, block, objective, _state_of(estimator))
    initial = None
    if is_fitted:
        initial = json.loads(kept["random_state"])
        arrays = kept["arrays"]
        X_all = np.concatenate([arrays["first/X"], block.X])
        weights = np.concatenate([arrays["first/weight"], block.weight])
        block = _Block(X_all, weights, block.table)
    return _begin(estimator, block, objective, initial)


def reason_against(estimator: Any) -> str | None:
    """Return why the parameters of an estimator make no sense in a stream, or None."""
    for name, (allowed, reason) in _ONLY.items():
        value = getattr(estimator, name, allowed)
        if value is not allowed and value != allowed:
            return f"partial_fit does not support {name}={value!r}: {reason}"
    return None


def _validate(estimator: Any, X: Any, sample_weight: Any, *, is_first: bool) -> _Block:
    """Validate a block; the first one defines the columns."""
    X, sample_weight = on_host(X), on_host(sample_weight)
    if issparse(X):
        # A block of a stream is a part that is in memory.
        X = X.toarray()
    likelihood = estimator._make_likelihood()
    check_scale(estimator.variance_mode, estimator.covariance_type, likelihood)
    if is_first:
        table = bind_table(estimator, X, likelihood, sample_weight)
        if estimator.variance_mode != "fixed":
            warn_of_ignored_scale(estimator.scale, estimator.variance_mode)
    else:
        check_same_likelihood(estimator, X, likelihood, _WORDS)
        table = estimator._table
    covariance_type = table.covariance_type(estimator.covariance_type)
    check_scale(estimator.variance_mode, covariance_type, table.likelihood)
    features = table.encode(estimator, X, reset=is_first, takes_unknown=is_first)
    data = table.to_input(features)
    weight = _check_sample_weight(
        as_numbers(sample_weight, "sample_weight"),
        data,
        dtype=np.float64,
        ensure_non_negative=True,
        # Later blocks may say nothing.
        allow_all_zero_weights=not is_first,
    )
    return _Block(data, weight, table)


def _begin(
    estimator: Any,
    block: _Block,
    objective: Objective,
    initial: dict[str, Any] | None,
) -> dict[str, Any]:
    """Start a model from the first rows, and train it by one pass over them.

    ``initial`` is the state of the random numbers at the first block, if there was one.
    """
    table = block.table
    rows = select_rows(block.X, block.weight, bool(estimator.shuffle))
    names = table.feature_names(getattr(estimator, "feature_names_in_", None))
    covariance_type = table.covariance_type(estimator.covariance_type)
    kind = statistics_type(table.likelihood, covariance_type)
    check_observed(rows, names, _FIRST_BLOCK)
    standardization = add_links(measure(rows, kind), rows, table.likelihood)
    if initial is None:
        if covariance_type == "spherical":
            warn_of_spread(standardization, table, names)
        if estimator.variance_mode != "fixed" and not isinstance(estimator.min_scale, str):
            check_min_scale(standardization, estimator.min_scale, estimator.precision)
    random_state = local_random_state(estimator.random_state)
    if initial is None:
        initial = random_state_to_json(random_state)
    else:
        random_state = restored_random_state(random_state, initial)
    data = _training_data(
        estimator, block, rows, standardization, random_state, is_continued=False
    )
    spec, options = make_spec(estimator, objective, data), _options(estimator, data)
    (problem,) = estimator._build_problems(spec, objective, options, data)
    moments = measure_moments(rows)
    state = first_state(problem.module, moments)
    # Blocks that are trained on again are counted, too.
    kept = estimator.__dict__.get("_stream")
    if kept is not None:
        earlier = json.loads(kept["progress"])
        state.progress.update({name: earlier[name] for name in ("n_blocks", "warned")})
    result = train_block(problem, state, moments)
    first = {}
    if rows.epoch_size < _n_first(block.X.shape[1]):
        first = {"first/X": np.array(block.X), "first/weight": np.array(block.weight)}
    attributes = _attributes(estimator, problem, data, result, names)
    attributes["_stream"]["arrays"] |= first
    attributes["_stream"]["random_state"] = json.dumps(initial)
    return attributes


def _n_first(n_features: int) -> int:
    """Return how many rows the start in closed form should have."""
    wanted = max(_FEWEST_ROWS, _ROWS_PER_FEATURE * n_features)
    return min(wanted, max(_MOST_NUMBERS // n_features, 1))


def _continue(
    estimator: Any, block: _Block, objective: Objective, state: StreamState
) -> dict[str, Any]:
    """Go on with the model of the estimator by one pass over a block."""
    rows = block.rows(shuffle=bool(estimator.shuffle))
    assert rows is not None
    last, table = estimator._standardization, block.table
    covariance_type = table.covariance_type(estimator.covariance_type)
    kind = statistics_type(table.likelihood, covariance_type)
    moments = state.moments.merge(measure_moments(rows))
    standardization = moments.standardization(kind, last.resolution, last.links)
    data = _training_data(
        estimator, block, rows, standardization, RandomState(0), is_continued=True
    )
    spec = make_spec(estimator, objective, data)
    options = replace(_options(estimator, data), init=CONTINUED)
    module = build_module(
        spec, standardization, estimator.min_scale, options.dtype, data.device, seed=0
    )
    move(module, data.device)
    continue_from(estimator.module_, module, data.fixed_scale, _WORDS)
    _set_units(module, standardization)
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
    own = estimator._standardization
    mantissa, exponent = np.frexp(own.std)
    zeros = np.zeros_like(own.std)
    weight = np.full_like(own.std, n_samples)
    moments = FeatureMoments(weight, own.mean, mantissa**2, exponent, zeros, zeros)
    state = first_state(estimator.module_, moments, int(n_steps))
    state.progress["n_blocks"] = estimator.n_iter_
    return state


def _training_data(
    estimator: Any,
    block: _Block,
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
    device = resolve_device(estimator.device)
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
    history: dict[str, np.ndarray] = getattr(estimator, "history_", {"objective": []})
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
    if result.epoch is None and estimator.__sklearn_is_fitted__():
        # The model stays in the units of the block before.
        return counts
    return {
        **fitted_attributes(problem.module, data.standardization, data.table),
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
        if diagnosis.is_at_floor(problem).any():
            found["floor"] = _SMALL_BLOCKS_AT_FLOOR
        if not history.get("active_units", np.ones(1)).any():
            found["inactive"] = _SMALL_BLOCKS_INACTIVE
    for name, message in found.items():
        if name not in warned:
            warn_user(message, ConvergenceWarning)
    return sorted({*warned, *found})
