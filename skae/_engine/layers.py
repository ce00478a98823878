"""Layers with a backward pass written by hand, for R models side by side.

A layer is built once for a batch shape, with all the memory that it needs, and used at
each step: :meth:`Layer.forward`, then :meth:`Layer.backward`. The products of the R models
are one batched product; or, where they are large, products of oneDNN's one after the other,
which make memory for their results, from where they are copied.

A tensor of shape ``(R, n, width)`` lies in memory feature by feature, ``(R, width, n)``:
the sizes of batches are round numbers, those of data are not, and with 47 instead of 48
numbers in a line a product takes half as long again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skae._utils.matmul import is_large, large_product

# What makes memory for (n, width) numbers of each model, feature by feature.
Empty = Callable[[int, int], Tensor]
# What finds parameters of the first model together with their likes in the others.
Stacked = Callable[..., nn.Parameter]


class Layer(ABC):
    """A function of ``(R, n, n_in)`` and its derivative."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The function; its result is overwritten by the next call.

        Parameters
        ----------
        x : Tensor of shape (R, n, n_in)
            Input; an activation writes over it.

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
            Derivative of the loss with respect to the last output; an activation writes
            over it.
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
    linears : sequence of torch.nn.Linear
        A layer of the first model, or some that have one input and are joined: their
        outputs lie side by side.
    n : int
        Rows of a batch.
    stacked : callable
        Finds the parameters of all models.
    empty : callable
        Makes memory.
    onto : Tensor, default=None
        Memory that the output is added to, rather than written to memory of its own; for
        a layer without a bias.
    grad_input : Tensor, default=None
        Memory for the derivative with respect to the input, if not of its own.
    """

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        n: int,
        stacked: Stacked,
        empty: Empty,
        onto: Tensor | None = None,
        grad_input: Tensor | None = None,
    ) -> None:
        weight = stacked(*(linear.weight for linear in linears))  # (R, n_out, n_in)
        self.weight, self.weight_grad = weight.data, _grad_of(weight)
        _, n_out, n_in = self.weight.shape
        self.out = empty(n, n_out) if onto is None else onto
        self.grad_input = empty(n, n_in) if grad_input is None else grad_input
        # The products are those of the transposed tensors, which is how they lie. A view
        # takes as long as half a small product: all but those of the data are kept.
        self._weight, self._out = self.weight.mT, self.out.mT
        self._grad_input = self.grad_input.mT
        self.x = self.grad = self._x = self._grad = self.out
        multiply_adds = n * self.weight[0].numel()
        self._multiply = _large if is_large(multiply_adds, self.weight) else _small
        # What the product is added to: a bias, or what is there already.
        self.base: Tensor | None = None if onto is None else self._out
        self.bias_grad: Tensor | None = None
        if linears[0].bias is not None:
            bias = stacked(*(linear.bias for linear in linears))
            self.base = bias.data[..., None]  # (R, n_out, 1)
            self.bias_grad = _grad_of(bias)

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.x:
            self.x, self._x = x, x.mT
        self._multiply(self.weight, x, self._x, self._out, self.base)
        return self.out

    def backward(self, grad: Tensor, *, wants_input: bool) -> Tensor | None:
        if grad is not self.grad:
            self.grad, self._grad = grad, grad.mT
        self._multiply(self._grad, self._x, self.x, self.weight_grad)
        if self.bias_grad is not None:
            torch.sum(grad, dim=1, out=self.bias_grad)
        if not wants_input:
            return None
        self._multiply(self._weight, grad, self._grad, self._grad_input)
        return self.grad_input


def _small(
    a: Tensor, bt: Tensor, b: Tensor, out: Tensor, base: Tensor | None = None
) -> None:
    """The products AB of all models, or their sums with what is given, in one call."""
    if base is None:
        torch.bmm(a, b, out=out)
    else:
        torch.baddbmm(base, a, b, out=out)


def _large(
    a: Tensor, bt: Tensor, b: Tensor, out: Tensor, base: Tensor | None = None
) -> None:
    """The same, one product after the other, from the transposed second factor."""
    for r, (first, second) in enumerate(zip(a, bt, strict=True)):
        product = large_product(first, second)
        if base is None:
            out[r].copy_(product)
        else:
            torch.add(base[r], product, out=out[r])


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


ACTIVATIONS: dict[type[nn.Module], type[Layer]] = {
    nn.Identity: Identity,
    nn.ReLU: ReLU,
    nn.Sigmoid: Sigmoid,
    nn.Tanh: Tanh,
}


def _grad_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
