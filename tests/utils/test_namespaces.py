"""Arrays of other libraries: where they are, and how they come and go."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn import config_context
from sklearn.utils import Bunch

from skae._utils.namespaces import device_name, home_of, like, on_host
from tests.other_arrays import Array

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("given", "kind", "n_floats", "expected"),
    [
        ("auto", "cuda:1", 2, "cuda:1"),
        ("auto", "cpu", 2, "auto"),
        ("cpu", "cuda:1", 2, "cpu"),
        # A device without double precision.
        ("auto", "mps", 1, "auto"),
    ],
)
def test_auto_is_the_device_of_the_data(given, kind, n_floats, expected):
    """Data on an accelerator with double precision are trained on there."""
    home = SimpleNamespace(
        is_torch=True, device=torch.device(kind), floats=["float64", "float32"][:n_floats]
    )
    assert device_name(given, home) == expected
    assert device_name(given, None) == given


@pytest.mark.parametrize(
    "data",
    [X, X.tolist(), pd.DataFrame(X), scipy.sparse.csr_array(X), None, 1.0, "text"],
    ids=lambda data: type(data).__name__,
)
def test_other_data_have_no_home(data):
    """What is no array of another library stays as it is."""
    with config_context(array_api_dispatch=True):
        assert home_of(data) is None
        assert on_host(data) is data


def test_nothing_has_a_home_without_dispatch():
    """Without dispatch, even a tensor that would be refused is left to scikit-learn."""
    tensor = torch.from_numpy(X).requires_grad_()
    assert home_of(tensor) is None
    assert on_host(tensor) is tensor


def test_arrays_on_the_host():
    """Tensors of the CPU share their memory with the array; short floats are converted."""
    tensor = torch.from_numpy(X)
    with config_context(array_api_dispatch=True):
        assert on_host(tensor).__array_interface__["data"] == X.__array_interface__["data"]
        for short in (torch.bfloat16, torch.float16):
            assert on_host(tensor.to(short)).dtype == np.float64
        np.testing.assert_array_equal(on_host(tensor.long()), X.astype(int))
        np.testing.assert_array_equal(on_host(Array(X)), X)


@pytest.mark.parametrize("given", [X, torch.from_numpy(X), Array(X)])
def test_results_like_data(given):
    """All arrays of a result are of the library of the data; other results stay."""
    results = torch.ones(2), np.zeros(2, dtype=np.float32), 1.5, Bunch(gap=torch.ones(1))
    with config_context(array_api_dispatch=True):
        tensor, array, number, bunch = like(given, results)
    for result, dtype in ((tensor, "float32"), (array, "float32"), (bunch.gap, "float32")):
        assert type(result) is type(given)
        assert str(result.dtype).endswith(dtype)
    assert number == 1.5
