"""A model over the rows of an array, in chunks of bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from skae._data import Standardization, dense
from skae._module import AutoencoderModule
from skae._utils.device import move_double
from skae._utils.matmul import is_large, large_products
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
) -> Any:
    """Apply a function of standardised and prepared rows to data, chunk by chunk.

    The function takes what `AutoencoderModule.prepare` returns, or codes
    ``(n, n_components)``, and returns ``(n, ...)``; it may repeat each row ``n_draws``
    times inside. Precision and device are those of the module, which is in evaluation mode
    meanwhile. X is an array, dense or sparse, or a tensor; ``index`` selects rows, all by
    default. The result is an array, or a tensor where X is one: rows on the device of the
    module do not leave it. ``kept`` is for further calls with the same rows.
    """
    n = X.shape[0] if index is None else len(index)
    home = X.device if isinstance(X, Tensor) else torch.device("cpu")
    result = torch.empty(0, device=home)
    with evaluation_mode(module, n_draws * n):
        for first, y in blocks_of(
            X, standardization, module, n_draws, index, are_codes, kept
        ):
            values = function(y)
            if first == 0:
                # One array for all chunks: many small ones would fragment the heap.
                shape, dtype = (n, *values.shape[1:]), values.dtype
                # A tensor of inference mode could not be changed later.
                with torch.inference_mode(False):
                    result = torch.empty(shape, dtype=dtype, device=home)
            result[first : first + len(values)] = values
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
    n_rows = min(n_rows, chunk_numbers(module) // module.width)
    uses_large_products = (
        is_large(n_rows * module.largest, module.std_in_units)
        # The products of a user's module stay as they are.
        and module.network_capabilities.has_analytic_gradient
    )
    training = module.training
    if training:
        module.eval()
    products = large_products(n_rows) if uses_large_products else nullcontext()
    try:
        draws = fixed_draws(module.encoder, module.decoder, device=module.device)
        with torch.inference_mode(), products, draws:
            yield
    finally:
        if training:
            module.train()


def blocks_of(
    X: Any,
    standardization: Standardization,
    module: AutoencoderModule,
    n_draws: int,
    index: np.ndarray | None,
    are_codes: bool = False,
    kept: Kept | None = None,
) -> Iterable[tuple[int, Tensor]]:
    """Return the position of the first row and the prepared rows of each block."""

    def make() -> Iterator[tuple[int, Tensor]]:
        return _prepared_blocks(X, standardization, module, n_draws, index, are_codes)

    if kept is None:
        return make()
    n = X.shape[0] if index is None else len(index)
    return kept.blocks(_n_bytes(n, module), make)


def _prepared_blocks(
    X: np.ndarray,
    standardization: Standardization,
    module: AutoencoderModule,
    n_draws: int,
    index: np.ndarray | None,
    are_codes: bool,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the blocks of `blocks_of`."""
    n = X.shape[0] if index is None else len(index)
    size = rows_per_chunk(module, n_draws)
    for first in range(0, n, size):
        part = slice(first, first + size)
        block = dense(X, part if index is None else index[part])
        if isinstance(block, Tensor):
            y = standardization.on(block.device).standardize(block)
        else:
            y = torch.from_numpy(standardization.standardize(block))
        if are_codes:
            yield first, y.to(module.std_in_units)
        else:
            yield first, module.prepare(move_double(y, module.device))
