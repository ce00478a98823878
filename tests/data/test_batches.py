"""Batches against the rows themselves, for one model and several."""

import math
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from scipy import sparse

from skae._data import Batches, Rows, Standardization


def make_batches(
    X, rows=None, weight=None, mean=None, std=None, seed=0, mean_weight=1.0, **settings
):
    """Make batches of one model."""
    row_set = make_row_set(X, rows, weight, mean, std, mean_weight)
    return batches_of([row_set], seeds=[seed], **settings)


def make_row_set(X, rows=None, weight=None, mean=None, std=None, mean_weight=1.0):
    """Return rows and the statistics that standardise them."""
    rows = np.arange(X.shape[0]) if rows is None else rows
    ones = np.ones(X.shape[1])
    return (
        Rows(X, rows, np.ones(len(rows)) if weight is None else weight, mean_weight),
        Standardization(
            np.zeros(X.shape[1]) if mean is None else mean,
            ones if std is None else std,
            ones,
            ones,
        ),
    )


def batches_of(row_sets, seeds, **settings):
    """Make batches of several models."""
    settings = {
        "batch_size": 32,
        "shuffle": True,
        "noise_shape": (1, 2),
        "dtype": torch.float64,
        "device": torch.device("cpu"),
        **settings,
    }
    return Batches(
        *zip(*row_sets, strict=True),
        order=[torch.Generator().manual_seed(s) for s in seeds],
        noise=[torch.Generator().manual_seed(s) for s in seeds],
        **settings,
    )


def one_epoch(batches, r=0):
    """Return the rows of positive weight, their weights, and their noise, by batches.

    The weights are multiplied by the size of the batch.
    """
    parts = []
    for y, row_weight, noise in batches.epoch():
        counts = row_weight[r, :, 0] > 0
        n = int(counts.sum())
        parts.append(
            (y[r][counts].clone(), n * row_weight[r][counts], noise[r][:, counts].clone())
        )
    return parts


def numbered_rows(n, d=3):
    """Make rows whose first column is their index."""
    return np.arange(n, dtype=float)[:, None] * [1.0, -1.0, 0.5][:d]


@pytest.fixture(params=["resident", "streamed", "in small blocks"])
def storage(request, monkeypatch):
    """Keep the standardised rows in memory, or stream them in blocks."""
    data = sys.modules["skae._data.batches"]
    if request.param != "resident":
        monkeypatch.setattr(data, "_RESIDENT_BYTES", 0)
        monkeypatch.setattr(data, "_HOST_FRACTION", 0.0)
    if request.param == "in small blocks":
        monkeypatch.setattr(data, "BLOCK_NUMBERS", 50)
        # Noise for two batches at a time, with one batch left at the end.
        monkeypatch.setattr(data, "_NOISE_NUMBERS", 140)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 65, 100])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_row_occurs_once_an_epoch(n, batch_size, shuffle, storage):
    batches = make_batches(numbered_rows(n), batch_size=batch_size, shuffle=shuffle)
    assert batches.n_batches == math.ceil(n / batch_size)
    for _ in range(2):
        parts = one_epoch(batches)
        sizes = [len(y) for y, _, _ in parts]
        assert len(sizes) == batches.n_batches
        largest = max(sizes)
        assert largest <= batch_size
        assert batches.size == (1 if largest == 1 else math.ceil(largest / 16) * 16)
        assert max(sizes) - min(sizes) <= 1
        assert all(len(y) == len(w) for y, w, _ in parts)
        seen = np.concatenate([y for y, _, _ in parts])
        np.testing.assert_array_equal(np.sort(seen[:, 0]), np.arange(n))
        np.testing.assert_array_equal(seen, numbered_rows(n)[seen[:, 0].astype(int)])
        if not shuffle:
            np.testing.assert_array_equal(seen[:, 0], np.arange(n))


def test_row_weights_of_a_batch_sum_to_one(storage):
    batches = make_batches(numbered_rows(65), batch_size=32)
    for y, row_weight, _ in batches.epoch():
        assert y.shape == (1, 32, 3)
        assert row_weight.shape == (1, 32, 1)
        assert row_weight.sum().item() == pytest.approx(1, rel=1e-14)


