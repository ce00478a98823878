"""Generators that belong to one model, in place of the global ones."""

import _thread
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

from skae._utils.random import further_streams, random_linear, replaced_global_generators
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


def draw_from_all():
    """Draw from the global generators of torch, numpy and Python."""
    normal = np.random.standard_normal()  # noqa: NPY002  (the global state under test)
    return torch.rand(()).item(), normal, random.random()


def test_streams_of_numpy_and_python_go_on():
    """Each stream is that of its own generator, and the global ones stay."""
    streams = torch.Generator().manual_seed(0), *further_streams(1)
    found = []
    with nothing_global_changes():
        for _ in range(3):
            with replaced_global_generators(*streams):
                found.append(draw_from_all())
    torch_draws = torch.rand(3, generator=torch.Generator().manual_seed(0)).tolist()
    assert [each[0] for each in found] == torch_draws
    # A block begins anew with a pair of normal draws.
    legacy = np.random.RandomState(np.random.MT19937(1))
    pairs = [legacy.standard_normal() for _ in range(5)][::2]
    assert [each[1] for each in found] == pairs
    expected = random.Random(1)
    assert [each[2] for each in found] == [expected.random() for _ in range(3)]


@pytest.mark.parametrize("kept", [False, True])
def test_the_second_of_two_normal_draws_is_kept(kept):
    """numpy keeps it beside its bit generator; a block does not lose it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(3)  # noqa: NPY002
        draws = [np.random.standard_normal() for _ in range(4)]  # noqa: NPY002
        np.random.seed(3)  # noqa: NPY002
        n_before = 1 if kept else 2
        found = [np.random.standard_normal() for _ in range(n_before)]  # noqa: NPY002
        streams = torch.Generator(), *further_streams(0)
        with nothing_global_changes(), replaced_global_generators(*streams):
            draw_from_all()
        found += [np.random.standard_normal() for _ in range(4 - n_before)]  # noqa: NPY002
        assert found == draws
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_a_seed_inside_a_block_is_no_seed_outside():
    """A module that seeds the global generators seeds its own streams."""
    streams = torch.Generator(), *further_streams(0)
    with nothing_global_changes(), replaced_global_generators(*streams):
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        torch.manual_seed(0)


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
