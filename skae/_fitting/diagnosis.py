"""What is wrong with a model that is not what was asked for, in the words of a user."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation import SCALE_ROWS, mean_over_rows
from skae._fitting.problem import FitProblem
from skae.networks.mlp import NoCorrection
from skae.objectives.elbo import ACTIVE_KL

# Ratio to its floor below which a scale counts as being at the floor.
_AT_FLOOR = 1.05
# Different values up to which a feature counts as a flag, a category or a count.
_FEW_VALUES = 20
# Columns that a message lists before it is cut off.
_MOST_COLUMNS = 10
# Ratio of standard deviations above which one spherical scale cannot serve all features.
_WIDE_SPREAD = 1e3

DIVERGED = (
    "Training diverged: a loss, parameter or validation score was not finite. The best "
    "model before is kept (best_iter_). Lower learning_rate_init."
)
DIVERGED_TO_START = (
    "Training diverged: a loss, parameter or validation score was not finite, and no epoch "
    "before was better than the start, which is kept (best_iter_). Lower "
    "learning_rate_init."
)
START_KEPT = (
    "Training did not improve on its start, which is kept (best_iter_). Lower "
    "learning_rate_init or alpha, or raise max_iter."
)
START_KEPT_BY_VALIDATION = (
    "No epoch had a better validation score than the start, which is kept (best_iter_). "
    "Lower learning_rate_init, raise alpha or n_iter_no_change, or use a smaller network."
)
_FLOOR = (
    "The model reproduces these data as closely as the floor allows, so the log-likelihood "
    "says how small min_scale is, and not how good the model is. Set min_scale to the "
    "precision of the measurement, drop constant features, lower n_components, or use "
    "variance_mode='fixed'."
)


def list_columns(columns: Sequence[int], names: Sequence[str] | None) -> str:
    """Return columns as text: by name if they have names, at most ten of them."""
    shown = [repr(str(names[i])) if names is not None else str(i) for i in columns]
    listed = ", ".join(shown[:_MOST_COLUMNS])
    if len(shown) > _MOST_COLUMNS:
        listed += f" and {len(shown) - _MOST_COLUMNS} more"
    if names is not None:
        return listed
    return f"column {listed}" if len(shown) == 1 else f"columns {listed}"


def spread_message(
    standardization: Standardization, names: Sequence[str] | None
) -> str | None:
    """Return a warning if features differ too much in size for one spherical scale."""
    std = standardization.std
    if np.log(std.max()) - np.log(std.min()) <= math.log(_WIDE_SPREAD):
        return None
    smallest = list_columns([int(std.argmin())], names)
    largest = list_columns([int(std.argmax())], names)
    return (
        "The standard deviations of the features differ more than a thousandfold "
        f"(smallest: {smallest}, largest: {largest}), but covariance_type='spherical' "
        "gives all of them one scale, in the units of X. The model cannot see the features "
        "of small deviation. Set covariance_type='diag', or scale X with StandardScaler "
        "first."
    )


def starts_at_optimum(problem: FitProblem) -> bool:
    """Whether a model without hidden layers starts at its optimum in closed form.

    That of a Laplace likelihood has no closed form.
    """
    module = problem.module
    is_linear = isinstance(module.decoder, NoCorrection)
    is_exact = problem.options.init == "pca" and not module.spec.likelihood.heavy_tailed
    return is_linear and is_exact


def check_start(problem: FitProblem) -> None:
    """Raise ValueError if a model cannot be trained, because its start is not finite."""
    if not math.isfinite(problem.first_objective):
        module = problem.module
        finite = all(bool(value.isfinite().all()) for value in module.state_dict().values())
        raise ValueError(
            "Training cannot start: the objective of the first model is "
            f"{problem.first_objective}, and its parameters are "
            f"{'finite' if finite else 'not finite'}. "
            "Possible causes are a network that returns NaN or infinity, a large beta or "
            "kl_schedule, a very small scale, and sample weights that differ by hundreds "
            "of orders of magnitude."
        )
    if problem.validation is not None and not math.isfinite(problem.first_score):
        raise ValueError(
            "Training cannot start: the validation data have a score of "
            f"{problem.first_score} under the first model. They may have values that are "
            "very far from the training data."
        )


def final_messages(problem: FitProblem) -> list[str]:
    """Return what is to be said about a trained model."""
    found = [_inactive_message(problem), _floor_message(problem)]
    return [message for message in found if message is not None]


def _inactive_message(problem: FitProblem) -> str | None:
    """Return a warning if no component of the code carries information."""
    module, objective = problem.module, problem.objective

    def kl_of(y: Tensor, draws: Tensor) -> Tensor:
        return objective.latents(module, y, draws)[1]

    some = problem.rows.subsample(SCALE_ROWS)
    kl = mean_over_rows(module, objective, some, problem.standardization, kl_of)
    # A deterministic autoencoder has no KL.
    if kl.numel() == 0 or bool((kl > ACTIVE_KL).any()):
        return None
    return (
        f"No component of the code is active: the KL of each is below {ACTIVE_KL} nats, so "
        "transform returns nearly the same code for all samples. Lower beta "
        f"({objective.kl_weight(1.0):g} at the end of the training); other causes are a "
        "large fixed scale, and features that do not depend on each other."
    )


def _floor_message(problem: FitProblem) -> str | None:
    """Return a warning if a scale, or its mean over the data, is at its floor."""
    at_floor = _is_at_floor(problem)
    if not at_floor.any():
        return None
    rows, names = problem.rows, problem.feature_names
    n_features = problem.module.spec.n_features
    if len(at_floor) == 1:
        where = "The scale of the likelihood is at its floor min_scale"
        columns = np.arange(n_features)
    else:
        where = (
            f"The scale of {at_floor.sum()} of {n_features} features is at its floor "
            "min_scale"
        )
        columns = np.flatnonzero(at_floor)
    constant, few, other = _by_values(rows, columns)
    parts = []
    if few:
        parts.append(
            f"{list_columns(few, names)} (few different values: flags, categories, counts "
            "or black-and-white images)"
        )
    if constant:
        parts.append(f"{list_columns(constant, names)} (constant)")
    if other and len(at_floor) > 1:
        parts.append(f"{list_columns(other, names)} (few samples or many components)")
    elif not parts:
        parts.append("few samples or many components")
    return f"{where}: {'; '.join(parts)}. {_FLOOR}"


def _by_values(rows: Rows, columns: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Sort columns by their values: constant, few different ones, or other columns."""
    block = rows.subsample(SCALE_ROWS).block()
    constant, few, other = [], [], []
    for column in map(int, columns):
        n_values = len(np.unique(block[:, column]))
        if n_values == 1:
            constant.append(column)
        elif n_values <= min(_FEW_VALUES, rows.n_samples / 2):
            few.append(column)
        else:
            other.append(column)
    return constant, few, other


def _is_at_floor(problem: FitProblem) -> np.ndarray:
    """Whether each scale is at its floor, ``(1,)`` or ``(n_features,)``."""
    module, objective = problem.module, problem.objective

    def log_scale(y: Tensor, draws: Tensor) -> Tensor:
        return objective.expectation(
            module, y, draws, lambda x, _, outputs: module.scale.log_scale(outputs)
        )[0]

    if module.scale.is_shared:
        mean = module.scale.log_scale(module.std_in_units.new_empty(1, 0)).detach()
    else:
        some = problem.rows.subsample(SCALE_ROWS)
        standardization = problem.standardization
        mean = mean_over_rows(module, objective, some, standardization, log_scale)
    return (mean.exp() <= _AT_FLOOR * module.scale.floor).cpu().numpy()[0]
