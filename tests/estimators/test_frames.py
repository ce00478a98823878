"""Drawn rows as frames, where `set_output` says so."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context

from skae import VariationalAutoencoder
from skae._utils.compat import array_api

NAMES = ["a", "b", "c"]


def vae(output="default", **parameters):
    model = VariationalAutoencoder(1, max_iter=2, random_state=0, **parameters)
    return model.set_output(transform=output)


@pytest.fixture(name="numbers")
def frame_of_numbers(X):
    return pd.DataFrame(X[:, :3], columns=NAMES)


@pytest.fixture(name="counts")
def frame_of_counts():
    counts = np.random.default_rng(0).poisson(9, size=(90, 3))
    return pd.DataFrame(counts, columns=NAMES)


@pytest.mark.parametrize("given", [None, [1.0, np.nan, np.nan]])
@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize(
    ("output", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_frames_have_the_numbers_of_the_array(numbers, output, kind, noise, given):
    """The output only wraps: numbers, names and number of rows are the same."""
    arguments = {"random_state": 0, "noise": noise, "given": given}
    array = vae().fit(numbers).sample(5, **arguments)
    assert isinstance(array, np.ndarray)
    drawn = vae(output).fit(numbers).sample(5, **arguments)
    assert isinstance(drawn, kind)
    assert list(drawn.columns) == NAMES
    np.testing.assert_array_equal(drawn.to_numpy(), array)
    with config_context(transform_output=output):
        model = VariationalAutoencoder(1, max_iter=2, random_state=0).fit(numbers)
        assert isinstance(model.sample(5, **arguments), kind)
    assert isinstance(model.sample(5, **arguments), np.ndarray)


def test_columns_without_names(X):
    drawn = vae("pandas").fit(X).sample(2)
    assert list(drawn.columns) == [f"x{j}" for j in range(6)]
    assert (drawn.dtypes == "float64").all()


OF_PANDAS = ["int8", "Int64", "uint16"]


@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_counts_are_integers_as_in_the_training_data(counts, output, library, likelihood):
    dtypes = OF_PANDAS if library == "pandas" else ["int8", "int64", "uint16"]
    X = counts.astype(dict(zip(NAMES, dtypes, strict=True)))
    if library == "polars":
        X = pl.DataFrame({name: X[name].to_numpy() for name in NAMES})
    model = vae(output, likelihood=likelihood).fit(X)
    drawn = model.sample(200, random_state=0)
    if output == "pandas":
        assert list(map(str, drawn.dtypes)) == ["int8", "int64", "uint16"]
    else:
        assert drawn.dtypes == [pl.Int8, pl.Int64, pl.UInt16]
    array = model.set_output(transform="default").sample(200, random_state=0)
    np.testing.assert_array_equal(drawn.to_numpy(), array)
    # Means are no integers.
    means = model.set_output(transform=output).sample(9, random_state=0, noise=False)
    assert {str(dtype).lower() for dtype in means.dtypes} == {"float64"}
    assert (means.to_numpy() % 1 != 0).any()


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_other_dtypes(numbers, output):
    """Single precision stays; integers under a density of real numbers do not."""
    X = numbers.astype({"a": "float32", "b": "int64", "c": "Float64"})
    drawn = vae(output).fit(X).sample(5)
    assert [str(d).lower() for d in drawn.dtypes] == ["float32", "float64", "float64"]
    flags = pd.DataFrame({"a": [True, False] * 20, "b": [0, 1, 1, 0] * 10})
    drawn = vae(output, likelihood="bernoulli").fit(flags).sample(5)
    kinds = [str(dtype).lower() for dtype in drawn.dtypes]
    assert kinds == [{"pandas": "bool", "polars": "boolean"}[output], "int64"]


def test_draws_beyond_the_range_of_the_dtype(counts):
    X = (counts * 8).clip(upper=127).astype("int8")
    drawn = vae("pandas", likelihood="poisson").fit(X).sample(500, random_state=0)
    assert drawn.to_numpy().max() == 127
    assert drawn.to_numpy().min() >= 0


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_draws_beyond_the_range_of_single_precision(output):
    """They are the largest number of it, which is no infinity."""
    rng = np.random.default_rng(0)
    numbers = np.exp(30 * rng.normal(size=(60, 2))).clip(1e-30, 1e37)
    X = pd.DataFrame(numbers.astype("float32"), columns=["a", "b"])
    model = vae(likelihood="log_normal").fit(X)
    array = model.sample(2000, random_state=0)
    largest = np.finfo(np.float32).max
    assert array.max() > largest
    drawn = model.set_output(transform=output).sample(2000, random_state=0)
    expected = np.minimum(array, largest).astype(np.float32)
    np.testing.assert_array_equal(drawn.to_numpy(), expected)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_tables_of_several_kinds(numbers, output):
    """They are tables in any case; `set_output` chooses the package."""
    X = numbers.assign(kind=pd.Categorical(np.where(numbers["a"] > 0, "u", "v")))
    model = vae(output, likelihood="mixed").fit(X)
    plain = vae(likelihood="mixed").fit(X).sample(30, random_state=0)
    drawn = model.sample(30, random_state=0)
    assert type(drawn).__module__.startswith(output)
    if output == "pandas":
        pd.testing.assert_frame_equal(drawn, plain)
    assert drawn["kind"].to_list() == plain["kind"].to_list()
    np.testing.assert_array_equal(drawn["a"].to_numpy(), plain["a"])
    array = vae(output, likelihood="mixed").fit(X.to_numpy(dtype=object))
    drawn = array.sample(30, random_state=0)
    assert list(drawn.columns) == ["x0", "x1", "x2", "x3"]
    assert set(drawn["x3"].to_list()) <= {"u", "v"}
    assert str(drawn["x0"].dtype).lower() == "float64"


def test_later_blocks_keep_the_dtypes(counts):
    model = vae("pandas", likelihood="poisson").partial_fit(counts)
    assert (model.partial_fit(counts).sample(3).dtypes == "int64").all()


@pytest.mark.skipif(array_api is None, reason="needs scikit-learn 1.9")
def test_tensors_stay_tensors(X):
    model = vae("pandas")
    with config_context(array_api_dispatch=True):
        drawn = model.fit(torch.from_numpy(X)).sample(3)
    assert isinstance(drawn, torch.Tensor)


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_package_that_is_not_installed(X, package, monkeypatch):
    model = vae(package).fit(X)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install skae\[{package}\]"):
        model.sample(3)
