"""Trains a model on one block of a stream, and keeps what the next block goes on from."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._data import LARGEST_WEIGHT, FeatureMoments
from skae._engine import Captures, flatten, make_step
from skae._evaluation import mean_of_residuals, shared_scale
from skae._fitting.problem import FitProblem
from skae._fitting.snapshot import (
    EpochReader,
    EpochState,
    copy_buffers,
    restore_buffers,
)
from skae._fitting.trainer import make_batches
from skae._module import AutoencoderModule
from skae._optim import (
    AveragedAdam,
    FlatParameters,
    OpenEndedSchedule,
    minimize,
)
from skae._utils.messages import warn_user
from skae._utils.random import set_stream_state, stream_state
from skae._utils.settings import tf32_products
from skae._utils.threads import flushed_denormals, suitable_threads
from skae.scales.closed_form import ClosedFormScale

# Rows from which on a batch has a scale of its own: the smallest "auto" batch.
_FULL_BATCH = 32
# What a stream has warned of, if its step is not captured into a graph.
_NO_GRAPH = "graph"
# What the optimiser has for each parameter.
_BUFFERS = "values", "mean", "mean_square"


@dataclass(frozen=True)
class StreamState:
    """What a stream has done up to a block; its size does not depend on the blocks.

    Attributes
    ----------
    arrays : dict of str to ndarray
        ``values/``, ``mean/`` and ``mean_square/`` and the name of a parameter: the last
        iterate and Adam's moments. ``buffers/`` and a name: buffers of networks and scale
        in training. ``generators/`` and a number: sources of random numbers.
        ``deviation``: mean deviation of all blocks, ``(1, 1)`` or ``(1, n_features)``.
        ``moments/`` and a name: `FeatureMoments`.
    progress : dict
        The rest, as objects of JSON: ``n_steps``, ``n_of_optimizer``, ``n_divergences``,
        ``norm``, ``n_blocks``, ``n_samples``, ``warned`` (names of what the user was
        warned of) and ``judged_from`` (steps from which the model is judged next).
    """

    arrays: dict[str, np.ndarray]
    progress: dict[str, Any]

    @property
    def moments(self) -> FeatureMoments:
        """Moments of the features over all blocks."""
        return FeatureMoments(**self.part("moments"))

    def part(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of one part, by the rest of their names."""
        start = f"{name}/"
        return {
            k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)
        }


@dataclass(frozen=True)
class BlockResult:
    """What a block has led to.

    Attributes
    ----------
    state : StreamState
        What the next block goes on from.
    epoch : dict or None
        The history of the block; None if the training diverged, and the block was left out.
    learning_rate : float
        The rate of the next block before it falls.
    """

    state: StreamState
    epoch: dict[str, float] | None
    learning_rate: float


class _BlockHooks:
    """Keeps what a training has measured in a block. See `EpochHooks`."""

    def __init__(self) -> None:
        self.metrics = np.empty(0)
        self.is_finite = False

    def on_epoch_begin(self) -> None:
        """Do nothing. See `EpochHooks.on_epoch_begin`."""

    def on_epoch_end(self, metrics: np.ndarray, progress: float, state: EpochState) -> bool:
        """Keep the metrics, and end the training."""
        self.metrics = metrics
        self.is_finite = (
            bool(np.isfinite(metrics).all())
            and state.snapshot.is_finite()
            and state.has_finite_buffers
        )
        return True


def first_state(
    module: AutoencoderModule,
    moments: FeatureMoments,
    n_steps: int = 0,
    n_samples: float = 0.0,
) -> StreamState:
    """Return the state of a model that a stream begins with.

    After a fit, these are its steps and samples.
    """
    with torch.no_grad():
        values = {f"values/{name}": _array(p) for name, p in module.named_parameters()}
    arrays = values | {f"buffers/{k}": _array(v) for k, v in copy_buffers(module).items()}
    if module.scale.needs_optimal_scale and n_samples:
        log_scale = module.scale.log_scale(module.std_in_units.new_empty(1, 0))
        deviation = module.spec.likelihood.deviation(log_scale.detach().exp())
        arrays["deviation"] = _array(deviation)
    progress = {
        "n_steps": n_steps,
        "n_of_optimizer": 0,
        "n_divergences": 0,
        "norm": 0.0,
        "n_blocks": 0,
        "n_samples": n_samples,
        "warned": [],
    }
    return StreamState(arrays | _named(moments), progress)


