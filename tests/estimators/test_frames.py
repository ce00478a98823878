"""Rows of a model as frames, where `set_output` says so."""

import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from skae._data.columns import package_of
from skae._utils.compat import array_api
from skae.impute import AutoencoderImputer
from skae.inspection import ImputationDisplay, ResidualQQDisplay
from skae.outlier import LikelihoodOutlierDetector
from tests.helpers import every_estimator

mpl.use("Agg")

import matplotlib.pyplot as plt

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
    X = (counts * 12).clip(upper=127).astype("int8")
    model = vae("pandas", likelihood="poisson").fit(X)
    with pytest.warns(UserWarning, match="integer dtype .* clipped") as record:
        drawn = model.sample(500, random_state=0)
    assert len(record) == 1
    assert drawn.to_numpy().max() == 127
    assert drawn.to_numpy().min() >= 0
    # The message has the number of values of each column that were beyond.
    array = model.set_output(transform="default").sample(500, random_state=0)
    n_beyond = (array > 127).sum(axis=0)
    assert n_beyond.any()
    for name, n in zip(X.columns, n_beyond, strict=True):
        text = f"{n} of 500 values of column '{name}', from -128 to 127"
        assert (text in str(record[0].message)) == (n > 0)


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
    with pytest.raises(ImportError, match=rf"pip install 'skae\[{package}\]'"):
        model.sample(3)


# Rows that belong to rows of the user


OUTPUTS = [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]


def results_of(model, X):
    """Return what a fitted model says of rows, by the name of the method."""
    codes = np.random.default_rng(3).normal(size=(len(X), model.n_components_))
    if package_of(X) == "pandas":
        codes = pd.DataFrame(codes, index=X.index)
    return {
        "reconstruct": model.reconstruct(X),
        "inverse_transform": model.inverse_transform(codes),
        "impute": model.impute(X),
        "score_features": model.score_features(X),
        "score_features, kl": model.score_features(X, return_kl=True)[0],
        "impute, 2": model.impute(X, n_samples=2)[1],
    }


@every_estimator
@pytest.mark.parametrize(("output", "kind"), OUTPUTS)
def test_rows_of_a_model_are_frames(estimator, numbers, output, kind):
    """With the names of the training data and the index of X, and the same numbers."""
    numbers.index = [f"row {i}" for i in range(len(numbers))]
    model = estimator(1, max_iter=2, random_state=0).fit(numbers)
    new = numbers[30:50].copy()
    new.iloc[2, 1] = new.iloc[5, 0] = np.nan
    arrays = results_of(model, new)
    frames = results_of(model.set_output(transform=output), new)
    assert isinstance(model.impute(new, n_samples=2), list)
    assert frames.keys() == arrays.keys()
    for method, array in arrays.items():
        assert isinstance(array, np.ndarray), method
        frame = frames[method]
        assert isinstance(frame, kind), method
        assert list(frame.columns) == NAMES
        np.testing.assert_array_equal(frame.to_numpy(), array)
        if output == "pandas":
            assert frame.index.equals(new.index), method
    with config_context(transform_output=output):
        plain = estimator(1, max_iter=2, random_state=0).fit(numbers)
        assert all(isinstance(f, kind) for f in results_of(plain, new).values())


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_arrays_without_names_stay_arrays(X, output):
    results = results_of(vae(output).fit(X), X)
    assert {type(result) for result in results.values()} == {np.ndarray}


@pytest.mark.parametrize(("output", "kind"), OUTPUTS)
def test_rows_that_are_no_frames(numbers, output, kind):
    """An array has no index, and a frame of polars neither."""
    model = vae(output).fit(numbers)
    frame = pl.DataFrame({name: numbers[name].to_numpy() for name in NAMES})
    results = results_of(model, frame)
    assert {type(result) for result in results.values()} == {kind}
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = model.reconstruct(numbers.to_numpy())
    np.testing.assert_array_equal(found.to_numpy(), results["reconstruct"].to_numpy())


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_observed_entries_are_those_of_the_table(numbers, output):
    """Also if the training data had fewer digits; and drawn counts are integers."""
    model = vae(output).fit(numbers.astype("float32"))
    new = numbers.copy()
    new.iloc[::3, 0] = np.nan
    observed = new.notna().to_numpy()
    filled = model.impute(new)
    np.testing.assert_array_equal(filled.to_numpy()[observed], new.to_numpy()[observed])
    assert not np.isnan(filled.to_numpy()).any()
    single = model.impute(new.astype("float32"))
    assert {str(dtype).lower() for dtype in single.dtypes} == {"float32"}
    assert {str(d).lower() for d in model.reconstruct(new).dtypes} == {"float32"}


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_imputed_counts(counts, output):
    new = counts.astype("Int64")
    new.iloc[4, 1] = pd.NA
    model = vae(output, likelihood="poisson").fit(new)
    for table in model.impute(new, n_samples=3):
        assert {str(dtype).lower() for dtype in table.dtypes} == {"int64"}
    means = model.impute(new)
    assert {str(dtype).lower() for dtype in means.dtypes} == {"float64"}
    assert means["b"][4] % 1 != 0


