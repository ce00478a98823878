"""Generators of torch that belong to one model, in place of the global ones."""

import _thread
import threading

import pytest
import torch
from torch import nn

from skae._utils.random import random_linear, replaced_global_generators
from tests.surroundings import nothing_global_changes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (3, 200)])
def test_random_linear_equals_torchs(sizes, bias):
    """The layer is torch's own, with the same weights as from the global generator."""
    with nothing_global_changes():
        layer = random_linear(*sizes, torch.Generator().manual_seed(4), bias=bias)
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        expected = nn.Linear(*sizes, bias=bias)
        torch.manual_seed(4)
        from_global = random_linear(*sizes, None, bias=bias)
    assert type(layer) is nn.Linear
    assert vars(layer).keys() == vars(expected).keys()
    assert repr(layer) == repr(expected)
    for own, name in ((layer, "given"), (from_global, "global")):
        assert own.state_dict().keys() == expected.state_dict().keys()
        for p, q in zip(own.parameters(), expected.parameters(), strict=True):
            assert p.requires_grad
            assert p.dtype == torch.float32
            assert torch.equal(p, q), name
    x = torch.ones(2, sizes[0])
    assert torch.equal(layer(x), expected(x))


def test_stream_goes_on_from_block_to_block():
    """Draws inside are those of the given generator, also if others are made between."""
    own = torch.Generator().manual_seed(0)
    expected = torch.randn(9, generator=torch.Generator().manual_seed(0)).tolist()
    found = []
    with nothing_global_changes():
        for _ in range(9):
            with replaced_global_generators(own):
                found += torch.randn(1).tolist()
            with torch.random.fork_rng([]):
                torch.rand(1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_global_generator_is_restored_after_an_error(error):
    def fail():
        torch.rand(1)
        raise error

    own = torch.Generator().manual_seed(0)
    with nothing_global_changes(), pytest.raises(error), replaced_global_generators(own):
        fail()


def test_blocks_may_be_nested():
    """The inner block of one thread leaves the stream of the outer one alone."""
    outer, inner = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        expected = torch.rand(2).tolist()
    with nothing_global_changes(), replaced_global_generators(outer):
        first = torch.rand(1).item()
        with replaced_global_generators(inner):
            torch.rand(1)
        assert [first, torch.rand(1).item()] == expected


def test_blocks_in_threads_take_turns():
    """A second thread enters its block when the first has left its own."""
    entered, order = threading.Event(), []

    def other():
        entered.set()
        with replaced_global_generators(torch.Generator()):
            order.append("other")

    thread = threading.Thread(target=other)
    with nothing_global_changes():
        with replaced_global_generators(torch.Generator()):
            thread.start()
            assert entered.wait(10)
            thread.join(0.2)
            order.append("first")
        thread.join()
    assert order == ["first", "other"]


def test_no_stream_takes_no_lock():
    """Without a stream, a block does not wait for those of other threads."""
    done = threading.Event()

    def other():
        with replaced_global_generators():
            done.set()

    with replaced_global_generators(torch.Generator()):
        _thread.start_new_thread(other, ())
        assert done.wait(10)
