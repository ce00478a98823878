"""The rows to train on: their order, their weights and their batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Standardised data of this many bytes for each model are kept in the memory of the host;
# more than that are standardised again, block by block, in each epoch.
_RESIDENT_BYTES = 2**24
# The same for another device: this share of the memory that is free there.
_RESIDENT_SHARE = 0.5
# Sizes of batches from here on are made round.
_SMALLEST_ROUND = 32
# Numbers that are gathered and standardised together.
_BLOCK_NUMBERS = 2**18
# Normal numbers that are drawn together for a model.
_NOISE_NUMBERS = 2**14


def distinct_rows(
    X: np.ndarray, weight: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in lexicographic order, equal ones merged into one of their total weight.

    Training on the result does not depend on the order of the samples, and repeating a
    sample is the same, to the bit, as giving it a weight. The order does not change when
    the data are shifted or multiplied by a positive number.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data, without NaN.
    weight : ndarray of shape (n_samples,)
        Sample weights.
    rows : ndarray of int
        Which rows of X to look at.

    Returns
    -------
    rows : ndarray of shape (n_distinct,)
        Index into X of each distinct row.
    weight : ndarray of shape (n_distinct,)
        Total weight of each.
    """
    order = rows[np.argsort(X[rows, 0], kind="stable")]
    first = X[order, 0]
    is_new = np.ones(len(order), dtype=bool)  # differs from the row before
    is_new[1:] = first[1:] != first[:-1]
    for column in range(1, X.shape[1]):
        # Only rows that are still tied need another look.
        tied = np.flatnonzero(~is_new | ~np.append(is_new[1:], True))
        if len(tied) == 0:
            break
        values = X[order[tied], column]
        if values.min() == values.max():
            continue
        group = np.cumsum(is_new[tied])
        permutation = np.lexsort((values, group))
        order[tied] = order[tied][permutation]
        values = values[permutation]
        # The first of the tied is always new, so what stands before it is not asked for.
        is_new[tied[1:]] |= values[1:] != values[:-1]
    start = np.flatnonzero(is_new)
    return order[start], np.add.reduceat(weight[order], start)


@dataclass(frozen=True)
class TrainingSet:
    """The rows of an array that one model is trained on, and what standardises them.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data, float32 or float64; never written to, never copied whole.
    rows : ndarray of shape (n,)
        Rows of X to train on.
    weight : ndarray of shape (n,)
        Their weights, of mean 1.
    mean, std : ndarray of shape (n_features,)
        What standardises a feature.
    """

    X: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def standardize(self, positions: np.ndarray, out: Tensor) -> None:
        """Write standardised rows, centred in float64 whatever the precision.

        Parameters
        ----------
        positions : ndarray of int of shape (m,)
            Positions among the rows.
        out : Tensor of shape (m, n_features)
            Where to, on the CPU.
        """
        block = self.X[self.rows[positions]]
        centered = np.subtract(block, self.mean, dtype=np.float64)
        np.divide(centered, self.std, out=out.numpy(), casting="same_kind")


