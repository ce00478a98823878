"""Activations with operators of torch that write their gradient into its memory."""

import pytest
import torch

from skae._engine.layers import ReLU, Sigmoid, Tanh


@pytest.mark.parametrize(
    ("layer", "function"),
    [(ReLU, torch.relu), (Sigmoid, torch.sigmoid), (Tanh, torch.tanh)],
)
def test_gradient_equals_that_of_autograd(layer, function):
    """The layer overwrites its input, and then the gradient of its output."""
    x = torch.tensor([[[-2.0, -0.5, 0.0, 0.5, 3.0]]], dtype=torch.float64)
    grad = torch.tensor([[[1.0, -2.0, 3.0, 0.5, -1.0]]], dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    out = function(leaf)
    out.backward(grad)
    activation, kept = layer(), grad.clone()
    torch.testing.assert_close(activation.forward(x), out.detach())
    found = activation.backward(kept, needs_input_grad=True)
    torch.testing.assert_close(found, leaf.grad)
    assert found.data_ptr() == kept.data_ptr()
