"""The device that a model is trained on."""

import re

import torch

from skae._utils.choices import did_you_mean

# What torch raises for a device that it cannot use.
_REFUSALS = (
    RuntimeError,  # no such device, torch was built without it, or no data ("meta")
    AssertionError,  # torch was built without it ("cuda")
    ImportError,  # the package that it needs is missing ("hpu")
    TypeError,  # it holds no numbers in double precision ("mps")
)

# Names of devices that a user may have meant.
_COMMON = ("auto", "cpu", "cuda")


def _usable_devices() -> list[str]:
    """Return "auto", "cpu" and the types of the other devices that can be used here."""
    found = ["auto", "cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    # Apple's devices lack the double precision that sums are computed in.
    if accelerator is not None and accelerator.type != "mps":
        found.append(accelerator.type)
    return found


def resolve_device(name: str) -> torch.device:
    """Return the device of this name; "auto" is "cuda" if available, else "cpu".

    Raises ValueError, with torch's reason in one sentence, if the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        reason = "torch has no such device."
        if "gpu" in name.lower():
            reason += " A GPU has the name of its kind, such as 'cuda'."
        reason += did_you_mean(name, _COMMON)
        raise _refusal(name, reason) from error
    try:
        # Sums are computed in double precision, which Apple's devices lack.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except _REFUSALS as error:
        # Torch's message may be pages long: keep its first sentence.
        reason = re.split(r"\.?\n|\. ", str(error), maxsplit=1)[0]
        raise _refusal(name, f"{reason}.") from error
    return device


def _refusal(name: str, reason: str) -> ValueError:
    """Return the error about a device, with those that can be used."""
    usable = ", ".join(map(repr, _usable_devices()))
    return ValueError(
        f"device={name!r} cannot be used here: {reason} These can be used: {usable}."
    )
