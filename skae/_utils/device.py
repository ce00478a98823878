"""The device that a model is trained on, and what torch can do there.

No other module has names of devices, except that the host is "cpu".
"""

import re
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from skae._utils.choices import did_you_mean

# What torch raises for a device that it cannot use.
_REFUSALS = (
    RuntimeError,  # no such device, torch was built without it, or no data ("meta")
    AssertionError,  # torch was built without it ("cuda")
    ImportError,  # the package that it needs is missing ("hpu")
)

# Names of devices that a user may have meant.
_COMMON = ("auto", "cpu", "cuda")


def resolve_device(device: str | torch.device) -> torch.device:
    """Return a device by its name, with its number; "auto" is the accelerator, or the CPU.

    Raises ValueError, with torch's reason in one sentence, if the device cannot be used.
    """
    try:
        found = _accelerator() or "cpu" if device == "auto" else torch.device(device)
    except RuntimeError as error:
        reason, name = "torch has no such device.", str(device)
        if "gpu" in name.lower():
            reason += " A GPU has the name of its kind, such as 'cuda'."
        else:
            reason += did_you_mean(name, _COMMON)
        raise _refusal(device, reason) from error
    try:
        tried = torch.zeros(1, dtype=torch.float32, device=found)
        tried.cpu()
    except _REFUSALS as error:
        # Torch's message may be pages long: keep its first sentence.
        reason = re.split(r"\.?\n|\. ", str(error), maxsplit=1)[0]
        raise _refusal(device, f"{reason}.") from error
    return tried.device


def _accelerator() -> torch.device | None:
    """Return the kind of the accelerator of this machine, if there is one."""
    return torch.accelerator.current_accelerator(check_available=True)


def _refusal(device: str | torch.device, reason: str) -> ValueError:
    """Return the error about a device, with those that can be used."""
    accelerator = _accelerator()
    usable = ["auto", "cpu", *([] if accelerator is None else [accelerator.type])]
    return ValueError(
        f"device={str(device)!r} cannot be used here: {reason} These can be used: "
        f"{', '.join(map(repr, usable))}."
    )


def kinds() -> list[str]:
    """Return the kinds of devices that this build of torch computes on."""
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]


# Numbers


@cache
def _has_float64(kind: str) -> bool:
    """Whether a kind of device has numbers in double precision."""
    try:
        torch.zeros(1, dtype=torch.float64, device=kind).cpu()
    except (TypeError, RuntimeError):  # "mps", and "xpu" on some processors
        return False
    return True


def has_float64(device: torch.device) -> bool:
    """Whether a device has numbers in double precision."""
    return device.type == "cpu" or _has_float64(device.type)


def to_double(x: Tensor) -> Tensor:
    """Convert numbers to float64, on the CPU if their device lacks that precision."""
    return (x if has_float64(x.device) else x.cpu()).double()


def move_double(x: Tensor, device: torch.device) -> Tensor:
    """Move numbers in float64 to a device, or to the CPU if it lacks that precision."""
    return x.to(device if has_float64(device) else "cpu")


def products_of_gpus() -> Any:
    """Return the owner of the settings of matrix products that a GPU may round."""
    return torch.backends.cuda.matmul


def default_generator(device: torch.device) -> torch.Generator:
    """Return torch's global generator of a device."""
    if device.type == "cpu":
        return torch.default_generator
    module = _module(device)
    generators = getattr(module, "default_generators", None)
    # Apple's device is one, and its generator has no public name.
    return generators[device.index] if generators else module._get_default_mps_generator()


# Memory


def _module(device: torch.device) -> Any:
    """Return the functions of torch for a kind of device."""
    return torch.get_device_module(device)


def total_memory(device: torch.device) -> float | None:
    """Return the bytes of a device, or None if they are the machine's or not known."""
    ask = getattr(_module(device), "mem_get_info", None)
    return None if ask is None else ask(device)[1]


def free_memory(device: torch.device) -> float | None:
    """Return the bytes of a device that a tensor can take, or None if they are not known.

    Blocks that torch keeps for later tensors count as free.
    """
    module = _module(device)
    ask = getattr(module, "mem_get_info", None)
    if ask is None:
        return None
    kept = module.memory_reserved(device) - module.memory_allocated(device)
    return ask(device)[0] + kept


@cache
def _has_pinned_memory(kind: str) -> bool:
    """Whether the host's memory can be locked for copies that a kind of device fetches."""
    if kind != getattr(torch.accelerator.current_accelerator(), "type", None):
        return False
    # Without streams ("mps"), torch frees the memory before such a copy has been made.
    if not hasattr(torch.get_device_module(kind), "current_stream"):
        return False
    try:
        torch.empty(1, device="cpu", pin_memory=True)
    except RuntimeError:
        return False
    return True


def fetches(device: torch.device) -> bool:
    """Whether a device copies from the buffers of `host_buffer` without a wait."""
    return _has_pinned_memory(device.type)


def host_buffer(like: Tensor, device: torch.device) -> Tensor:
    """Make a buffer on the CPU for copies to a device, in locked memory if there is any.

    Other memory is copied twice, and the copy waits for the device.
    """
    pin = fetches(device)
    return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=pin)


def send_into(target: Tensor, x: Tensor) -> None:
    """Copy a tensor of the CPU into one of a device, without a wait if possible."""
    no_wait = fetches(target.device)
    # Torch keeps the locked memory until the device has it.
    source = host_buffer(x, target.device).copy_(x) if no_wait else x
    target.copy_(source, non_blocking=no_wait)


def send(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device, without a wait if possible."""
    if device.type == "cpu":
        return x
    target = torch.empty(x.shape, dtype=x.dtype, device=device)
    send_into(target, x)
    return target


# Streams


def told(device: torch.device) -> Any:
    """Return the event that a device has done what it was told; None without streams."""
    module = _module(device)
    if not hasattr(module, "current_stream"):
        return None
    return module.current_stream(device).record_event()


@cache
def _side_stream(device: torch.device, purpose: str) -> Any:
    """Make a stream of a device beside those of a user; torch frees none."""
    return _module(device).Stream(device)


def copy_beside(target: Tensor, source: Tensor, after: Any) -> Any:
    """Copy from a buffer of the host, after an event only, beside what a device computes.

    What the device is told later comes after the copy. Returns the event of the copy, or
    None if there is no wait for it any more.
    """
    device = target.device
    if not fetches(device):
        target.copy_(source)
        return None
    module, stream = _module(device), _side_stream(device, "copies")
    current = module.current_stream(device)
    stream.wait_event(after)
    try:
        with module.stream(stream):
            target.copy_(source, non_blocking=True)
        return stream.record_event()
    finally:
        current.wait_stream(stream)


# Graphs


def has_graphs(device: torch.device) -> bool:
    """Whether operations of a device can be captured, by the interface of torch.cuda."""
    return hasattr(_module(device), "CUDAGraph")


def make_graph(device: torch.device) -> Any:
    """Make an empty graph, whose operations are captured later."""
    return _module(device).CUDAGraph()


def as_current(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one in a block."""
    return _module(device).device(device)


def on_capture_stream(device: torch.device) -> AbstractContextManager[Any]:
    """Let a device capture in a block, after what it was told before."""
    module, stream = _module(device), _side_stream(device, "captures")
    stream.wait_stream(module.current_stream(device))
    return module.stream(stream)


def wait_for_capture_stream(device: torch.device) -> None:
    """Let a device do what follows after what was told to the stream of captures."""
    _module(device).current_stream(device).wait_stream(_side_stream(device, "captures"))
