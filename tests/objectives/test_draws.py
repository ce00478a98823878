"""The standard normal draws of expectations and scores."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from skae.objectives import draws as draws_module
from skae.objectives.draws import (
    matched_normal,
    row_shift,
    shifted_normal,
    sobol_normal,
)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 16, 17, 64])
def test_matched_draws_have_exact_moments(k):
    draws = matched_normal(k).numpy()
    assert draws.dtype == np.float64
    assert draws.shape == (max(32, 2 * k), k)
    # The draws are antithetic, so all odd moments vanish.
    half = len(draws) // 2
    np.testing.assert_array_equal(draws[:half], -draws[half:])
    assert np.abs(draws.mean(axis=0)).max() < 1e-15
    np.testing.assert_allclose(draws.T @ draws / len(draws), np.eye(k), atol=1e-13)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("min_draws", [2, 7, 33, 500])
def test_number_of_matched_draws(k, min_draws):
    draws = matched_normal(k, min_draws).numpy()
    # At least min_draws, in pairs, and at least 2 k for the whitening.
    assert len(draws) == max(min_draws + min_draws % 2, 2 * k)
    np.testing.assert_allclose(draws.T @ draws / len(draws), np.eye(k), atol=1e-13)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_matched_draws_are_nearly_the_sobol_ones(k):
    """The signs of a QR decomposition have no effect."""
    half = matched_normal(k, 256)[:128]
    sobol = sobol_normal(128, k, seed=0)
    cosine = (half * sobol).sum(dim=0) / (half.norm(dim=0) * sobol.norm(dim=0))
    assert cosine.min() > 0.95


def test_matched_draws_integrate_quadratics_exactly():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(6, 6)), rng.normal(size=6)
    draws = matched_normal(6).numpy()
    values = np.einsum("ni,ij,nj->n", draws, A, draws) + draws @ b + 3
    assert values.mean() == pytest.approx(np.trace(A) + 3, rel=1e-12)


def test_matched_draws_are_close_to_normal():
    for column in matched_normal(3, 512).numpy().T:
        assert scipy.stats.kstest(column, scipy.stats.norm.cdf).statistic < 0.02


def test_matched_draws_are_the_same_each_time():
    before = torch.get_rng_state()
    first = matched_normal(4)
    torch.rand(5)
    assert torch.equal(matched_normal(4), first)
    torch.set_rng_state(before)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sobol_draws_are_standard_normal(seed):
    draws = sobol_normal(4096, 4, seed).numpy()
    assert draws.dtype == np.float64
    assert draws.shape == (4096, 4)
    for column in draws.T:
        result = scipy.stats.kstest(column, scipy.stats.norm.cdf)
        assert result.pvalue > 1e-3
        # The statistic of independent draws would be about 0.013.
        assert result.statistic < 0.005
    np.testing.assert_allclose(np.cov(draws.T), np.eye(4), atol=0.02)


def test_each_sobol_point_alone_is_standard_normal_over_seeds():
    points = np.stack([sobol_normal(6, 2, seed).numpy() for seed in range(1500)])
    for index in (0, 1, 5):
        for column in (0, 1):
            values = points[:, index, column]
            assert scipy.stats.kstest(values, scipy.stats.norm.cdf).pvalue > 1e-3
    assert not np.allclose(points[0], points[1])


@pytest.mark.parametrize(
    ("function", "exact"),
    [
        (lambda z: z[:, 0], 0.0),
        (lambda z: z[:, 0] ** 2, 1.0),
        (lambda z: z[:, 0] * z[:, 1], 0.0),
        (lambda z: np.exp(z[:, 0] / 2 - z[:, 1]), math.exp(1 / 8 + 1 / 2)),
        (lambda z: np.abs(z[:, 2]), math.sqrt(2 / math.pi)),
        (lambda z: (z[:, 2] > 1.5).astype(float), scipy.stats.norm.sf(1.5)),
    ],
)
def test_sobol_means_are_unbiased(function, exact):
    means = np.array([function(sobol_normal(8, 3, s).numpy()).mean() for s in range(800)])
    error = means.std(ddof=1) / math.sqrt(len(means))
    assert abs(means.mean() - exact) < 4 * error


def test_sobol_draws_are_finite_and_reproducible():
    before = torch.get_rng_state()
    first = sobol_normal(2**15, 2, seed=3)
    assert torch.isfinite(first).all()
    assert torch.equal(sobol_normal(2**15, 2, seed=3), first)
    assert not torch.equal(sobol_normal(2**15, 2, seed=4), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_at_the_ends_of_the_unit_interval_are_finite(monkeypatch):
    ends = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    monkeypatch.setattr(draws_module, "_sobol_points", lambda *args: ends)
    draws = sobol_normal(2, 2, seed=0)
    assert torch.isfinite(draws).all()
    assert draws.sign().tolist() == [[-1, 1], [1, -1]]
    # A shift that leads to an end must be finite, too.
    middle = torch.zeros(1, 1, 1, dtype=torch.float64)
    for shift in (0.5, -0.5, 0.5 - 1e-17):
        moved = shifted_normal(middle, torch.tensor([[shift]], dtype=torch.float64))
        assert torch.isfinite(moved).all()


def test_every_feature_shifts_a_row():
    """No feature is nearly left out: rows that differ anywhere have different draws."""
    y, step = torch.zeros(1, 300, dtype=torch.float64), 1e-6
    for seed in range(5):
        shift = row_shift(y + step * torch.eye(300, dtype=torch.float64), 2, seed)
        assert (shift - row_shift(y, 2, seed)).min() > 0.5 * 32 * step * 0.999


def test_shifts_of_rows_look_uniform_and_belong_to_the_row():
    rng = np.random.default_rng(0)
    y = torch.tensor(rng.normal(size=(3000, 5)))
    shift = row_shift(y, 2, seed=0)
    assert shift.shape == (3000, 2)
    for column in shift.T.numpy():
        assert scipy.stats.kstest(column, scipy.stats.uniform.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(shift.T.numpy())[0, 1]) < 0.1
    assert torch.equal(row_shift(y[7:9], 2, seed=0), shift[7:9])
    assert not torch.equal(row_shift(y, 2, seed=1), shift)
    # Rounding to single precision moves a point only a little, modulo 1.
    moved = (row_shift(y.float(), 2, seed=0) - shift + 0.5) % 1 - 0.5
    assert moved.abs().max() < 1e-3


def test_shifted_draws_are_normal_and_even():
    """Each draw is normal over the shifts; each shifted set has a low discrepancy."""
    draws = sobol_normal(256, 1, seed=0)[:, None]
    shift = torch.rand(
        2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    moved = shifted_normal(draws, shift)
    assert moved.shape == (256, 2000, 1)
    first = moved[0, :, 0].numpy()
    assert scipy.stats.kstest(first, scipy.stats.norm.cdf).pvalue > 1e-3
    # A mean of 256 independent draws would have a deviation of 0.06.
    assert moved.mean(dim=0).abs().max() < 0.03
    torch.testing.assert_close(shifted_normal(draws, torch.zeros(1, 1)), draws)
