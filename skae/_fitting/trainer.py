"""Trains fit problems: those that are alike side by side, on all cores."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from threading import Event, Lock

import torch

from skae._data import Batches, Shard, ShardBatches
from skae._engine import Captures, flatten, make_step
from skae._evaluation import validation_scores
from skae._fitting.checkpoint import check_places
from skae._fitting.lockstep import gather
from skae._fitting.monitor import TrainingMonitor
from skae._fitting.problem import FitProblem, FitResult
from skae._fitting.snapshot import EpochReader
from skae._module import AutoencoderModule
from skae._optim import Adam, minimize
from skae._utils.peers import Peers
from skae._utils.settings import tf32_products, training_mode
from skae._utils.signals import sigterm_as_interrupt
from skae._utils.threads import (
    flushed_denormals,
    in_parts,
    is_worth_a_thread,
    on_cores,
    suitable_threads,
)
from skae.scales import Scale

# Bytes that the parameters of models side by side may take, with all their copies.
_MOST_BYTES = 2**31
# Copies of the parameters: the parameters themselves, gradient, two moments of Adam, all
# three as they were after the last epoch and the one before, a temporary, and the
# parameters of the start and of the best epoch.
_COPIES = 13
# Bytes that a step of models side by side may use: what stays in the caches of the cores.
_CACHE_BYTES = 2**23


def train(problems: Sequence[FitProblem]) -> list[FitResult]:
    """Train the models of one call of ``fit``, with those of other calls in lockstep."""
    return gather(train_problems, problems)


@training_mode()
def train_problems(problems: Sequence[FitProblem]) -> list[FitResult]:
    """Train models of any shapes: those with equal batch keys side by side."""
    checkpoints = {p.checkpoint: None for p in problems if p.checkpoint is not None}
    check_places(checkpoints)
    # An interrupt ends all groups.
    interrupted = Event()
    with sigterm_as_interrupt(bool(checkpoints)):
        try:
            results = _train_groups(problems, interrupted)
        finally:
            # Also after an error, for what was trained before it.
            for checkpoint in checkpoints:
                must_write = len(checkpoints) == 1 or interrupted.is_set()
                checkpoint.close(must_write=must_write)
    for result in results:
        # Also of a model whose training was over before.
        result.is_interrupted |= interrupted.is_set()
    return results


def _train_groups(problems: Sequence[FitProblem], interrupted: Event) -> list[FitResult]:
    """Train models of any shapes, group by group."""
    groups: dict[Hashable, list[int]] = {}
    for i, problem in enumerate(problems):
        key = problem.batch_key() if len(problems) > 1 else None
        groups.setdefault(key, []).append(i)
    results: dict[int, FitResult] = {}
    for group in groups.values():
        # Adam updates neighbours of equal learning rate together.
        group.sort(key=lambda i: problems[i].options.learning_rate_init)
        first = problems[group[0]].module
        bytes_per_model = _COPIES * first.n_weights * first.dtype.itemsize
        for members in in_parts(group, max(_MOST_BYTES // bytes_per_model, 1)):
            found = _train_group([problems[i] for i in members], interrupted)
            results.update(zip(members, found, strict=True))
    return [results[i] for i in range(len(problems))]


def _train_group(problems: Sequence[FitProblem], interrupted: Event) -> list[FitResult]:
    """Train models that are alike, dealt out to the cores in parts that fit the caches."""
    module, options, rows = problems[0].module, problems[0].options, problems[0].rows
    multiply_adds = options.multiply_adds_per_step(rows.epoch_size, module)
    parts, chunks = [problems], [problems]
    if module.device.type == "cpu":
        size = -(-len(problems) // torch.get_num_threads())
        is_thread_safe = problems[0].capabilities.is_thread_safe
        is_worth_it = is_worth_a_thread(multiply_adds * len(problems))
        if size < len(problems) and is_thread_safe and is_worth_it:
            chunks = in_parts(problems, size)
        n_rows = options.rows_per_batch(rows.epoch_size)
        numbers = 4 * module.n_weights + 8 * n_rows * module.width
        most = max(_CACHE_BYTES // (numbers * module.dtype.itemsize), 1)
        parts = [part for chunk in chunks for part in in_parts(chunk, most)]
    calls = [partial(_try_to_train, part, interrupted) for part in parts]
    with tf32_products(options.precision == "tf32"):
        if len(chunks) > 1:
            lock = Lock()
            for problem in problems:
                problem.callback_lock = lock
            found = on_cores(calls, len(chunks), interrupted)
        else:
            found = [call() for call in calls]
    return list(chain.from_iterable(found))


def _try_to_train(problems: Sequence[FitProblem], interrupted: Event) -> list[FitResult]:
    """Train models side by side; an error becomes the result of each of them."""
    try:
        return train_side_by_side(problems, interrupted)
    # Each fit raises the error to its own caller, which in a search has an error_score.
    # The other groups go on.
    except Exception as error:
        return [FitResult([], error=error) for _ in problems]


def train_side_by_side(
    problems: Sequence[FitProblem], interrupted: Event
) -> list[FitResult]:
    """Train R models of the same shapes and number of batches, in place.

    After an interrupt the models are those of their last whole epoch, and ``interrupted``
    is set, so that other trainings end too.
    """
    first = problems[0]
    epoch_size = first.rows.epoch_size
    # Of one model, so that its result does not depend on the others: where several threads
    # round otherwise, their number is fixed by this size.
    multiply_adds = first.options.multiply_adds_per_step(epoch_size, first.module)
    with suitable_threads(multiply_adds) as most_threads:
        return _train_side_by_side(problems, interrupted, most_threads)


def _train_side_by_side(
    problems: Sequence[FitProblem], interrupted: Event, most_threads: int
) -> list[FitResult]:
    """Train R models with at most so many threads; see `train_side_by_side`."""
    options, peers = problems[0].options, problems[0].rows.peers
    modules = [problem.module for problem in problems]
    for module in modules:
        peers.broadcast_([*module.parameters(), *module.buffers()])
    parameters = flatten(modules, problems[0].objective, options.autocast)
    for problem in problems:
        problem.make_generators()
    adam = Adam(parameters, [problem.l2 for problem in problems])
    monitors = [
        TrainingMonitor(problem, adam, i, interrupted) for i, problem in enumerate(problems)
    ]
    # After a checkpoint has set the generators.
    if modules[0].device.type != "cpu":
        _share_generators(problems)
    batches = make_batches(problems)
    epoch = problems[0].first_epoch
    adam.resume(epoch * batches.n_batches)
    start = adam.snapshot()
    snapshots = start.by_model(start.finite_sums().tolist())
    for monitor, snapshot in zip(monitors, snapshots, strict=True):
        monitor.begin(snapshot)
    running = [monitor for monitor in monitors if not monitor.is_over]
    captures = Captures()
    try:
        if running and len(running) < len(monitors):
            adam, batches = _select(adam, batches, running)
        with flushed_denormals(), _over_peers(modules, peers):
            while running:
                modules = [m.problem.module for m in running]
                step = make_step(
                    modules,
                    [m.problem.objective for m in running],
                    adam.parameters,
                    batches.size,
                    options.autocast,
                    [m.problem.streams for m in running],
                    most_threads,
                    peers,
                    captures,
                )
                schedules = [m.schedule for m in running]
                read = EpochReader(adam, modules, partial(_validate, running))
                epoch, left = minimize(step, batches, adam, schedules, running, read, epoch)
                running = [running[i] for i in left]
                if running:
                    adam, batches = _select(adam, batches, running)
    except KeyboardInterrupt:
        interrupted.set()
        if not peers.is_alone:
            # The other processes may be anywhere in the epoch.
            raise
        for monitor in running:
            monitor.interrupt()
    message = captures.message()
    if message is not None:
        for monitor in monitors:
            monitor.warnings.append((message, RuntimeWarning))
    return [monitor.conclude() for monitor in monitors]


def _share_generators(problems: Sequence[FitProblem]) -> None:
    """Let models that would draw the same numbers have the same generators.

    Those of a search with one ``random_state`` do, if they have as many rows.
    """
    shared: dict[Hashable, torch.Generator] = {}
    for problem in problems:
        for i, generator in enumerate(problem.generators):
            state = generator.get_state().numpy().tobytes()
            key = i, state, problem.rows.epoch_size
            problem.generators[i] = shared.setdefault(key, generator)


def _validate(monitors: Sequence[TrainingMonitor]) -> list[float | None]:
    """Return the validation scores of models that are scored together, else None."""
    scores: list[float | None] = [None] * len(monitors)
    problems = [monitor.problem for monitor in monitors]
    chosen = [
        i
        for i, problem in enumerate(problems)
        if problem.validation is not None
        and not monitors[i].is_over
        and problem.validated.key() is not None
    ]
    found = validation_scores([problems[i].validated for i in chosen])
    for i, score in zip(chosen, found, strict=True):
        scores[i] = score
    return scores


@contextmanager
def _over_peers(modules: Sequence[AutoencoderModule], peers: Peers) -> Iterator[None]:
    """Let the scales of models know the processes that have the rows of a batch."""
    parts = [part for module in modules for part in module.scale.modules()]
    scales = [part for part in parts if isinstance(part, Scale) and not peers.is_alone]
    for scale in scales:
        scale.peers = peers
    try:
        yield
    finally:
        for scale in scales:
            del scale.peers


def _select(
    adam: Adam, batches: Batches, running: Sequence[TrainingMonitor]
) -> tuple[Adam, Batches]:
    """Return optimiser and batches of the models that go on, and tell their monitors."""
    chosen = [monitor.model for monitor in running]
    adam, batches = adam.select(chosen), batches.select(chosen)
    for i, monitor in enumerate(running):
        monitor.optimizer, monitor.model = adam, i
    return adam, batches


def make_batches(problems: Sequence[FitProblem]) -> Batches:
    """Make the batches of models that are trained side by side."""
    first = problems[0]
    module, options, device = first.module, first.options, first.module.device
    rows = [problem.rows for problem in problems]
    make = ShardBatches if isinstance(first.rows, Shard) else Batches
    return make(
        rows,
        [problem.standardization for problem in problems],
        batch_size=options.rows_per_batch(first.rows.epoch_size),
        shuffle=options.shuffle,
        noise_shape=(first.objective.n_mc_samples, module.spec.n_components),
        dtype=module.dtype,
        device=device,
        order=[problem.generators[0] for problem in problems],
        noise=[problem.generators[1] for problem in problems],
        # A network that normalises over a batch would count the rows that fill it up.
        fill_up=module.network_capabilities.has_analytic_gradient,
        prepare=(
            [problem.module.prepare for problem in problems]
            if module.spec.has_missing
            else None
        ),
    )
