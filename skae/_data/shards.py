"""The rows of a fit that several processes share."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._data.batches import Batches, drawn_rows
from skae._data.blocks import has_nan
from skae._data.distinct_rows import distinct_rows
from skae._data.rows import Rows
from skae._utils.cached import cached
from skae._utils.peers import ALONE, Peers

# Rows of each process from which the bounds between the processes are chosen. Their number
# affects only the memory of the exchange, since the parts are made equal afterwards.
_SAMPLES = 64
# Rows of a subsample up to which it is kept: those that each epoch asks for.
_MOST_KEPT = 1024


@dataclass(frozen=True, eq=False)
class Shard(Rows):
    """The rows of one process, which are a part of the rows of a fit.

    The parts follow each other in the order of a fit in one process. A process without rows
    has a stand-in of weight 0, since a batch cannot be empty. The methods that sum over all
    rows communicate, so all processes call them together.

    Attributes
    ----------
    group : Peers
        The processes.
    counts : tuple of int
        Number of rows of each process.
    sizes : tuple of int
        Rows of an epoch of each process, with repetitions.
    any_missing : bool
        Whether an entry of the rows of any process is missing.
    """

    group: Peers = ALONE
    counts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    any_missing: bool = False
    _kept: dict[int, Rows] = field(default_factory=dict, repr=False)

    @property
    def peers(self) -> Peers:
        return self.group

    @property
    def first(self) -> int:
        return sum(self.counts[: self.group.rank])

    @property
    def total(self) -> int:
        return sum(self.counts)

    @cached
    def has_missing(self) -> bool:
        return self.any_missing

    @property
    def first_slot(self) -> int:
        """Position of the first row in an epoch of all processes, in order."""
        return sum(self.sizes[: self.group.rank])

    @cached
    def own_size(self) -> int:
        return self.sizes[self.group.rank]

    @property
    def epoch_size(self) -> int:
        return sum(self.sizes)

    @property
    def most_batches(self) -> int:
        return max(self.sizes)

    def batch_bounds(self, n_batches: int) -> tuple[np.ndarray, np.ndarray]:
        """Spread the rows of each process evenly over the batches; see `Rows`.

        The processes begin at different times, so that batches of all of them together
        have about equal sizes.
        """
        time = np.arange(n_batches + 1) / n_batches
        size = len(self.sizes)
        bounds = [
            np.clip(np.ceil(n * time - (rank + 0.5) / size), 0, n).astype(int)
            for rank, n in enumerate(self.sizes)
        ]
        return bounds[self.group.rank], np.diff(bounds, axis=1).sum(axis=0)

    def values_at(self, positions: np.ndarray) -> np.ndarray:
        values, _ = self._collect(positions)
        return values

    def _collect(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of all processes ``(m, n_features)``, and their weights ``(m,)``."""
        own = positions - self.first
        mine = np.flatnonzero((own >= 0) & (own < self.counts[self.group.rank]))
        place = np.concatenate(self.group.gather(mine))
        found = self.block(own[mine]), self.weight[own[mine]]
        values, weight = (np.concatenate(self.group.gather(part)) for part in found)
        order = np.argsort(place)
        return values[order], weight[order]

    def subsample(self, n: int) -> Rows:
        """Return at most n of the rows of all processes, evenly spaced, in each of them."""
        if n in self._kept:
            return self._kept[n]
        positions = np.arange(self.total)
        if self.total > n:
            positions = np.linspace(0, self.total - 1, n).astype(int)
        X, weight = self._collect(positions)
        mean = weight.mean()
        mean_weight = float(mean) * self.mean_weight
        rows = Rows(X, np.arange(len(X)), weight / mean, mean_weight)
        if n <= _MOST_KEPT:
            self._kept[n] = rows
        return rows

    def in_proportion(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cumulative = np.cumsum(self.weight)
        sums = np.concatenate(self.group.gather(cumulative[-1:]))
        ends = np.cumsum(sums)
        positions = (np.arange(n) + 0.5) / n * ends[-1]
        rank = self.group.rank
        own = positions[np.searchsorted(ends, positions) == rank]
        chosen = np.searchsorted(cumulative, own - (ends[rank] - sums[rank]))
        chosen, counts = np.unique(
            np.minimum(chosen, len(cumulative) - 1), return_counts=True
        )
        found = self.block(chosen), counts
        values, counts = (np.concatenate(self.group.gather(part)) for part in found)
        return values, np.arange(len(values)), counts

    def take_repeats(self, chosen: np.ndarray) -> Rows:
        own = chosen - self.first_slot
        own = own[(own >= 0) & (own < self.own_size)]
        row = np.repeat(np.arange(len(self)), self.repeats)[own]
        counts = np.bincount(row, minlength=len(self))
        kept = np.flatnonzero(counts)
        weight = (self.weight * (counts / self.repeats))[kept]
        return make_shard(self.X, self.index[kept], weight, self.mean_weight, self.group)


def make_shard(
    X: np.ndarray,
    index: np.ndarray,
    weight: np.ndarray,
    mean_weight: float,
    peers: Peers,
) -> Shard:
    """Make the part of one process; X has a row at least.

    The weights ``(n,)`` of the rows ``(n,)`` at ``index`` are multiples of ``mean_weight``.
    """
    counts = tuple(peers.gather_objects(len(index)))
    if len(index) == 0:
        index, weight = np.zeros(1, dtype=int), np.zeros(1)
    mean = peers.sum(float(weight.sum())) / sum(counts)
    missing = peers.largest(float(has_nan(X[index])))
    shard = Shard(
        X, index, weight / mean, mean * mean_weight, peers, counts, (), missing > 0
    )
    own = int(shard.repeats.sum()) if counts[peers.rank] else 0
    return replace(shard, sizes=tuple(peers.gather_objects(own)))


def share_out(X: np.ndarray, weight: np.ndarray, shuffle: bool, peers: Peers) -> Shard:
    """Divide the rows of all processes into equal parts, in the order of one process.

    Each process passes its rows ``(n, n_features)`` and their weights ``(n,)``; n may be 0.
    With ``shuffle``, the rows are sorted and merged over all processes, as `select_rows`
    does in one. Else the rows of a process follow those of the process before.

    Raises ValueError if there are no rows, or if all weights are 0.
    """
    largest = peers.largest(float(weight.max(initial=0.0)))
    if not largest > 0:
        if peers.sum(float(len(X))) == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={X.shape}) on each of {peers.size} "
                "ranks, while a minimum of 1 is required."
            )
        raise ValueError(
            "Sample weights must contain at least one non-zero number, but are 0 on all "
            f"of {peers.size} ranks."
        )
    # As in `select_rows`.
    _, exponent = math.frexp(largest)
    weight = np.ldexp(weight, -exponent)
    index = np.flatnonzero(weight > 0)
    observed = ~np.isnan(X[index]).all(axis=1)
    if peers.largest(float(observed.any())) > 0:
        index = index[observed]
    if shuffle and len(index):
        index, weight = distinct_rows(X, weight, index)
    else:
        weight = weight[index]
    X = X[index]
    if shuffle:
        X, weight = _sorted_over(X, weight, peers)
    with np.errstate(over="ignore"):
        unit = float(np.ldexp(1.0, exponent))
    return _balanced(X, weight, unit, peers)


