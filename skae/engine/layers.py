"""Layers with a backward pass written by hand, for R models side by side.

A layer is built once for a batch shape, with all the memory that it needs, and used at
each step: :meth:`Layer.forward`, then :meth:`Layer.backward`. The products of the R models
are one batched product.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from skae.networks.mlp import NoCorrection

# What makes memory of a shape, of the right precision and on the right device.
Empty = Callable[..., Tensor]
# What finds a parameter of the first model together with its likes in the others.
Stacked = Callable[[Tensor], nn.Parameter]


class Layer(ABC):
    """A function of ``(R, n, n_in)`` and its derivative."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The function; its result is overwritten by the next call.

        Parameters
        ----------
        x : Tensor of shape (R, n, n_in)
            Input; a layer may overwrite it if it says so.

        Returns
        -------
        Tensor of shape (R, n, n_out)
            Output.
        """

    @abstractmethod
    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        """Gradients of the parameters, into their buffers, and of the input.

        Parameters
        ----------
        grad : Tensor of shape (R, n, n_out)
            Derivative of the loss with respect to the last output.
        wants_input : bool
            Whether anyone asks for the derivative with respect to the input.

        Returns
        -------
        Tensor of shape (R, n, n_in) or None
            That derivative; overwritten by the next call.
        """


class Dense(Layer):
    r"""An affine map: :math:`Y = X W^T + b`.

    .. math:: \bar W = \bar Y^T X, \quad \bar b = \sum_n \bar Y_n, \quad \bar X = \bar Y W

    Parameters
    ----------
    linear : torch.nn.Linear
        The layer of the first model.
    n : int
        Rows of a batch.
    stacked : callable
        Finds the parameters of all models.
    empty : callable
        Makes memory.
    """

    def __init__(self, linear: nn.Linear, n: int, stacked: Stacked, empty: Empty) -> None:
        self.weight = stacked(linear.weight)  # (R, n_out, n_in)
        self.transposed = self.weight.mT
        self.weight_grad = _grad_of(self.weight)
        self.out = empty(n, linear.out_features)
        self.grad_input = empty(n, linear.in_features)
        self.bias: Tensor | None = None
        if linear.bias is not None:
            bias = stacked(linear.bias)
            self.bias = bias[:, None]  # (R, 1, n_out)
            self.bias_grad = _grad_of(bias)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        if self.bias is None:
            return torch.bmm(x, self.transposed, out=self.out)
        return torch.baddbmm(self.bias, x, self.transposed, out=self.out)

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        torch.bmm(grad.mT, self.x, out=self.weight_grad)
        if self.bias is not None:
            torch.sum(grad, dim=1, out=self.bias_grad)
        if not wants_input:
            return None
        return torch.bmm(grad, self.weight, out=self.grad_input)


class Zeros(Layer):
    """Nothing: the network without hidden layers.

    Parameters
    ----------
    n_outputs : int
        Width of the zeros.
    empty : callable
        Makes memory.
    """

    def __init__(self, n_outputs: int, empty: Empty) -> None:
        self.out = empty(1, n_outputs).zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.out

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        return None


class Identity(Layer):
    """The activation that does nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        return grad


class ReLU(Layer):
    """Rectifier, written over its input; the slope at 0 is 0, as autograd has it."""

    def forward(self, x: Tensor) -> Tensor:
        self.out = torch.relu_(x)
        return self.out

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        return torch.ops.aten.threshold_backward.grad_input(
            grad, self.out, 0.0, grad_input=grad
        )


class Sigmoid(Layer):
    """Logistic function s, written over its input; its slope is s (1 - s)."""

    def forward(self, x: Tensor) -> Tensor:
        self.out = torch.sigmoid_(x)
        return self.out

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        return torch.ops.aten.sigmoid_backward.grad_input(grad, self.out, grad_input=grad)


class Tanh(Layer):
    """Hyperbolic tangent t, written over its input; its slope is 1 - t^2."""

    def forward(self, x: Tensor) -> Tensor:
        self.out = torch.tanh_(x)
        return self.out

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        return torch.ops.aten.tanh_backward.grad_input(grad, self.out, grad_input=grad)


class Chain(Layer):
    """One layer after another.

    Parameters
    ----------
    layers : list of Layer
        The layers, the first one first.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        passed: Tensor | None = grad
        for i, layer in reversed(list(enumerate(self.layers))):
            assert passed is not None
            passed = layer.backward(passed, wants_input=wants_input or i > 0)
        return passed


class Half(Layer):
    """Half an autoencoder: a linear path plus a network, times a gain.

    Parameters
    ----------
    linear : Dense
        The linear path; the sum is written over its output.
    network : Layer
        The network.
    """

    def __init__(self, linear: Dense, network: Layer) -> None:
        self.linear = linear
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out = self.linear.forward(x)
        return out.add_(self.network.forward(x))

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        grad_input = self.linear.backward(grad, wants_input=wants_input)
        correction = self.network.backward(grad, wants_input=wants_input)
        if grad_input is None or correction is None:
            return grad_input
        return grad_input.add_(correction)


_ACTIVATIONS: dict[type[nn.Module], type[Layer]] = {
    nn.Identity: Identity,
    nn.ReLU: ReLU,
    nn.Sigmoid: Sigmoid,
    nn.Tanh: Tanh,
}


def is_known(network: nn.Module) -> bool:
    """Whether :func:`make_layer` can build this network.

    Parameters
    ----------
    network : torch.nn.Module
        A network.

    Returns
    -------
    bool
        True for NoCorrection, and for a chain of affine maps with known activations
        between them, all of them plain: no hooks, no parameter used twice.
    """
    if type(network) is NoCorrection:
        return True
    if type(network) is not nn.Sequential or _has_hooks(network):
        return False
    parts = list(network)
    parameters = list(network.parameters())
    return (
        len(parameters) == sum(len(list(part.parameters())) for part in parts)
        and all(p.requires_grad for p in parameters)
        # An activation overwrites its input, so that has to be a map's own output.
        and len(parts) > 0
        and type(parts[0]) is nn.Linear
        and all(
            type(part) is nn.Linear
            or (type(part) in _ACTIVATIONS and type(before) is nn.Linear)
            for before, part in zip([None, *parts], parts, strict=False)
        )
        and not any(map(_has_hooks, parts))
    )


def make_layer(network: nn.Module, n: int, stacked: Stacked, empty: Empty) -> Layer:
    """A network as layers.

    Parameters
    ----------
    network : torch.nn.Module
        One that :func:`is_known`, of the first model.
    n : int
        Rows of a batch.
    stacked : callable
        Finds the parameters of all models.
    empty : callable
        Makes memory.

    Returns
    -------
    Layer
        The same function.
    """
    if isinstance(network, NoCorrection):
        return Zeros(network.n_outputs, empty)
    assert isinstance(network, nn.Sequential)
    return Chain(
        [
            Dense(part, n, stacked, empty)
            if isinstance(part, nn.Linear)
            else _ACTIVATIONS[type(part)]()
            for part in network
        ]
    )


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _grad_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
