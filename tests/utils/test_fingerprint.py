"""Texts of parameters and data."""

import logging
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.random import PCG64, RandomState
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
    assert "inner=object 0" in describe(own)


def ramp(end, *, start=0.0):
    """Return a schedule with default values."""

    def schedule(progress, end=end, *, start=start):
        return start + end * progress

    return schedule


class Slotted:
    """An object without a dictionary of attributes."""

    __slots__ = ("first", "second")

    def __init__(self, first):
        self.first = first

    def slow(self):
        return self.first

    def fast(self):
        return 2 * self.first


def with_method(factor):
    """Make an object of a class whose method differs in a constant."""
    scale = {"run": (lambda self: 1) if factor == 1 else (lambda self: 2)}
    return type("Own", (), scale)()


DIFFERENT = {
    "default value": (ramp(0.5), ramp(0.9)),
    "default of a keyword": (ramp(0.5), ramp(0.5, start=0.1)),
    "bound methods": (Slotted(1).slow, Slotted(1).fast),
    "owners of a method": (Slotted(1).slow, Slotted(2).slow),
    "slots": (Slotted(1), Slotted(2)),
    "bit generators": (RandomState(PCG64(0)), RandomState(PCG64(1))),
    "generators": (np.random.default_rng(0), np.random.default_rng(1)),
    "settings of a layer": (nn.Dropout(0.1), nn.Dropout(0.5)),
    "frames": (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    "names of a frame": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "methods of a class": (with_method(1), with_method(2)),
    "classes": (type(with_method(1)), type(with_method(2))),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_small_differences(name):
    one, other = DIFFERENT[name]
    assert describe(one) != describe(other)
    assert describe(one) == describe(one)


def test_whole_numbers_of_both_kinds_are_equal():
    assert describe(1.0) == describe(1)
    assert describe(1e300) != describe(1e301)


def test_objects_of_python_end_soon():
    """A logger leads to all loggers and files of the process."""
    own = Own(logging.getLogger("net"))
    text = describe([own, threading.Lock(), own])
    assert len(text) < 500
    assert " at 0x" not in text


def test_very_many_objects_end_soon():
    assert "..." in describe([Own(i) for i in range(20_000)])