def test_shuffling_is_uniform_and_from_the_generator():
    before = torch.get_rng_state()
    batches = make_batches(numbered_rows(6), batch_size=6)
    orders = [next(batches.epoch())[0][0, :6, 0].tolist() for _ in range(2000)]
    assert torch.equal(torch.get_rng_state(), before)
    assert orders[0] != orders[1]
    again = make_batches(numbered_rows(6), batch_size=6)
    assert orders[0] == one_epoch(again)[0][0][:, 0].tolist()
    counts = np.array([[o[p] for o in orders].count(r) for p in range(6) for r in range(6)])
    assert np.abs(counts - 2000 / 6).max() < 5 * math.sqrt(2000 / 6)


def test_noise_is_normal_and_from_the_generator():
    before = torch.get_rng_state()
    parts = one_epoch(make_batches(numbered_rows(3000), batch_size=300, noise_shape=(5, 2)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(e.shape == (5, 300, 2) for _, _, e in parts)
    noise = torch.stack([e for _, _, e in parts])
    assert scipy.stats.kstest(noise.numpy().ravel(), scipy.stats.norm.cdf).pvalue > 1e-3
    assert len(noise.unique()) == noise.numel()
    again = one_epoch(make_batches(numbered_rows(3000), batch_size=300, noise_shape=(5, 2)))
    assert torch.equal(noise, torch.stack([e for _, _, e in again]))


@pytest.mark.parametrize("shuffle", [True, False])
def test_weights_follow_their_rows(shuffle, storage):
    rng = np.random.default_rng(0)
    X, rows = numbered_rows(50), rng.permutation(50)[:37]
    weight = 1 / (1 + rows)
    parts = one_epoch(make_batches(X, rows, weight, batch_size=10, shuffle=shuffle))
    y, w = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    assert w.shape == (37, 1)
    np.testing.assert_allclose(w[:, 0], 1 / (1 + y[:, 0]), rtol=1e-14)
    np.testing.assert_array_equal(np.sort(y[:, 0]), np.sort(rows))
    if not shuffle:
        np.testing.assert_array_equal(y[:, 0], rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("data", [np.float32, np.float64])
def test_standardisation_in_double_precision(dtype, data, storage):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(70, 3)) * [1, 3, 0.1] * 100 + 1e6).astype(data)
    exact = X.astype(np.float64)
    # float32 numbers are 1/16 apart at 1e6, so none equals this mean.
    mean, std = exact.mean(axis=0) + 1 / 64, exact.std(axis=0)
    batches = make_batches(X, mean=mean, std=std, shuffle=False, dtype=dtype)
    parts = one_epoch(batches)
    y = np.concatenate([part[0] for part in parts])
    assert {part.dtype for part in parts[0]} == {dtype}
    rtol = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    np.testing.assert_allclose(y, (exact - mean) / std, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("order", ["C", "F"])
def test_data_are_not_changed(order, storage):
    X = np.asarray(np.random.default_rng(0).normal(size=(40, 3)), order=order)
    copy = X.copy()
    X.setflags(write=False)
    parts = one_epoch(make_batches(X, mean=X.mean(axis=0), std=X.std(axis=0), batch_size=9))
    np.testing.assert_array_equal(X, copy)
    y = np.concatenate([part[0] for part in parts])
    expected = (copy - copy.mean(axis=0)) / copy.std(axis=0)
    order_y, order_x = np.argsort(y[:, 0]), np.argsort(expected[:, 0])
    np.testing.assert_allclose(y[order_y], expected[order_x], rtol=1e-12)


def test_strided_view_of_an_array(storage):
    X = np.random.default_rng(0).normal(size=(40, 6))[::2, 1::2]
    parts = one_epoch(make_batches(X, shuffle=False, batch_size=9))
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), X)


