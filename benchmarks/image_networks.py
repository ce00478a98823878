"""Networks of the benchmark of images, with as many parameters as they may have."""

import numpy as np

from skae.networks import MLP, Conv

N_COMPONENTS = 16
# Name -> network of an image's shape and of a width, which decides the parameter count.
NETWORKS = {
    "MLP, 1 layer": lambda shape, width: MLP((width,)),
    "MLP, 2 layers": lambda shape, width: MLP((width, width)),
    "Conv (16, 32)": lambda shape, width: Conv(
        shape, (16, 32), hidden_layer_sizes=(width,)
    ),
    "Conv (32, 32)": lambda shape, width: Conv(
        shape, (32, 32), hidden_layer_sizes=(width,)
    ),
    "Conv (16, 32, 64)": lambda shape, width: Conv(
        shape, (16, 32, 64), hidden_layer_sizes=(width,)
    ),
}


def count(network, d, n_outputs):
    """Return the number of parameters of encoder and decoder."""
    k = N_COMPONENTS
    parts = network.encoder(d, 2 * k), network.decoder(k, n_outputs)
    return sum(p.numel() for part in parts for p in part.parameters())


def fitted_width(make, shape, budget, n_outputs):
    """Return the largest width with which a network has at most so many parameters."""
    d, low, high = int(np.prod(shape)), 1, 4096
    while high - low > 1:
        middle = (low + high) // 2
        is_below = count(make(shape, middle), d, n_outputs) <= budget
        low, high = (middle, high) if is_below else (low, middle)
    return low
