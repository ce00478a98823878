"""Statistics of the training data against numpy in extended precision."""

import math

import numpy as np
import pytest

from skae._data.feature_moments import measure, measure_moments
from skae._data.rows import Rows, select_rows
from skae._data.standardization import Standardization


def all_rows(X, weight=None):
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=float)
    return Rows(X, np.arange(len(X)), weight / weight.mean())


def moments(X, weight=None):
    """Compute mean and standard deviation of the stored numbers in extended precision."""
    X = X.astype(np.longdouble)
    mean = np.average(X, axis=0, weights=weight)
    return mean, np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))


# ------------------------------------------------------------------- centre and spread


@pytest.mark.parametrize("n", [2, 50, 20_000])  # 20,000 rows are several chunks
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_deviation_equal_numpy(n, dtype, weighted):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(n, 3)) * [1, 1e-3, 1e3] + [0, 5, -2e3]).astype(dtype)
    weight = rng.uniform(0.1, 3, size=n) if weighted else None
    mean, std = moments(X, weight)
    for covariance_type in ("spherical", "diag"):
        standardization = measure(all_rows(X, weight), covariance_type)
        np.testing.assert_allclose(
            standardization.mean, mean.astype(float), rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(standardization.std, std.astype(float), rtol=1e-10)
        assert standardization.mean.dtype == standardization.std.dtype == np.float64


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_offset_costs_no_precision(scale, offset):
    X = np.random.default_rng(0).normal(size=(500, 2)) * scale + offset
    mean, std = moments(X)
    standardization = measure(all_rows(X), "diag")
    # The error of the mean is small in units of the deviation.
    rounding = np.finfo(float).eps * abs(offset)
    error = np.abs(standardization.mean - mean.astype(float))
    assert np.all(error <= 1e-12 * scale + rounding)
    np.testing.assert_allclose(standardization.std, std.astype(float), rtol=1e-7)


def test_offset_in_float32():
    """The reference uses the stored numbers, which are 1/16 apart at a million."""
    X = (np.random.default_rng(0).normal(size=(3000, 2)) * 20 + 1e6).astype(np.float32)
    mean, std = moments(X)
    standardization = measure(all_rows(X), "diag")
    np.testing.assert_allclose(
        standardization.mean - 1e6, mean.astype(float) - 1e6, rtol=1e-8
    )
    np.testing.assert_allclose(standardization.std, std.astype(float), rtol=1e-10)


def test_weight_equals_repeated_row():
    rng = np.random.default_rng(0)
    X, times = rng.normal(size=(40, 3)), rng.integers(1, 5, size=40)
    weighted = measure(all_rows(X, times), "diag")
    repeated = measure(all_rows(np.repeat(X, times, axis=0)), "diag")
    for name in ("mean", "std", "likelihood_unit", "resolution"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), rtol=1e-12, atol=1e-14
        )


def test_rows_without_weight_are_ignored():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    X[20:] = 1e30
    weight = np.append(np.ones(20), np.zeros(20))
    standardization = measure(select_rows(X, weight, shuffle=False), "diag")
    np.testing.assert_allclose(standardization.mean, X[:20].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(standardization.std, X[:20].std(axis=0), rtol=1e-12)


# ------------------------------------------------------------------------------ units


def test_spherical_unit_is_root_mean_variance():
    X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 100]
    standardization = measure(all_rows(X), "spherical")
    typical = math.sqrt(X.var(axis=0).mean())
    np.testing.assert_allclose(standardization.likelihood_unit, 3 * [typical], rtol=1e-12)
    np.testing.assert_allclose(
        standardization.std_in_units, X.std(axis=0) / typical, rtol=1e-12
    )
    assert standardization.log_det_units == pytest.approx(3 * math.log(typical), rel=1e-12)


