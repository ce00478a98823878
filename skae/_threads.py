"""How many threads a computation is worth."""

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
