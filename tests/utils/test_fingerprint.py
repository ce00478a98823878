"""Texts of parameters and data."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from sklearn.mixture import GaussianMixture
from torch import nn

from skae._utils.fingerprint import describe
from skae.likelihoods import Mixed, StudentTLikelihood
from skae.networks import MLP


def scaled(factor):
    """Return a function that differs in what it encloses."""
    return lambda progress: factor * progress


class Own:
    """An object of a user, whose repr has its address."""

    def __init__(self, inner):
        self.inner = inner


def drawn(seed, n=3):
    """Return a generator after some draws."""
    random_state = RandomState(seed)
    random_state.normal(size=n)
    return random_state


MAKERS = {
    "None": lambda: None,
    "numbers": lambda: [1, 2.5, np.float32(0.5), np.int8(3), True, np.True_],
    "text": lambda: "a",
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "objects": lambda: np.array(["a", None, 2.0], dtype=object),
    "large array": lambda: np.arange(400_000.0).reshape(-1, 2),
    "no number": lambda: np.zeros((0, 2)),
    "tensor": lambda: torch.arange(3),
    "dict": lambda: {"a": 1, "b": [2]},
    "set": lambda: {1, 2, 3},
    "class": lambda: MLP,
    "estimator": lambda: GaussianMixture(3),
    "network": lambda: MLP((3, 4)),
    "module": lambda: nn.BatchNorm1d(2),
    "other module": lambda: nn.BatchNorm1d(3),
    "likelihood": lambda: StudentTLikelihood(df=4.0),
    "mixed": lambda: Mixed([([0, 1], "gaussian"), (slice(2, 4), "poisson")]),
    "function": lambda: scaled(2.0),
    "another function": lambda: scaled(3.0),
    "partial": lambda: partial(max, 1),
    "object": lambda: Own(Own([1])),
    "random state": lambda: drawn(0),
    "after a draw": lambda: drawn(0, 4),
}


@pytest.mark.parametrize("name", MAKERS)
def test_equal_contents_have_equal_texts(name):
    assert describe(MAKERS[name]()) == describe(MAKERS[name]())


def test_different_contents_have_different_texts():
    texts = [describe(make()) for make in MAKERS.values()]
    texts += [
        describe(Own(Own([2]))),
        describe(StudentTLikelihood(df=5.0)),
        describe(MLP((3, 5))),
    ]
    texts += [describe(np.arange(6.0).reshape(3, 2)), describe(np.arange(6))]
    changed = np.arange(400_000.0).reshape(-1, 2)
    changed[-1, -1] += 1e-9
    texts.append(describe(changed))
    assert len(set(texts)) == len(texts)


def test_numbers_are_compared_by_value():
    assert describe(np.int64(3)) == describe(3)
    assert describe(np.float64(0.1)) == describe(0.1)
    assert describe(True) != describe(1)
    array = np.arange(6.0).reshape(2, 3)
    assert describe(array) == describe(np.asfortranarray(array))


def test_an_object_that_has_itself_ends():
    own = Own(None)
    own.inner = own
    assert "..." in describe(own)
