"""Tests of copies, pickles and clones of fitted estimators."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skae import VariationalAutoencoder
from skae.networks import MLP
from tests.helpers import (
    answers,
    assert_plain_state,
    assert_same_answers,
    walk,
    weights,
)


def through_joblib(model, tmp_path):
    """Save a model with joblib and load it."""
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


def through_a_memory_map(model, tmp_path):
    """Save a model with joblib and load it as a memory map."""
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib", mmap_mode="r")


@pytest.mark.parametrize(
    "duplicate",
    [
        lambda model, _: pickle.loads(pickle.dumps(model)),
        lambda model, _: pickle.loads(pickle.dumps(model, protocol=2)),
        lambda model, _: copy.copy(model),
        lambda model, _: copy.deepcopy(model),
        through_joblib,
        through_a_memory_map,
    ],
    ids=["pickle", "pickle 2", "copy", "deepcopy", "joblib", "joblib mmap"],
)
def test_duplicates(fitted, duplicate, X, tmp_path):
    """Duplicates give the same results, and a refit of one does not change the other."""
    expected = answers(fitted, X)
    other = duplicate(fitted, tmp_path)
    assert_same_answers(fitted, other, X)
    assert weights(fitted) == weights(other)
    assert other.get_params().keys() == fitted.get_params().keys()
    assert other.history_.keys() == fitted.history_.keys()
    assert other.n_iter_ == 3
    assert other.scale_ is fitted.scale_ or np.array_equal(other.scale_, fitted.scale_)
    assert not any(p.requires_grad for p in other.module_.parameters())
    other.set_params(random_state=1, warm_start=True, learning_rate_init=1e-3)
    other.fit(X[:50])
    assert not np.array_equal(other.transform(X), expected["transform"])
    for name, value in answers(fitted, X).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_state_is_numpy(fitted):
    """A pickle has arrays of numpy and no object of torch, so it depends on no device."""
    assert_plain_state(fitted)
    # The walk has reached the weights if it counts at least the arrays of the module.
    state = walk(fitted.__getstate__())
    arrays = sum(isinstance(value, np.ndarray) for _, value in state)
    assert arrays >= len(fitted.module_.state_dict())
    assert b"torch" not in pickle.dumps(fitted).replace(b"_torch_version", b"")


@pytest.mark.parametrize(
    "value", [np.random.RandomState(0), torch.zeros(2), torch.nn.Linear(1, 1), iter(())]
)
def test_a_state_that_is_not_plain_is_seen(fitted, value):
    fitted.history_["own"] = [value]
    with pytest.raises(AssertionError, match="own"):
        assert_plain_state(fitted)


def test_model_from_a_gpu_loads_without_a_gpu(fitted, X, monkeypatch):
    """A model that was trained on a GPU loads on the CPU and gives the same results."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state = fitted.__getstate__()
    state["device_"] = "cuda:0"
    state["device"] = "cuda"
    loaded = type(fitted).__new__(type(fitted))
    loaded.__setstate__(state)
    assert loaded.device_ == "cpu"
    assert {t.device.type for t in loaded.module_.state_dict().values()} == {"cpu"}
    assert_same_answers(fitted, loaded, X)


def test_clone_is_unfitted(fitted):
    """A clone has copies of the parameters, and no fitted attributes."""
    fresh = clone(fitted)
    assert repr(fresh) == repr(fitted)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    assert not hasattr(fresh, "module_")
    if not isinstance(fitted.network, str):
        assert fresh.network is not fitted.network


def test_fit_does_not_change_the_network_parameter(X):
    """A fit copies the network specification, so later changes of it have no effect."""
    network = MLP((5,))
    model = VariationalAutoencoder(network=network, max_iter=2, random_state=0).fit(X)
    assert model.network is network
    assert vars(network) == MLP((5,)).get_params()
    before = answers(model, X)
    network.set_params(hidden_layer_sizes=(7,))
    pickle.loads(pickle.dumps(model))
    for name, value in answers(pickle.loads(pickle.dumps(model)), X).items():
        np.testing.assert_array_equal(value, before[name])
