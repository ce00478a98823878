"""Layers with a backward pass written by hand, for R models side by side.

A layer is built once for a batch shape, with all the memory that it needs. Each step
calls :meth:`Layer.forward`, then :meth:`Layer.backward`. The products of the R models
are one batched product. Large products are R products of oneDNN instead, which allocates
their results; these are copied.

A tensor of shape ``(R, n, width)`` lies in memory as ``(R, width, n)``. Batches have round
sizes and data have not, and with 47 instead of 48 numbers in a line a product takes half
as long again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from skae._utils.matmul import is_large, large_product

# (n, width) -> memory (R, n, width), which lies as (R, width, n).
Empty = Callable[[int, int], Tensor]
# Parameters of the first model -> those of all models, with a leading axis of size R.
Stacked = Callable[..., nn.Parameter]


class Layer(ABC):
    """A function of ``(R, n, n_in)`` and its derivative."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Compute the output ``(R, n, n_out)`` from an input ``(R, n, n_in)``.

        The next call overwrites the output. An activation overwrites its input.
        """

    @abstractmethod
    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        """Compute the gradients of the parameters, into their buffers, and of the input.

        ``grad`` is the gradient ``(R, n, n_out)`` of the last output; an activation
        overwrites it. Returns the gradient ``(R, n, n_in)`` of the input, or None if it is
        not needed; the next call overwrites it.
        """


class Dense(Layer):
    r"""An affine map: :math:`Y = X W^T + b`.

    .. math:: \bar W = \bar Y^T X, \quad \bar b = \sum_n \bar Y_n, \quad \bar X = \bar Y W

    Parameters
    ----------
    linears : sequence of torch.nn.Linear
        A layer of the first model, or fused layers of one input, whose outputs lie side by
        side.
    n : int
        Rows of a batch.
    stacked : callable
        Returns the stacked parameters of all models.
    empty : callable
        Allocates memory.
    add_to : Tensor, default=None
        Memory to which a layer without bias adds its output; by default the layer has
        memory of its own.
    grad_input : Tensor, default=None
        Memory of the gradient of the input; by default the layer has memory of its own.
    """

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        n: int,
        stacked: Stacked,
        empty: Empty,
        add_to: Tensor | None = None,
        grad_input: Tensor | None = None,
    ) -> None:
        weight = stacked(*(linear.weight for linear in linears))  # (R, n_out, n_in)
        self.weight, self.weight_grad = weight.data, _grad_of(weight)
        _, n_out, n_in = self.weight.shape
        self.out = empty(n, n_out) if add_to is None else add_to
        self.grad_input = empty(n, n_in) if grad_input is None else grad_input
        # The products are those of the transposed tensors, as they lie in memory. A view
        # takes as long as half a small product, so all views but those of x are made once.
        self._weight, self._out = _transpose(self.weight), self.out.mT
        self._grad_input = self.grad_input.mT
        self._weight_grad_row = _transpose(self.weight_grad) if n_in == 1 else None
        self.x = self.grad = self._x = self._grad = self.out
        multiply_adds = n * self.weight[0].numel()
        self._multiply = (
            _looped_product if is_large(multiply_adds, self.weight) else _batched_product
        )
        self._map = _outer_product if n_in == 1 else self._multiply
        # Added to the product: the bias, or the present content of the memory.
        self.addend: Tensor | None = None if add_to is None else self._out
        self.bias_grad: Tensor | None = None
        if linears[0].bias is not None:
            bias = stacked(*(linear.bias for linear in linears))
            self.addend = bias.data[..., None]  # (R, n_out, 1)
            self.bias_grad = _grad_of(bias)

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.x:
            self.x, self._x = x, _transpose(x)
        self._map(self.weight, x, self._x, self._out, self.addend)
        return self.out

    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        if grad is not self.grad:
            self.grad, self._grad = grad, grad.mT
        if self._weight_grad_row is None:
            self._multiply(self._grad, self._x, self.x, self.weight_grad)
        else:
            # A product with one column rounds otherwise for one model than for several.
            self._multiply(self._x, self._grad, grad, self._weight_grad_row)
        if self.bias_grad is not None:
            torch.sum(grad, dim=1, out=self.bias_grad)
        if not needs_input_grad:
            return None
        self._multiply(self._weight, grad, self._grad, self._grad_input)
        return self.grad_input


def _transpose(matrix: Tensor) -> Tensor:
    """Transpose ``(R, m, n)``, so that a single column has the strides of a row.

    With those that mT leaves, MKL rounds otherwise for one model than for several.
    """
    return matrix.mT if matrix.shape[2] > 1 else matrix.flatten(1)[:, None]


def _batched_product(
    a: Tensor, bt: Tensor, b: Tensor, out: Tensor, addend: Tensor | None = None
) -> None:
    """Compute AB, or the sum of AB and an addend, for all models in one call."""
    if addend is None:
        torch.bmm(a, b, out=out)
    else:
        torch.baddbmm(addend, a, b, out=out)


def _outer_product(
    a: Tensor, bt: Tensor, b: Tensor, out: Tensor, addend: Tensor | None = None
) -> None:
    """Compute the same for a single column A and a single row B.

    MKL rounds the product before the sum for several models, and not for one.
    """
    if addend is None:
        torch.mul(a, b, out=out)
    else:
        torch.addcmul(addend, a, b, out=out)


def _looped_product(
    a: Tensor, bt: Tensor, b: Tensor, out: Tensor, addend: Tensor | None = None
) -> None:
    """Compute the same model by model, from the transposed second factor."""
    for r, (first, second) in enumerate(zip(a, bt, strict=True)):
        product = large_product(first, second)
        if addend is None:
            out[r].copy_(product)
        else:
            torch.add(addend[r], product, out=out[r])


class Identity(Layer):
    """The activation that returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        return grad


class ReLU(Layer):
    """Rectifier, which overwrites its input; the slope at 0 is 0, as in autograd."""

    def forward(self, x: Tensor) -> Tensor:
        self.out = torch.relu_(x)
        return self.out

    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        return torch.ops.aten.threshold_backward.grad_input(
            grad, self.out, 0.0, grad_input=grad
        )


class Sigmoid(Layer):
    """Logistic function s, which overwrites its input; its slope is s (1 - s)."""

    def forward(self, x: Tensor) -> Tensor:
        self.out = torch.sigmoid_(x)
        return self.out

    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        return torch.ops.aten.sigmoid_backward.grad_input(grad, self.out, grad_input=grad)


class Tanh(Layer):
    """Hyperbolic tangent t, which overwrites its input; its slope is 1 - t^2."""

    def forward(self, x: Tensor) -> Tensor:
        self.out = torch.tanh_(x)
        return self.out

    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        return torch.ops.aten.tanh_backward.grad_input(grad, self.out, grad_input=grad)


class Chain(Layer):
    """A sequence of layers, applied one after another."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: Tensor, *, needs_input_grad: bool) -> Tensor | None:
        current_grad: Tensor | None = grad
        for i, layer in reversed(list(enumerate(self.layers))):
            assert current_grad is not None
            current_grad = layer.backward(
                current_grad, needs_input_grad=needs_input_grad or i > 0
            )
        return current_grad


ACTIVATIONS: dict[type[nn.Module], type[Layer]] = {
    nn.Identity: Identity,
    nn.ReLU: ReLU,
    nn.Sigmoid: Sigmoid,
    nn.Tanh: Tanh,
}


def _grad_of(parameter: Tensor) -> Tensor:
    """Return the gradient of a parameter, which must have one."""
    assert parameter.grad is not None
    return parameter.grad