def test_diagonal_unit_is_deviation_of_each_feature():
    X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 100]
    standardization = measure(all_rows(X), "diag")
    np.testing.assert_allclose(standardization.likelihood_unit, X.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(standardization.std_in_units, 1, rtol=1e-12)
    expected = np.log(X.std(axis=0)).sum()
    assert standardization.log_det_units == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 3.7, 1e6 / 3, -1e-9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_constant_columns_get_the_typical_deviation(value, dtype, covariance_type):
    X = np.random.default_rng(0).normal(size=(1001, 4)) * [1, 5, 9, 1]
    X[:, 1] = value
    X = X.astype(dtype)
    standardization = measure(all_rows(X), covariance_type)
    others = [0, 2, 3]
    typical = math.sqrt(X[:, others].astype(float).var(axis=0).mean())
    assert standardization.std[1] == pytest.approx(typical, rel=1e-6)
    np.testing.assert_allclose(
        standardization.std[others], X[:, others].std(axis=0), rtol=1e-5
    )
    assert standardization.mean[1] == pytest.approx(float(dtype(value)), rel=1e-12)
    expected = standardization.std if covariance_type == "diag" else 4 * [typical]
    np.testing.assert_allclose(standardization.likelihood_unit, expected, rtol=1e-6)


@pytest.mark.parametrize("X", [np.full((5, 3), 2.5), np.array([[1.0, 7.0, 1e9]])])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_constant_data_have_unit_one(X, covariance_type):
    standardization = measure(all_rows(X), covariance_type)
    np.testing.assert_allclose(standardization.mean, X[0], rtol=1e-15)
    for values in (
        standardization.std,
        standardization.likelihood_unit,
        standardization.std_in_units,
        standardization.resolution,
    ):
        np.testing.assert_array_equal(values, 1)


def test_rounding_error_is_no_variation():
    """A column of 0.3 and 0.1 + 0.2 is constant."""
    X = np.random.default_rng(0).normal(size=(100, 2))
    X[:, 1] = 0.3
    X[::2, 1] = 0.1 + 0.2
    assert X[:, 1].std() > 0
    standardization = measure(all_rows(X), "diag")
    assert standardization.std[1] == pytest.approx(X[:, 0].std(), rel=1e-12)
    assert standardization.resolution[1] == standardization.resolution[0]


def test_several_rounding_errors_are_no_variation():
    """A sum has an error of several units in its last place."""
    X = np.random.default_rng(0).normal(size=(100, 2))
    ulp = np.spacing(1000.0)
    X[:, 1] = 1000 + ulp * np.arange(-4, 6)[np.arange(100) % 10]
    assert X[:, 1].std() > 2 * ulp
    standardization = measure(all_rows(X), "diag")
    assert standardization.std[1] == pytest.approx(X[:, 0].std(), rel=1e-5)
    # A hundred times larger differences are variation, with a resolution of their own.
    X[:, 1] = 1000 + 100 * ulp * np.arange(-4, 6)[np.arange(100) % 10]
    standardization = measure(all_rows(X), "diag")
    assert standardization.std[1] == pytest.approx(X[:, 1].astype(float).std(), rel=1e-5)
    assert standardization.resolution[1] == pytest.approx(100 * ulp)


@pytest.mark.parametrize("offset", [1e4, 101325.0, 1e6, 1e7])
def test_dtype_of_the_same_numbers_is_of_no_account(offset):
    """Differences of a few units in the last place of float32 are variation."""
    ulp = np.spacing(np.float32(offset))
    X = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    X[:, 1] = offset + ulp * (np.arange(200) % 7)
    single, double = (measure(all_rows(x), "diag") for x in (X, X.astype(float)))
    assert single.std[1] == pytest.approx(2 * ulp, rel=0.01)
    for name in ("mean", "std", "likelihood_unit", "resolution"):
        np.testing.assert_array_equal(getattr(single, name), getattr(double, name))


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_units_are_equivariant(covariance_type, factor, shift):
    X = np.random.default_rng(0).integers(0, 50, size=(200, 4)) * [1, 2, 0.5, 7]
    X[:, 3] = 5.0
    before = measure(all_rows(X), covariance_type)
    after = measure(all_rows(factor * (X + shift)), covariance_type)
    tolerance = {"rtol": 1e-8}
    np.testing.assert_allclose(after.mean, factor * (before.mean + shift), **tolerance)
    for name in ("std", "likelihood_unit", "resolution"):
        expected = factor * getattr(before, name)
        np.testing.assert_allclose(getattr(after, name), expected, **tolerance)
    np.testing.assert_allclose(after.std_in_units, before.std_in_units, **tolerance)
    for kind in ("spherical", "diag"):
        np.testing.assert_allclose(
            after.floor("auto", kind), before.floor("auto", kind), **tolerance
        )


# ------------------------------------------------------------- resolution and floor


@pytest.mark.parametrize("step", [1.0, 0.1, 0.01, 5.0, 1e-4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resolution_is_the_step_of_a_grid(step, dtype):
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 40, size=(400, 3)) * step).astype(dtype)
    resolution = measure(all_rows(X), "diag").resolution
    np.testing.assert_allclose(resolution, step, rtol=1e-4 if dtype == np.float32 else 1e-9)


def test_resolution_of_each_feature():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 16, size=500)
    decimals = np.round(rng.normal(size=500), 1)
    coarse = 25.0 * rng.integers(0, 3, size=500)
    constant = np.full(500, 3.0)
    X = np.column_stack([counts, decimals, coarse, constant])
    resolution = measure(all_rows(X), "spherical").resolution
    # A constant column gets the finest resolution of the others.
    np.testing.assert_allclose(resolution, [1, 0.1, 25, 0.1], rtol=1e-9)


