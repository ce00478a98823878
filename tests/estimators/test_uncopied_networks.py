"""Networks that cannot be copied are tried and trained themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from skae import VariationalAutoencoder
from skae._fitting.user_parts import _for_trial
from tests.helpers import every_estimator

DATA = np.random.default_rng(0).normal(size=(40, 5))
QUICK = {"max_iter": 2, "random_state": 0}


class Uncopied(nn.Module):
    """A network with buffers and modes of its own; it cannot be copied."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, 4), nn.BatchNorm1d(4), nn.Linear(4, n_outputs)
        )
        self.layers[1].eval()
        self.register_buffer("in_place", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.register_buffer("absent", None)
        self.at_start = []

    def __deepcopy__(self, memo):
        raise TypeError("cannot be copied")

    def forward(self, x):
        modes = self.training, self.layers[1].training
        self.at_start.append((*modes, float(self.in_place), float(self.replaced)))
        self.in_place.add_(1)
        self.replaced = self.replaced + 1
        return self.layers(x)


class Specification:
    """A specification that makes networks by a function."""

    def __init__(self, make):
        self.make = make

    def encoder(self, n_inputs, n_outputs):
        return self.make(n_inputs, n_outputs)

    decoder = encoder


def weight_normed(n_inputs, n_outputs):
    layer = torch.nn.utils.weight_norm(nn.Linear(n_inputs, 4))
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(4, n_outputs))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@every_estimator
def test_weight_norm(estimator):
    """torch's older weight_norm, whose modules hold a tensor with a graph, is trained."""
    model = estimator(network=Specification(weight_normed), **QUICK).fit(DATA)
    first = estimator(network=Specification(weight_normed), max_iter=1, random_state=0)
    assert np.isfinite(model.score(DATA))
    gain = "encoder.0.weight_g"
    arrays, other = model.module_.get_arrays(), first.fit(DATA).module_.get_arrays()
    assert not np.array_equal(arrays[gain], other[gain])


def test_the_trial_leaves_buffers_and_modes():
    """The training finds what the constructor has made."""
    made = []

    def make(n_inputs, n_outputs):
        made.append(Uncopied(n_inputs, n_outputs))
        return made[-1]

    model = VariationalAutoencoder(network=Specification(make), **QUICK).fit(DATA)
    assert model.module_.encoder is made[0]
    for network in made:
        *trials, first = network.at_start[:4]
        assert [trial[:3] for trial in trials] == [(False, False, i) for i in range(3)]
        assert first[2:] == (0, 0)


def test_the_trial_puts_the_modes_of_parts_back():
    """A part that is frozen in evaluation mode stays so."""
    network = Uncopied(3, 2)
    with _for_trial(network) as tried:
        assert tried is network
        assert not network.training
    assert network.training
    assert network.layers[0].training
    assert not network.layers[1].training


def test_networks_of_pairs():
    """A network that needs an even number of rows is not refused by the trial."""

    class Pairs(nn.Linear):
        def forward(self, x):
            return super().forward(x.reshape(-1, 2, x.shape[1])).flatten(0, 1)

    model = VariationalAutoencoder(network=Specification(Pairs), batch_size=20, **QUICK)
    assert np.isfinite(model.fit(DATA).score(DATA))


@pytest.mark.parametrize("sizes", [torch.tensor([8, 4]), np.array([8, 4]), [8, 4]])
def test_tensors_as_widths(sizes):
    """Widths may come as a tensor; bools and fractions are refused there, too."""
    model = VariationalAutoencoder(hidden_layer_sizes=sizes, **QUICK).fit(DATA)
    assert model.module_.spec.network.hidden_layer_sizes == (8, 4)
    for bad in (torch.tensor([8.0]), torch.tensor([True]), torch.tensor([0])):
        with pytest.raises(ValueError, match="must be positive integers"):
            VariationalAutoencoder(hidden_layer_sizes=bad).fit(DATA)
