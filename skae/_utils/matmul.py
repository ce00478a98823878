"""Products of large matrices, by the faster of torch's two libraries.

By default, torch multiplies by MKL. On processors that are not Intel's, MKL does not use
AVX-512, but oneDNN does. Where the processor multiplies vectors of 512 bits at once, oneDNN
takes half the time for large matrices. For small ones it takes longer, since it prepares
each call for longer.
"""

import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Multiply-adds from which on oneDNN's faster arithmetic outweighs its longer preparation.
_LARGE_MULTIPLY_ADDS = 2**23
# First family of AMD's processors that multiplies vectors of 512 bits at once (Zen 5). The
# one before takes them in two halves, and there oneDNN is no faster than MKL.
_FIRST_FAMILY = 26


def is_large(multiply_adds: float, like: Tensor) -> bool:
    """Whether :func:`large_product` is the faster way to compute a product.

    ``like`` is one of the factors: oneDNN is used for float32 on the CPU only. The answer
    is the same at each call on one machine, if the user leaves oneDNN enabled.
    """
    return (
        multiply_adds >= _LARGE_MULTIPLY_ADDS
        and like.device.type == "cpu"
        and like.dtype == torch.float32
        and is_onednn_faster()
        and bool(torch.backends.mkldnn.enabled)  # a user can switch it off
    )


@lru_cache(maxsize=1)
def is_onednn_faster() -> bool:
    """Whether this processor gains by AVX-512, and MKL does not use it."""
    processor = _processor()
    family = re.search(r"family\W+(\d+)", processor, re.IGNORECASE)
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in processor
        and family is not None
        and int(family[1]) >= _FIRST_FAMILY
    )


def _processor() -> str:
    """Return the description of the first processor."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            return file.read(1000)
    except OSError:
        return platform.processor()


def large_product(a: Tensor, bt: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute :math:`A B^T + c` by oneDNN, without autograd.

    A is ``(..., m, k)``, the transposed second factor ``bt`` is ``(n, k)``, and the bias c
    is ``(n,)``. The result is ``(..., m, n)``.
    """
    # For memory with gaps oneDNN uses a reference implementation, a thousand times slower.
    if not (bt.is_contiguous() or bt.mT.is_contiguous()):
        bt = bt.contiguous()
    return torch.ops.mkldnn._linear_pointwise(a, bt, bias, "none", [], "")


def weighted_sum(weight: Tensor, rows: Tensor, out: Tensor | None = None) -> Tensor:
    """Add up rows ``(..., n, d)`` with weights ``(..., n, 1)``; ``(..., 1, d)``.

    A GPU may round the factors of a product to TF32, and a weight of 1/n is rounded alike
    in all rows: the sum would be off by up to 5e-4 of its value. So it is no product there.
    """
    if rows.device.type == "cpu":
        # A row times a matrix rounds for one model as for several, a column does not.
        return torch.matmul(weight.mT, rows, out=out)
    return torch.sum(weight * rows, dim=-2, keepdim=True, out=out)


class _LargeProducts(TorchFunctionMode):
    """A mode in which :func:`large_product` computes large affine layers."""

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        self.n_rows = n_rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear and not kwargs:
            weight = args[1]
            if is_large(self.n_rows * weight.numel(), weight):
                return large_product(*args)
        return func(*args, **(kwargs or {}))


@contextmanager
def large_products(n_rows: int) -> Iterator[None]:
    """Compute large affine layers by :func:`large_product`, without autograd.

    ``n_rows`` is the number of rows in most blocks. The way of computing depends on this
    number only, so the values of a row do not depend on the size of the last block.
    """
    with _LargeProducts(n_rows):
        yield