def test_resolution_of_many_rows():
    X = np.random.default_rng(0).integers(0, 16, size=(30_000, 2)).astype(float)
    np.testing.assert_array_equal(measure(all_rows(X), "diag").resolution, 1)


def test_resolution_of_sorted_rows():
    """The rows of a fit are sorted, so many first rows may be equal."""
    X = np.repeat(np.arange(20.0), 1500)[:, None] * [0.5, 2.0]
    resolution = measure(all_rows(X), "diag").resolution
    np.testing.assert_array_equal(resolution, [0.5, 2])


def test_rare_rounding_error_leaves_a_column_constant():
    """One row of 1000 differs by a few rounding errors."""
    X = np.random.default_rng(0).integers(0, 16, size=(1000, 2)).astype(float)
    X[:, 1] = 1.0
    X[0, 1] += 30 * np.finfo(float).eps
    standardization = measure(all_rows(X), "diag")
    assert standardization.std[1] == standardization.std[0]
    np.testing.assert_array_equal(standardization.resolution, 1)


def test_automatic_floor_is_the_deviation_of_rounding():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 16, 500), 0.1 * rng.integers(0, 30, 500)])
    # Standard deviation of the error of rounding to integers.
    fine = rng.uniform(0, 100, size=200_000)
    rounding = np.std(fine - np.round(fine))
    spherical = measure(all_rows(X), "spherical")
    floor = spherical.floor("auto", "spherical")
    assert floor.shape == (1, 1)
    assert floor[0, 0] * spherical.likelihood_unit[0] == pytest.approx(
        0.1 * rounding, rel=0.01
    )
    diagonal = measure(all_rows(X), "diag")
    floor = diagonal.floor("auto", "diag")
    assert floor.shape == (1, 2)
    expected = [rounding, 0.1 * rounding]
    np.testing.assert_allclose(floor[0] * diagonal.likelihood_unit, expected, rtol=0.01)


