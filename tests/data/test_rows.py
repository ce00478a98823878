"""The rows for training and for validation."""

import math

import numpy as np
import pytest
from numpy.random import RandomState

from skae._data.rows import Rows, select_rows, split_validation


def make_rows(n, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 3, size=n)
    index = rng.permutation(2 * n)[:n]
    return Rows(rng.normal(size=(2 * n, 3)), index, weight / weight.mean())


def weight_of(rows):
    return dict(zip(rows.index.tolist(), rows.weight.tolist(), strict=True))


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_without_weight_are_left_out(shuffle):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    weight = rng.integers(0, 3, size=30).astype(float)
    rows = select_rows(X, weight, shuffle)
    assert sorted(rows.index) == np.flatnonzero(weight).tolist()
    assert len(rows) == np.count_nonzero(weight)
    assert rows.weight.mean() == pytest.approx(1, rel=1e-12)
    ratio = rows.weight / weight[rows.index]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
    assert rows.X is X


def test_without_shuffling_order_and_repetitions_are_kept():
    X = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    rows = select_rows(X, np.array([1.0, 1, 0, 1, 1]), shuffle=False)
    np.testing.assert_array_equal(rows.index, [0, 1, 3, 4])
    np.testing.assert_array_equal(rows.weight, 1)


def test_with_shuffling_equal_rows_are_merged_and_sorted():
    X = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    rows = select_rows(X, np.array([1.0, 2, 1, 1, 4]), shuffle=True)
    np.testing.assert_array_equal(X[rows.index, 0], [1, 2, 3])
    np.testing.assert_allclose(rows.weight, np.array([6, 1, 2]) / 3)


@pytest.mark.parametrize("n", [1, 2, 7, 99, 100])
def test_subsample_is_even_and_keeps_the_ends(n):
    rows = make_rows(100)
    subsample = rows.subsample(n)
    assert len(subsample) == n
    assert len(set(subsample.index)) == n
    position = [rows.index.tolist().index(i) for i in subsample.index]
    assert position == sorted(position)
    if n > 1:
        assert (position[0], position[-1]) == (0, 99)
        gaps = np.diff(position)
        assert gaps.max() - gaps.min() <= 1
    assert subsample.weight.mean() == pytest.approx(1, rel=1e-12)
    ratio = subsample.weight / [weight_of(rows)[i] for i in subsample.index]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)


def test_subsample_of_few_rows_is_all_rows():
    rows = make_rows(10)
    for n in (10, 11, 1000):
        np.testing.assert_array_equal(rows.subsample(n).index, rows.index)
        np.testing.assert_array_equal(rows.subsample(n).weight, rows.weight)


@pytest.mark.parametrize("n", [2, 3, 10, 57])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_the_two_parts_make_the_whole(n, fraction):
    rows = make_rows(n)
    training, validation = split_validation(rows, fraction, RandomState(0))
    assert len(validation) == math.ceil(fraction * n)
    assert len(training) == n - len(validation)
    assert set(training.index) | set(validation.index) == set(rows.index)
    assert not set(training.index) & set(validation.index)
    for part in (training, validation):
        assert part.X is rows.X
        # The order is that of all rows; only the choice is random.
        position = [rows.index.tolist().index(i) for i in part.index]
        assert position == sorted(position)
        assert part.weight.mean() == pytest.approx(1, rel=1e-12)
        ratio = part.weight / [weight_of(rows)[i] for i in part.index]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)


def test_validation_rows_are_uniform_and_reproducible():
    rows = make_rows(10)
    counts = np.zeros(20)
    choices = set()
    for seed in range(1000):
        _, validation = split_validation(rows, 0.3, RandomState(seed))
        _, again = split_validation(rows, 0.3, RandomState(seed))
        np.testing.assert_array_equal(validation.index, again.index)
        counts[validation.index] += 1
        choices.add(tuple(validation.index))
    expected = np.isin(np.arange(20), rows.index) * 300
    assert np.abs(counts - expected).max() < 5 * math.sqrt(1000 * 0.3 * 0.7)
    assert len(choices) == math.comb(10, 3)


@pytest.mark.parametrize(("n", "fraction"), [(1, 0.1), (1, 0.9), (2, 0.6), (10, 0.95)])
def test_no_training_rows_raise(n, fraction):
    with pytest.raises(ValueError, match=rf"n_samples={n}\b") as error:
        split_validation(make_rows(n), fraction, RandomState(0))
    assert f"validation_fraction={fraction}" in str(error.value)
    assert "early_stopping" in str(error.value)
