"""Memory that a machine does not have, refused before it is asked for."""

import os

import torch

_CPU = torch.device("cpu")


def require_memory(
    n_bytes: int, what: str, advice: str, device: torch.device = _CPU
) -> None:
    """Raise MemoryError if something needs more bytes than the device has in all."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > total:
        raise MemoryError(
            f"{what} would take at least {n_bytes / 2**30:.3g} GiB, and this machine has "
            f"{total / 2**30:.3g} GiB. {advice}"
        )
