"""Training models that have been started, and finishing them."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain
from threading import Event, Lock

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skae._fitting.lockstep import gather
from skae._job import Job, Outcome, is_built_in
from skae._random import torch_generator
from skae._recorder import Recorder
from skae._threads import (
    flushed_denormals,
    in_parts,
    is_worth_a_thread,
    on_cores,
    suitable_threads,
    tf32_products,
)
from skae.engine import flatten, is_known, make_step
from skae.training import (
    Adam,
    Annealing,
    Batches,
    FlatParameters,
    Plateau,
    TrainingSet,
    train,
)

# Bytes that the parameters of models side by side may take, with all that belongs to each:
# gradient, two means of Adam's, a step, and copies of the start, the last and the best.
_MOST_BYTES = 2**31
_COPIES = 8
# Bytes that a step of models side by side may go over, of what cores share of a cache.
_CACHE_BYTES = 2**23
_DIVERGED = (
    "Training diverged: its last objective is not finite, so the start is kept. Lower "
    "learning_rate_init."
)


def train_jobs(jobs: Sequence[Job]) -> list[Outcome]:
    """Train models, beside those of the other tasks if there are any.

    Parameters
    ----------
    jobs : sequence of Job
        The models of one call.

    Returns
    -------
    list of Outcome
        What became of each.
    """
    return gather(fit_jobs, jobs)


# Gradients are wanted wherever in the user's torch code this call stands.
@torch.inference_mode(False)
@torch.enable_grad()
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
        groups.setdefault(job.program() if len(jobs) > 1 else None, []).append(i)
    outcomes: dict[int, Outcome] = {}
    # An interrupt ends them all.
    interrupted = Event()
    for group in groups.values():
        # Models of one learning rate side by side are updated together.
        group.sort(key=lambda i: jobs[i].settings.learning_rate_init)
        first = jobs[group[0]].module
        most = max(_MOST_BYTES // (_COPIES * first.n_weights * first.ratio.itemsize), 1)
        for members in in_parts(group, most):
            found = _fit_group([jobs[i] for i in members], interrupted)
            outcomes.update(zip(members, found, strict=True))
    return [outcomes[i] for i in range(len(jobs))]


def _fit_group(jobs: Sequence[Job], interrupted: Event) -> list[Outcome]:
    """Train models that are alike: each core its share, in parts that stay in the cache."""
    module, settings = jobs[0].module, jobs[0].settings
    rows = settings.rows_per_batch(len(jobs[0].rows))
    # A step goes over the weights three times: forwards, and backwards for two.
    step = 3 * rows * module.n_weights
    parts, shares = [jobs], [jobs]
    if module.ratio.device.type == "cpu":
        size = -(-len(jobs) // torch.get_num_threads())
        may = is_built_in(module, jobs[0].objective) and is_worth_a_thread(step * size)
        if size < len(jobs) and may:
            shares = in_parts(jobs, size)
        numbers = 4 * module.n_weights + 8 * rows * module.width
        most = max(_CACHE_BYTES // (numbers * module.ratio.itemsize), 1)
        parts = [part for share in shares for part in in_parts(share, most)]
    calls = [partial(_try_to_fit, part, interrupted) for part in parts]
    with tf32_products(settings.precision == "tf32"):
        if len(shares) > 1:
            turn = Lock()
            for job in jobs:
                job.callbacks.turn = turn
            found = on_cores(calls, len(shares), interrupted)
        else:
            with suitable_threads(step * len(parts[0])):
                found = [call() for call in calls]
    return list(chain.from_iterable(found))


def _try_to_fit(jobs: Sequence[Job], interrupted: Event) -> list[Outcome]:
    try:
        return fit_modules(jobs, interrupted)
    # Whatever it is, each of these fits raises it to its own caller (a search has an
    # error_score for that), and the others go on.
    except Exception as error:
        return [Outcome([], error=error) for _ in jobs]


def fit_modules(jobs: Sequence[Job], interrupted: Event) -> list[Outcome]:
    """Train models that have been started, side by side and in place.

    Parameters
    ----------
    jobs : sequence of R Job
        The models; of the same shapes, batch size and number of batches.
    interrupted : Event
        Set when the user interrupts; then this training ends too.

    Returns
    -------
    list of R Outcome
        What became of each.

    Notes
    -----
    If the user interrupts, the last whole epoch counts.
    """
    settings = jobs[0].settings
    modules = [job.module for job in jobs]
    parameters = flatten(modules, jobs[0].objective, settings.autocast)
    batches = _make_batches(jobs)
    followed = [_Followed(job, parameters, i, interrupted) for i, job in enumerate(jobs)]
    adam = Adam(parameters, [job.settings.alpha / len(job.rows) for job in jobs])
    epoch, running = 0, list(followed)
    try:
        with flushed_denormals():
            while running:
                step = make_step(
                    [f.job.module for f in running],
                    [f.job.objective for f in running],
                    adam.parameters,
                    batches.size,
                    settings.autocast,
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
        interrupted.set()
        for f in running:
            f.recorder.restore()
            f.recorder.warnings.append(("Training interrupted by user.", UserWarning))
    return [f.conclude() for f in followed]


class _Followed:
    """A job in training: its hooks, and what it started from."""

    def __init__(
        self,
        job: Job,
        parameters: FlatParameters,
        model: int,
        interrupted: Event,
    ) -> None:
        self.job = job
        self.interrupted = interrupted
        settings = job.settings
        # To come first: who follows a training by a validation score settles the scale.
        self.first_buffers = {k: b.clone() for k, b in job.module.named_buffers()}
        self.annealing = Annealing(settings.learning_rate_init, settings.max_iter)
        self.recorder = Recorder(
            parameters,
            model,
            job.objective,
            self.annealing,
            Plateau(settings.tol, settings.n_iter_no_change),
            job.callbacks,
            log_unit=job.units.log_unit,
            scale=job.scale,
            validate=None if job.validation is None else job.validate,
            probe=job.probe(),
            early_stopping=settings.early_stopping,
            verbose=settings.verbose,
        )
        self.first = parameters.get(model)
        self.error: Exception | None = None

    def on_epoch_begin(self) -> None:
        """Called before each epoch; an error is kept, and ends this model's training."""
        if self.interrupted.is_set():
            raise KeyboardInterrupt
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
        worse = last_objective > job.first_objective and not job.settings.early_stopping
        if worse or diverged:
            loss = job.first_objective
            if diverged:
                recorder.warnings.append((_DIVERGED, ConvergenceWarning))
            recorder.parameters.put(recorder.model, self.first)
            for name, first in self.first_buffers.items():
                job.module.get_buffer(name).copy_(first)
        if job.settings.early_stopping:
            loss = recorder.plateau.best
        job.module.leave_shared_memory()
        if message := job.floor_message():
            recorder.warnings.append((message, ConvergenceWarning))
        return Outcome(recorder.epochs, loss, warnings=recorder.warnings)


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
        # A network that normalises over a batch would take what fills it up for data.
        fill_up=is_known(module.encoder) and is_known(module.decoder),
    )
