"""Half an autoencoder, as layers with a backward pass written by hand."""

from torch import Tensor, nn

from skae._engine.layers import ACTIVATIONS, Chain, Dense, Empty, Layer, Stacked


class Coder:
    """Half an autoencoder: a linear path, and the network whose output is added to it.

    The linear path and the network's first layer have the same input, so they are one
    product: outputs of the layer, then those of the path. Derivatives lie likewise.

    Parameters
    ----------
    linear : torch.nn.Linear
        The linear path of the first model.
    network : torch.nn.Module
        The network of the first model; one that :func:`is_known`.
    n : int
        Rows of a batch.
    stacked : callable
        Finds the parameters of all models.
    empty : callable
        Makes memory.

    Attributes
    ----------
    out, grad_out : Tensor of shape (R, n, n_out)
        Where the output always is, and where its derivative has to be put.
    grad_input : Tensor of shape (R, n, n_in)
        Where the derivative with respect to the input will be.
    """

    def __init__(
        self, linear: nn.Linear, network: nn.Module, n: int, stacked: Stacked, empty: Empty
    ) -> None:
        firsts, others = [linear], []
        if isinstance(network, nn.Sequential):
            first, *others = network
            assert isinstance(first, nn.Linear)
            firsts = [first, linear]
        self.first = Dense(firsts, n, stacked, empty)
        self.grad_first = empty(n, self.first.out.shape[2])
        sizes = [layer.out_features for layer in firsts]
        *hidden, self.out = self.first.out.split(sizes, dim=2)
        *grad_hidden, self.grad_out = self.grad_first.split(sizes, dim=2)
        self.grad_input = self.first.grad_input
        if others:
            (self.hidden,), (grad,) = hidden, grad_hidden
        rest: list[Layer] = []
        for part in others:
            if not isinstance(part, nn.Linear):
                rest.append(ACTIVATIONS[type(part)]())
                continue
            # A map without bias at the end adds its product to the linear path's.
            onto = self.out if part is others[-1] and part.bias is None else None
            place = grad if all(type(layer) is not Dense for layer in rest) else None
            rest.append(Dense([part], n, stacked, empty, onto, place))
        self.rest = Chain(rest)

    def forward(self, x: Tensor) -> Tensor:
        """The output.

        Parameters
        ----------
        x : Tensor of shape (R, n, n_in)
            Input.

        Returns
        -------
        Tensor of shape (R, n, n_out)
            :attr:`out`; overwritten by the next call.
        """
        self.first.forward(x)
        if self.rest.layers:
            correction = self.rest.forward(self.hidden)
            if correction is not self.out:
                self.out.add_(correction)
        return self.out

    def backward(self, *, wants_input: bool) -> None:
        """From :attr:`grad_out` to the gradients of parameters and of the input.

        Parameters
        ----------
        wants_input : bool
            Whether anyone asks for :attr:`grad_input`.
        """
        if self.rest.layers:
            self.rest.backward(self.grad_out, wants_input=True)
        self.first.backward(self.grad_first, wants_input=wants_input)


def fused_parameters(linear: nn.Linear, network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Parameters that have to lie side by side for a :class:`Half`.

    Parameters
    ----------
    linear : torch.nn.Linear
        The linear path.
    network : torch.nn.Module
        The network; one that :func:`is_known`.

    Returns
    -------
    list of pairs of Parameter
        Those of the network's first layer and of the linear path.
    """
    if not isinstance(network, nn.Sequential):
        return []
    first = network[0]
    assert isinstance(first, nn.Linear)
    return [(first.weight, linear.weight), (first.bias, linear.bias)]
