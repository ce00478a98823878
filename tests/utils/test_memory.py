"""Memory is refused only where the system says that it is not there."""

import os

import numpy as np
import pytest
import torch

from skae import VariationalAutoencoder
from skae._utils import memory
from skae._utils.memory import AllocationLimit, available_memory, require_memory
from skae._utils.random import random_conv, random_linear

GIB = 2**30


@pytest.fixture
def limit_file(monkeypatch, tmp_path):
    """Stand for the file of the container's limit, which is not there at first."""
    path = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", path)
    return path


def no_such_name(name):
    raise ValueError("unrecognized configuration name")


@pytest.mark.usefixtures("limit_file")
@pytest.mark.parametrize("sysconf", [None, no_such_name, lambda name: -1])
def test_nothing_is_refused_where_nothing_is_known(monkeypatch, sysconf):
    """Windows has no `os.sysconf`, and other systems may lack a name of it."""
    if sysconf is None:
        monkeypatch.delattr(os, "sysconf")
    else:
        monkeypatch.setattr(os, "sysconf", sysconf)
    require_memory(10**30, "This", "Lower it.")
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = VariationalAutoencoder(max_iter=1, random_state=0).fit(X)
    assert model.sample(2).shape == (2, 3)


def test_the_limit_of_a_container(monkeypatch, limit_file):
    """The smaller one of machine and container counts; "max" is no limit."""
    known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", known.__getitem__)
    for text, total in ((f"{2 * GIB}\n", 2), ("max\n", 8), (f"{64 * GIB}\n", 8)):
        limit_file.write_text(text)
        require_memory(total * GIB, "This", "Lower it.")
        with pytest.raises(MemoryError, match=rf"this machine has {total} GiB\. Lower it"):
            require_memory(total * GIB + 1, "This", "Lower it.")


def test_available_memory(monkeypatch, limit_file, tmp_path):
    """On Linux the system says it; elsewhere a quarter of all memory counts as free."""
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", known.__getitem__)
    assert available_memory() == 2 * GIB
    meminfo.write_text("MemTotal: 8388608 kB\nMemFree: 5 kB\nMemAvailable: 3145728 kB\n")
    assert available_memory() == 3 * GIB
    limit_file.write_text(f"{GIB}\n")
    assert available_memory() == GIB
    meminfo.unlink()
    monkeypatch.delattr(os, "sysconf")
    assert available_memory() == 0


GENERATOR = torch.Generator("cpu")
HUGE = 10**12


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(HUGE),
        lambda: torch.empty((10**6, 10**6)),
        lambda: torch.full((HUGE,), 1.0),
        lambda: torch.arange(HUGE),
        lambda: torch.linspace(0, 1, HUGE),
        lambda: torch.eye(10**6),
        lambda: torch.ones(2).new_zeros(HUGE),
        lambda: torch.ones(2).repeat(HUGE),
        lambda: torch.ones(4).expand(HUGE, 4).contiguous(),
        lambda: torch.ones(4, 1).expand(-1, HUGE).reshape(-1),
        lambda: random_linear(10**6, 10**6, GENERATOR),
        lambda: random_conv(1, 1, 10**6 + 1, GENERATOR),
        lambda: [torch.zeros(400) for _ in range(3)],
        lambda: [torch.zeros(1) for _ in range(101)],
    ],
)
def test_memory_that_is_not_given(make):
    with AllocationLimit(1000, 100), pytest.raises(MemoryError, match="arrays"):
        make()


def test_memory_that_is_given():
    """Indices of what is there, and numbers of axes, are no sizes."""
    with AllocationLimit(1000, 100):
        layer = random_linear(5, 6, GENERATOR)
        y = layer(torch.ones(2, 5))
        assert y[:, 1:].shape == (2, 5)
        assert y.sum(dim=1).shape == (2,)
        assert torch.cat([y, y], dim=1).view(2, 2, -1).shape == (2, 2, 6)
