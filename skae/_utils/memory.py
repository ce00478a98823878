"""Memory that a machine does not have, or should not give, refused in advance."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skae._utils.device import total_memory

_CPU = torch.device("cpu")
# Limit of a container on Linux; "max" stands for none.
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Memory of the machine on Linux, in kB, by name.
_MEMINFO = Path("/proc/meminfo")


def require_memory(
    n_bytes: int, what: str, advice: str, device: torch.device = _CPU
) -> None:
    """Raise MemoryError if something needs more bytes than the device has in all.

    Nothing is refused where the system does not say how much it has, as on Windows.
    """
    total = total_memory(device)
    if total is None:
        total = min(_physical_memory(), _container_memory())
    if n_bytes > total:
        raise MemoryError(
            f"{what} would take at least {n_bytes / 2**30:.3g} GiB, and this machine has "
            f"{total / 2**30:.3g} GiB. {advice}"
        )


def available_memory() -> float:
    """Return the bytes of the host that programs can take now, or 0 if they are not known.

    What the system keeps of files counts, since it gives that up. Where the free bytes are
    not known, as on macOS, they are taken as a quarter of the machine's.
    """
    try:
        lines = _MEMINFO.read_text().splitlines()
        (free,) = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        total = _physical_memory()
        return total / 4 if math.isfinite(total) else 0.0
    return min(int(free) * 1024, _container_memory())


def _physical_memory() -> float:
    """Return the bytes of the machine, or infinity if they are not known."""
    try:
        n_pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf
    return n_pages * page if n_pages > 0 and page > 0 else math.inf


def _container_memory() -> float:
    """Return the bytes that a container may use, or infinity if there is no limit."""
    try:
        limit = _CGROUP_LIMIT.read_text()
    except OSError:
        return math.inf
    return int(limit) if limit.strip().isdigit() else math.inf


class AllocationLimit(TorchDispatchMode):
    """Context in which torch may make so many numbers, in so many calls.

    Sizes count when they are asked for, so the error comes before the memory is taken.

    Parameters
    ----------
    n_numbers : int
        Numbers of all tensors together.
    n_calls : int
        Calls of functions of torch: also an empty layer takes memory and time.
    """

    def __init__(self, n_numbers: int, n_calls: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_numbers = n_numbers
        self.n_calls = n_calls

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or raise MemoryError beyond one of the limits."""
        # Beside a tensor, a number is an index, or the number of an axis.
        makes_new = not any(isinstance(arg, torch.Tensor) for arg in args)
        for arg in args:
            size = (arg,) if isinstance(arg, int) and makes_new else arg
            is_size = isinstance(size, (list, tuple))
            if is_size and all(isinstance(n, int) for n in size):
                # A length of -1 stands for the one that is there.
                self.n_numbers -= math.prod(map(abs, size))
        self.n_calls -= 1
        if min(self.n_numbers, self.n_calls) < 0:
            raise MemoryError("A model would take more memory than its arrays say.")
        return func(*args, **(kwargs or {}))
