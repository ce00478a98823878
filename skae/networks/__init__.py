"""Axis 3: the nonlinear encoder and decoder."""

from collections.abc import Callable

from skae._utils.capabilities import ModelPart
from skae.networks.base import Network
from skae.networks.mlp import ACTIVATIONS, MLP

NETWORKS: dict[str, Callable[..., Network]] = {
    "mlp": MLP,
}

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "ModelPart",
    "Network",
]
