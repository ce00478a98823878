"""What is wrong with a model that is not what was asked for, in the words of a user."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from skae._data import Rows, Standardization
from skae._evaluation import SCALE_ROWS, mean_over_rows
from skae._fitting.problem import CONTINUED, FitProblem
from skae._utils.column_errors import list_columns
from skae.likelihoods import LocationScale
from skae.networks.mlp import NoCorrection
from skae.objectives.elbo import ACTIVE_KL
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
# Ratio of standard deviations above which one spherical scale cannot serve all features.
_WIDE_SPREAD = 1e3

DIVERGED = (
    "Training diverged 5 times, also with 1/32 of the learning rate: a loss, parameter or "
    "validation score was not finite. The model before is kept (best_iter_). Lower "
    "learning_rate_init. If that does not help, the network may return numbers that are "
    "not finite."
)
DIVERGED_TO_START = (
    "Training diverged: a loss, parameter or validation score was not finite, and no epoch "
    "before was better than the start, which is kept (best_iter_). Lower "
    "learning_rate_init."
)
RECOVERED = (
    "Training diverged in {} of its epochs: a loss, parameter or validation score was not "
    "finite. Each time it went back to the epoch before, with half the learning rate. Set "
    "learning_rate_init={:.3g}, with which it went on."
)
_KEPT_BY_VALIDATION = (
    "No epoch had a better validation score than {0}, which is kept (best_iter_). It may "
    "be the best model for these data. If not, lower learning_rate_init, or raise alpha or "
    "n_iter_no_change."
)
# Features of data in which an embedded curve or surface is sought.
_MOST_OF_A_SURFACE = 4
# Nats per sample by which training must worsen the objective to be called too fast.
_MUCH_WORSE = 1.0


def spread_message(
    standardization: Standardization, names: Sequence[str] | None, part: slice
) -> str | None:
    """Return a warning if features of a range differ too much in size for one scale."""
    std = standardization.std[part]
    if np.log(std.max()) - np.log(std.min()) <= math.log(_WIDE_SPREAD):
        return None
    smallest = list_columns([part.start + int(std.argmin())], names)
    largest = list_columns([part.start + int(std.argmax())], names)
    return (
        "The standard deviations of the features differ more than a thousandfold "
        f"(smallest: {smallest}, largest: {largest}), but covariance_type='spherical' "
        "gives all of them one scale, in the units of X. The model cannot see the features "
        "of small deviation. Set covariance_type='diag', or scale X with StandardScaler "
        "first."
    )


def end_message(
    problem: FitProblem,
    *,
    diverged: bool,
    n_divergences: int,
    learning_rate: float,
    best_iter: int,
    n_iter: int,
    last: float,
) -> str | None:
    """Return a warning if training diverged, or if the start is kept (``best_iter`` 0).

    ``last`` is the objective after ``n_iter`` epochs, in the likelihood's units. The rate
    is that after ``n_divergences`` halvings.
    """
    if not best_iter and (diverged or (n_divergences and not n_iter)):
        return DIVERGED_TO_START
    if diverged:
        return DIVERGED
    if best_iter:
        # After a divergence, the rate is not the one that was asked for.
        return RECOVERED.format(n_divergences, learning_rate) if n_divergences else None
    is_continued = problem.options.init == CONTINUED
    start = "the last fit's model" if is_continued else "the start"
    if problem.options.early_stopping:
        return _KEPT_BY_VALIDATION.format(start)
    if _starts_at_optimum(problem):
        return None
    first = problem.first_objective
    log_det_units = problem.log_det_units
    is_vae = problem.objective.kl_weight(1.0) > 0
    longer = "max_iter" if n_iter >= problem.options.max_iter else "n_iter_no_change"
    if last - first > _MUCH_WORSE:
        advice = "Lower learning_rate_init."
    elif last - first <= problem.options.tol:
        advice = (
            "Training changed almost nothing. If the start is not the best model, raise "
            "learning_rate_init or max_iter."
        )
    elif is_continued:
        advice = (
            "The last fit may have converged. If not, lower learning_rate_init or alpha, "
            f"or raise {longer}."
        )
    else:
        advice = (
            "The start may be the best model for these data, as PCA is for features that "
            "depend on each other linearly, or not at all. If not, lower "
            f"learning_rate_init or alpha, or raise {longer}."
        )
        spec = problem.module.spec
        is_real = isinstance(spec.likelihood, LocationScale)
        if is_vae and is_real and 1 < spec.n_features <= _MOST_OF_A_SURFACE:
            advice += (
                " For a curved surface in few columns, GaussianAutoencoder has the smaller "
                "errors."
            )
    n_samples = problem.rows.n_samples
    if n_samples < problem.rows.total / 10:
        advice = (
            f"The sample weights add up to {n_samples:.3g}, which is the sample size that "
            f"alpha refers to: multiply them, or lower alpha. {advice}"
        )
    which = ", the model of the last fit," if is_continued else ","
    return (
        f"Training did not improve on its start{which} which is kept (best_iter_). The "
        f"objective was {first + log_det_units:.5g} nats per sample at the start and "
        f"{last + log_det_units:.5g} after {n_iter} epochs. {advice}"
    )


def _starts_at_optimum(problem: FitProblem) -> bool:
    """Whether a model without hidden layers starts at its optimum in closed form.

    That is PCA, probabilistic PCA or factor analysis with a Gaussian likelihood.
    """
    spec, is_vae = problem.module.spec, problem.objective.kl_weight(1.0) > 0
    return (
        isinstance(problem.module.decoder, NoCorrection)
        and problem.options.init == "pca"
        and not spec.likelihood.heavy_tailed
        and spec.variance_mode in ("fixed", "optimal", "learned")
        and (spec.covariance_type == "spherical" or is_vae)
    )


def start_error(problem: FitProblem) -> str | None:
    """Return why a model cannot be trained, if its start is not finite."""
    if not math.isfinite(problem.first_objective):
        module = problem.module
        finite = all(bool(value.isfinite().all()) for value in module.state_dict().values())
        return (
            "Training cannot start: the objective of the first model is "
            f"{problem.first_objective}, and its parameters are "
            f"{'finite' if finite else 'not finite'}. "
            "Possible causes are a network that returns NaN or infinity, a large beta or "
            "kl_schedule, a very small scale, and sample weights that differ by hundreds "
            "of orders of magnitude."
        )
    if problem.validation is not None and not math.isfinite(problem.first_score):
        return (
            "Training cannot start: the validation data have a score of "
            f"{problem.first_score} under the first model. They may have values that are "
            "very far from the training data."
        )
    return None


def final_messages(problem: FitProblem, end: str | None) -> list[str]:
    """Return what is to be said about a trained model; ``end`` is about its training."""
    return [*([end] if end else []), *model_messages(problem).values()]


def model_messages(problem: FitProblem) -> dict[str, str]:
    """Return what is to be said about a model, whatever its training was, by a name."""
    found = {"inactive": _inactive_message(problem), "floor": _floor_message(problem)}
    return {name: message for name, message in found.items() if message is not None}


def _inactive_message(problem: FitProblem) -> str | None:
    """Return a warning if no component of the code carries information."""
    module, objective = problem.module, problem.objective
    if objective.n_mc_samples == 0:
        # The code of a deterministic autoencoder has no KL.
        return None

    def kl_of(y: Tensor, draws: Tensor) -> Tensor:
        return objective.latents(module, y, draws)[1]

    some = problem.rows.subsample(SCALE_ROWS)
    kl = mean_over_rows(module, objective, some, problem.standardization, kl_of)
    if bool((kl > ACTIVE_KL).any()):
        return None
    columns = np.arange(module.spec.n_features)
    if len(_by_values(problem.rows, columns)[0]) == len(columns):
        # Equal rows have one code, whatever beta is.
        return None
    message = (
        f"No component of the code is active: the KL of each is below {ACTIVE_KL} nats, so "
        "transform returns nearly the same code for all samples. "
    )
    if len(columns) == 1:
        return f"{message}A code cannot shorten a single feature. Use more features."
    return (
        f"{message}Lower beta ({objective.kl_weight(1.0):g} at the end of the training); "
        "other causes are a large scale or min_scale, and features that do not depend on "
        "each other."
    )


def _floor_message(problem: FitProblem) -> str | None:
    """Return a warning if a scale, or its mean over the data, is at its floor."""
    spec, names = problem.module.spec, problem.feature_names
    at_floor = is_at_floor(problem)
    has_scale = _has_scale(problem.module.scale, spec.n_features)
    if len(at_floor) > 1:
        at_floor = at_floor & has_scale
    if not at_floor.any() or not has_scale.any():
        return None
    columns = np.flatnonzero(np.broadcast_to(at_floor, spec.n_features))
    is_high = _floor_is_high(problem)[columns]
    constant, few, other = _by_values(problem.rows, columns[~is_high])
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
        (few, few_values, ""),
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
        which = f"{len(columns)} {features}"
        if has_scale.sum() == 1:
            which = "the only feature that has one"
        where = f"The scale of {which} is at its floor min_scale"
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


def _by_values(rows: Rows, columns: np.ndarray) -> tuple[list[int], list[int], list[int]]:
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