def _sorted_over(
    X: np.ndarray, weight: np.ndarray, peers: Peers
) -> tuple[np.ndarray, np.ndarray]:
    """Sort and merge the sorted rows of all processes, of which each keeps a range."""
    total = sum(peers.gather_objects(len(X)))
    samples = np.concatenate(peers.gather(X[:: -(-total // (_SAMPLES * peers.size))]))
    order, _ = distinct_rows(samples, np.ones(len(samples)), np.arange(len(samples)))
    bounds = np.linspace(0, len(order), peers.size + 1)[1:-1].astype(int)
    cuts = [
        bisect.bisect_left(range(len(X)), _key(bound), key=lambda i: _key(X[i]))
        for bound in samples[order[bounds]]
    ]
    X, weight = _exchange(X, weight, cuts, peers)
    if len(X) == 0:
        return X, weight
    order, weight = distinct_rows(X, weight, np.arange(len(X)))
    return X[order], weight


def _key(row: np.ndarray) -> tuple[float, ...]:
    """Return a row ``(d,)`` as what sorts like it, with NaN last."""
    return tuple(np.where(np.isnan(row), np.inf, row).tolist())


def _balanced(X: np.ndarray, weight: np.ndarray, unit: float, peers: Peers) -> Shard:
    """Move rows between neighbours, so that each process has as much of an epoch."""
    stand_in = X[:1] if len(X) else np.zeros((1, X.shape[1]), X.dtype)
    shard = make_shard(X if len(X) else stand_in, np.arange(len(X)), weight, unit, peers)
    slots = np.cumsum(shard.repeats[: len(X)]) - shard.repeats[: len(X)]
    owner = (shard.first_slot + slots) * peers.size // shard.epoch_size
    cuts = np.searchsorted(owner, np.arange(1, peers.size)).tolist()
    X, weight = _exchange(X, weight, cuts, peers)
    if 0 in peers.gather_objects(len(X)):
        # The first row is in the first process.
        stand_in = peers.of_first(lambda: X[:1])
    own = X if len(X) else stand_in
    return make_shard(own, np.arange(len(X)), weight, unit, peers)


def _exchange(
    X: np.ndarray, weight: np.ndarray, cuts: Sequence[int], peers: Peers
) -> tuple[np.ndarray, np.ndarray]:
    """Send the rows between two cuts to each process."""
    parts = (np.split(array, cuts) for array in (X, weight))
    X, weight = (np.concatenate(peers.exchange(part)) for part in parts)
    return X, weight


class ShardBatches(Batches):
    """Standardised batches of one model whose rows are a `Shard`. See `Batches`.

    If an epoch is one batch, each process draws the order and the noise of all rows, and
    takes those of its own. So the noise of a row is that of a fit in one process. Of
    several batches, each process draws its own numbers.
    """

    def __init__(self, rows: Sequence[Rows], *args: Any, **kwargs: Any) -> None:
        (shard,) = rows
        assert isinstance(shard, Shard)
        self.shard = shard
        self._places: Tensor | None = None
        super().__init__(rows, *args, **kwargs)
        if self.n_batches > 1:
            rank = self.shard.group.rank
            self._order = [_own_stream(g, rank) for g in self._order]
            self._noise = [_own_stream(g, rank) for g in self._noise]

    def _order_of(self, rows: Rows, generator: torch.Generator) -> Tensor:
        if self.n_batches > 1:
            return super()._order_of(rows, generator)
        shard = self.shard
        place = torch.arange(shard.epoch_size, device="cpu")
        if self.shuffle:
            order = torch.randperm(len(place), generator=generator, device="cpu")
            place = torch.empty_like(order).scatter_(0, order, place)
        stop = shard.first_slot + shard.own_size
        self._places = place[shard.first_slot : stop].to(self._y.device)
        return torch.arange(max(shard.own_size, 1), device="cpu")

    def _draw(self, n: int) -> None:
        if self._places is None:
            super()._draw(n)
            return
        own = self._noise_block[0]
        size = self.shard.epoch_size
        n_rows = drawn_rows(size) if self.fill_up else size
        shape = 1, own.shape[1], n_rows, own.shape[3]
        noise = own.new_empty(shape).normal_(generator=self._noise[0])
        own[:, :, : len(self._places)] = noise[:, :, self._places]


def _own_stream(generator: torch.Generator, rank: int) -> torch.Generator:
    """Make a generator of the same kind for one process, by the seed of all."""
    sequence = np.random.SeedSequence([generator.initial_seed(), rank])
    seed = int(sequence.generate_state(1)[0])
    return torch.Generator(generator.device).manual_seed(seed)
