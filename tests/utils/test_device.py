"""The device of a name, and what a machine without accelerator can do."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

import skae
from skae import VariationalAutoencoder
from skae._utils import device as devices
from tests.helpers import assert_plain_state, assert_same_answers, every_estimator, weights

CPU = torch.device("cpu")


def available(monkeypatch, kind):
    """Let torch find an accelerator of a kind, whose tensors are on the CPU."""
    found = None if kind is None else torch.device(kind)
    zeros = torch.zeros

    def on_cpu(*size, device, **kwargs):
        found_on.append(torch.device(device))
        return zeros(*size, **kwargs)

    found_on = []
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available=False: found
    )
    monkeypatch.setattr(torch, "zeros", on_cpu)
    return found_on


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(None, "cpu"), ("cuda", "cuda"), ("mps", "mps"), ("xpu", "xpu")],
)
def test_auto_is_what_torch_offers(kind, expected, monkeypatch):
    found_on = available(monkeypatch, kind)
    devices.resolve_device("auto")
    assert found_on == [torch.device(expected)]


@pytest.mark.parametrize("name", ["cuda:1", "mps", "xpu", "cpu"])
@pytest.mark.parametrize("make", [str, torch.device])
def test_names_and_objects_are_one_device(name, make, monkeypatch):
    found_on = available(monkeypatch, "cuda")
    devices.resolve_device(make(name))
    assert found_on == [torch.device(name)]


@pytest.mark.parametrize("given", ["cpu", "cpu:0", torch.device("cpu")])
def test_one_device_has_one_name(given):
    """Else a checkpoint of one would be refused by the other."""
    assert devices.resolve_device(given) == CPU


def test_usable_devices_are_listed(monkeypatch):
    available(monkeypatch, "xpu")
    message = r"device='meta' cannot be used here.*'auto', 'cpu', 'xpu'\.$"
    monkeypatch.setattr(
        torch, "zeros", lambda *size, device, **_: torch.empty(1).to("meta")
    )
    with pytest.raises(ValueError, match=message):
        devices.resolve_device(torch.device("meta"))


@pytest.mark.parametrize("error", [TypeError("MPS has no float64"), RuntimeError("fp64")])
def test_double_precision_is_on_the_cpu_where_a_device_lacks_it(error, monkeypatch):
    def zeros(*size, dtype, device):
        assert (dtype, device) == (torch.float64, "mps")
        raise error

    devices._has_float64.cache_clear()
    monkeypatch.setattr(torch, "zeros", zeros)
    try:
        assert not devices.has_float64(torch.device("mps"))
        assert devices.has_float64(CPU)
        doubles = torch.ones(3, dtype=torch.float64)
        assert devices.move_double(doubles, torch.device("mps")).device == CPU
    finally:
        devices._has_float64.cache_clear()
    assert devices.to_double(torch.ones(3)).dtype == torch.float64


def test_float64_training_needs_float64(X, monkeypatch):
    monkeypatch.setattr("skae.estimators.training_data.has_float64", lambda device: False)
    with pytest.raises(
        ValueError, match="device='cpu' has no float64, as precision='float"
    ):
        VariationalAutoencoder(precision="float64", device="cpu").fit(X)


def test_blocks_that_torch_keeps_are_free(monkeypatch):
    """Else a second fit would stream its data, since the first left such blocks."""

    class Module:
        mem_get_info = staticmethod(lambda device: (100, 1000))
        memory_reserved = staticmethod(lambda device: 70)
        memory_allocated = staticmethod(lambda device: 20)

    monkeypatch.setattr(torch, "get_device_module", lambda device: Module)
    assert devices.free_memory(CPU) == 150
    assert devices.total_memory(CPU) == 1000


def test_a_host_buffer_of_a_cpu_is_not_pinned():
    like = torch.zeros(2, 3, dtype=torch.float64)
    buffer = devices.host_buffer(like, CPU)
    assert (buffer.shape, buffer.dtype, buffer.device) == (like.shape, like.dtype, CPU)
    assert not buffer.is_pinned()


# The parameter


@every_estimator
def test_an_object_as_parameter(estimator, X, tmp_path):
    """`device` takes torch's object: clone, repr, copies, pickles, files, checkpoints."""
    model = estimator(2, device=CPU, max_iter=2, random_state=0)
    assert clone(model).get_params()["device"] == CPU
    assert "device=device(type='cpu')" in repr(model)
    path = tmp_path / "state"
    model.set_params(checkpoint=str(path)).fit(X)
    named = estimator(2, device="cpu", max_iter=2, random_state=0).fit(X)
    assert weights(model) == weights(named)
    # A checkpoint goes on if the same device is named otherwise.
    again = clone(model).set_params(device="auto" if on_cpu_by_default() else "cpu")
    again.set_params(max_iter=2).fit(X)
    assert weights(again) == weights(model)
    assert_plain_state(model)
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.device == "cpu"
    assert_same_answers(model, loaded, X)
    pytest.importorskip("skops")
    model.save(tmp_path / "model.skae")
    assert skae.load(tmp_path / "model.skae").device == "cpu"


def on_cpu_by_default():
    return devices.resolve_device("auto") == CPU


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_shares_nothing(duplicate, X):
    """A copy keeps parameters and device, and is changed without the original."""
    model = VariationalAutoencoder(2, device=CPU, max_iter=2, random_state=0).fit(X)
    before = weights(model)
    model.itself = model
    other = duplicate(model)
    assert other.device == CPU
    assert other.device_ == "cpu"
    if duplicate is copy.deepcopy:
        assert other.itself is other
    assert_same_answers(model, other, X)
    with torch.no_grad():
        for p in other.module_.parameters():
            p.zero_()
    assert weights(model) == before
    assert np.array_equal(model.history_["objective"], other.history_["objective"])
