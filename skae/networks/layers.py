"""Recognition of plain chains of layers, whose derivatives are written out."""

from itertools import pairwise

from torch import nn

from skae._utils.capabilities import Capabilities, ModelPart
from skae.networks.mlp import ACTIVATIONS, NoCorrection

# Layers of torch that draw no random numbers and keep nothing between two calls.
_THREAD_SAFE = (
    *ACTIVATIONS.values(),
    nn.Conv2d,
    nn.Flatten,
    nn.LayerNorm,
    nn.Linear,
    nn.PixelShuffle,
    nn.Unflatten,
)


def network_capabilities(network: nn.Module) -> Capabilities:
    """Return the capabilities of the network of an encoder or decoder.

    A plain chain of layers has all of them, and so has the absence of a network. A module
    that derives from :class:`~skae.networks.ModelPart` may declare that it is thread-safe;
    its gradients are left to autograd. So are those of a sequence of such modules and of
    layers of torch that draw no random numbers, which is thread-safe. Any other module has
    no capability.
    """
    if isinstance(network, NoCorrection):
        return network.capabilities
    if is_chain_of_layers(network):
        layers = network.named_modules(remove_duplicate=False)
        shapes = tuple((name, p.shape) for name, p in network.named_parameters())
        key = tuple(type(layer) for _, layer in layers), shapes
        return Capabilities(has_analytic_gradient=True, is_thread_safe=True, batch_key=key)
    if isinstance(network, ModelPart):
        return Capabilities(is_thread_safe=network.is_thread_safe)
    return Capabilities(is_thread_safe=_are_thread_safe(network))


def _are_thread_safe(network: nn.Module) -> bool:
    """Whether a sequence has only layers that draw nothing, or are declared thread-safe."""
    return not has_hooks(network) and (
        (isinstance(network, ModelPart) and network.is_thread_safe)
        or (type(network) is nn.Sequential and all(map(_are_thread_safe, network)))
        or (type(network) in _THREAD_SAFE and "forward" not in vars(network))
    )


def is_chain_of_layers(network: nn.Module) -> bool:
    """Whether a network is a plain chain of affine maps and built-in activations.

    The chain has at least two affine maps: the first one, which has a bias, and the last
    one at the end. "Plain" means that there are no hooks, no replaced ``forward`` and no
    parameter that is used twice.

    Parameters
    ----------
    network : torch.nn.Module
        The network.

    Returns
    -------
    bool
        True if the network is such a chain.
    """
    if type(network) is not nn.Sequential or has_hooks(network):
        return False
    layers = list(network)
    parameters = [p for layer in layers for p in layer.parameters(recurse=False)]
    activations = tuple(ACTIVATIONS.values())
    return (
        len(parameters) == len({id(p) for p in parameters})
        and not network._parameters
        and len(layers) > 1
        and type(layers[0]) is type(layers[-1]) is nn.Linear
        and layers[0].bias is not None
        # An activation overwrites its input, which must be the output of an affine map.
        and all(
            type(layer) is nn.Linear
            or (type(layer) in activations and type(before) is nn.Linear)
            for before, layer in pairwise(layers)
        )
        and not any(map(has_hooks, layers))
        and not any("forward" in vars(part) for part in [network, *layers])
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks, which change what a call of the module does."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
