"""Memory is refused only where the system says that it is not there."""

import os

import numpy as np
import pytest

from skae import VariationalAutoencoder
from skae._utils import memory
from skae._utils.memory import require_memory

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
