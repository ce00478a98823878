"""Memory that a machine does not have, refused before it is asked for."""

import math
import os
from pathlib import Path

import torch

_CPU = torch.device("cpu")
# Limit of a container on Linux; "max" stands for none.
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def require_memory(
    n_bytes: int, what: str, advice: str, device: torch.device = _CPU
) -> None:
    """Raise MemoryError if something needs more bytes than the device has in all.

    Nothing is refused where the system does not say how much it has, as on Windows.
    """
    if device.type == "cuda":
        total: float = torch.cuda.get_device_properties(device).total_memory
    else:
        total = min(_physical_memory(), _container_memory())
    if n_bytes > total:
        raise MemoryError(
            f"{what} would take at least {n_bytes / 2**30:.3g} GiB, and this machine has "
            f"{total / 2**30:.3g} GiB. {advice}"
        )


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