def train_block(
    problem: FitProblem, state: StreamState, moments: FeatureMoments
) -> BlockResult:
    """Train a model by one pass over its rows; it becomes the average of the iterates.

    The module has the average of the blocks before, and the units of ``moments``, which
    are those of all rows with this block. The state is not changed; if the training
    diverges, neither is the module.
    """
    module, options, progress = problem.module, problem.options, state.progress
    known = progress["n_samples"]
    n_samples = known + min(problem.rows.n_samples, LARGEST_WEIGHT)
    n_steps, n_of_optimizer = progress["n_steps"], progress["n_of_optimizer"]
    rate = options.learning_rate_init / 2 ** progress["n_divergences"]
    _set_batch_share(problem)
    buffers_before = copy_buffers(module)
    parameters = flatten([module], problem.objective, options.autocast)
    problem.make_generators()
    streams = [*problem.generators, *problem.streams]
    for i, stream in enumerate(streams):
        if f"generators/{i}" in state.arrays:
            set_stream_state(stream, state.arrays[f"generators/{i}"])
    adam = AveragedAdam(parameters, [problem.l2_of(n_samples)], n_steps)
    average_before = adam.average.clone()
    _restore(module, parameters, adam, state)
    batches = make_batches([problem])
    captures = Captures()
    schedule = OpenEndedSchedule(rate, n_steps, n_of_optimizer, batches.n_batches)
    hooks = _BlockHooks()
    multiply_adds = options.multiply_adds_per_step(problem.rows.epoch_size, module)
    with (
        tf32_products(options.precision == "tf32"),
        suitable_threads(multiply_adds) as most_threads,
        flushed_denormals(),
    ):
        step = make_step(
            [module],
            [problem.objective],
            parameters,
            batches.size,
            options.autocast,
            [problem.streams],
            most_threads,
            captures=captures,
        )
        minimize(step, batches, adam, [schedule], [hooks], EpochReader(adam, [module]))
        buffers = copy_buffers(module)
        iterate = {
            f"{part}/{name}": _array(values)
            for part, flat in zip(_BUFFERS, _flat(adam), strict=True)
            for name, values in _by_name(module, parameters, flat).items()
        }
        parameters.values.copy_(adam.average)
        module.requires_grad_(False).eval()
        deviation = None
        is_finite = hooks.is_finite
        if is_finite and module.scale.needs_optimal_scale:
            deviation = _pool_deviation(problem, state, (known / n_samples) ** 2)
            module.scale.finalize(deviation)
            is_finite = bool(deviation.isfinite().all())
        if not is_finite:
            parameters.values.copy_(average_before)
            restore_buffers(module, buffers_before, with_scale=True)
    module.leave_shared_memory()
    progress = {**progress, "n_blocks": progress["n_blocks"] + 1}
    message = captures.message()
    if message is not None and _NO_GRAPH not in progress["warned"]:
        warn_user(message, RuntimeWarning)
        progress["warned"] = sorted([*progress["warned"], _NO_GRAPH])
    if not is_finite:
        progress["n_divergences"] += 1
        return BlockResult(StreamState(state.arrays, progress), None, rate / 2)
    arrays = iterate | {f"buffers/{name}": _array(v) for name, v in buffers.items()}
    arrays |= {f"generators/{i}": stream_state(each) for i, each in enumerate(streams)}
    if deviation is not None:
        arrays["deviation"] = _array(deviation)
    progress |= {
        "n_steps": n_steps + batches.n_batches,
        "n_of_optimizer": n_of_optimizer + batches.n_batches,
        "norm": float(adam.norms[0]),
        "n_samples": n_samples,
    }
    epoch = _describe(problem, hooks.metrics)
    return BlockResult(StreamState(arrays | _named(moments), progress), epoch, rate)


