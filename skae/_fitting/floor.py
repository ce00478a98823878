"""Scales at their floor: which, why, and what to change, in the words of a user."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from skae._data import Rows
from skae._data.far_values import find_far_values
from skae._evaluation import SCALE_ROWS, mean_over_rows
from skae._fitting.problem import FitProblem
from skae._utils.column_errors import list_columns
from skae.scales.base import Scale
from skae.scales.mixed import MixedScale
from skae.scales.none import NoScale

# Ratio to its floor below which a scale counts as being at the floor.
_AT_FLOOR = 1.05
# Different values up to which a feature counts as a flag, a category or a count.
_FEW_VALUES = 20
# Correlation above which two features are equal but for unit and offset, and the features
# at their floor among which equal ones are looked for.
_EQUAL = 1 - 1e-12
_MOST_COMPARED = 200
# Ratio of a given floor to the spread of a feature from which on it is high.
_HIGH_FLOOR = 0.1


def floor_message(problem: FitProblem) -> str | None:
    """Return a warning if a scale, or its mean over the data, is at its floor."""
    spec, names = problem.module.spec, problem.feature_names
    at_floor = is_at_floor(problem)
    has_scale = _has_scale(problem.module.scale, spec.n_features)
    if len(at_floor) > 1:
        at_floor = at_floor & has_scale
    if not at_floor.any() or not has_scale.any():
        return None
    columns = np.flatnonzero(np.broadcast_to(at_floor, spec.n_features))
    # A warning before the training has named what far values make of a column.
    columns = columns[~_has_far_values(problem, len(at_floor) > 1)[columns]]
    if not len(columns):
        return None
    is_high = _floor_is_high(problem)[columns]
    constant, few, other = by_values(problem.rows, columns[~is_high])
    few_values = (
        "few different values: flags, categories, counts or black-and-white images, for "
        "which a likelihood of real numbers has no sensible density"
    )
    equal: list[int] = []
    if len(at_floor) > 1:
        equal, other = _by_equality(problem, other)
    high = f"min_scale={problem.options.min_scale} is above the scale that fits best"
    reason, remedy = _reason_of_copies(problem)
    causes = [
        (few, few_values, _remedy_of_few_values(problem.module.scale)),
        (constant, *_reason_of_constants(problem.rows)),
        (columns[is_high], high, "lower min_scale"),
        (equal, "equal but for unit and offset", "keep one of equal features"),
        (other, reason, remedy),
    ]
    if len(at_floor) == 1:
        where = "The scale of the likelihood is at its floor min_scale"
        if spec.n_components >= spec.n_features:
            causes = causes[2:]
    else:
        features = f"of {spec.n_features} features"
        if not has_scale.all():
            features = f"of the {has_scale.sum()} features that have a scale"
        where = f"The scale of 1 {features} is at its floor min_scale"
        if len(columns) > 1:
            where = f"The scales of {len(columns)} {features} are at their floor min_scale"
        elif has_scale.sum() == 1:
            where = "The scale of the only feature that has one is at its floor min_scale"
    found = [cause for cause in causes if len(cause[0])] or [causes[-1]]
    parts = []
    for part, cause, _ in found:
        is_about_all = len(at_floor) == 1 and cause == reason
        parts.append(cause if is_about_all else f"{list_columns(part, names)} ({cause})")
    remedies = [remedy for *_, remedy in found if remedy]
    if not is_high.any():
        remedies.insert(0, "set min_scale to the precision of the measurement")
    advice = ", ".join([*remedies, "or use variance_mode='fixed'"])
    return (
        f"{where}: {'; '.join(parts)}. What the model leaves unexplained there is below "
        "min_scale, so this part of the log-likelihood says how small min_scale is, and "
        f"not how good the model is. {advice[0].upper()}{advice[1:]}."
    )


def _remedy_of_few_values(scale: Scale) -> str:
    """Return what to change if columns have few values."""
    if isinstance(scale, MixedScale):
        return "give columns of few values an integer dtype, or another part of Mixed"
    return (
        "give columns of few values another likelihood of VariationalAutoencoder, such as "
        "'mixed' or 'bernoulli'"
    )


def _reason_of_constants(rows: Rows) -> tuple[str, str]:
    """Return why columns do not vary, and what to change."""
    if rows.total > 1:
        return "constant", "drop constant features"
    if rows.n_samples > 1:
        return "all rows are equal", "fit more than one different row"
    return "there is one row", "fit more rows"


def _has_scale(scale: Scale, n_features: int) -> np.ndarray:
    """Whether a feature has a scale, ``(n_features,)``: flags and categories have none."""
    found = np.full(n_features, not isinstance(scale, NoScale))
    if isinstance(scale, MixedScale):
        for part, own in scale.parts:
            found[part] = not isinstance(own, NoScale)
    return found


def _has_far_values(problem: FitProblem, has_own_scales: bool) -> np.ndarray:
    """Whether far values are why a scale is low beside the spread, ``(n_features,)``."""
    n_features = problem.module.spec.n_features
    far, codes = find_far_values(problem.rows, problem.standardization.own_std)
    if not has_own_scales:
        # One far value decides the spread of all features together.
        return np.full(n_features, bool(far))
    named = [value.column for value in far] + [code.column for code in codes]
    return np.isin(np.arange(n_features), named)


def _floor_is_high(problem: FitProblem) -> np.ndarray:
    """Whether a floor that the user gave is not far below the spread, ``(d,)``."""
    spread = problem.standardization.std_in_units
    if isinstance(problem.options.min_scale, str):
        return np.zeros(len(spread), dtype=bool)
    floor = problem.module.scale.floor.cpu().double().numpy()
    if floor.size == 1:
        # One scale for all features cannot be above the spread of the largest.
        spread = np.full_like(spread, spread.max())
    return np.broadcast_to(floor.reshape(-1), spread.shape) >= _HIGH_FLOOR * spread


def _reason_of_copies(problem: FitProblem) -> tuple[str, str]:
    """Return why a model may reproduce features to the last digit, and what to change."""
    spec, rows = problem.module.spec, problem.rows
    beta = problem.objective.kl_weight(1.0)
    if spec.n_components >= spec.n_features:
        return "as many components as features", "lower n_components"
    if rows.total <= max(spec.n_features, 2 * spec.n_components):
        return "few different samples", "lower n_components"
    if 0 < beta < 1:
        return "the code copies them, as happens with beta below 1", "raise beta"
    return (
        "the code copies them, as happens with features that others determine, such as "
        "sums, and with many components",
        "drop such features, lower n_components",
    )


def _by_equality(
    problem: FitProblem, columns: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Sort columns: those that are equal to another one of them in other units, or not."""
    compared = list(columns[:_MOST_COMPARED])
    block = problem.rows.subsample(SCALE_ROWS).block()[:, compared].astype(np.float64)
    if len(compared) < 2 or len(block) < 3:
        return [], list(columns)
    observed = ~np.isnan(block)
    scale = np.fmax.reduce(np.abs(block))
    block = np.where(observed, block / np.where(scale > 0, scale, 1.0), 0.0)
    block = np.where(observed, block - block.sum(axis=0) / observed.sum(axis=0), 0.0)
    norm = np.linalg.norm(block, axis=0)
    block /= np.where(norm > 0, norm, 1.0)
    is_equal = np.abs(block.T @ block) > _EQUAL
    is_known = observed.astype(np.float64)
    # What is missing in one of them has to be missing in the other.
    n_known, n_both = observed.sum(axis=0), is_known.T @ is_known
    is_equal &= (n_both == n_known) & (n_both == n_known[:, None])
    np.fill_diagonal(is_equal, False)
    equal = [c for c, others in zip(compared, is_equal, strict=True) if others.any()]
    return equal, [c for c in columns if c not in equal]


