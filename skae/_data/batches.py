"""Standardised minibatches of the models that are trained side by side."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from skae._data.blocks import BLOCK_NUMBERS, is_sparse_or_mapped
from skae._data.noise import NoiseSource, noise_sources
from skae._data.ring import Ring
from skae._data.rows import Rows
from skae._data.standardization import Standardization
from skae._utils.cached import cached
from skae._utils.device import free_memory, move_double, send
from skae._utils.memory import available_memory

# Fraction of the host's free memory that the standardised data may take. Larger data are
# standardised again, block by block, in each epoch.
_HOST_FRACTION = 1 / 8
# The same of an accelerator's memory, which has no other use.
_RESIDENT_FRACTION = 0.5
# Bytes of standardised data that are always kept, for each model.
_RESIDENT_BYTES = 2**24
# The size of a filled batch is a multiple of this: 16 numbers of float32 are a line of the
# caches. The lines of models side by side then begin and end like those of one model, so
# the sums in a product round alike.
_LINE = 16
# Rows from which on noise is drawn for a multiple of eight rows.
_SMALLEST_ROUND = 32
# Normal numbers that are drawn together for a model: one call costs 2 us or more.
_NOISE_NUMBERS = 2**14
# The same on an accelerator, where a launch costs 5 us or more: 1 MB of float32.
_NOISE_NUMBERS_OFF_CPU = 2**18


def batch_shape(epoch_size: int, batch_size: int) -> tuple[int, int]:
    """Return the number of batches of an epoch, and the rows of a batch that is filled up.

    A batch of one row stays as it is: a product with one row takes a fifth of the time.
    """
    n_batches = -(-epoch_size // batch_size)
    return n_batches, _filled(-(-epoch_size // n_batches))


def _filled(largest: int) -> int:
    """Return the size to which a batch is filled up."""
    return largest if largest == 1 else -(-largest // _LINE) * _LINE


def drawn_rows(largest: int) -> int:
    """Return the rows of a batch for which noise is drawn, which the noise depends on."""
    return largest if largest < _SMALLEST_ROUND else -(-largest // 8) * 8


def _repeated(rows: Rows) -> Tensor | None:
    """Return the positions of the rows of an epoch, in order; None if each occurs once."""
    if rows.own_size == len(rows):
        return None
    return torch.from_numpy(np.repeat(np.arange(len(rows)), rows.repeats))


class Batches:
    """Standardised batches of R models that are trained side by side.

    The rows of an epoch (`Rows.repeats`) are split into batches whose sizes differ by one
    at most, so that no epoch ends with a batch of a single row. All batches have the size
    of the largest, or with ``fill_up`` the next multiple of 16, for which products are
    faster. Smaller batches are filled up with rows of weight 0. All models have the size
    that each has alone.

    Parameters
    ----------
    rows : sequence of R Rows
        The rows of each model.
    standardizations : sequence of R Standardization
        The statistics that standardise them.
    batch_size : int
        Largest size of a batch.
    shuffle : bool
        Whether each epoch takes the rows in a new random order.
    noise_shape : tuple of int
        Shape of the standard normal numbers of each row, (n_draws, width).
    dtype : torch.dtype
        Precision of the batches.
    device : torch.device
        Device of the batches.
    order : sequence of R torch.Generator
        Sources of the random orders, on the CPU. A source that several models have is drawn
        from once for all.
    noise : sequence of R torch.Generator
        Sources of the normal numbers, on the device; the same holds on an accelerator.
    fill_up : bool, default=True
        Whether to round the sizes up.
    resident : Tensor of shape (n_1 + ... + n_R, n_inputs), default=None
        The standardised rows of all models, if they are in memory already.
    prepare : sequence of R callables, default=None
        For rows with missing entries: maps standardised rows ``(m, n_features)`` of a model
        on its device to ``(m, n_inputs)``. Such rows are always kept in memory.
    """

    def __init__(
        self,
        rows: Sequence[Rows],
        standardizations: Sequence[Standardization],
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
        prepare: Sequence[Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        shapes = {batch_shape(own.epoch_size, batch_size) for own in rows}
        if len(shapes) > 1:
            raise ValueError(f"The models differ in number or size of batches: {shapes}.")
        n_batches, _ = shapes.pop()
        self.n_batches = min(n_batches, *(own.most_batches for own in rows))
        bounds = [own.batch_bounds(self.n_batches)[0] for own in rows]
        largest = [max(int(np.diff(b).max()), 1) for b in bounds]
        self.size = _filled(max(largest)) if fill_up else max(largest)
        self.rows = rows
        self.standardizations = standardizations
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.noise_shape = noise_shape
        self._order, self._noise = order, noise
        self.fill_up = fill_up
        self._prepare = prepare
        self._drawn = [drawn_rows(size) if fill_up else size for size in largest]
        slots, row_weights = zip(*map(self._fill_up, rows), strict=True)
        self._slots = [torch.from_numpy(s.reshape(-1)) for s in slots]
        # (R, n_batches, size, 1), in the order of the rows; shuffled in each epoch.
        self._row_weights = torch.from_numpy(np.stack(row_weights)).to(dtype)
        # Weights of the rows of all models at each time that they are taken, one model
        # after the other. Their mean over an epoch is 1.
        weight = np.concatenate(
            [own.weight / own.repeats * (own.epoch_size / own.total) for own in rows]
        )
        self._weight = torch.from_numpy(weight).to(dtype)
        self._repeated = [_repeated(own) for own in rows]
        self._bounds = np.cumsum([0, *map(len, rows)]).tolist()
        self._starts = torch.tensor(self._bounds[:-1], device="cpu")[:, None]
        if resident is None:
            resident = self._load(dtype, device)
        self._resident = resident
        R, d = len(rows), rows[0].X.shape[1] if resident is None else resident.shape[1]
        n_draws, width = noise_shape
        # Independent of the number of models, because the draws of a model depend on it.
        most = _NOISE_NUMBERS if device.type == "cpu" else _NOISE_NUMBERS_OFF_CPU
        n_together = most // max(n_draws * batch_size * width, 1)
        self._n_noise = min(max(n_together, 1), self.n_batches)
        shape = (R, self._n_noise, n_draws, self.size, width)
        self._noise_block = torch.zeros(shape, dtype=dtype, device=device)
        n_block = BLOCK_NUMBERS // (R * self.size * d)
        self._n_block = min(max(n_block, 1), self.n_batches)
        self._y = torch.empty(R, self._n_block, self.size, d, dtype=dtype, device=device)
        # Without weights of rows, the batches have the same ones in each epoch.
        is_weighted = bool((self._weight != 1).any())
        self._weights_on_device = None if is_weighted else send(self._row_weights, device)
        is_sent = self._resident is None and device.type != "cpu"
        self._ring = Ring(self._y) if is_sent else None

    def _fill_up(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Place rows in batches: positions and row weights, ``(n_batches, size[, 1])``."""
        bounds, n_rows = rows.batch_bounds(self.n_batches)
        start, stop = bounds[:-1, None], bounds[1:, None]
        slots = start + np.arange(self.size)
        # Of a batch without rows of this process, any row fills it up.
        first = np.minimum(start, max(rows.own_size - 1, 0))
        return (
            np.where(slots < stop, slots, first),
            np.where(slots < stop, 1 / n_rows[:, None], 0.0)[..., None],
        )

    @cached
    def _sources(self) -> list[NoiseSource]:
        """Sources of the noise of all models on an accelerator."""
        return noise_sources(self._noise, self._drawn, self._noise_block.device)

    def _load(self, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """Standardise all rows of all models on the device, if they fit there."""
        if self._prepare is not None:
            return self._load_prepared(self._prepare, dtype, device)
        d = self.rows[0].X.shape[1]
        n_bytes = sum(map(len, self.rows)) * d * dtype.itemsize
        if n_bytes > self._budget(device):
            return None
        resident = torch.empty(self._bounds[-1], d, dtype=dtype, device=device)
        size = max(1, BLOCK_NUMBERS // d)
        for r, first in enumerate(self._bounds[:-1]):
            n = len(self.rows[r])
            for start in range(0, n, size):
                stop = min(start + size, n)
                block = torch.empty(stop - start, d, dtype=dtype, device="cpu")
                self._standardize(r, slice(start, stop), out=block)
                resident[first + start : first + stop] = block
        return resident

    def _budget(self, device: torch.device) -> float:
        """Return the bytes that the standardised data may take on the device."""
        always = _RESIDENT_BYTES * len(self.rows)
        if device.type != "cpu":
            free = free_memory(device)
            return always if free is None else _RESIDENT_FRACTION * free
        if any(is_sparse_or_mapped(rows.X) for rows in self.rows):
            return always
        return max(always, _HOST_FRACTION * available_memory())

    def _load_prepared(
        self,
        prepare: Sequence[Callable[[Tensor], Tensor]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """Standardise and prepare all rows of all models on the device."""
        size = max(1, BLOCK_NUMBERS // self.rows[0].X.shape[1])
        resident, first = torch.empty(0, device=device), 0
        for r, rows in enumerate(self.rows):
            for start in range(0, len(rows), size):
                block = rows.block(slice(start, start + size))
                y = torch.from_numpy(self.standardizations[r].standardize(block))
                prepared = prepare[r](move_double(y, device)).to(dtype)
                if first == 0:
                    n_inputs = prepared.shape[1]
                    resident = prepared.new_empty(self._bounds[-1], n_inputs)
                resident[first : first + len(prepared)] = prepared
                first += len(prepared)
        return resident

    def _standardize(self, model: int, part: slice | np.ndarray, out: Tensor) -> None:
        """Write standardised rows of a model to the host's memory, ``(m, n_features)``."""
        block = self.rows[model].block(part)
        self.standardizations[model].standardize(block, out=out.numpy())

    def select(self, chosen: Sequence[int]) -> "Batches":
        """Return the batches of some of the models, which go on where they are."""
        resident = self._resident
        if resident is not None:
            parts = [resident[self._bounds[r] : self._bounds[r + 1]] for r in chosen]
            resident = torch.cat(parts)
        return Batches(
            [self.rows[r] for r in chosen],
            [self.standardizations[r] for r in chosen],
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            noise_shape=self.noise_shape,
            dtype=self._y.dtype,
            device=self._y.device,
            order=[self._order[r] for r in chosen],
            noise=[self._noise[r] for r in chosen],
            fill_up=self.fill_up,
            resident=resident,
            prepare=None if self._prepare is None else [self._prepare[r] for r in chosen],
        )

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pass over the rows of an epoch.

        Yields
        ------
        y : Tensor of shape (R, size, n_inputs)
            Standardised rows, prepared if they have missing entries; overwritten by the
            next batches.
        row_weight : Tensor of shape (R, size, 1)
            Weight of each row over the number of rows in its batch, so that a weighted
            sum over the rows is a mean over the batch.
        noise : Tensor of shape (R, n_draws, size, width)
            Standard normal numbers; overwritten by the next batch.
        """
        orders: dict[torch.Generator, Tensor] = {}
        for rows, generator in zip(self.rows, self._order, strict=True):
            if generator not in orders:
                orders[generator] = self._order_of(rows, generator)
        positions = [orders[generator] for generator in self._order]
        positions = [
            p if repeated is None else repeated.index_select(0, p)
            for p, repeated in zip(positions, self._repeated, strict=True)
        ]
        # (R, n_batches * size): among the rows of each model, and among those of all.
        picked = torch.stack(
            [p.index_select(0, s) for p, s in zip(positions, self._slots, strict=True)]
        )
        among_all = picked + self._starts
        row_weights, device = self._weights_on_device, self._y.device
        if row_weights is None:
            weight = self._weight.index_select(0, among_all.view(-1))
            weight = weight.view_as(self._row_weights).mul_(self._row_weights)
            row_weights = send(weight, device)
        if self._resident is not None:
            picked = send(among_all, device)
        noise = self._noises()
        for first in range(0, self.n_batches, self._n_block):
            last = min(first + self._n_block, self.n_batches)
            y = self._gather(picked[:, first * self.size : last * self.size])
            batches = zip(y.unbind(1), row_weights[:, first:last].unbind(1), strict=True)
            yield from ((*batch, next(noise)) for batch in batches)

    def _order_of(self, rows: Rows, generator: torch.Generator) -> Tensor:
        """Return the order of the rows of a model in an epoch, ``(own_size,)``."""
        n = max(rows.own_size, 1)
        if self.shuffle:
            return torch.randperm(n, generator=generator, device="cpu")
        return torch.arange(n, device="cpu")

    def _gather(self, picked: Tensor) -> Tensor:
        """Gather rows, ``(R, n, size, n_features)``; overwritten by the next call."""
        R, _, size, d = self._y.shape
        n = picked.shape[1] // size
        y = self._y.view(-1, d)[: R * n * size]
        if self._resident is not None:
            torch.index_select(self._resident, 0, picked.reshape(-1), out=y)
            return y.view(R, n, size, d)
        host = y if self._ring is None else self._ring.buffer().view(-1, d)[: len(y)]
        for r, (rows, out) in enumerate(zip(picked, host.chunk(R), strict=True)):
            self._standardize(r, rows.numpy(), out=out)
        if self._ring is not None:
            y = self._ring.send(y.numel())
        return y.view(R, n, size, d)

    def _noises(self) -> Iterator[Tensor]:
        """Yield the normal numbers of each batch: for each model as if it were alone."""
        batches = self._noise_block.unbind(1)
        for first in range(0, self.n_batches, self._n_noise):
            n = min(self._n_noise, self.n_batches - first)
            if self._noise_block.numel() > 0:
                self._draw(n)
            yield from batches[:n]

    def _draw(self, n: int) -> None:
        """Draw new normal numbers for n batches."""
        if self._noise_block.device.type != "cpu":
            for source in self._sources:
                source.draw(self._noise_block[:, :n])
            return
        parts = zip(self._noise_block, self._drawn, self._noise, strict=True)
        for own, n_rows, generator in parts:
            if n_rows == self.size:
                own[:n].normal_(generator=generator)
            else:
                part = own[:n, :, :n_rows]
                part.copy_(part.new_empty(part.shape).normal_(generator=generator))
