"""Axis 3: the nonlinear encoder and decoder."""

from collections.abc import Callable
from typing import TypeGuard

from skae._utils.capabilities import ModelPart
from skae.networks.base import BuiltInNetwork, Network
from skae.networks.mlp import ACTIVATIONS, MLP

NETWORKS: dict[str, Callable[..., BuiltInNetwork]] = {
    "mlp": MLP,
}


def is_built_in(network: Network) -> TypeGuard[BuiltInNetwork]:
    """Whether a network takes its first weights from a generator that is passed."""
    # Not a subclass, which may draw from torch's global generator.
    return type(network) in NETWORKS.values()


__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "ModelPart",
    "Network",
]
