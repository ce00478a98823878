"""Models with their first weights, as the problems that a fit trains."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState

from skae._fitting.diagnosis import start_error
from skae._fitting.initialization import build_module, initialize, move, release
from skae._fitting.lockstep import offload
from skae._fitting.problem import (
    CONTINUED,
    FitProblem,
    TrainingOptions,
)
from skae._fitting.report import ProgressReport
from skae._fitting.size import check_memory
from skae._module import AutoencoderModule, Spec
from skae._utils.messages import raise_deferred, without_deferred
from skae._utils.random import draw_seed
from skae._utils.threads import suitable_threads
from skae.estimators.resume import check_epochs
from skae.estimators.training_data import (
    TrainingData,
)
from skae.estimators.warm_start import (
    continue_from,
)
from skae.objectives import Objective


def build_problems(
    estimator: Any,
    spec: Spec,
    objective: Objective,
    options: TrainingOptions,
    data: TrainingData,
) -> list[FitProblem]:
    """Build a model for each start, with its first weights."""
    size = data.rows.epoch_size, estimator.n_init
    peers = data.rows.peers
    with peers.together():
        check_memory(spec, objective, options, *size, data.device, peers.size)
    build = partial(_build_problem, estimator, spec, objective, data)
    random_state = data.continuation.random_state
    if data.is_continued:
        n_epochs = data.continuation.n_before + options.max_iter
        continued = replace(options, init=CONTINUED, max_iter=n_epochs)
        problems = [build(continued, random_state, 0)]
    else:
        first, *others = _init_random_states(random_state, estimator.n_init)
        random = replace(options, init="random", verbose=0)
        # A second start in closed form would equal the first one.
        problems = [
            build(options, first, 0),
            *(build(random, other, i) for i, other in enumerate(others, 1)),
        ]
    errors = [start_error(problem) for problem in problems]
    if None not in errors:
        raise ValueError(errors[0])
    # Of several starts, those that are not finite are left out.
    return [p for p, error in zip(problems, errors, strict=True) if error is None]


def _build_problem(
    estimator: Any,
    spec: Spec,
    objective: Objective,
    data: TrainingData,
    options: TrainingOptions,
    random_state: RandomState,
    start: int,
) -> FitProblem:
    """Build a model with its first weights; a warm start takes the last fit's."""
    with without_deferred():
        module = build_module(
            spec,
            data.standardization,
            estimator.min_scale,
            options.dtype,
            data.device,
            seed=draw_seed(random_state),
        )
    raise_deferred()
    continuation = data.continuation
    n_earlier, _ = earlier_epochs(estimator, data)
    report = ProgressReport(options.verbose, options.max_iter, n_earlier)
    name, precision = type(estimator).__name__, options.precision
    rows = data.rows, data.validation
    report.begin(name, module, *rows, precision, data.device)
    problem = FitProblem(
        module,
        objective,
        data.rows,
        data.validation,
        data.standardization,
        options,
        callbacks=None,
        random_state=random_state,
        feature_names=data.table.feature_names(
            getattr(estimator, "feature_names_in_", None)
        ),
        report=report,
        checkpoint=continuation.checkpoint,
        start=start,
        keeps_state=continuation.keeps_state,
    )
    last = estimator.module_ if data.is_continued else None
    set_start = partial(_set_start, problem, data.fixed_scale, last, data.device)
    multiply_adds = options.multiply_adds_per_step(data.rows.epoch_size, module)
    with suitable_threads(multiply_adds):
        if problem.capabilities.is_thread_safe:
            offload(set_start)
        else:
            set_start()
    problem.resumed = continuation.state_of(start, data.device)
    if problem.resumed is not None:
        check_epochs(problem.resumed, options.max_iter)
        report.resume(problem.resumed.epoch)
    return problem


def _set_start(
    problem: FitProblem,
    fixed_scale: np.ndarray | None,
    last: AutoencoderModule | None,
    device: torch.device,
) -> None:
    """Set the first weights of a problem, or take those of the last fit, on the device.

    A fixed scale, ``(1, 1)`` or ``(1, n_features)``, is in the likelihood's units.
    """
    module = problem.module
    if last is not None:
        move(module, device)
        continue_from(last, module, fixed_scale)
        release(module, problem.rows, problem.standardization)
    else:
        model = module, problem.objective, problem.rows, problem.standardization
        initialize(
            *model, init=problem.options.init, fixed_scale=fixed_scale, device=device
        )
    problem.first_objective = problem.start_objective()
    problem.report.start(problem.first_objective + problem.log_det_units)
    if problem.validation is not None:
        problem.first_score = problem.validation_score()


def _init_random_states(random_state: RandomState, n: int) -> list[RandomState]:
    """Return a generator for each start; the first one is that of a fit with one start."""
    if n == 1:
        return [random_state]
    seed = draw_seed(copy.deepcopy(random_state))
    return [random_state, *(RandomState([seed, i]) for i in range(1, n))]


def earlier_epochs(estimator: Any, data: TrainingData) -> tuple[int, int]:
    """Return how many epochs of a warm start are of earlier trainings, and the best."""
    if not data.is_continued:
        return 0, 0
    if data.continuation.last is not None:
        return data.continuation.earlier
    # Fits of old pickles have no `best_iter_`.
    return estimator.n_iter_, getattr(estimator, "best_iter_", estimator.n_iter_)
