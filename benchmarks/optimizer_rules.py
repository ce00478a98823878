"""Rules of training that ``benchmarks/optimizers.py`` compares, as parts of the trainer."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from skae._data.batches import Batches
from skae._fitting import trainer
from skae._fitting.problem import FitProblem
from skae._optim import Adam, FlatParameters, Step
from skae._optim.learning_rate import Schedule


class LinearFall(Schedule):
    """A rate that falls to 0 in a straight line."""

    def rate(self, epoch: float) -> float:
        return self.learning_rate * (1 - epoch / self.max_epochs)


class OneCycle(Schedule):
    """A rate that rises over a tenth of the training and falls along half a cosine."""

    def rate(self, epoch: float) -> float:
        done = epoch / self.max_epochs
        if done < 0.1:
            return self.learning_rate * max(10 * done, 0.01)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


class LateFall(Schedule):
    """A constant rate that falls to 0 in a straight line in the last 30 %."""

    def rate(self, epoch: float) -> float:
        return self.learning_rate * min(1, (1 - epoch / self.max_epochs) / 0.3)


class _Optimizer(Adam, ABC):
    """An optimiser of one model that shares Adam's penalty and clipping."""

    def step(self, learning_rates: Sequence[float]) -> None:
        parameters = self.parameters
        if self.l2 is not None:
            parameters.grads.addcmul_(self.l2, parameters.values)
        if parameters.watched_grads is not None:
            self._clip(parameters.watched_grads)
        self.n_steps += 1
        with torch.inference_mode():
            self.update(learning_rates[0], int(self.n_steps))

    @abstractmethod
    def update(self, rate: float, t: int) -> None:
        """Change the parameters by their gradients in step t, counted from 1."""

    def adam(self, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        """Do Adam's step with all parameters."""
        parameters = self.parameters
        torch._fused_adam_(
            [parameters.values],
            [parameters.grads],
            [self.mean],
            [self.mean_square],
            [],
            [self.n_steps],
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


def with_betas(*betas: float) -> type[Adam]:
    """Return Adam with other decay rates of its two moments."""

    class WithBetas(_Optimizer):
        def update(self, rate: float, t: int) -> None:
            self.adam(rate, betas)

    return WithBetas


@dataclass
class _Matrix:
    """A weight matrix (m, n) with its gradient and the moments that Soap keeps."""

    value: Tensor
    grad: Tensor

    def __post_init__(self) -> None:
        m, n = self.value.shape
        self.left, self.right = self.value.new_zeros(m, m), self.value.new_zeros(n, n)
        self.mean = torch.zeros_like(self.value)
        self.mean_square = torch.zeros_like(self.value)

    def rotate(self, move: Tensor) -> Tensor:
        """Return a matrix in the bases of both sides, (m, n)."""
        return self.left_basis.mT @ move @ self.right_basis

    def set_bases(self) -> None:
        """Take the eigenvectors of both factors as bases."""
        self.left_basis = torch.linalg.eigh(self.left).eigenvectors
        self.right_basis = torch.linalg.eigh(self.right).eigenvectors

    def update_bases(self) -> None:
        """Bring both bases nearer to the eigenvectors, by one power iteration."""
        self.left_basis = torch.linalg.qr(self.left @ self.left_basis).Q
        self.right_basis = torch.linalg.qr(self.right @ self.right_basis).Q


def _matrices(parameters: FlatParameters) -> list[tuple[Tensor, Tensor]]:
    """Return value and gradient of each weight matrix of the first model, (m, n)."""
    buffers = map(parameters.views, (parameters.values, parameters.grads))
    pairs = [(value[0], grad[0]) for value, grad in zip(*buffers, strict=True)]
    return [pair for pair in pairs if pair[0].ndim == 2 and min(pair[0].shape) > 1]


class Soap(_Optimizer):
    """Adam in the eigenbasis of Shampoo's factors (Vyas et al. 2025); vectors by Adam."""

    BETAS = 0.95, 0.95
    STEPS_OF_BASIS = 10

    def __init__(self, parameters: FlatParameters, l2: Sequence[float]) -> None:
        super().__init__(parameters, l2)
        self.matrices = [_Matrix(*pair) for pair in _matrices(parameters)]

    def update(self, rate: float, t: int) -> None:
        kept = [p.value.clone() for p in self.matrices]
        self.adam(rate, self.BETAS)
        for p, value in zip(self.matrices, kept, strict=True):
            p.value.copy_(value)
            self._move(p, rate, t)

    def _move(self, p: _Matrix, rate: float, t: int) -> None:
        """Move one matrix; in the first step only the bases are found."""
        beta1, beta2 = self.BETAS
        p.left.lerp_(p.grad @ p.grad.mT, 1 - beta2)
        p.right.lerp_(p.grad.mT @ p.grad, 1 - beta2)
        if t == 1:
            p.set_bases()
            return
        p.mean.lerp_(p.grad, 1 - beta1)
        p.mean_square.lerp_(p.rotate(p.grad).square_(), 1 - beta2)
        mean = p.rotate(p.mean).div_(1 - beta1 ** (t - 1))
        mean_square = p.mean_square / (1 - beta2 ** (t - 1))
        move = mean.div_(mean_square.sqrt_().add_(1e-8))
        p.value.sub_(p.left_basis @ move @ p.right_basis.mT, alpha=rate)
        if t % self.STEPS_OF_BASIS == 0:
            p.update_bases()


class Muon(_Optimizer):
    """Orthogonal steps of matrices (Jordan et al. 2024); vectors by Adam.

    The steps are as large as those of Adam (Liu et al. 2025): 0.2 for each weight.
    """

    MOMENTUM = 0.95

    def __init__(self, parameters: FlatParameters, l2: Sequence[float]) -> None:
        super().__init__(parameters, l2)
        self.matrices = [
            (value, grad, torch.zeros_like(value)) for value, grad in _matrices(parameters)
        ]

    def update(self, rate: float, t: int) -> None:
        kept = [value.clone() for value, _, _ in self.matrices]
        self.adam(rate)
        for before, (value, grad, mean) in zip(kept, self.matrices, strict=True):
            mean.lerp_(grad, 1 - self.MOMENTUM)
            move = _orthogonal(grad.lerp(mean, self.MOMENTUM))
            size = 0.2 * max(value.shape) ** 0.5
            value.copy_(before).sub_(move, alpha=rate * size)


def _orthogonal(G: Tensor) -> Tensor:
    """Return nearly U V' of a matrix U S V', by five steps of Newton and Schulz, (m, n)."""
    X = G.mT if G.shape[0] > G.shape[1] else G
    X = X / (X.norm() + 1e-12)
    for _ in range(5):
        A = X @ X.mT
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.mT if G.shape[0] > G.shape[1] else X


class _GrowingBatches:
    """Batches whose size changes after equal parts of the epochs."""

    def __init__(self, parts: Sequence[Batches], n_epochs: int) -> None:
        self.parts, self.n_epochs, self.n_done = parts, n_epochs, 0
        self.part = parts[0]
        self.n_batches, self.size = self.part.n_batches, self.part.size

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the batches of the next epoch."""
        self.part = self.parts[self.n_done * len(self.parts) // self.n_epochs]
        self.n_done += 1
        return self.part.epoch()


def sixteenth(n_rows: int) -> int:
    """Return a sixteenth of the rows, as a power of 2 between 32 and 512."""
    return int(np.clip(2 ** round(np.log2(n_rows / 16)), 32, 512))


@contextmanager
def growing(factors: Sequence[float]) -> Iterator[None]:
    """Let the batch size go through multiples of a sixteenth of the rows."""
    make_batches, make_step = trainer.make_batches, trainer.make_step
    made: list[_GrowingBatches] = []

    def new_batches(problems: Sequence[FitProblem]) -> _GrowingBatches:
        first, parts = problems[0], []
        own = [problem.options for problem in problems]
        size = sixteenth(first.rows.epoch_size)
        for factor in factors:
            for problem, options in zip(problems, own, strict=True):
                problem.options = replace(options, batch_size=round(factor * size))
            parts.append(make_batches(problems))
        for problem, options in zip(problems, own, strict=True):
            problem.options = options
        made.append(_GrowingBatches(parts, first.options.max_iter))
        return made[-1]

    def new_step(
        modules: Any, objectives: Any, parameters: FlatParameters, n: int, *others: Any
    ) -> Step:
        batches = made[-1]
        steps = {
            part.size: make_step(modules, objectives, parameters, part.size, *others)
            for part in batches.parts
        }

        def step(y: Tensor, *inputs: Any) -> Tensor:
            # The loop divides the sum of an epoch by the number of its first batches.
            factor = batches.n_batches / batches.part.n_batches
            return steps[y.shape[1]](y, *inputs) * factor

        return step

    with (
        patch.object(trainer, "make_batches", new_batches),
        patch.object(trainer, "make_step", new_step),
    ):
        yield
