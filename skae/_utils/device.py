"""The device that a model is trained on."""

import re

import torch

# What torch raises for a device that it cannot use.
_REFUSALS = (
    RuntimeError,  # no such device, torch was built without it, or no data ("meta")
    AssertionError,  # torch was built without it ("cuda")
    ImportError,  # the package that it needs is missing ("hpu")
    TypeError,  # it holds no numbers in double precision ("mps")
)


def resolve_device(name: str) -> torch.device:
    """Return the device of this name; "auto" is "cuda" if available, else "cpu".

    Raises ValueError, with torch's reason in one sentence, if the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Sums are computed in double precision, which Apple's devices lack.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except _REFUSALS as error:
        # Torch's message may be pages long: keep its first sentence.
        reason = re.split(r"\.?\n|\. ", str(error), maxsplit=1)[0]
        raise ValueError(f"device={name!r} cannot be used here: {reason}") from error
    return device
