"""Tests of the communication, in a process group of one process."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from skae._utils.peers import ALONE, ProcessPeers


@pytest.fixture(name="peers")
def one_process():
    """Make a process group of this process only, and return its peers."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield ProcessPeers()
    dist.destroy_process_group()


@pytest.mark.parametrize("has_group", [False, True])
def test_one_process_is_the_identity(peers, has_group):
    """Sums, copies and exchanges of one process return what they get."""
    peers = peers if has_group else ALONE
    assert peers.is_alone
    array = np.arange(6.0).reshape(3, 2)
    tensor = torch.arange(3.0)
    np.testing.assert_array_equal(peers.sum(array), array)
    np.testing.assert_array_equal(peers.largest(array), array)
    assert peers.sum(2.5) == peers.largest(2.5) == 2.5
    for (found,) in (peers.gather(array), peers.exchange([array])):
        np.testing.assert_array_equal(found, array)
    assert peers.gather_objects("text") == ["text"]
    assert peers.of_first(lambda: "text") == "text"
    assert torch.equal(peers.sum_(tensor), torch.arange(3.0))
    peers.broadcast_([tensor, tensor[1:]])
    assert torch.equal(tensor, torch.arange(3.0))
    with pytest.raises(KeyError, match="of a block"), peers.together():
        raise KeyError("of a block")
    with peers.together():
        pass


def test_error_of_another_process_has_its_kind(peers):
    """As a kind of error that a message is enough for."""
    with pytest.raises(ValueError, match="failed on rank 1 of 1: a message"):
        peers.raise_first([None, (ValueError, "a message")])


def test_error_of_the_communication_says_what_to_do(peers, monkeypatch):
    def fail(*args):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(dist, "all_reduce", fail)
    with pytest.raises(RuntimeError, match="Rank 0 of 1 has lost the other processes"):
        peers.sum(1.0)


def test_peers_need_a_process_group():
    with pytest.raises(RuntimeError, match="torchrun"):
        ProcessPeers()
