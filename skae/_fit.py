"""Training a module that has been started, and finishing it."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skae._evaluate import mean_over_rows, training_objective, validation_score
from skae._module import AutoencoderModule
from skae._random import torch_generator
from skae._recorder import EpochCallbacks, Recorder
from skae._rows import Rows
from skae._threads import flushed_denormals
from skae._units import Units
from skae.engine import make_step
from skae.objectives import Objective
from skae.training import (
    Adam,
    Annealing,
    Batches,
    FlatParameters,
    Plateau,
    TrainingSet,
    train,
)

# Rows that are enough to see a scale while training, and whether it lies at its floor.
_SCALE_ROWS = 1024
# Frames from a warning here to the line that called fit.
_CALLER = 7


@dataclass(frozen=True)
class Settings:
    """The parameters of an estimator that rule its training."""

    batch_size: int | str
    max_iter: int
    learning_rate_init: float
    alpha: float
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    shuffle: bool
    verbose: int

    def rows_per_batch(self, n_samples: int) -> int:
        """Largest size of a batch.

        Parameters
        ----------
        n_samples : int
            Rows to train on.

        Returns
        -------
        int
            ``batch_size``, or for "auto" a sixteenth of the rows as a power of 2 between
            32 and 512.
        """
        if isinstance(self.batch_size, str):
            return int(np.clip(2 ** round(np.log2(n_samples / 16)), 32, 512))
        return int(self.batch_size)


@dataclass
class Job:
    """A model that has been started, and all that its training needs.

    Attributes
    ----------
    module : AutoencoderModule
        The model; trained in place.
    objective : Objective
        What to minimise.
    rows : Rows
        Training data.
    validation : Rows or None
        Validation data.
    units : Units
        Statistics of the training data.
    settings : Settings
        How to train.
    callbacks : EpochCallbacks
        Who wants to know of the epochs.
    random_state : RandomState
        Source of the randomness.
    """

    module: AutoencoderModule
    objective: Objective
    rows: Rows
    validation: Rows | None
    units: Units
    settings: Settings
    callbacks: EpochCallbacks
    random_state: RandomState

    def validate(self) -> float:
        """Score of the validation data as the model stands.

        Returns
        -------
        float
            The score, in nats, in the units of X.
        """
        assert self.validation is not None
        # A closed-form scale is only a running mean between the steps.
        some = self.rows.thin(_SCALE_ROWS)
        _finalize_scale(self.module, self.objective, some, self.units)
        return validation_score(self.module, self.objective, self.validation, self.units)

    def final_objective(self) -> float:
        """Training objective with the scale that the whole training set wants.

        Returns
        -------
        float
            The objective, in nats, in the likelihood's units.
        """
        _finalize_scale(self.module, self.objective, self.rows, self.units)
        return training_objective(self.module, self.objective, self.rows, self.units)


def fit_modules(jobs: Sequence[Job]) -> list[list[dict[str, float]]]:
    """Train models that have been started, side by side and in place.

    Parameters
    ----------
    jobs : sequence of R Job
        The models; of the same shapes, batch size and number of batches.

    Returns
    -------
    list of R lists of dict
        What is known of each epoch of each model.

    Warns
    -----
    ConvergenceWarning
        If training diverges, or if a scale ends at its floor.
    UserWarning
        If the user interrupts; then the last whole epoch counts.
    """
    modules = [job.module for job in jobs]
    parameters = _flatten(modules)
    batches = _make_batches(jobs)
    annealings, recorders, first, first_objective = [], [], [], []
    for job, values in zip(jobs, parameters.values, strict=True):
        settings = job.settings
        annealing = Annealing(settings.learning_rate_init, settings.max_iter)
        recorder = Recorder(
            values,
            job.objective,
            annealing,
            Plateau(settings.tol, settings.n_iter_no_change),
            job.callbacks,
            log_unit=job.units.log_unit,
            scale=partial(shared_scale, job.module, job.units),
            validate=None if job.validation is None else job.validate,
            early_stopping=settings.early_stopping,
            verbose=settings.verbose,
        )
        annealings.append(annealing)
        recorders.append(recorder)
        first.append(values.clone())
        first_objective.append(job.final_objective())
    l2 = [job.settings.alpha / len(job.rows) for job in jobs]
    objectives = [job.objective for job in jobs]
    step = make_step(modules, objectives, parameters, batches.size)
    try:
        with flushed_denormals():
            train(step, parameters, batches, Adam(parameters, l2), annealings, recorders)
    except KeyboardInterrupt:
        for recorder in recorders:
            recorder.restore()
        warnings.warn("Training interrupted by user.", stacklevel=2)
    for i, (job, recorder) in enumerate(zip(jobs, recorders, strict=True)):
        recorder.restore_best()
        for parameter in job.module.parameters():
            parameter.grad = None
        job.module.requires_grad_(False).eval()
        _conclude(job, parameters.values[i], first[i], first_objective[i])
    return [recorder.epochs for recorder in recorders]


def _flatten(modules: Sequence[AutoencoderModule]) -> FlatParameters:
    """The parameters of the models, in one buffer."""
    networks = [modules[0].encoder, modules[0].decoder]
    return FlatParameters(
        [[p for p in module.parameters() if p.requires_grad] for module in modules],
        # The penalty pulls the networks' correction towards 0, so the model towards its
        # linear path; biases go free.
        penalized=[p for net in networks for p in net.parameters() if p.ndim > 1],
    )


def _make_batches(jobs: Sequence[Job]) -> Batches:
    settings, module = jobs[0].settings, jobs[0].module
    device = module.ratio.device
    cpu = torch.device("cpu")
    return Batches(
        [
            TrainingSet(
                job.rows.X, job.rows.index, job.rows.weight, job.units.mean, job.units.std
            )
            for job in jobs
        ],
        batch_size=settings.rows_per_batch(len(jobs[0].rows)),
        shuffle=settings.shuffle,
        noise_shape=(jobs[0].objective.n_mc_samples, module.spec.n_components),
        dtype=module.ratio.dtype,
        device=device,
        order=[torch_generator(job.random_state, cpu) for job in jobs],
        noise=[torch_generator(job.random_state, device) for job in jobs],
    )


def _conclude(job: Job, values: Tensor, first: Tensor, first_objective: float) -> None:
    """Fix the scale of a trained model, or of its start if that was better.

    What a fit returns is finite, and no worse than what it started from: on the training
    data, or else on the validation data, where the start took part in the comparison.
    """
    last_objective = job.final_objective()
    worse = last_objective > first_objective and not job.settings.early_stopping
    if worse or not math.isfinite(last_objective):
        if not math.isfinite(last_objective):
            _warn_of_divergence()
        values.copy_(first)
        _finalize_scale(job.module, job.objective, job.rows, job.units)
    _warn_of_floor(job.module, job.objective, job.rows, job.units)


def shared_scale(module: AutoencoderModule, units: Units) -> float | np.ndarray | None:
    """The model's scale as it stands.

    Parameters
    ----------
    module : AutoencoderModule
        The model.
    units : Units
        Statistics of the training data.

    Returns
    -------
    float, ndarray of shape (n_features,) or None
        The scale in the units of X; None if it is a function of the code.
    """
    if not module.scale.is_shared:
        return None
    with torch.no_grad():
        log_scale = module.scale.log_scale(module.ratio.new_empty(1, 0))
    scale = np.exp(log_scale.double().cpu().numpy()[0]) * units.unit
    return scale if module.spec.covariance_type == "diag" else float(scale[0])


def _finalize_scale(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> None:
    """Take a closed-form scale from the whole training set."""
    scale, likelihood = module.scale, module.spec.likelihood
    if not scale.needs_optimal_scale:
        return

    def deviation(y: Tensor, draws: Tensor) -> Tensor:
        return objective.expectation(
            module,
            y,
            draws,
            lambda x, loc, _: scale.pool(likelihood.deviation(x - loc)),
        )[0]

    scale.finalize(mean_over_rows(module, objective, rows, units, deviation))


def _warn_of_floor(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> None:
    """Say so if the scale, or its mean over the data, ends at its floor."""

    def log_scale(y: Tensor, draws: Tensor) -> Tensor:
        return objective.expectation(
            module,
            y,
            draws,
            lambda x, _, outputs: module.scale.log_scale(outputs).expand(len(x), -1),
        )[0]

    if module.scale.is_shared:
        mean = module.scale.log_scale(module.ratio.new_empty(1, 0)).detach()
    else:
        some = rows.thin(_SCALE_ROWS)
        mean = mean_over_rows(module, objective, some, units, log_scale)
    at_floor = (mean.exp() <= 1.05 * module.scale.floor).cpu().numpy()[0]
    if at_floor.any():
        warnings.warn(_floor_message(at_floor), ConvergenceWarning, stacklevel=_CALLER)


def _warn_of_divergence() -> None:
    warnings.warn(
        "Training diverged: its last objective is not finite, so the start is kept. "
        "Lower learning_rate_init.",
        ConvergenceWarning,
        stacklevel=_CALLER,
    )


def _floor_message(at_floor: np.ndarray) -> str:
    if len(at_floor) == 1:
        where = "The scale of the likelihood is at its floor min_scale"
    else:
        features = np.flatnonzero(at_floor)
        shown = ", ".join(map(str, features[:10])) + (", ..." if len(features) > 10 else "")
        where = (
            f"The scale of {len(features)} of {len(at_floor)} features (columns {shown}) "
            "is at its floor min_scale"
        )
    return (
        f"{where}: the model reproduces the training data to within their resolution, as "
        "happens with constant features, few samples or many components. The "
        "log-likelihood is finite, but says how small min_scale is. Set min_scale to the "
        "precision of the measurement, drop constant features, lower n_components, or use "
        "variance_mode='fixed'."
    )
