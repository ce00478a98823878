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
    """The device of this name, if it can be used.

    Parameters
    ----------
    name : str
        Torch's name of it; "auto" is "cuda" where there is one, else "cpu".

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        If it cannot be used here; it says why in a sentence.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Sums are in double precision, which Apple's devices lack.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except _REFUSALS as error:
        # It may go on for pages.
        reason = re.split(r"\.?\n|\. ", str(error), maxsplit=1)[0]
        raise ValueError(f"device={name!r} cannot be used here: {reason}") from error
    return device
