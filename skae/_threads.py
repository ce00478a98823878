"""The arithmetic of this process: threads, precision, and numbers too small to matter."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Multiply-adds of a step below which handing work to a second thread costs more than the
# thread brings; and where others compute too, waiting for it costs fifty times that.
_WORTH_A_THREAD = 2**25


@contextmanager
def suitable_threads(multiply_adds: float) -> Iterator[None]:
    """One thread for small steps, as many as the user allows for large ones.

    Parameters
    ----------
    multiply_adds : float
        Size of one step.

    Yields
    ------
    None
    """
    before = torch.get_num_threads()
    if multiply_adds >= _WORTH_A_THREAD or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Let numbers below the normal range count as 0 in this thread.

    They slow arithmetic down a hundred times, and Adam's running means of a unit that gets
    no gradient decay to them.

    Yields
    ------
    None
    """
    denormal = torch.tensor(1e-40, dtype=torch.float32)
    was_on = bool(denormal * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)


@contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Let a GPU round the factors of its products to TF32, if that is wanted.

    Parameters
    ----------
    wanted : bool
        Else nothing happens.

    Yields
    ------
    None
    """
    if not wanted:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
