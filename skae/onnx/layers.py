"""Operators of the layers of networks, in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from skae.networks.conv import Crop, ImagesAndFurther
from skae.networks.layers import has_hooks
from skae.networks.mlp import NoCorrection, Residual
from skae.onnx.graph import Graph


def single(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor as float32."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def add_network(graph: Graph, network: nn.Module, x: str) -> str:
    """Add a network, or a part of one, to a graph; return the name of its output.

    Raises TypeError for a layer without operators.
    """
    rule = LAYERS.get(type(network))
    if rule is None or has_hooks(network) or "forward" in vars(network):
        known = ", ".join(sorted(kind.__name__ for kind in LAYERS))
        reason = (
            "has hooks or a forward of its own" if rule else "has no ONNX operator here"
        )
        raise TypeError(
            f"The network has the layer {network!r}, which {reason}. Layers that can be "
            f"converted: {known}."
        )
    return rule(graph, network, x)


def add_linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    """Add an affine map."""
    parameters = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    return graph.add("Gemm", x, *map(single, parameters), transB=1)


def _sequence(graph: Graph, layers: nn.Sequential, x: str) -> str:
    """Add layers one after the other."""
    for layer in layers:
        x = add_network(graph, layer, x)
    return x


def _same(graph: Graph, layer: nn.Module, x: str) -> str:
    """Return the input, of a layer that does nothing after training."""
    return x


def _operator(name: str) -> Callable[[Graph, nn.Module, str], str]:
    """Return the rule of an activation that is one operator."""
    return lambda graph, layer, x: graph.add(name, x)


def _layer_norm(graph: Graph, layer: nn.LayerNorm, x: str) -> str:
    """Add a normalisation over the last axes."""
    width = layer.normalized_shape
    weight = np.ones(width, np.float32) if layer.weight is None else single(layer.weight)
    bias = np.zeros(width, np.float32) if layer.bias is None else single(layer.bias)
    return graph.add(
        "LayerNormalization", x, weight, bias, axis=-len(width), epsilon=layer.eps
    )


def _residual(graph: Graph, layer: Residual, x: str) -> str:
    """Add layers and the shortcut around them."""
    direct = x if layer.shortcut is None else add_network(graph, layer.shortcut, x)
    return graph.add("Add", direct, add_network(graph, layer.layers, x))


def _conv(graph: Graph, layer: nn.Conv2d, x: str) -> str:
    """Add a convolution, which pads by zeros."""
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise TypeError(f"{layer!r} pads in a way that cannot be converted to ONNX.")
    parameters = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    return graph.add(
        "Conv",
        x,
        *map(single, parameters),
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=2 * [int(p) for p in layer.padding],
        dilations=list(layer.dilation),
        group=layer.groups,
    )


def _flatten(graph: Graph, layer: nn.Flatten, x: str) -> str:
    """Make rows of everything but the first axis."""
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise TypeError(f"{layer!r} does not make rows, and cannot be converted to ONNX.")
    return graph.add("Flatten", x, axis=1)


def _unflatten(graph: Graph, layer: nn.Unflatten, x: str) -> str:
    """Make images of rows."""
    sizes: Any = layer.unflattened_size
    if layer.dim != 1:
        raise TypeError(f"{layer!r} takes no rows, and cannot be converted to ONNX.")
    return graph.add("Reshape", x, np.array([0, *sizes]))  # 0: as many rows as before


def _pixel_shuffle(graph: Graph, layer: nn.PixelShuffle, x: str) -> str:
    """Turn channels into squares of pixels."""
    return graph.add("DepthToSpace", x, blocksize=layer.upscale_factor, mode="CRD")


def _crop(graph: Graph, layer: Crop, x: str) -> str:
    """Remove rows and columns of images."""
    stop, axes = np.array([layer.height, layer.width]), np.array([2, 3])
    return graph.add("Slice", x, np.zeros(2, np.int64), stop, axes)


def _images_and_further(graph: Graph, layer: ImagesAndFurther, x: str) -> str:
    """Put further numbers after the first image."""
    images = add_network(graph, layer.images, x)
    further = add_network(graph, layer.further, x)
    d = layer.n_features
    first, others = (
        graph.columns(images, *bounds) for bounds in ((0, d), (d, np.iinfo(np.int64).max))
    )
    return graph.join([first, further, others])


def _no_correction(graph: Graph, layer: NoCorrection, x: str) -> str:
    """Return zeros, of a model without hidden layers, which broadcast against rows."""
    return graph.constant(np.zeros((1, layer.n_outputs), np.float32))


LAYERS: dict[type[nn.Module], Callable[[Graph, Any, str], str]] = {
    Crop: _crop,
    ImagesAndFurther: _images_and_further,
    NoCorrection: _no_correction,
    Residual: _residual,
    nn.Conv2d: _conv,
    nn.Dropout: _same,
    nn.Flatten: _flatten,
    nn.Identity: _same,
    nn.LayerNorm: _layer_norm,
    nn.Linear: add_linear,
    nn.PixelShuffle: _pixel_shuffle,
    nn.ReLU: _operator("Relu"),
    nn.Sequential: _sequence,
    nn.Sigmoid: _operator("Sigmoid"),
    nn.Tanh: _operator("Tanh"),
    nn.Unflatten: _unflatten,
}
