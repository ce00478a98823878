"""A model over the rows of an array, in chunks of bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from skae._data import Rows, Standardization, dense
from skae._module import AutoencoderModule
from skae._utils.device import move_double, to_double
from skae._utils.matmul import is_large, large_products
from skae._utils.threads import on_cores
from skae.networks.randomness import fixed_draws
from skae.objectives import Objective
from skae.scales import MixedScale, NoScale, Scale

# (y, draws) -> a statistic of each row, 2-D.
Statistic = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")

# Rows that are enough to estimate a scale during training, to compare two starts, and to
# see whether a scale is at its floor.
SCALE_ROWS = 1024

# Numbers in the widest intermediate result of a chunk: 1 MB of float32, so that an
# operation finds the result of the one before in the cache.
_CHUNK_NUMBERS = 2**18
# The same on an accelerator, which small chunks leave idle: 256 MB of float32.
_CHUNK_NUMBERS_OFF_CPU = 2**26
# Rows times draws that are enough for the mean of a statistic over the training set; each
# row takes at least one pair of draws. On the data of the benchmarks a closed-form
# spherical scale is within a thousandth of the value from all draws.
_MEAN_EVALUATIONS = 2**11
# Draws of the posterior for the validation score during training.
_VALIDATION_DRAWS = 8
# Bytes of prepared rows that a model keeps for evaluations in each epoch of its training.
# More rows are standardised and prepared again.
_KEPT_BYTES = 2**24


class Kept:
    """What repeated evaluations of a model over the same rows need again.

    Rows are kept as they are prepared, and draws, on the device of the model.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, name: str, make: Callable[[], T]) -> T:
        """Return what is kept by a name; make it the first time."""
        if name not in self._values:
            self._values[name] = make()
        value: T = self._values[name]
        return value

    def blocks(
        self, n_bytes: int, make: Callable[[], Iterator[tuple[int, Tensor]]]
    ) -> Iterable[tuple[int, Tensor]]:
        """Return blocks of prepared rows, which are kept if they are of few bytes."""
        if n_bytes > _KEPT_BYTES:
            return make()
        return self.get("blocks", lambda: list(make()))


def over_rows(
    function: Callable[[Tensor], Tensor],
    X: Any,
    standardization: Standardization,
    module: AutoencoderModule,
    *,
    n_draws: int = 1,
    index: np.ndarray | None = None,
    are_codes: bool = False,
    kept: Kept | None = None,
    n_workers: int = 1,
) -> Any:
    """Apply a function of standardised and prepared rows to data, chunk by chunk.

    The function takes what `AutoencoderModule.prepare` returns, or codes
    ``(n, n_components)``, and returns ``(n, ...)``; it may repeat each row ``n_draws``
    times inside. Precision and device are those of the module, which is in evaluation mode
    meanwhile. X is an array, dense or sparse, or a tensor; ``index`` selects rows, all by
    default. The result is an array, or a tensor where X is one: rows on the device of the
    module do not leave it. ``kept`` is for further calls with the same rows. So many
    workers compute chunks at the same time, each with one thread of torch; several need a
    function and parts of the model that are thread-safe.
    """
    n = X.shape[0] if index is None else len(index)
    home = X.device if isinstance(X, Tensor) else torch.device("cpu")
    results: list[Tensor] = []
    lock = Lock()

    def write(first: int, values: Tensor) -> None:
        """Put the values of a chunk into the result."""
        with lock:
            if not results:
                # One array for all chunks: many small ones would fragment the heap.
                shape, dtype = (n, *values.shape[1:]), values.dtype
                # A tensor of inference mode could not be changed later.
                with torch.inference_mode(False):
                    results.append(torch.empty(shape, dtype=dtype, device=home))
        results[0][first : first + len(values)] = values

    starts, interrupted = iter(range(0, n, rows_per_chunk(module, n_draws))), Event()

    def work() -> None:
        """Compute chunks until none is left."""
        blocks = _blocks(
            X, standardization, module, n_draws, index, are_codes, kept, starts
        )
        with _inference(module, n_draws * n):
            for first, y in blocks:
                if interrupted.is_set():
                    return
                write(first, function(y))

    with _evaluation_mode(module):
        if n_workers == 1:
            work()
        else:
            on_cores(n_workers * [work], n_workers, interrupted)
    if interrupted.is_set():
        raise KeyboardInterrupt
    result = results[0] if results else torch.empty(0, device=home)
    return result if isinstance(X, Tensor) else result.numpy()


