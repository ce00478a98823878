"""Values that decide the deviation of their column are found, and no others."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.preprocessing import scale

from skae._data import Rows, select_rows
from skae._data.far_values import find_far_values


def find(X):
    """Return what is found in a table: far values, and codes."""
    X = np.asarray(X, dtype=np.float64)
    rows = select_rows(X, np.ones(len(X)), shuffle=True)
    return find_far_values(rows, np.nanstd(X, axis=0))


def found(X):
    """Return the far values of a table without codes."""
    far, codes = find(X)
    assert codes == []
    return far


@pytest.mark.parametrize(
    "load", [load_breast_cancer, load_diabetes, load_digits, load_wine]
)
def test_tables_of_scikit_learn(load):
    assert found(load().data) == []


@pytest.mark.parametrize("n", [100, 5000])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, size: rng.lognormal(0, 2, size),
        lambda rng, size: rng.lognormal(5, 2, size) * (rng.random(size) < 0.3),
        lambda rng, size: rng.lognormal(5, 2, size) * (rng.random(size) < 0.05),
        lambda rng, size: rng.lognormal(5, 2, size) * (rng.random(size) < 0.6),
        lambda rng, size: rng.standard_t(1.5, size),
        lambda rng, size: rng.pareto(1.5, size),
        lambda rng, size: rng.standard_t(1.1, size),
        lambda rng, size: rng.poisson(0.05, size),
        lambda rng, size: rng.negative_binomial(0.1, 0.001, size),
    ],
    ids=["log-normal", "30 %", "5 %", "60 %", "t", "Pareto", "t 1.1", "rare", "counts"],
)
def test_heavy_tails(draw, n):
    """A hundred columns of each have none."""
    assert found(draw(np.random.default_rng(0), (n, 100))) == []


@pytest.mark.parametrize("value", [1e30, -1e6])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_wrong_value(value, dtype):
    X = np.random.default_rng(0).normal(size=(500, 3)).astype(dtype)
    X[17, 1], X[3, 1] = value, np.nan
    (far,) = found(X)
    assert (far.column, far.row, far.value, far.n_far) == (1, 17, dtype(value), 1)
    assert far.distance == pytest.approx(abs(value), rel=0.2)


@pytest.mark.parametrize(("n", "values"), [(500, [400]), (500, [2e4]), (2000, [900] * 5)])
def test_few_far_values_beside_near_ones(n, values):
    """Some hundred deviations are far where all others are near."""
    X = np.random.default_rng(0).normal(size=(n, 3))
    X[10 : 10 + len(values), 1] = values
    (far,) = found(X)
    assert (far.column, far.row, far.value) == (1, 10, values[0])
    assert far.n_far == len(values)


def test_a_far_value_that_does_not_decide_the_deviation():
    X = np.random.default_rng(0).normal(size=(5000, 3))
    X[10, 1] = 400
    assert found(X) == []


def test_one_far_number_in_many_rows():
    """The first row is named, and different rows are counted."""
    X = np.random.default_rng(0).normal(50, 10, size=(500, 2))
    X[3::10, 0] = 654_321
    (far,) = found(X)
    assert (far.column, far.row, far.value, far.n_far) == (0, 3, 654_321, 50)


def test_the_value_may_be_of_another_process():
    """The deviation is that of the rows of all processes."""
    X = np.random.default_rng(0).normal(size=(500, 2))
    X[:, 1] = np.where(np.arange(500) < 20, X[:, 1], np.nan)
    rows = select_rows(X, np.ones(500), shuffle=True)
    assert find_far_values(rows, np.full(2, 1e6)) == ([], [])


def test_groups_of_rows_are_no_errors():
    """Flags with a little noise have two groups, neither of which is a mistake."""
    rng = np.random.default_rng(0)
    X = (rng.random((2000, 5)) < 0.2) + 1e-9 * rng.normal(size=(2000, 5))
    assert found(X) == []


def test_columns_of_few_values():
    """Neither constant columns nor rare flags, nor columns without numbers, have any."""
    X = np.zeros((500, 4))
    X[0, 1], X[:3, 2], X[:, 3] = 1e9, 1.0, np.nan
    X[:2, 3] = 0.0, 1e9
    assert found(X) == []


@pytest.mark.parametrize("n", [200, 20_000])
@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        *((-999, -40, 60), (-1, 3, 6), (-200, 0, 99), (99, 0, 20), (9999, -5, 4000)),
        *(
            (-9, 0, 5),
            (-999, 0, 100_000),
            (-999.9, 0, 5000),
            (0, 11, 14.8),
            (0, 1900, 2020),
        ),
        *((-1, -0.09, 0.09), (-999_999, -5, 60), (-1e30, -1, 1), (-999.25, -0.1, 0.1)),
    ],
)
def test_codes_among_the_others(n, value, low, high):
    """A code beside the range of the others is found, with its rows; NaN does not count."""
    rng = np.random.default_rng(0)
    X = rng.uniform(low, high, size=(n, 3))
    X[5::20, 1], X[::7, 1] = value, np.nan
    far, (code,) = find(X)
    assert far == []
    observed = X[X[:, 1] != value, 1]
    assert (code.column, code.value) == (1, value)
    assert code.n_rows == (X[:, 1] == value).sum()
    assert (code.low, code.high) == (np.nanmin(observed), np.nanmax(observed))


@pytest.mark.parametrize("n", [300, 1000, 20_000])
@pytest.mark.parametrize("value", [-999, 0])
@pytest.mark.parametrize("others", ["none", "a flag", "numbers"])
def test_codes_in_rows_that_are_equal(n, value, others):
    """Equal rows count each, as all rows with a code are in a table of one column."""
    rng = np.random.default_rng(1)
    X = np.clip(rng.normal(105, 12, n).round(), 75, 133)[:, None]
    X[5::20] = value
    X[[7, 8]] = [75], [133]
    further = {"none": 0, "a flag": rng.integers(0, 2, n), "numbers": rng.normal(size=n)}
    X = X if others == "none" else np.column_stack([X, further[others]])
    far, (code,) = find(X)
    assert far == []
    assert (code.column, code.value, code.n_rows) == (0, value, len(X[5::20]))
    assert (code.low, code.high) == (75, 133)


def test_the_others_may_be_of_another_process():
    """Some rows of all processes have a code, and this one has nothing else."""
    X = np.random.default_rng(0).normal(95, 12, (60, 1))
    X[::2] = -999
    rows = select_rows(X, np.ones(60), shuffle=False)

    class Shard(Rows):
        def subsample(self, n):
            return rows

    own = Shard(X, np.arange(0, 60, 2), np.ones(30))
    assert find_far_values(own, np.full(1, 500.0)) == ([], [])


def test_one_row_is_no_code():
    X = np.random.default_rng(0).normal(95, 12, (60, 1)).round()
    X[5] = 0
    assert found(X) == []


@pytest.mark.parametrize("n", [100, 1000, 10_000])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.lognormal(5, 0.2, n),
        lambda rng, n: rng.gamma(20, 5, n),
        lambda rng, n: 50 * (1 + rng.pareto(3, n)),
        lambda rng, n: rng.poisson(20, n),
        lambda rng, n: rng.normal(3000, 600, n),
        lambda rng, n: np.where(rng.random(n) < 0.7, 4.99, rng.uniform(5, 20, n)),
        lambda rng, n: np.clip(rng.normal(38, 6, n).round(), 10, 60),
    ],
    ids=["log-normal", "gamma", "Pareto", "counts", "salaries", "fees", "hours"],
)
@pytest.mark.parametrize("width", [1, 2])
def test_zeros_beside_amounts_are_no_codes(draw, n, width):
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = np.where(rng.random(n) < 0.1, 0, draw(rng, n))
        assert found(np.column_stack([x, rng.normal(size=n)])[:, :width]) == []


@pytest.mark.parametrize(
    ("draw", "n_warned"),
    [
        (lambda rng, n: rng.poisson(80, n), (17, 8, 0)),
        (lambda rng, n: rng.poisson(rng.gamma(160, 0.5, n)), (4, 0, 0)),
        (lambda rng, n: np.clip(rng.normal(38, 5, n).round(), 20, 60), (6, 0, 0)),
        (lambda rng, n: rng.gamma(50, 5, n), (4, 0, 0)),
        (lambda rng, n: np.clip(rng.normal(95, 12, n).round(), 62, 133), (10, 0, 0)),
    ],
    ids=["counts", "wider counts", "hours", "gamma", "blood pressures"],
)
@pytest.mark.parametrize("width", [1, 2])
def test_zeros_beside_narrow_amounts(draw, n_warned, width):
    """Of 20 samples each of 200, 1,000 and 10,000 rows, only small ones have a code."""
    for n, most in zip((200, 1000, 10_000), n_warned, strict=True):
        n_found = 0
        for seed in range(20):
            rng = np.random.default_rng(seed)
            x = np.where(rng.random(n) < 0.2, 0, draw(rng, n))
            _, codes = find(np.column_stack([x, rng.normal(size=n)])[:, :width])
            n_found += len(codes)
        assert n_found <= most


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: np.where(rng.random(n) < 0.1, 0, rng.uniform(20, 60, n)),
        lambda rng, n: scale(np.where(rng.random(n) < 0.2, 0, rng.uniform(50, 60, n))),
        lambda rng, n: np.where(rng.random(n) < 0.1, 24, rng.uniform(1, 8, n)),
        lambda rng, n: np.where(rng.random(n) < 0.1, -1, rng.integers(0, 4, n)),
        lambda rng, n: np.where(rng.random(n) < 0.1, -9, rng.uniform(0, 20, n)),
        lambda rng, n: np.where(rng.random(n) < 0.1, -50, rng.uniform(-3, 20, n)),
        lambda rng, n: np.where(np.arange(n) < 2, 999, rng.uniform(0, 20, n)),
        lambda rng, n: rng.integers(0, 10, n) + 90,
    ],
    ids=[
        *("zeros", "scaled zeros", "a group", "few values", "near", "below 0", "rare"),
        "an end",
    ],
)
def test_other_numbers_are_no_codes(draw):
    rng = np.random.default_rng(0)
    # Equal rows are one, so a second column keeps them apart.
    assert found(np.column_stack([draw(rng, 1000), rng.normal(size=1000)])) == []