@pytest.mark.parametrize(("output", "kind"), OUTPUTS)
def test_tables_of_several_kinds_keep_the_index(numbers, output, kind):
    X = numbers.assign(kind=np.where(numbers["a"] > 0, "u", "v"))
    X.index = [f"row {i}" for i in range(len(X))]
    model = vae(likelihood="mixed").fit(X)
    plain = results_of(model, X)
    for method, frame in plain.items():
        assert isinstance(frame, pd.DataFrame), method
        assert frame.index.equals(X.index), method
    framed = results_of(model.set_output(transform=output), X)
    for method, frame in framed.items():
        assert isinstance(frame, kind), method
        assert list(frame.columns) == list(X.columns)
        if output == "pandas":
            assert frame.index.equals(X.index)
        assert frame["kind"].to_list() == list(plain[method]["kind"])


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
@pytest.mark.parametrize("given", ["polars", "pandas, numbers as names", "numpy"])
def test_parts_of_columns_are_frames_where_reconstructions_are(numbers, given, output):
    mixed = numbers.assign(kind=np.where(numbers["a"] > 0, "u", "v"))
    X = {
        "polars": pl.DataFrame(mixed.to_dict("list")),
        "pandas, numbers as names": mixed.set_axis(range(4), axis=1),
        "numpy": mixed.to_numpy(dtype=object),
    }[given]
    model = vae(output, likelihood="mixed").fit(X)
    expected, parts = model.reconstruct(X), model.score_features(X)
    assert type(parts) is type(expected)
    if package_of(parts):
        assert list(parts.columns) == list(expected.columns)
    assert type(LikelihoodOutlierDetector(model).fit(X).score_features(X)) is type(parts)
    np.testing.assert_array_equal(model.score_features(X, return_kl=True)[0], parts)


@pytest.mark.skipif(array_api is None, reason="needs scikit-learn 1.9")
def test_tensors_of_a_model_of_names_stay_tensors(numbers):
    model = vae("pandas").fit(numbers)
    with config_context(array_api_dispatch=True):
        rows = torch.from_numpy(numbers.to_numpy().copy())
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            results = results_of(model, rows)
    results["inverse_transform"] = rows  # whose codes are an array
    assert all(isinstance(result, torch.Tensor) for result in results.values())


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_a_pipeline_goes_back_from_frames(numbers, output):
    pipeline = make_pipeline(StandardScaler(), vae()).fit(numbers)
    Z = pipeline.transform(numbers)
    expected = pipeline.inverse_transform(Z)
    pipeline.set_output(transform=output).fit(numbers)
    found = pipeline.inverse_transform(pipeline.transform(numbers))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("output", "kind"), OUTPUTS)
def test_displays_and_detectors_of_models_with_frames(numbers, output, kind):
    numbers = numbers.copy()
    numbers.iloc[3, 1] = np.nan
    plain = LikelihoodOutlierDetector(vae()).fit(numbers)
    framed = LikelihoodOutlierDetector(vae(output)).fit(numbers)
    expected = plain.score_features(numbers)
    found, _ = framed.score_features(numbers, return_kl=True)
    for parts in (framed.score_features(numbers), found):
        assert isinstance(parts, kind)
        assert list(parts.columns) == NAMES
        np.testing.assert_array_equal(parts, expected)
    model = vae(output).fit(numbers)
    for statistic in (None, "mean"):
        display = ImputationDisplay.from_estimator(model, numbers, statistic=statistic)
        assert isinstance(display.filled, np.ndarray)
    quantiles = ResidualQQDisplay.from_estimator(model, numbers).quantiles
    expected = ResidualQQDisplay.from_estimator(vae().fit(numbers), numbers).quantiles
    for name, of_array in expected.items():
        np.testing.assert_allclose(quantiles[name], of_array, rtol=1e-12)
    plt.close("all")


@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("sample_posterior", [False, True])
def test_an_imputer_of_a_model_with_frames(numbers, output, sample_posterior):
    """Its own `set_output` decides, not that of its estimator."""
    holes = numbers.where(np.random.default_rng(0).random(numbers.shape) > 0.1)
    options = {"sample_posterior": sample_posterior, "random_state": 0}
    expected = AutoencoderImputer(vae(), **options).fit_transform(holes)
    found = AutoencoderImputer(vae(output), **options).fit_transform(holes)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)
