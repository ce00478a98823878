"""Which networks draw random numbers, and from which generators."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from skae.networks import MLP, Conv, ModelPart
from skae.networks.mlp import NoCorrection
from skae.networks.randomness import fixed_draws, training_streams
from tests.surroundings import nothing_global_changes

CPU = torch.device("cpu")


class Own(nn.Module):
    """A module of a user."""

    def forward(self, x):
        return x


class Declared(Own, ModelPart):
    """A module of a user that is declared to draw nothing."""

    is_thread_safe = True


def hooked():
    network = MLP((3,)).encoder(4, 2)
    network[1].register_forward_hook(lambda *args: None)
    return network


def replaced():
    network = MLP((3,)).encoder(4, 2)
    network[1].forward = torch.tanh
    return network


OF_TORCH = {
    "none": lambda: NoCorrection(3),
    "mlp": lambda: MLP((3,)).encoder(4, 2),
    "dropout": lambda: MLP((3, 3), residual=True, dropout=0.5).encoder(4, 2),
    "conv": lambda: Conv((1, 2, 2)).decoder(2, 5),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.RReLU()),
}
OTHER = {
    "own": Own,
    "inside": lambda: nn.Sequential(nn.Linear(4, 3), nn.Sequential(Own())),
    "hooked": hooked,
    "replaced": replaced,
}


def draw():
    """Draw from the global generators of torch, numpy and Python."""
    return torch.rand(()).item(), np.random.random(), random.random()  # noqa: NPY002


@pytest.mark.parametrize("make", OF_TORCH.values(), ids=OF_TORCH)
def test_modules_of_torch_draw_from_its_generators(make):
    """They draw in training only, and from torch only."""
    generator, network = torch.Generator(), make()
    assert training_streams([network], [generator]) == [generator]
    before = torch.get_rng_state()
    with fixed_draws(network, device=CPU):
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("make", OTHER.values(), ids=OTHER)
def test_other_modules_may_draw_from_all_generators(make):
    """They have streams of numpy and Python too, and fixed draws in evaluation mode."""
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    streams = [training_streams([make()], [each]) for each in generators]
    assert [len(each) for each in streams] == [3, 3, 3]
    numbers = [(bits.random_raw(), python.random()) for _, bits, python in streams]
    assert numbers[0] == numbers[1] != numbers[2]
    found = []
    with nothing_global_changes():
        for _ in range(2):
            with fixed_draws(NoCorrection(3), make(), device=CPU):
                found.append([draw(), draw()])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_fractional_pooling_draws_in_evaluation_mode():
    """Of torch's layers it is the one that does; two calls give one result."""
    network = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.FractionalMaxPool2d(2, 5))
    x, found = torch.randn(3, 64), []
    with nothing_global_changes():
        for _ in range(2):
            with fixed_draws(network, device=CPU):
                found.append(network.eval()(x))
    assert torch.equal(*found)


def test_a_declared_module_is_not_watched():
    """What is declared to be thread-safe draws nothing, so that no lock is taken."""
    state = torch.get_rng_state()
    with fixed_draws(Declared(), device=CPU):
        assert torch.equal(torch.get_rng_state(), state)
