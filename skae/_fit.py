"""Training a module that has been started, and finishing it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from skae._evaluate import mean_over_rows, settle, validation_score
from skae._module import AutoencoderModule
from skae._probe import GradientProbe
from skae._random import torch_generator
from skae._recorder import EpochCallbacks, Recorder
from skae._rows import Rows
from skae._threads import flushed_denormals, suitable_threads, tf32_products
from skae._units import Units
from skae.engine import is_compilable, make_step
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

T = TypeVar("T")

# Rows that are enough to see a scale while training, and whether it lies at its floor.
_SCALE_ROWS = 1024
# Bytes that the parameters of models side by side may take, with all that belongs to each:
# gradient, two means of Adam's, a step, and copies of the start, the last and the best.
_MOST_BYTES = 2**31
_COPIES = 8
_DIVERGED = (
    "Training diverged: its last objective is not finite, so the start is kept. Lower "
    "learning_rate_init."
)


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
    precision: str
    verbose: int
    gradient_balance: bool

    @property
    def dtype(self) -> torch.dtype:
        """Precision of parameters and batches."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def autocast(self) -> torch.dtype | None:
        """Lower precision of the products, if one is asked for."""
        return torch.bfloat16 if self.precision == "bf16" else None

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

    def program(self) -> object:
        """What jobs must have in common to be trained side by side.

        Returns
        -------
        object
            Equal for two such jobs; of a job that trains alone equal to itself only.
        """
        module, objective, settings = self.module, self.objective, self.settings
        spec, likelihood = module.spec, module.spec.likelihood
        # What users wrote may fail, and should then fail alone.
        is_theirs = not objective.is_built_in or bool(vars(likelihood))
        if not is_compilable(module, objective) or settings.autocast or is_theirs:
            return id(self)
        rows = settings.rows_per_batch(len(self.rows))
        return (
            (spec.n_features, spec.n_components, spec.variance_mode, spec.covariance_type),
            (repr(module.encoder), repr(module.decoder), type(likelihood)),
            (type(objective), objective.n_mc_samples, settings.precision),
            (str(module.ratio.device), rows, -(-len(self.rows) // rows), settings.shuffle),
        )

    def probe(self) -> GradientProbe | None:
        """What looks at the gradients, where they are asked for.

        Returns
        -------
        GradientProbe or None
            The probe.
        """
        if not self.settings.gradient_balance:
            return None
        return GradientProbe(self.module, self.objective, self.rows, self.units)

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
        settle(self.module, self.objective, some, self.units)
        return validation_score(self.module, self.objective, self.validation, self.units)

    def final_objective(self) -> float:
        """Training objective with the scale that the whole training set wants.

        Returns
        -------
        float
            The objective, in nats, in the likelihood's units.
        """
        return settle(self.module, self.objective, self.rows, self.units)


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    epochs : list of dict
        What is known of each epoch.
    loss : float
        What the fit is judged by: the training objective, or with early stopping minus the
        validation score.
    error : Exception or None
        What ended the training, if a callback or the validation raised something.
    warnings : list of (str, category)
        What the user has to be told, by the call of fit that it is about.
    """

    epochs: list[dict[str, float]]
    loss: float = math.inf
    error: Exception | None = None
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)

    def result(self) -> list[dict[str, float]]:
        """What is known of each epoch.

        Returns
        -------
        list of dict
            The epochs.

        Raises
        ------
        Exception
            What ended the training.
        """
        if self.error is not None:
            raise self.error
        return self.epochs


def fit_modules(jobs: Sequence[Job]) -> list[Outcome]:
    """Train models that have been started, side by side and in place.

    Parameters
    ----------
    jobs : sequence of R Job
        The models; of the same shapes, batch size and number of batches.

    Returns
    -------
    list of R Outcome
        What became of each.

    Notes
    -----
    If the user interrupts, the last whole epoch counts.
    """
    parameters = _flatten([job.module for job in jobs])
    batches = _make_batches(jobs)
    followed = [_Followed(job, parameters, i) for i, job in enumerate(jobs)]
    adam = Adam(parameters, [job.settings.alpha / len(job.rows) for job in jobs])
    epoch, running = 0, list(followed)
    try:
        with flushed_denormals(), tf32_products(jobs[0].settings.precision == "tf32"):
            while running:
                step = make_step(
                    [f.job.module for f in running],
                    [f.job.objective for f in running],
                    adam.parameters,
                    batches.size,
                    jobs[0].settings.autocast,
                )
                annealings = [f.annealing for f in running]
                epoch, left = train(step, batches, adam, annealings, running, epoch)
                running = [running[i] for i in left]
                if running:
                    parameters = adam.parameters.select(left)
                    adam, batches = adam.select(left, parameters), batches.select(left)
                    for i, f in enumerate(running):
                        f.recorder.parameters, f.recorder.model = parameters, i
    except KeyboardInterrupt:
        for f in running:
            f.recorder.restore()
            f.recorder.warnings.append(("Training interrupted by user.", UserWarning))
    return [f.conclude() for f in followed]


def fit_jobs(jobs: Sequence[Job]) -> list[Outcome]:
    """Train models that have been started: those that are alike side by side.

    Parameters
    ----------
    jobs : sequence of Job
        The models, of any shapes.

    Returns
    -------
    list of Outcome
        What became of each, in the same order.
    """
    groups: dict[object, list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(job.program(), []).append(i)
    outcomes: dict[int, Outcome] = {}
    for group in groups.values():
        first = jobs[group[0]]
        n_weights, itemsize = first.module.n_weights, first.module.ratio.itemsize
        rows = first.settings.rows_per_batch(len(first.rows))
        most = max(_MOST_BYTES // (_COPIES * n_weights * itemsize), 1)
        for members in in_parts(group, most):
            try:
                with suitable_threads(3 * rows * n_weights * len(members)):
                    found = fit_modules([jobs[i] for i in members])
            except Exception as error:
                # Whatever it is, each fit of this group raises it to its own caller (a
                # search has an error_score for that), and the other groups go on.
                found = [Outcome([], error=error) for _ in members]
            outcomes.update(zip(members, found, strict=True))
    return [outcomes[i] for i in range(len(jobs))]


def in_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Items in as few parts as can be, of sizes that differ by one at most.

    Parameters
    ----------
    items : sequence
        The items.
    most : int
        Largest size of a part.

    Returns
    -------
    list of sequence
        The parts.
    """
    n_parts = -(-len(items) // most)
    bounds = [i * len(items) // max(n_parts, 1) for i in range(n_parts + 1)]
    return [items[a:b] for a, b in pairwise(bounds)]


class _Followed:
    """A job in training: its hooks, and what it started from."""

    def __init__(self, job: Job, parameters: FlatParameters, model: int) -> None:
        self.job = job
        settings = job.settings
        self.annealing = Annealing(settings.learning_rate_init, settings.max_iter)
        self.recorder = Recorder(
            parameters,
            model,
            job.objective,
            self.annealing,
            Plateau(settings.tol, settings.n_iter_no_change),
            job.callbacks,
            log_unit=job.units.log_unit,
            scale=partial(shared_scale, job.module, job.units),
            validate=None if job.validation is None else job.validate,
            probe=job.probe(),
            early_stopping=settings.early_stopping,
            verbose=settings.verbose,
        )
        self.first = parameters.get(model)
        self.first_objective = job.final_objective()
        self.error: Exception | None = None

    def on_epoch_begin(self) -> None:
        """Called before each epoch; an error is kept, and ends this model's training."""
        try:
            self.recorder.on_epoch_begin()
        # Callbacks are the user's, and may raise anything; conclude hands it on.
        except Exception as error:
            self.error = error

    def on_epoch_end(self, metrics: np.ndarray, progress: float) -> bool:
        """Called after each epoch; an error ends the training of this model alone."""
        try:
            return self.error is not None or self.recorder.on_epoch_end(metrics, progress)
        # As above: callbacks and modules are the user's.
        except Exception as error:
            self.error = error
            return True

    def conclude(self) -> Outcome:
        """What became of the model; an error, or a warning that is one, is its alone."""
        if self.error is None:
            try:
                return self._conclude()
            # The user's module may raise here too, and must not take the others along.
            except Exception as error:
                self.error = error
        return Outcome([], error=self.error)

    def _conclude(self) -> Outcome:
        """Fix the scale of the trained model, or of its start if that was better.

        What a fit returns is finite, and no worse than what it started from: on the
        training data, or else on the validation data, where the start took part in the
        comparison.
        """
        job, recorder = self.job, self.recorder
        recorder.restore_best()
        job.module.requires_grad_(False).eval()
        last_objective = job.final_objective()
        loss, diverged = last_objective, not math.isfinite(last_objective)
        worse = last_objective > self.first_objective and not job.settings.early_stopping
        if worse or diverged:
            loss = self.first_objective
            if diverged:
                recorder.warnings.append((_DIVERGED, ConvergenceWarning))
            recorder.parameters.put(recorder.model, self.first)
            job.final_objective()
        if job.settings.early_stopping:
            loss = recorder.plateau.best
        # Memory of its own: the buffers so far belong to all models.
        for parameter in job.module.parameters():
            parameter.data, parameter.grad = parameter.data.clone(), None
        for buffer in job.module.buffers():
            buffer.data = buffer.data.clone()
        at_floor = _is_at_floor(job.module, job.objective, job.rows, job.units)
        if at_floor.any():
            recorder.warnings.append((_floor_message(at_floor), ConvergenceWarning))
        return Outcome(recorder.epochs, loss, warnings=recorder.warnings)


def _flatten(modules: Sequence[AutoencoderModule]) -> FlatParameters:
    """The parameters of the models, in one buffer."""
    networks = [modules[0].encoder, modules[0].decoder]
    return FlatParameters(
        [_trained(module) for module in modules],
        # The penalty pulls the networks' correction towards 0, so the model towards its
        # linear path; biases go free.
        penalized=[p for net in networks for p in net.parameters() if p.ndim > 1],
    )


def _trained(module: AutoencoderModule) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


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


def _is_at_floor(
    module: AutoencoderModule, objective: Objective, rows: Rows, units: Units
) -> np.ndarray:
    """Whether each scale, or its mean over the data, is at its floor."""

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
    return (mean.exp() <= 1.05 * module.scale.floor).cpu().numpy()[0]


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
