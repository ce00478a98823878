"""Hostile tables: each function makes one kind of table from a random generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.random import Generator
from scipy import sparse


@dataclass(frozen=True)
class Kind:
    """A kind of table.

    ``must_fail`` is True if `fit` has to refuse each table of this kind.
    """

    name: str
    make: Callable[[Generator], Any]
    must_fail: bool


KINDS: list[Kind] = []
# Kinds that must be refused, but for likelihoods of categories, which may take them.
OF_CATEGORIES = {"strings", "datetimes in a frame", "complex numbers", "beyond float64"}


def kind(name, must_fail=False):
    """Return a decorator that adds a function to the kinds."""

    def add(make):
        KINDS.append(Kind(name, make, must_fail))
        return make

    return add


def normal(rng, n=None, d=None):
    """Draw correlated normal columns of unequal spread; sizes are drawn if not given."""
    n = int(rng.integers(3, 200)) if n is None else n
    d = int(rng.integers(1, 9)) if d is None else d
    mixing = rng.normal(size=(d, d)) * 10 ** rng.uniform(-1, 1, size=d)
    return rng.normal(size=(n, d)) @ mixing + rng.normal(size=d)


@kind("normal columns")
def plain(rng):
    return normal(rng)


@kind("some constant columns")
def constant_columns(rng):
    X = normal(rng, d=int(rng.integers(2, 9)))
    X[:, rng.random(X.shape[1]) < 0.5] = rng.choice([0.0, 3.0, 1e10, 1 / 3])
    return X


@kind("constants with rounding errors")
def rounded_constants(rng):
    X = normal(rng, d=4)
    X[:, 1] = 0.1 * 3 + rng.choice([0, 1, -1], size=len(X)) * 5e-17
    X[:, 2] = 1e9 / 3 + rng.choice([0, 1e-7], size=len(X))
    return X


@kind("all rows equal")
def equal_rows(rng):
    return np.tile(normal(rng, n=1), (int(rng.integers(2, 50)), 1))


@kind("all zeros")
def zeros(rng):
    return np.zeros((int(rng.integers(1, 50)), int(rng.integers(1, 6))))


@kind("few different rows, repeated")
def repeated_rows(rng):
    return np.repeat(normal(rng, n=int(rng.integers(2, 5))), rng.integers(2, 60), axis=0)


@kind("one row")
def one_row(rng):
    return normal(rng, n=1)


@kind("two rows")
def two_rows(rng):
    return normal(rng, n=2)


@kind("fewer rows than columns")
def wide(rng):
    return normal(rng, n=int(rng.integers(2, 12)), d=int(rng.integers(13, 40)))


@kind("very wide")
def very_wide(rng):
    return normal(rng, n=int(rng.integers(3, 30)), d=150)


@kind("one column")
def one_column(rng):
    return normal(rng, d=1)


@kind("flags")
def flags(rng):
    shape = int(rng.integers(2, 200)), int(rng.integers(1, 9))
    return (rng.random(shape) < rng.random(shape[1])).astype(float)


@kind("bools")
def bools(rng):
    return flags(rng).astype(bool)


@kind("one-hot columns")
def one_hot(rng):
    d = int(rng.integers(2, 10))
    return np.eye(d)[rng.integers(0, d, size=int(rng.integers(2, 200)))]


@kind("counts")
def counts(rng):
    return rng.poisson(10 ** rng.uniform(-2, 3, size=5), size=(rng.integers(2, 200), 5))


@kind("small integers")
def small_integers(rng):
    dtype = rng.choice(["int8", "uint8", "int32", "uint64"])
    return rng.integers(0, 100, size=(rng.integers(2, 200), 4)).astype(dtype)


@kind("integers near 2**63")
def large_integers(rng):
    return 2**63 - 1 - rng.integers(0, 10**6, size=(rng.integers(2, 200), 3))


@kind("Cauchy")
def cauchy(rng):
    return rng.standard_cauchy(size=(rng.integers(2, 300), rng.integers(1, 9)))


@kind("log-normal of spread 5")
def log_normal(rng):
    return np.exp(5 * rng.normal(size=(rng.integers(2, 300), rng.integers(1, 9))))


@kind("a few outliers")
def outliers(rng):
    X = normal(rng)
    X[0] *= 10 ** rng.uniform(2, 12)
    return X


@kind("fill value -9999")
def small_fill(rng):
    X = normal(rng)
    X[rng.random(X.shape) < 0.1] = -9999
    return X


@kind("fill value 1e19 or 1e36")
def large_fill(rng):
    X = normal(rng)
    X[rng.random(X.shape) < 0.1] = rng.choice([1e19, 1e36])
    return X


@kind("largest float32 as a fill value")
def largest_fill(rng):
    X = normal(rng).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.finfo(np.float32).max
    return X


@kind("scales 1e-8 to 1e8")
def unequal_scales(rng):
    X = normal(rng, d=6)
    return X * 10 ** rng.uniform(-8, 8, size=6)


@kind("scales 1e-300 to 1e150")
def extreme_scales(rng):
    X = normal(rng, d=6)
    return X * 10 ** rng.uniform(-300, 150, size=6)


@kind("values above 1e154")
def overflowing_squares(rng):
    return normal(rng) * 10 ** rng.uniform(154, 306)


@kind("denormal numbers")
def denormals(rng):
    return normal(rng) * 1e-310


@kind("all tiny")
def tiny(rng):
    return normal(rng) * 10 ** rng.uniform(-300, -20)


@kind("small spread on an offset 1e4 to 1e12")
def offset(rng):
    X = normal(rng)
    return X * 10 ** rng.uniform(-4, 0) + 10 ** rng.uniform(4, 12)


@kind("float32 on an offset")
def offset_float32(rng):
    return (normal(rng) + 10 ** rng.uniform(2, 7)).astype(np.float32)


@kind("a spread of a few roundings")
def few_roundings(rng):
    steps = rng.integers(0, 8, size=(rng.integers(2, 100), 3))
    return 1e6 + steps * np.spacing(1e6) * rng.choice([1, 10, 100])


@kind("float32")
def float32(rng):
    return normal(rng).astype(np.float32)


@kind("float16")
def float16(rng):
    return normal(rng).astype(np.float16)


@kind("long double")
def long_double(rng):
    return normal(rng).astype(np.longdouble)


@kind("big-endian numbers")
def big_endian(rng):
    return normal(rng).astype(rng.choice([">f8", ">f4"]))


@kind("objects that are numbers")
def objects(rng):
    X = normal(rng).astype(object)
    X[0, 0] = 5
    return X


@kind("Fortran order")
def fortran(rng):
    return np.asfortranarray(normal(rng))


@kind("strided")
def strided(rng):
    return normal(rng, d=8)[::-2, ::3]


@kind("read-only")
def read_only(rng):
    X = normal(rng)
    X.flags.writeable = False
    return X


@kind("lists")
def lists(rng):
    return normal(rng).tolist()


@kind("collinear columns")
def collinear(rng):
    X = normal(rng, d=3)
    return np.column_stack([X, X.sum(axis=1), 2 * X[:, 0], -X[:, 1] + 7])


@kind("rank one")
def rank_one(rng):
    return np.outer(rng.normal(size=rng.integers(2, 200)), rng.normal(size=6))


@kind("equal columns")
def equal_columns(rng):
    return np.repeat(normal(rng, d=1), 5, axis=1)


@kind("blocks of columns")
def blocks(rng):
    return np.tile(normal(rng, d=2), (1, 4))


@kind("sorted rows")
def sorted_rows(rng):
    X = normal(rng)
    return X[np.argsort(X[:, 0])]


@kind("clusters far apart")
def clusters(rng):
    centers = 10 ** rng.uniform(0, 6) * rng.normal(size=(4, 5))
    return centers[rng.integers(0, 4, size=rng.integers(4, 200))] + normal(rng, 1, 5)


@kind("many exact zeros")
def zero_inflated(rng):
    X = normal(rng)
    X[rng.random(X.shape) < 0.9] = 0
    return X


@kind("years, euros and flags")
def years_and_euros(rng):
    n = int(rng.integers(5, 200))
    euros = np.round(np.exp(rng.normal(8, 2, size=n)), 2)
    return np.column_stack([rng.integers(1990, 2025, n), euros, rng.random(n) < 0.3])


@kind("dates as ordinals and seconds")
def dates(rng):
    days = 738_000 + rng.integers(0, 2000, size=int(rng.integers(2, 200)))
    return np.column_stack([days, days * 86_400.0, days * 86_400e9])


@kind("pandas, mixed dtypes")
def frame(rng):
    n = int(rng.integers(3, 100))
    columns = {
        "year": rng.integers(1990, 2025, n),
        "price": rng.lognormal(size=n).astype(np.float32),
        "flag": rng.random(n) < 0.5,
        "count": pd.array(rng.integers(0, 9, n), dtype="Int64"),
    }
    return pd.DataFrame(columns, index=rng.permutation(n))


@kind("polars")
def polars_frame(rng):
    X = normal(rng)
    return pl.DataFrame({f"column {i}": column for i, column in enumerate(X.T)})


@kind("datetimes in a frame", must_fail=True)
def datetimes(rng):
    days = pd.date_range("2020-01-01", periods=20)
    return pd.DataFrame({"when": days, "value": rng.normal(size=20)})


@kind("NaN")
def holes(rng):
    X = normal(rng)
    X[rng.integers(len(X)), rng.integers(X.shape[1])] = np.nan
    return X


@kind("infinity", must_fail=True)
def infinite(rng):
    X = normal(rng)
    X[rng.integers(len(X)), rng.integers(X.shape[1])] = rng.choice([np.inf, -np.inf])
    return X


@kind("missing values in a frame")
def missing(rng):
    values = pd.array([1, 2, None, 4], dtype="Int64")
    return pd.DataFrame({"count": values, "value": rng.normal(size=4)})


@kind("strings", must_fail=True)
def strings(rng):
    return np.array([["one", "two"], ["three", "four"]])


@kind("complex numbers", must_fail=True)
def complex_numbers(rng):
    return normal(rng) + 1j


@kind("sparse, with infinities", must_fail=True)
def sparse_with_infinities(rng):
    make = rng.choice([sparse.csr_matrix, sparse.coo_array])
    return make(np.where(rng.random((20, 4)) < 0.2, np.inf, 0.0))


@kind("no rows", must_fail=True)
def no_rows(rng):
    return np.empty((0, 3))


@kind("no columns", must_fail=True)
def no_columns(rng):
    return np.empty((5, 0))


@kind("one dimension", must_fail=True)
def one_dimension(rng):
    return rng.normal(size=10)


@kind("three dimensions", must_fail=True)
def three_dimensions(rng):
    return rng.normal(size=(5, 3, 2))


@kind("beyond float64", must_fail=True)
def beyond_float64(rng):
    X = normal(rng, d=2).tolist()
    X[0][0] = 10**400
    return X


def mapped(X, support, rng):
    """Map a table of numbers to a support, so that it stays as hostile as it is.

    Constants, copies, holes, sizes and the type of the table stay. A frame, and a table
    that is not of real numbers, stays as it is.
    """
    if support == "real" or hasattr(X, "columns") or sparse.issparse(X):
        return X
    array = np.asarray(X)
    if array.dtype.kind not in "fiub" or array.ndim != 2 or 0 in array.shape:
        return X
    values = array.astype(np.float64)
    with np.errstate(all="ignore"):
        values = np.where(np.isinf(values), values, _MAPS[support](values, rng))
    if isinstance(X, list):
        return values.tolist()
    kept = array.dtype if array.dtype.kind == "f" else np.float64
    largest = np.finfo(kept).max
    within = np.clip(values, -largest, largest)
    return np.where(np.isinf(values), values, within).astype(kept, order="K")


def _positive(x, rng):
    """Map to positive numbers."""
    smallest = rng.choice([1.0, 1e-6, 1e-30])
    return np.where(x == 0, smallest, np.maximum(np.abs(x), 1e-40))


def _unit(x, rng):
    """Map to numbers from 0 to 1, some of them at these ends."""
    largest = np.nanmax(np.abs(x))
    if not largest > 0:
        return x
    return rng.choice([np.abs(x) / largest, 1 / (1 + np.exp(-x))])


def _counts(x, rng):
    """Map to counts, which may be as large as the numbers are."""
    return np.floor(np.minimum(np.abs(x), rng.choice([5.0, 1e3, 1e9, 1e300])))


def _flags(x, rng):
    """Map to flags."""
    return np.where(np.isnan(x), x, x > rng.choice([0.0, np.nanmedian(x)]))


def _categories(x, rng):
    """Map to a few categories."""
    return np.floor(np.abs(x)) % int(rng.integers(1, 9))


_MAPS = {
    "positive": _positive,
    "unit_interval": _unit,
    "nonnegative_integer": _counts,
    "boolean": _flags,
    "category": _categories,
}
