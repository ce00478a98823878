"""The move of a module to a device."""

import torch

from skae import VariationalAutoencoder
from skae._fitting.initialization import move


def test_move_keeps_all_numbers(X):
    """Each parameter and buffer is copied, by one copy of all. "cpu:0" is another name."""
    module = VariationalAutoencoder(2, max_iter=1).fit(X).module_
    before = {name: value.clone() for name, value in module.state_dict().items()}
    memory = {value.data_ptr() for value in module.parameters()}
    move(module, torch.device("cpu", 0))
    after = module.state_dict()
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    assert memory.isdisjoint(value.data_ptr() for value in module.parameters())
