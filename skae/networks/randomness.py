"""Random numbers that networks draw from the global generators."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from skae._utils.random import Stream, further_streams, replaced_global_generators
from skae.networks.layers import has_hooks, network_capabilities

# Modules of torch that draw in evaluation mode too.
_ALWAYS_RANDOM = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
# Seed of what networks draw in evaluation mode: a method gives the same result at each
# call.
_EVALUATION_SEED = 0


def training_streams(
    networks: Sequence[nn.Module], generators: Sequence[torch.Generator]
) -> list[Stream]:
    """Return what has to stand in for the global generators while networks are trained.

    There is a generator for each device. A module of torch or skae draws from torch's
    generators only, any other module perhaps from those of numpy and Python too.
    """
    streams: list[Stream] = list(generators)
    if None in map(_torch_types, networks):
        streams += further_streams(generators[0].initial_seed())
    return streams


@contextmanager
def fixed_draws(*networks: nn.Module, device: torch.device) -> Iterator[None]:
    """Let networks draw the same numbers in each such block, without a global trace.

    Nothing global is touched for networks that draw nothing in evaluation mode.
    """
    if not any(map(_may_draw_in_evaluation, networks)):
        yield
        return
    devices = sorted({torch.device("cpu"), device}, key=str)
    streams: list[Stream] = [
        torch.Generator(each).manual_seed(_EVALUATION_SEED) for each in devices
    ]
    streams += further_streams(_EVALUATION_SEED)
    with replaced_global_generators(*streams):
        yield


def _torch_types(network: nn.Module) -> set[type[nn.Module]] | None:
    """Return the types of all modules of a network, if they are torch's or skae's.

    It is None for a network with other code, in types of a user or in hooks.
    """
    types: set[type[nn.Module]] = set()
    # Asked at each score: `modules()` would take three times as long.
    pending: list[nn.Module | None] = [network]
    while pending:
        module = pending.pop()
        if module is None:
            continue
        added, kind = vars(module), type(module)
        is_known = kind.__module__.startswith(("torch.nn.", "skae."))
        if not is_known or "forward" in added or has_hooks(module):
            return None
        types.add(kind)
        pending += added["_modules"].values()
    return types


def _may_draw_in_evaluation(network: nn.Module) -> bool:
    """Whether a network may draw from a global generator in evaluation mode."""
    types = _torch_types(network)
    if types is None:
        return not network_capabilities(network).is_thread_safe
    return not types.isdisjoint(_ALWAYS_RANDOM)
