"""An encoder or a decoder as layers with a backward pass written by hand."""

from torch import Tensor, nn

from skae._engine.layers import ACTIVATIONS, Chain, Dense, Empty, Layer, Stacked


class Coder:
    """An encoder or a decoder: a linear path, and a network that corrects its output.

    The linear path and the network's first layer have the same input, so one product
    computes both: first the outputs of the layer, then those of the path. Their gradients
    have the same layout. Only the network of an encoder may have further inputs; the path
    then has a product of its own.

    Parameters
    ----------
    linear : torch.nn.Linear
        The linear path of the first model.
    network : torch.nn.Module
        The network of the first model, a chain of layers.
    n : int
        Rows of a batch.
    stacked : callable
        Returns the stacked parameters of all models.
    empty : callable
        Allocates memory.

    Attributes
    ----------
    out, grad_out : Tensor of shape (R, n, n_out)
        Memory of the output, and of its gradient, which the caller sets.
    grad_input : Tensor of shape (R, n, n_in)
        Memory of the gradient of the input.
    """

    def __init__(
        self, linear: nn.Linear, network: nn.Module, n: int, stacked: Stacked, empty: Empty
    ) -> None:
        input_linears, later_modules = [linear], []
        self.path: Dense | None = None
        if isinstance(network, nn.Sequential):
            first, *later_modules = network
            assert isinstance(first, nn.Linear)
            input_linears = [first, linear]
            if first.in_features > linear.in_features:
                input_linears = [first]
                self.path = Dense([linear], n, stacked, empty)
        self.input_layer = Dense(input_linears, n, stacked, empty)
        self.input_layer_grad_out = empty(n, self.input_layer.out.shape[2])
        sizes = [layer.out_features for layer in input_linears]
        *hidden, self.out = self.input_layer.out.split(sizes, dim=2)
        *grad_hidden, self.grad_out = self.input_layer_grad_out.split(sizes, dim=2)
        if self.path is not None:
            hidden, grad_hidden = [self.out], [self.grad_out]
            self.out, self.grad_out = self.path.out, empty(n, linear.out_features)
        self.grad_input = self.input_layer.grad_input
        if later_modules:
            (self.hidden,), (grad,) = hidden, grad_hidden
        later_layers: list[Layer] = []
        for module in later_modules:
            if not isinstance(module, nn.Linear):
                later_layers.append(ACTIVATIONS[type(module)]())
                continue
            # A last layer without bias adds its product to the output of the linear path.
            add_to = (
                self.out if module is later_modules[-1] and module.bias is None else None
            )
            grad_memory = (
                grad if all(type(layer) is not Dense for layer in later_layers) else None
            )
            later_layers.append(Dense([module], n, stacked, empty, add_to, grad_memory))
        self.later_layers = Chain(later_layers)

    def forward(self, x: Tensor, network_inputs: Tensor | None = None) -> Tensor:
        """Compute the output ``(R, n, n_out)`` from an input ``(R, n, n_in)``.

        The network has inputs of its own, if they are given. The next call overwrites the
        output.
        """
        if self.path is None:
            self.input_layer.forward(x)
        else:
            assert network_inputs is not None
            self.path.forward(x)
            self.input_layer.forward(network_inputs)
        if self.later_layers.layers:
            correction = self.later_layers.forward(self.hidden)
            if correction is not self.out:
                self.out.add_(correction)
        return self.out

    def backward(self, *, needs_input_grad: bool) -> None:
        """Compute the gradients of parameters and input from :attr:`grad_out`."""
        if self.later_layers.layers:
            self.later_layers.backward(self.grad_out, needs_input_grad=True)
        self.input_layer.backward(
            self.input_layer_grad_out, needs_input_grad=needs_input_grad
        )
        if self.path is not None:
            self.path.backward(self.grad_out, needs_input_grad=False)


def fused_parameters(linear: nn.Linear, network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return the pairs of parameters that a :class:`Coder` stores side by side.

    They are weights and biases of the network's first layer and of the linear path, if
    both have the same inputs.
    """
    if not isinstance(network, nn.Sequential):
        return []
    first = network[0]
    assert isinstance(first, nn.Linear)
    if first.in_features > linear.in_features:
        return []
    return [(first.weight, linear.weight), (first.bias, linear.bias)]
