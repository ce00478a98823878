"""Sorted distinct rows and their summed weights."""

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skae._data.rows import distinct_rows

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
