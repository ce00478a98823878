"""A model over the rows of an array, in chunks of bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Event, Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from skae._data import Standardization, dense
from skae._module import AutoencoderModule
from skae._utils.device import move_double
from skae._utils.matmul import is_large, large_products
from skae._utils.threads import on_cores
from skae.networks.randomness import fixed_draws

T = TypeVar("T")

# Numbers in the widest intermediate result of a chunk: 1 MB of float32, so that an
# operation finds the result of the one before in the cache.
_CHUNK_NUMBERS = 2**18
# The same on an accelerator, which small chunks leave idle: 256 MB of float32.
_CHUNK_NUMBERS_OFF_CPU = 2**26
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


def is_kept(n: int, module: AutoencoderModule) -> bool:
    """Whether n prepared rows of a model are few enough to be kept; see `Kept`."""
    return _n_bytes(n, module) <= _KEPT_BYTES


def _n_bytes(n: int, module: AutoencoderModule) -> int:
    """Return the bytes that n prepared rows may take."""
    return n * module.spec.n_row * module.dtype.itemsize


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
        blocks = blocks_of(
            X, standardization, module, n_draws, index, are_codes, kept, starts
        )
        with _inference(module, n_draws * n):
            for first, y in blocks:
                if interrupted.is_set():
                    return
                write(first, function(y))

    with _no_training(module):
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
    return max(1, chunk_numbers(module) // (n_draws * module.width))


def chunk_numbers(module: AutoencoderModule) -> int:
    """Return how many numbers an intermediate result of a chunk may have."""
    return _CHUNK_NUMBERS if module.device.type == "cpu" else _CHUNK_NUMBERS_OFF_CPU


@contextmanager
def evaluation_mode(module: AutoencoderModule, n_rows: int) -> Iterator[None]:
    """Switch off gradients and training mode, and use the fastest matrix products."""
    with _no_training(module), _inference(module, n_rows):
        yield


@contextmanager
def _no_training(module: AutoencoderModule) -> Iterator[None]:
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
    n_rows = min(n_rows, chunk_numbers(module) // module.width)
    uses_large_products = (
        is_large(n_rows * module.largest, module.std_in_units)
        # The products of a user's module stay as they are.
        and module.network_capabilities.has_analytic_gradient
    )
    products = large_products(n_rows) if uses_large_products else nullcontext()
    draws = fixed_draws(module.encoder, module.decoder, device=module.device)
    with torch.inference_mode(), products, draws:
        yield


def blocks_of(
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
    return kept.blocks(_n_bytes(n, module), make)
