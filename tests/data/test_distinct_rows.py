"""Sorted distinct rows and their summed weights."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skae._data.distinct_rows import distinct_rows

# Few different values, so that rows are often equal; 0.0 and -0.0 are among them.
VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 0.5, 3.0, np.inf, -1e300, 5e-324])
SINGLE = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 0.5, 3.0])


@st.composite
def weighted_rows(draw, values=VALUES, dtype=np.float64):
    """Draw rows, weights, and indices of some of the rows."""
    shape = (draw(st.integers(1, 14)), draw(st.integers(1, 4)))
    X = draw(hnp.arrays(dtype, shape, elements=values, fill=st.nothing()))
    whole = st.integers(1, 5).map(float)
    weight = draw(hnp.arrays(np.float64, shape[0], elements=whole, fill=st.nothing()))
    rows = draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, unique=True))
    return X, weight, np.array(rows)


properties = hypothesis.settings(deadline=None, max_examples=150, derandomize=True)


@properties
@hypothesis.given(st.one_of(weighted_rows(), weighted_rows(SINGLE, np.float32)))
def test_distinct_rows_equal_numpy_unique(case):
    X, weight, rows = case
    before = [a.copy() for a in case]
    index, total = distinct_rows(X, weight, rows)
    for array, copy in zip(case, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    # Adding 0 makes -0.0 a 0.0.
    expected, inverse = np.unique(X[rows] + 0.0, axis=0, return_inverse=True)
    np.testing.assert_array_equal(X[index] + 0.0, expected)
    np.testing.assert_array_equal(total, np.bincount(inverse.ravel(), weight[rows]))
    assert set(index) <= set(rows)


@properties
@hypothesis.given(weighted_rows(), st.randoms(use_true_random=False))
def test_distinct_rows_do_not_depend_on_the_order(case, random):
    X, weight, rows = case
    index, total = distinct_rows(X, weight, rows)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    again, total_again = distinct_rows(X, weight, shuffled)
    np.testing.assert_array_equal(X[again], X[index])
    np.testing.assert_array_equal(total_again, total)
    # Nor on the order of X.
    order = np.array(random.sample(range(len(X)), len(X)))
    position = np.argsort(order)
    moved, total_moved = distinct_rows(X[order], weight[order], position[rows])
    np.testing.assert_array_equal(X[order][moved], X[index])
    np.testing.assert_array_equal(total_moved, total)


@properties
@hypothesis.given(
    weighted_rows(SINGLE),
    st.sampled_from([2.0**-20, 0.25, 3.0, 2.0**30]),
    st.integers(-9, 9),
)
def test_distinct_rows_keep_their_order_if_shifted_and_scaled(case, factor, shift):
    X, weight, rows = case
    index, total = distinct_rows(X, weight, rows)
    again, total_again = distinct_rows(factor * (X + shift), weight, rows)
    np.testing.assert_array_equal(again, index)
    np.testing.assert_array_equal(total_again, total)


@properties
@hypothesis.given(weighted_rows())
def test_integer_weight_equals_repeated_row(case):
    X, weight, rows = case
    index, total = distinct_rows(X, weight, rows)
    repeated = np.repeat(rows, weight[rows].astype(int))
    again, count = distinct_rows(
        X[repeated], np.ones(len(repeated)), np.arange(len(repeated))
    )
    np.testing.assert_array_equal(X[repeated][again], X[index])
    np.testing.assert_array_equal(count, total)


def test_both_zeros_are_equal():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, -0.0], [-0.0, 0.0]])
    index, total = distinct_rows(X, np.array([1.0, 2.0, 4.0, 8.0]), np.arange(4))
    np.testing.assert_array_equal(X[index] + 0.0, [[0, 0], [0, 1]])
    np.testing.assert_array_equal(total, [12, 3])


def test_distinct_rows_of_many():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, size=(20_000, 4)).astype(np.float32)
    index, total = distinct_rows(X, np.ones(len(X)), np.arange(len(X)))
    expected, count = np.unique(X, axis=0, return_counts=True)
    np.testing.assert_array_equal(X[index], expected)
    np.testing.assert_array_equal(total, count)


def sort_by_all_columns(X, weight):
    """Sort by all columns and the weight at once, and merge; NaN is the largest."""
    columns = [np.where(np.isnan(c), np.inf, c + 0.0) for c in X.T]
    keys = [k for c, raw in zip(columns, X.T, strict=True) for k in (c, np.isnan(raw))]
    order = np.lexsort((weight, *keys[::-1]))
    moved = np.stack(keys)[:, order]
    start = np.flatnonzero(np.append(True, (moved[:, 1:] != moved[:, :-1]).any(axis=0)))
    return order[start], np.add.reduceat(weight[order], start)


def draw_column(rng, kind, n):
    """Draw a column with some kind of ties."""
    if kind == "flags":
        return rng.integers(0, 2, size=n) * 3.7 - 1.2
    if kind == "rare":  # a value that a sample may miss
        return np.where(rng.random(n) < 1e-3, -5.0, rng.integers(0, 3, size=n))
    if kind == "zeros":
        return rng.choice([-0.0, 0.0, 1.0], size=n)
    if kind == "holes":
        return rng.choice([np.nan, 2.0, 1.0, np.inf], size=n)
    if kind == "hundred":
        return rng.integers(0, 100, size=n) / 7
    if kind == "many":
        return rng.integers(0, 2000, size=n).astype(float)
    if kind == "constant":
        return np.full(n, 3.0)
    return rng.normal(size=n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(12))
def test_columns_of_few_values_are_sorted_like_any_other(seed, dtype):
    rng = np.random.default_rng(seed)
    n, d = int(rng.choice([50, 900, 9000])), int(rng.integers(1, 30))
    kinds = ["flags", "rare", "zeros", "holes", "hundred", "many", "constant", "normal"]
    some = rng.choice(kinds, size=rng.integers(1, 4), replace=False)
    X = np.stack([draw_column(rng, k, n) for k in rng.choice(some, size=d)], axis=1)
    X = X[rng.integers(0, n // 2, size=n)].astype(dtype)  # so that rows are equal
    weight = rng.choice([1.0, 0.1, 0.7], size=n)
    index, total = distinct_rows(X, weight, np.arange(n))
    expected, expected_total = sort_by_all_columns(X, weight)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(total, expected_total)
