"""Products of large matrices, by the faster of the two libraries that torch has for them.

MKL computes torch's products. On processors that are not Intel's it does without AVX-512,
which oneDNN uses wherever it is: that takes half the time where the matrices are large, and
more where they are small, since it prepares each call for longer.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Multiply-adds from which on a product is large.
_LARGE = 2**23


def is_large(multiply_adds: float, like: Tensor) -> bool:
    """Whether a product is better left to :func:`large_product`.

    Parameters
    ----------
    multiply_adds : float
        Size of the product.
    like : Tensor
        One of its factors: oneDNN is for float32 on the CPU.

    Returns
    -------
    bool
        Whether it is. The same at each call for one machine.
    """
    return (
        multiply_adds >= _LARGE
        and like.device.type == "cpu"
        and like.dtype == torch.float32
        and has_wider_products()
        and bool(torch.backends.mkldnn.enabled)  # which a user may have changed
    )


@lru_cache(maxsize=1)
def has_wider_products() -> bool:
    """Whether this processor has AVX-512 and MKL leaves it alone.

    Returns
    -------
    bool
        Whether oneDNN is there, and worth it.
    """
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in _processor()
    )


def _processor() -> str:
    """What the system says of the first processor."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            return file.read(1000)
    except OSError:
        return platform.processor()


def large_product(a: Tensor, bt: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""The product :math:`A B^T + c` by oneDNN, without autograd.

    Parameters
    ----------
    a : Tensor of shape (..., m, k)
        First factor.
    bt : Tensor of shape (n, k)
        Second factor, transposed.
    bias : Tensor of shape (n,), default=None
        What to add to each row.

    Returns
    -------
    Tensor of shape (..., m, n)
        The product.
    """
    # For memory with gaps oneDNN has nothing but its reference, a thousand times slower.
    if not (bt.is_contiguous() or bt.mT.is_contiguous()):
        bt = bt.contiguous()
    return torch.ops.mkldnn._linear_pointwise(a, bt, bias, "none", [], "")


class _LargeProducts(TorchFunctionMode):
    """Leaves the large products of affine layers to :func:`large_product`."""

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
    """Let affine layers use :func:`large_product`; without autograd.

    Parameters
    ----------
    n_rows : int
        Rows of most blocks that are to come. All blocks are computed alike then: what a
        row gives does not depend on the size of the last one.

    Yields
    ------
    None
    """
    with _LargeProducts(n_rows):
        yield