def rows_per_chunk(module: AutoencoderModule, n_draws: int) -> int:
    """Return how many rows are evaluated together, each with so many draws."""
    return max(1, _chunk_numbers(module) // (n_draws * module.width))


def _chunk_numbers(module: AutoencoderModule) -> int:
    """Return how many numbers an intermediate result of a chunk may have."""
    return _CHUNK_NUMBERS if module.device.type == "cpu" else _CHUNK_NUMBERS_OFF_CPU


@contextmanager
def _evaluation_mode(module: AutoencoderModule) -> Iterator[None]:
    """Switch off training mode."""
    training = module.training
    if training:
        module.eval()
    try:
        yield
    finally:
        if training:
            module.train()


@contextmanager
def _inference(module: AutoencoderModule, n_rows: int) -> Iterator[None]:
    """Switch off gradients in this thread, and use the fastest matrix products."""
    n_rows = min(n_rows, _chunk_numbers(module) // module.width)
    uses_large_products = (
        is_large(n_rows * module.largest, module.std_in_units)
        # The products of a user's module stay as they are.
        and module.network_capabilities.has_analytic_gradient
    )
    products = large_products(n_rows) if uses_large_products else nullcontext()
    draws = fixed_draws(module.encoder, module.decoder, device=module.device)
    with torch.inference_mode(), products, draws:
        yield


def _blocks(
    X: Any,
    standardization: Standardization,
    module: AutoencoderModule,
    n_draws: int,
    index: np.ndarray | None,
    are_codes: bool = False,
    kept: Kept | None = None,
    starts: Iterable[int] | None = None,
) -> Iterable[tuple[int, Tensor]]:
    """Return the position of the first row and the prepared rows of each block.

    ``starts`` are the first rows of the blocks, by default of all.
    """
    n = X.shape[0] if index is None else len(index)

    def make() -> Iterator[tuple[int, Tensor]]:
        size = rows_per_chunk(module, n_draws)
        statistics = standardization.on(X.device) if isinstance(X, Tensor) else None
        for first in range(0, n, size) if starts is None else starts:
            part = slice(first, first + size)
            block = dense(X, part if index is None else index[part])
            if statistics is None:
                y = torch.from_numpy(standardization.standardize(block))
            else:
                y = statistics.standardize(block)
            if are_codes:
                yield first, y.to(module.std_in_units)
            else:
                yield first, module.prepare(move_double(y, module.device))

    if kept is None:
        return make()
    return kept.blocks(n * module.spec.n_row * module.dtype.itemsize, make)


def mean_over_rows(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    statistic: Statistic,
    kept: Kept | None = None,
) -> Tensor:
    """Average a statistic over weighted rows and over their posteriors, ``(1, m)``.

    The statistic takes standardised rows ``(n, n_features)`` and draws
    ``(n_draws, n or 1, n_components)`` and returns ``(n, m)``. ``kept`` is for further
    calls with the same rows.
    """
    kept = kept or Kept()
    draws = kept.get("draws", lambda: objective.draws(module.spec).to(module.std_in_units))
    # The draws are pairs, z and -z, half the set apart. Few rows take all of them. Many
    # rows take some pairs each, in turn, so that all pairs are used equally often.
    half = len(draws) // 2
    n_pairs = min(half, -(-_MEAN_EVALUATIONS // (2 * rows.total)))
    weights = kept.get(
        "weights", lambda: move_double(torch.from_numpy(rows.weight), draws.device)
    )
    n_draws = max(2 * n_pairs, 1)
    total = weights.new_zeros(())
    with _evaluation_mode(module), _inference(module, n_draws * len(rows)):
        blocks = _blocks(rows.X, standardization, module, n_draws, rows.index, kept=kept)
        for first, y in blocks:
            used = draws[:, None]  # (n_draws, 1, k)
            if n_pairs < half:
                # (2 n_pairs, n, k)
                used = _in_turn(draws, n_pairs, rows.first + first, len(y))
            weight = weights[first : first + len(y)]
            total = total + (weight @ to_double(statistic(y, used)))[None]
        rows.peers.sum_(total)
    # A copy, because a tensor made in inference mode cannot be used with gradients.
    return total.clone().div_(rows.total).to(module.std_in_units)


def _in_turn(draws: Tensor, n_pairs: int, first: int, n: int) -> Tensor:
    """Deal pairs of draws ``(2 half, k)`` to n rows in turn; ``(2 n_pairs, n, k)``."""
    half, k = len(draws) // 2, draws.shape[1]
    start = first * n_pairs % half
    stop = start + n * n_pairs
    turns = draws.view(2, half, k).repeat(1, -(-stop // half), 1)[:, start:stop]
    return turns.reshape(2, n, n_pairs, k).transpose(1, 2).reshape(2 * n_pairs, n, k)


def training_objective(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> float:
    """Return the training objective over all rows, with the final weight of the KL.

    It is in nats, in the likelihood's units.
    """
    kl_weight = objective.kl_weight(1.0)

    def statistic(y: Tensor, draws: Tensor) -> Tensor:
        return objective.log_likelihood(module, y, draws, kl_weight)[:, None]

    mean = mean_over_rows(module, objective, rows, standardization, statistic)
    return -float(mean)


def finalize_scale(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
) -> float:
    """Set a closed-form scale from all rows, and return the training objective with it.

    The objective is in nats, in the likelihood's units.
    """
    scale, likelihood = module.scale, module.spec.likelihood
    if not scale.needs_optimal_scale:
        return training_objective(module, objective, rows, standardization)
    deviation, share, kl = _set_closed_form(module, objective, rows, standardization)
    # The log-density is linear in the deviation, so its mean is that of a residual whose
    # deviation is the mean deviation. For most likelihoods that is the optimal scale.
    if not likelihood.has_optimal_scale:  # only some of its parts have one
        return training_objective(module, objective, rows, standardization)
    residual = likelihood.optimal_scale(deviation)
    gap = (likelihood.deviation(residual) - deviation).abs()
    if not (gap <= 1e-5 * deviation).all():
        return training_objective(module, objective, rows, standardization)
    log_scale = scale.log_scale(module.std_in_units.new_empty(1, 0))
    log_prob = likelihood.log_prob(residual, torch.zeros_like(residual), log_scale)
    log_prob = to_double(log_prob)
    if share is not None:
        log_prob = log_prob * share.to(log_prob.device)
    expected = float(log_prob.mean()) * module.spec.n_features
    return objective.kl_weight(1.0) * float(kl) - expected


def update_scale(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept | None = None,
) -> None:
    """Set a closed-form scale from some rows; ``kept`` is for further calls with them."""
    if module.scale.needs_optimal_scale:
        _set_closed_form(module, objective, rows, standardization, kept)


def _set_closed_form(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Set a closed-form scale; returns what `mean_of_residuals` does of the deviation."""
    likelihood = module.spec.likelihood
    # The memory of the residual is free: nothing reads it after this.
    found = mean_of_residuals(
        lambda residual: likelihood.deviation(residual, out=residual),
        module,
        objective,
        rows,
        standardization,
        kept,
    )
    module.scale.finalize(found[0])
    return found


def mean_of_residuals(
    statistic: Callable[[Tensor], Tensor],
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Average a statistic of the residuals over rows, posteriors and observed entries.

    The statistic maps residuals ``(n_draws, n, n_features)``, which it may overwrite, to
    numbers of that shape. Returns the mean over the entries that share a scale, ``(1, 1)``
    or ``(1, n_features)``; the share of them that is observed, or None if all are; and the
    mean KL, without axes.
    """
    pool = module.scale.pool

    def pooled(y: Tensor, draws: Tensor) -> Tensor:
        observed = module.observed(y)

        def of_entries(x: Tensor, loc: Tensor, _: Tensor) -> Tensor:
            # The memory of the location is free.
            values = statistic(torch.sub(x, loc, out=loc))
            if observed is not None:
                values = values.masked_fill(~observed, 0.0)
            return pool(values)

        values, kl = objective.expectation(module, y, draws, of_entries)
        parts = [values, kl.sum(dim=1, keepdim=True)]
        if observed is not None:
            parts.insert(1, pool(observed.to(values)))
        elif rows.has_missing:
            parts.insert(1, torch.ones_like(values))
        return torch.cat(parts, dim=1)

    mean = mean_over_rows(module, objective, rows, standardization, pooled, kept)
    m = module.scale.n_scales
    values, kl = mean[:, :m], mean[0, -1]
    if not rows.has_missing:
        return values, None, kl
    share = mean[:, m : 2 * m]
    # If some rows lack all values of a feature, its residual counts as its deviation.
    unknown = pool(statistic(module.std_in_units[None].clone()))
    return torch.where(share > 0, values / share, unknown), share, kl


def validation_score(
    module: AutoencoderModule,
    objective: Objective,
    rows: Rows,
    standardization: Standardization,
    kept: Kept,
) -> float:
    """Return the weighted mean score of some rows, in nats, in the units of X."""

    def make_draws() -> Tensor:
        draws = objective.draws(module.spec, _VALIDATION_DRAWS)[:, None]
        return draws.to(module.std_in_units)

    draws = kept.get("draws", make_draws)
    scores = over_rows(
        lambda y: objective.log_likelihood(module, y, draws),
        rows.X,
        standardization,
        module,
        n_draws=len(draws),
        index=rows.index,
        kept=kept,
    )
    total = float(np.sum(scores.astype(np.float64) * rows.weight))
    mean = rows.peers.sum(total) / rows.total
    return mean - kept.get("log_det", lambda: standardization.mean_log_det(rows))


def shared_scale(
    scale: Scale, standardization: Standardization
) -> float | np.ndarray | None:
    """Return a scale in the units of X, a float or ``(n_features,)``.

    It is None if the scale is a function of the code, or if there is none. A feature
    without scale has NaN.
    """
    if not scale.is_shared or isinstance(scale, NoScale):
        return None
    with torch.no_grad():
        log_scale = scale.log_scale(scale.floor.new_empty(1, 0))
    in_units = np.exp(log_scale.cpu().numpy()[0].astype(np.float64))
    value = in_units * standardization.likelihood_unit
    if isinstance(scale, MixedScale):
        for part, own in scale.parts:
            if isinstance(own, NoScale):
                value[part] = np.nan
        if np.isnan(value).all():
            return None
    return value if scale.covariance_type == "diag" else float(value[0])
