"""Tests of the rows that several processes share, here threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from skae._data import Batches, Shard, ShardBatches, Standardization, select_rows, share_out
from skae._utils.peers import Peers

# Of the batches; an emulated accelerator is another one.
DEVICE = torch.device("cpu")


class Rank(Peers):
    """One of several threads that communicate, or of processes that do not."""

    def __init__(self, rank, size, places=None, barrier=None):
        self.rank, self.size = rank, size
        self._places, self._barrier = places, barrier

    def gather_objects(self, value):
        self._places[self.rank] = value
        self._barrier.wait()
        found = list(self._places)
        self._barrier.wait()
        return found

    def gather(self, array):
        return self.gather_objects(array)

    def exchange(self, parts):
        return [sent[self.rank] for sent in self.gather_objects(list(parts))]

    def sum(self, value):
        return sum(self.gather_objects(value))

    def largest(self, value):
        return np.max(self.gather_objects(value), axis=0)

    def of_first(self, make):
        return self.gather_objects(make() if self.rank == 0 else None)[0]


def in_threads(size, function):
    """Return the results of a function of the peers on each rank."""
    places, barrier = [None] * size, Barrier(size, timeout=30)
    ranks = [Rank(rank, size, places, barrier) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(function, ranks))


def table(seed, missing):
    """Draw rows of few values, so that many are equal, with weights of 0 among them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    X = rng.integers(0, 2 + seed % 4, (n, 3)).astype(float)
    if missing:
        X[rng.random(X.shape) < 0.3] = np.nan
        X[0] = 1.0
    weight = rng.integers(0, 4, n).astype(float)
    weight[0] = 2.0
    return X, weight, rng


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_shards_follow_the_order_of_one_process(seed, size, shuffle, missing):
    """All shards together are the rows of one process, in equal parts of an epoch."""
    X, weight, rng = table(seed, missing)
    owner = rng.integers(0, size if seed else 1, len(X))
    if not shuffle:
        owner.sort()

    def shard_of(peers):
        mine = owner == peers.rank
        shard = share_out(X[mine], weight[mine], shuffle, peers)
        few = shard.subsample(11)
        return shard, few, shard.values_at(np.array([shard.total - 1, 0]))

    found = in_threads(size, shard_of)
    whole = select_rows(X, weight, shuffle)
    shards = [shard for shard, *_ in found]
    own = [slice(count) for count in shards[0].counts]
    blocks = [shard.block(part) for shard, part in zip(shards, own, strict=True)]
    np.testing.assert_array_equal(np.concatenate(blocks), whole.block())
    weights = [shard.weight[part] for shard, part in zip(shards, own, strict=True)]
    np.testing.assert_allclose(np.concatenate(weights), whole.weight, rtol=1e-14)
    largest = max(whole.repeats)
    for shard, few, ends in found:
        assert (shard.total, shard.epoch_size) == (len(whole), whole.epoch_size)
        assert shard.n_samples == pytest.approx(whole.n_samples)
        assert shard.has_missing == whole.has_missing
        assert abs(shard.own_size - whole.epoch_size / size) <= largest
        np.testing.assert_array_equal(few.block(), whole.subsample(11).block())
        np.testing.assert_array_equal(ends, whole.block(np.array([len(whole) - 1, 0])))
        assert len(shard) >= 1


@pytest.mark.parametrize("size", [2, 5])
def test_proportional_rows_are_those_of_one_process(size):
    X, weight, _ = table(1, missing=False)
    cuts = np.array_split(np.arange(len(X)), size)

    def chosen(peers):
        mine = cuts[peers.rank]
        return share_out(X[mine], weight[mine], True, peers).in_proportion(50)

    whole, index, counts = select_rows(X, weight, shuffle=True).in_proportion(50)
    for values, own_index, own_counts in in_threads(size, chosen):
        np.testing.assert_array_equal(values[own_index], whole[index])
        np.testing.assert_array_equal(own_counts, counts)


@pytest.mark.parametrize("n_batches", [1, 2, 7, 50])
@pytest.mark.parametrize(
    "sizes", [(50, 50), (51, 50, 50), (100, 1), (60, 0, 55, 61), (50,) * 9]
)
def test_batches_take_each_row_once(sizes, n_batches):
    """Batches have about equal sizes, in which the rows of each rank occur once."""
    X, weight = np.zeros((1, 1)), np.ones(1)
    counts = np.zeros(n_batches, dtype=int)
    for rank in range(len(sizes)):
        group = Rank(rank, len(sizes))
        shard = Shard(X, np.zeros(1, dtype=int), weight, 1.0, group, sizes, sizes)
        bounds, n_rows = shard.batch_bounds(n_batches)
        assert bounds[0] == 0
        assert bounds[-1] == sizes[rank]
        assert (np.diff(bounds) >= 0).all()
        counts += np.diff(bounds)
    np.testing.assert_array_equal(n_rows, counts)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= len(sizes)


def batches_of(kind, rows, batch_size):
    """Make the batches of one model, with three draws for each row."""
    order = torch.Generator("cpu").manual_seed(1)
    noise = torch.Generator(DEVICE).manual_seed(2)
    return kind(
        [rows],
        [Standardization.identity(3)],
        batch_size=batch_size,
        shuffle=True,
        noise_shape=(3, 2),
        dtype=torch.float64,
        device=DEVICE,
        order=[order],
        noise=[noise],
    )


def contributions(batches):
    """Return rows of weight above 0 with their weights and noise, sorted, ``(n, m)``."""
    found = [
        torch.cat([y[0], w[0], noise[0].permute(1, 0, 2).flatten(1)], dim=1)[w[0, :, 0] > 0]
        for y, w, noise in batches.epoch()
    ]
    return torch.cat(found).cpu().numpy().copy()


@pytest.mark.parametrize("size", [2, 3])
def test_one_batch_has_the_noise_of_one_process(size):
    """Each row has the weight and the noise that it has in one process."""
    X, weight, _ = table(2, missing=False)
    cuts = np.array_split(np.arange(len(X)), size)

    def own(peers):
        mine = cuts[peers.rank]
        shard = share_out(X[mine], weight[mine], True, peers)
        return contributions(batches_of(ShardBatches, shard, 10**6))

    found = np.concatenate(in_threads(size, own))
    whole = select_rows(X, weight, shuffle=True)
    expected = contributions(batches_of(Batches, whole, 10**6))
    order, own_order = (np.lexsort(part.T) for part in (expected, found))
    np.testing.assert_allclose(found[own_order], expected[order], rtol=1e-14)


def test_several_batches_have_own_noise_and_all_weight():
    """The weights of each batch add up to those of its rows; no rank repeats another."""
    X, weight, _ = table(3, missing=False)
    cuts = np.array_split(np.arange(len(X)), 2)

    def own(peers):
        mine = cuts[peers.rank]
        shard = share_out(X[mine], weight[mine], True, peers)
        batches = batches_of(ShardBatches, shard, 40)
        return batches.n_batches, contributions(batches), shard.epoch_size

    found = in_threads(2, own)
    (n_batches, first, size), (_, second, _) = found
    assert n_batches == -(-size // 40)
    assert len(first) + len(second) == size
    total = first[:, 3].sum() + second[:, 3].sum()
    # Each batch of equal weights would have the sum 1.
    assert total == pytest.approx(n_batches, rel=0.1)
    n = min(len(first), len(second))
    assert not (first[:n, 4:] == second[:n, 4:]).any()
