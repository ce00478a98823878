"""Axis 3: the nonlinear encoder and decoder."""

from collections.abc import Callable
from typing import TypeGuard

from skae._utils.capabilities import ModelPart
from skae.networks.base import BuiltInNetwork, Network
from skae.networks.conv import Conv
from skae.networks.mlp import ACTIVATIONS, MLP

# Networks that an estimator builds from its own parameters, by name.
NETWORKS: dict[str, Callable[..., BuiltInNetwork]] = {
    "mlp": MLP,
}

# Conv has no name: the shape of an image is not known to the estimators.
_BUILT_IN = (*NETWORKS.values(), Conv)


def is_built_in(network: Network) -> TypeGuard[BuiltInNetwork]:
    """Whether a network takes its first weights from a generator that is passed."""
    # Not a subclass, which may draw from torch's global generator.
    return type(network) in _BUILT_IN


__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "Conv",
    "ModelPart",
    "Network",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