def test_batches_side_by_side_equal_batches_alone(storage):
    X = np.random.default_rng(0).normal(size=(80, 3))
    # 3 batches each, of different sizes: 24, 27 and 28.
    row_sets = [
        make_row_set(X, np.arange(72), np.linspace(0.5, 1, 72)),
        make_row_set(X, np.arange(0, 80), mean=np.array([1.0, 2, 3])),
        make_row_set(X, np.arange(82) % 80, std=np.array([0.5, 2, 3])),
    ]
    together = batches_of(row_sets, seeds=[3, 4, 5])
    assert together.size == 32
    alone = [
        batches_of([s], seeds=[seed]) for s, seed in zip(row_sets, [3, 4, 5], strict=True)
    ]
    for _ in range(2):
        # Copies, because the next batch overwrites the tensors of the last.
        side_by_side = [
            [(y[r], row_weight[r], noise[r]) for r in range(3)]
            for y, row_weight, noise in (
                tuple(map(torch.clone, b)) for b in together.epoch()
            )
        ]
        for r, batches in enumerate(alone):
            for of_models, alone_batch in zip(side_by_side, batches.epoch(), strict=True):
                n = alone_batch[0].shape[1]
                counts = alone_batch[1][0, :, 0] > 0
                for got, expected in zip(of_models[r], alone_batch, strict=True):
                    rows = got[:, :n] if got.ndim == 3 else got[:n]
                    mask = counts if got.ndim == 2 else (slice(None), counts)
                    torch.testing.assert_close(
                        rows[mask], expected[0][mask], rtol=1e-13, atol=0
                    )
                assert (of_models[r][1][n:] == 0).all()


@pytest.mark.parametrize("sizes", [(64, 65), (32, 16), (1, 2)])
def test_different_numbers_or_sizes_of_batches_raise(sizes):
    row_sets = [make_row_set(numbered_rows(n)) for n in sizes]
    with pytest.raises(ValueError, match="number or size of batches"):
        batches_of(row_sets, seeds=[0, 1])


def test_batches_without_filling_up():
    """A batch of 33 rows contains 33 different rows."""
    batches = make_batches(numbered_rows(99), batch_size=33, fill_up=False)
    for y, row_weight, _ in batches.epoch():
        assert len(y[0].unique(dim=0)) == y.shape[1] == 33
        assert (row_weight > 0).all()
    assert batches.select([0]).size == 33


@pytest.mark.parametrize("shuffle", [True, False])
def test_epoch_repeats_rows(shuffle, storage):
    """A row of weight 2.5 is in an epoch three times, each with a third of its weight."""
    weight = np.array([2.5, 1.0, 4.0, 0.5])
    X, mean = numbered_rows(4), weight.mean()
    rows = Rows(X, np.arange(4), weight / mean, mean)
    ones = np.ones(3)
    standardization = Standardization(np.zeros(3), ones, ones, ones)
    batches = batches_of(
        [(rows, standardization)], [0], batch_size=3, shuffle=shuffle, noise_shape=(1, 2)
    )
    assert batches.n_batches == 3
    parts = one_epoch(batches)
    row = np.concatenate([part[0][:, 0] for part in parts]).astype(int)
    row_weight = np.concatenate([part[1][:, 0] for part in parts])
    np.testing.assert_array_equal(np.bincount(row), [3, 1, 4, 1])
    assert row_weight.mean() == pytest.approx(1)
    total = np.bincount(row, row_weight)
    np.testing.assert_allclose(total / total[1], weight, rtol=1e-12)
    np.testing.assert_allclose(row_weight[row == 0], row_weight[row == 0][0], rtol=1e-12)
    if not shuffle:
        np.testing.assert_array_equal(row, [0, 0, 0, 1, 2, 2, 2, 2, 3])


@pytest.mark.parametrize("kind", ["dense", "sparse", "file", "view of a file"])
def test_rows_are_kept_if_they_fit_in_the_free_memory(kind, monkeypatch, tmp_path):
    """Data that take less memory than their rows, in a file or sparse, stay as they are."""
    data = sys.modules["skae._data.batches"]
    monkeypatch.setattr(data, "_RESIDENT_BYTES", 0)
    X = given = numbered_rows(100)
    if kind == "sparse":
        given = sparse.csr_array(X)
    elif kind != "dense":
        given = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="w+", shape=X.shape)
        given[:] = X
        # What validation leaves of it: an array of another class, on the same memory.
        given = np.asarray(given)[:] if kind == "view of a file" else given
    n_bytes = X.nbytes  # in float64, the precision of these batches
    for free, fits in ((8 * n_bytes, True), (8 * n_bytes - 8, False)):
        monkeypatch.setattr(data, "available_memory", lambda free=free: free)
        batches = batches_of([make_row_set(given)], seeds=[0], shuffle=False)
        assert (batches._resident is not None) == (fits and kind == "dense")
        rows = np.concatenate([y for y, _, _ in one_epoch(batches)])
        np.testing.assert_array_equal(rows, X)