def _round_up(size: int) -> int:
    """The next multiple of eight, unless that is much more."""
    return size if size < _SMALLEST_ROUND else -(-size // 8) * 8


class Batches:
    """Standardised batches of R models that are trained side by side.

    The rows of a model are split into batches whose sizes differ by one at most, so that
    no epoch ends with a batch of a single row. All batches have the size of the largest,
    or with ``fill_up`` the next multiple of eight, which products take less time for: one
    that has fewer rows is filled up with rows of no weight.

    Parameters
    ----------
    sets : sequence of R TrainingSet
        The data of each model.
    batch_size : int
        Largest size of a batch.
    shuffle : bool
        Whether each epoch takes the rows in a new random order.
    noise_shape : tuple of int
        Standard normal numbers for each row, (n_draws, width).
    dtype : torch.dtype
        Precision of the batches.
    device : torch.device
        Where the batches are wanted.
    order : sequence of R torch.Generator
        Sources of the random orders, on the CPU.
    noise : sequence of R torch.Generator
        Sources of the normal numbers, on the device.
    fill_up : bool, default=True
        Whether to make the sizes round.
    resident : Tensor of shape (n_1 + ... + n_R, n_features), default=None
        The standardised rows of all models, where they are there already.

    Raises
    ------
    ValueError
        If the models do not all have the same number of batches.
    """

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        *,
        batch_size: int,
        shuffle: bool,
        noise_shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
        order: Sequence[torch.Generator],
        noise: Sequence[torch.Generator],
        fill_up: bool = True,
        resident: Tensor | None = None,
    ) -> None:
        counts = {-(-len(s) // batch_size) for s in sets}
        if len(counts) > 1:
            raise ValueError(f"The models differ in their number of batches: {counts}.")
        self.n_batches = counts.pop()
        self.sets = sets
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.noise_shape = noise_shape
        self._order, self._noise = order, noise
        self.fill_up = fill_up
        self._sizes = [-(-len(s) // self.n_batches) for s in sets]
        if fill_up:
            self._sizes = [_round_up(size) for size in self._sizes]
        self.size = max(self._sizes)
        slots, shares = zip(*map(self._fill_up, sets), strict=True)
        self._slots = [torch.from_numpy(s.reshape(-1)) for s in slots]
        # (R, n_batches, size, 1), in the order of the rows; shuffled in each epoch.
        self._shares = torch.tensor(np.stack(shares), dtype=dtype)
        # Rows of all models, one model after the other.
        self._weight = torch.tensor(np.concatenate([s.weight for s in sets]), dtype=dtype)
        self._bounds = np.cumsum([0, *map(len, sets)]).tolist()
        self._starts = torch.tensor(self._bounds[:-1])[:, None]
        R, d = len(sets), sets[0].X.shape[1]
        n_draws, width = noise_shape
        # The same for any number of models: those that a model draws depend on it.
        n_together = _NOISE_NUMBERS // max(n_draws * batch_size * width, 1)
        self._n_noise = min(max(n_together, 1), self.n_batches)
        shape = (R, self._n_noise, n_draws, self.size, width)
        self._noise_block = torch.zeros(shape, dtype=dtype, device=device)
        n_block = _BLOCK_NUMBERS // (R * self.size * d)
        self._n_block = min(max(n_block, 1), self.n_batches)
        self._y = torch.empty(R, self._n_block, self.size, d, dtype=dtype, device=device)
        self._host = (
            self._y
            if device.type == "cpu"
            else torch.empty_like(self._y, device="cpu", pin_memory=device.type == "cuda")
        )
        self._resident = self._load(dtype, device) if resident is None else resident

    def _fill_up(self, rows: TrainingSet) -> tuple[np.ndarray, np.ndarray]:
        """Positions in an epoch of the rows of each batch, and what a row counts there."""
        bounds = np.linspace(0, len(rows), self.n_batches + 1).astype(int)
        start, stop = bounds[:-1, None], bounds[1:, None]
        slots = start + np.arange(self.size)
        return (
            np.where(slots < stop, slots, start),
            np.where(slots < stop, 1 / (stop - start), 0.0)[..., None],
        )

    def _load(self, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """All rows of all models, standardised, on the device, if they fit there."""
        d = self.sets[0].X.shape[1]
        n_bytes = sum(map(len, self.sets)) * d * dtype.itemsize
        budget: float = _RESIDENT_BYTES * len(self.sets)
        if device.type == "cuda":
            budget = _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        if n_bytes > budget:
            return None
        resident = torch.empty(self._bounds[-1], d, dtype=dtype, device=device)
        size = max(1, _BLOCK_NUMBERS // d)
        for s, first in zip(self.sets, self._bounds, strict=False):
            for start in range(0, len(s), size):
                part = np.arange(start, min(start + size, len(s)))
                block = torch.empty(len(part), d, dtype=dtype)
                s.standardize(part, out=block)
                resident[first + start : first + start + len(part)] = block
        return resident

    def select(self, chosen: Sequence[int]) -> "Batches":
        """The batches of some of the models.

        Parameters
        ----------
        chosen : sequence of int
            Which models.

        Returns
        -------
        Batches
            Those that these models would have had next.
        """
        resident = self._resident
        if resident is not None:
            parts = [resident[self._bounds[r] : self._bounds[r + 1]] for r in chosen]
            resident = torch.cat(parts)
        return Batches(
            [self.sets[r] for r in chosen],
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            noise_shape=self.noise_shape,
            dtype=self._y.dtype,
            device=self._y.device,
            order=[self._order[r] for r in chosen],
            noise=[self._noise[r] for r in chosen],
            fill_up=self.fill_up,
            resident=resident,
        )

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """One pass over the rows.

        Yields
        ------
        y : Tensor of shape (R, size, n_features)
            Standardised rows; overwritten by the next batches.
        share : Tensor of shape (R, size, 1)
            Weight of each row over the number of rows in its batch, so that a sum of
            shares times values is a mean over the batch.
        noise : Tensor of shape (R, n_draws, size, width)
            Standard normal numbers; overwritten by the next batch.
        """
        positions = [
            torch.randperm(len(s), generator=g) if self.shuffle else torch.arange(len(s))
            for s, g in zip(self.sets, self._order, strict=True)
        ]
        # (R, n_batches * size), among the rows of each model and among all.
        picked = torch.stack(
            [p.index_select(0, s) for p, s in zip(positions, self._slots, strict=True)]
        )
        among_all = picked + self._starts
        shares = self._weight.index_select(0, among_all.view(-1)).view_as(self._shares)
        shares = shares.mul_(self._shares).to(self._y.device)
        if self._resident is not None:
            picked = among_all.to(self._y.device)
        noise = self._noises()
        for first in range(0, self.n_batches, self._n_block):
            last = min(first + self._n_block, self.n_batches)
            y = self._gather(picked[:, first * self.size : last * self.size])
            rows = zip(y.unbind(1), shares[:, first:last].unbind(1), strict=True)
            yield from ((*batch, next(noise)) for batch in rows)

    def _gather(self, picked: Tensor) -> Tensor:
        """Rows of each model, as ``(R, n, size, n_features)``; overwritten next time."""
        R, _, size, d = self._y.shape
        n = picked.shape[1] // size
        if self._resident is not None:
            y = self._y.view(-1, d)[: R * n * size]
            torch.index_select(self._resident, 0, picked.reshape(-1), out=y)
            return y.view(R, n, size, d)
        for r, rows in enumerate(picked):
            self.sets[r].standardize(rows.numpy(), out=self._host[r, :n].view(-1, d))
        if self._host is not self._y:
            self._y[:, :n].copy_(self._host[:, :n], non_blocking=True)
            if self._y.device.type == "cuda":
                # The host's buffer is filled again before long.
                torch.cuda.current_stream(self._y.device).synchronize()
        return self._y[:, :n]

    def _noises(self) -> Iterator[Tensor]:
        """Normal numbers, batch by batch: for each model those that it would have alone."""
        batches = self._noise_block.unbind(1)
        for first in range(0, self.n_batches, self._n_noise):
            n = min(self._n_noise, self.n_batches - first)
            if self._noise_block.numel() > 0:
                self._draw(n)
            yield from batches[:n]

    def _draw(self, n: int) -> None:
        """New normal numbers for n batches."""
        parts = zip(self._noise_block, self._sizes, self._noise, strict=True)
        for own, size, generator in parts:
            if size == self.size:
                own[:n].normal_(generator=generator)
            else:
                alone = own[:n, :, :size]
                alone.copy_(alone.new_empty(alone.shape).normal_(generator=generator))
