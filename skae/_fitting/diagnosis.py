"""What is wrong with a model that is not what was asked for, in the words of a user."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from skae._data import Standardization
from skae._evaluation import SCALE_ROWS, mean_over_rows
from skae._fitting.floor import by_values, floor_message
from skae._fitting.problem import CONTINUED, FitProblem
from skae._fitting.report import counted
from skae._utils.column_errors import list_columns
from skae.likelihoods import LocationScale
from skae.networks.mlp import NoCorrection
from skae.objectives.elbo import ACTIVE_KL

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
    "No epoch had a better validation score than {0}, which is kept (best_iter_). {1}It "
    "may be the best model for these data. If not, lower learning_rate_init, or raise "
    "alpha or n_iter_no_change."
)
# Features of data in which an embedded curve or surface is sought.
_MOST_OF_A_SURFACE = 4
# Epochs up to which a training that max_iter ended is short.
_SHORT = 20
_LONGER_FIRST = "Raise max_iter first: the training is short. "
# Nats per sample, and in a short training per feature, by which training must worsen the
# objective to be called too fast.
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
    epochs, n_features = counted(n_iter, "epoch"), problem.module.spec.n_features
    is_short = problem.options.max_iter <= n_iter <= _SHORT and not is_continued
    if problem.options.early_stopping:
        return _KEPT_BY_VALIDATION.format(start, _LONGER_FIRST if is_short else "")
    if _starts_at_optimum(problem):
        return None
    first = problem.first_objective
    log_det_units = problem.log_det_units
    is_vae = problem.objective.kl_weight(1.0) > 0
    longer = "max_iter" if n_iter >= problem.options.max_iter else "n_iter_no_change"
    if last - first > _MUCH_WORSE * (n_features if is_short else 1):
        advice = "Lower learning_rate_init."
    elif last - first <= problem.options.tol:
        advice = (
            "Training changed almost nothing. If the start is not the best model, raise "
            "max_iter or learning_rate_init."
        )
    elif is_continued:
        advice = (
            "The last fit may have converged. If not, lower learning_rate_init or alpha, "
            f"or raise {longer}."
        )
    elif is_short:
        advice = (
            f"{_LONGER_FIRST}If that does not help, lower learning_rate_init or alpha. The "
            "start may also be the best model for these data, as PCA is for features that "
            "depend on each other linearly, or not at all."
        )
    else:
        advice = (
            "The start may be the best model for these data, as PCA is for features that "
            "depend on each other linearly, or not at all. If not, lower "
            f"learning_rate_init or alpha, or raise {longer}."
        )
        spec = problem.module.spec
        is_real = isinstance(spec.likelihood, LocationScale)
        if is_vae and is_real and 1 < n_features <= _MOST_OF_A_SURFACE:
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
        f"{last + log_det_units:.5g} after {epochs}. {advice}"
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
    found = {"inactive": _inactive_message(problem), "floor": floor_message(problem)}
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
    if len(by_values(problem.rows, columns)[0]) == len(columns):
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