@pytest.mark.parametrize("min_scale", [0.5, 3e-2])
def test_given_floor_is_in_units_of_the_data(min_scale):
    X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 100]
    for kind, size in (("spherical", 1), ("diag", 3)):
        standardization = measure(all_rows(X), kind)
        floor = standardization.floor(min_scale, kind)
        assert floor.shape == (1, size)
        expected = np.full(size, min_scale)
        np.testing.assert_allclose(
            floor[0] * standardization.likelihood_unit[:size], expected, rtol=1e-12
        )


@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_no_floor_is_finer_than_single_precision(kind):
    X = np.random.default_rng(0).normal(size=(100, 3))
    standardization = measure(all_rows(X), kind)
    assert np.all(standardization.floor(1e-30, kind) >= 1e-7)
    assert np.all(standardization.floor(1e-30, kind) <= 1e-5)


def test_values_per_scale():
    X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 100]
    values = np.array([5.0, 2.0, 9.0])
    standardization = measure(all_rows(X), "spherical")
    expected = [[2.0 / standardization.likelihood_unit[0]]]
    np.testing.assert_allclose(standardization.per_scale(values, "spherical"), expected)
    standardization = measure(all_rows(X), "diag")
    expected = [values / X.std(axis=0)]
    np.testing.assert_allclose(standardization.per_scale(values, "diag"), expected)


def test_identity_keeps_the_data():
    standardization = Standardization.identity(4)
    X = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_array_equal((X - standardization.mean) / standardization.std, X)
    np.testing.assert_array_equal(standardization.std_in_units, np.ones(4))
    assert standardization.log_det_units == 0


@pytest.mark.parametrize("unit", [1e-290, 1.0, 1e150])
def test_columns_in_other_units_are_found_in_any_unit(unit):
    """The squares of the values may overflow, those of standardised values do not."""
    X = np.random.default_rng(0).normal(size=(30_000, 3)) * unit
    standardization = measure(all_rows(X), "diag")
    assert standardization.unlike_column(X) is None
    assert standardization.unlike_column(X[:5]) is None
    assert standardization.unlike_column(X / 20) is not None
    assert standardization.unlike_column(X * [1, 1, 20]) == 2
    assert standardization.unlike_column(np.add(X, [0, 20 * unit, 0])) == 1


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_merged_moments_are_those_of_all_rows(covariance_type):
    """Merged moments of blocks are those of all rows: with weights, holes, constants."""
    rng = np.random.default_rng(0)
    units = 10.0 ** np.array([-150, -3, 0, 0, 3, 150])
    X = (rng.normal(size=(500, 6)) + np.array([0, 1e4, 0, 0, 5, 0])) * units
    X[:, 3] = 5.0
    X[rng.random(X.shape) < 0.1] = np.nan
    X[300:350, 2] = np.nan
    weight = rng.integers(0, 4, size=500).astype(float)
    whole = measure(select_rows(X, weight, shuffle=True), covariance_type)
    parts = [slice(0, 7), slice(7, 300), slice(300, 350), slice(350, 500)]
    first, *others = (
        measure_moments(select_rows(X[p], weight[p], shuffle=True)) for p in parts
    )
    for other in others:
        first = first.merge(other)
    merged = first.standardization(covariance_type, whole.resolution)
    for name in ("mean", "std", "likelihood_unit"):
        expected = getattr(whole, name)
        np.testing.assert_allclose(getattr(merged, name), expected, rtol=1e-9)


def test_merged_moments_of_single_rows_do_not_underflow():
    """A row on its own has no spread, whose exponent says nothing of the unit."""
    rows = np.random.default_rng(0).normal(size=(20, 2))
    X = np.concatenate([rows * [1e-200, 1.0], np.zeros((20, 1))], axis=1)
    first, *others = (measure_moments(all_rows(row[None])) for row in X)
    for other in others:
        first = first.merge(other)
    found = first.standardization("diag", np.ones(3))
    expected = rows.std(axis=0) * [1e-200, 1.0]
    np.testing.assert_allclose(found.std[:2], expected, rtol=1e-9)