def _set_batch_share(problem: FitProblem) -> None:
    """Tell closed-form scales how large the batches of this block are."""
    size = problem.rows.epoch_size
    n_batches = -(-size // problem.options.rows_per_batch(size))
    for part in problem.module.scale.modules():
        if isinstance(part, ClosedFormScale):
            part.batch_share = min(size / n_batches / _FULL_BATCH, 1.0)


def _flat(adam: AveragedAdam) -> tuple[Tensor, Tensor, Tensor]:
    """Return the buffers of the optimiser, in the order of ``_BUFFERS``."""
    return adam.parameters.values, adam.mean, adam.mean_square


def _by_name(
    module: AutoencoderModule, parameters: FlatParameters, flat: Tensor
) -> dict[str, Tensor]:
    """View a buffer of one model by the names of its parameters that are trained."""
    names = [name for name, p in module.named_parameters() if p.grad is not None]
    views = parameters.views(flat)
    return {name: view[0] for name, view in zip(names, views, strict=True)}


def _restore(
    module: AutoencoderModule,
    parameters: FlatParameters,
    adam: AveragedAdam,
    state: StreamState,
) -> None:
    """Put the last iterate and the optimiser of a state back."""
    for part, flat in zip(_BUFFERS, _flat(adam), strict=True):
        kept = state.part(part)
        for name, view in _by_name(module, parameters, flat).items():
            if name in kept:
                view.copy_(_padded(torch.from_numpy(kept[name]), view))
    adam.resume(state.progress["n_of_optimizer"])
    adam.norms[0] = state.progress["norm"]
    # A fixed scale and all floors are those of the units of this block.
    closed_form = [
        f"scale.{name}".rstrip(".")
        for name, part in module.scale.named_modules()
        if isinstance(part, ClosedFormScale)
    ]
    kept_buffers = {}
    for name, value in state.part("buffers").items():
        owner, _, leaf = name.rpartition(".")
        if not name.startswith("scale") or (owner in closed_form and leaf != "floor"):
            kept_buffers[name] = torch.from_numpy(value).to(module.get_buffer(name))
    restore_buffers(module, kept_buffers, with_scale=True)


def _padded(values: Tensor, like: Tensor) -> Tensor:
    """Pad a parameter with zeros for further inputs, which the network did not see yet."""
    if values.shape == like.shape:
        return values
    padded = torch.zeros_like(like, device="cpu")
    padded[:, : values.shape[1]] = values
    return padded


def _pool_deviation(problem: FitProblem, state: StreamState, known: float) -> Tensor:
    """Average the deviation that sets a closed-form scale over this and all former blocks.

    The weight of a row is in proportion to its place in the stream, because residuals of
    former blocks are those of former models; ``known`` is the weight of the former blocks.
    """
    likelihood = problem.module.spec.likelihood
    deviation, share, _ = mean_of_residuals(
        lambda residual: likelihood.deviation(residual, out=residual),
        problem.module,
        problem.objective,
        problem.rows,
        problem.standardization,
    )
    if "deviation" not in state.arrays:
        return deviation
    before = torch.tensor(state.arrays["deviation"], device=deviation.device)
    pooled = torch.lerp(deviation, before.to(deviation), known)
    return pooled if share is None else torch.where(share > 0, pooled, before)


def _describe(problem: FitProblem, metrics: np.ndarray) -> dict[str, float]:
    """Return the history of a block, in the units of X."""
    epoch = problem.objective.history(metrics, 1.0)
    epoch["objective"] += problem.log_det_units
    epoch["log_likelihood"] -= problem.log_det_units
    scale = shared_scale(problem.module.scale, problem.standardization)
    if scale is not None:
        epoch["scale"] = math.exp(np.nanmean(np.log(scale)))
    return epoch


def _named(moments: FeatureMoments) -> dict[str, np.ndarray]:
    """Return moments as arrays of a state."""
    return {f"moments/{name}": values for name, values in vars(moments).items()}


def _array(values: Tensor) -> np.ndarray:
    """Copy a tensor to an array."""
    return np.array(values.detach().cpu().numpy(), order="C")
