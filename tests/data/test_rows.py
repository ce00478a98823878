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
    # The largest weight is 1, so that no row is repeated in an epoch.
    mean_weight = weight.mean() / weight.max()
    X = rng.normal(size=(2 * n, 3))
    return Rows(X, index, weight / weight.mean(), mean_weight)


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


def test_sample_size_is_the_sum_of_the_weights():
    X = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    rows = select_rows(X, np.array([1.0, 2, 1, 0.25, 4]), shuffle=True)
    assert rows.n_samples == pytest.approx(8.25)
    assert rows.take(np.array([0, 2])).n_samples == pytest.approx(8)
    assert select_rows(X, np.ones(5), shuffle=True).n_samples == 5
    assert select_rows(X, np.full(5, 1e-300), shuffle=True).n_samples == pytest.approx(
        5e-300
    )


@pytest.mark.parametrize("largest", [1e307, 1e308])
def test_sum_of_weights_may_overflow(largest):
    X = np.arange(40.0)[:, None] % 20
    weight = np.linspace(0.5, 1, 40)
    rows = select_rows(X, weight * largest, shuffle=True)
    expected = select_rows(X, weight, shuffle=True)
    np.testing.assert_array_equal(rows.index, expected.index)
    np.testing.assert_allclose(rows.weight, expected.weight, rtol=1e-12)
    assert rows.n_samples > 1e308


def test_epoch_repeats_a_row_by_its_weight_rounded_up():
    X = np.arange(5.0)[:, None]
    rows = select_rows(X, np.array([0.2, 1, 1.5, 3, 7]), shuffle=True)
    np.testing.assert_array_equal(rows.repeats, [1, 1, 2, 3, 7])
    assert rows.epoch_size == 14
    # A sum of seven tenths, ten times, is seven in spite of rounding.
    tenths = select_rows(np.repeat(X, 70, axis=0), np.full(350, 0.1), shuffle=True)
    np.testing.assert_array_equal(tenths.repeats, 7)


@pytest.mark.parametrize("n_distinct", [24, 150_000])
def test_large_weights_do_not_make_an_epoch_endless(n_distinct):
    X = np.arange(float(n_distinct))[:, None]
    weight = np.random.default_rng(0).uniform(5e3, 2e4, n_distinct)
    rows = select_rows(X, weight, shuffle=True)
    most = max(n_distinct, 100_000)
    assert most <= rows.epoch_size <= most + n_distinct
    assert rows.n_samples == pytest.approx(weight.sum())
    np.testing.assert_allclose(
        rows.repeats, weight / weight.sum() * most, atol=1, rtol=1e-9
    )


def test_split_of_repeated_rows_is_that_of_samples():
    """A row of weight 900 among 1000 is in both parts, in proportion."""
    X = np.arange(11.0)[:, None]
    rows = select_rows(X, np.array([900.0] + 10 * [10.0]), shuffle=True)
    training, validation = split_validation(rows, 0.1, RandomState(0))
    assert training.n_samples == pytest.approx(900)
    assert validation.n_samples == pytest.approx(100)
    together = np.zeros(11)
    for part in (training, validation):
        together[part.index] += part.weight * part.mean_weight
    np.testing.assert_allclose(together, [900] + 10 * [10])
    assert validation.weight[0] * validation.mean_weight == pytest.approx(90, abs=15)