def by_values(rows: Rows, columns: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Sort columns by their values: constant, few different ones, or other columns."""
    rows = rows.subsample(SCALE_ROWS)
    block = rows.block()
    constant, few, other = [], [], []
    for column in map(int, columns):
        values = np.unique(block[:, column])
        n_values = int((~np.isnan(values)).sum())
        if n_values <= 1:
            constant.append(column)
        elif n_values <= min(_FEW_VALUES, rows.X.shape[0] / 2):
            few.append(column)
        else:
            other.append(column)
    return constant, few, other


def is_at_floor(problem: FitProblem) -> np.ndarray:
    """Whether each scale is at its floor, ``(1,)`` or ``(n_features,)``."""
    module, objective = problem.module, problem.objective

    def log_scale(y: Tensor, draws: Tensor) -> Tensor:
        return objective.expectation(
            module, y, draws, lambda x, _, outputs: module.conditional(outputs)[1]
        )[0]

    if module.scale.is_shared:
        mean = module.scale.log_scale(module.std_in_units.new_empty(1, 0)).detach()
    else:
        some = problem.rows.subsample(SCALE_ROWS)
        standardization = problem.standardization
        mean = mean_over_rows(module, objective, some, standardization, log_scale)
    return (mean.exp() <= _AT_FLOOR * module.scale.floor).cpu().numpy()[0]
