"""Tests of the rate and the average of trainings without a planned end."""

import numpy as np
import pytest
import torch
from torch import nn

from skae._optim import Adam, AveragedAdam, FlatParameters, OpenEndedSchedule


def test_rate_is_that_of_the_documentation():
    """The rate rises over 20 steps of the optimiser, and falls with those of the stream."""
    schedule = OpenEndedSchedule(0.01, n_steps=3000, n_of_optimizer=5, n_batches=10)
    steps = np.arange(10)
    rates = [schedule.rate(step / 10) for step in steps]
    expected = 0.01 * (6 + steps) / 20 / np.sqrt(1 + (3000 + steps) / 1000)
    np.testing.assert_allclose(rates, expected)
    late = OpenEndedSchedule(0.01, n_steps=3000, n_of_optimizer=3000, n_batches=1)
    assert late.rate(0.0) == pytest.approx(0.005)


@pytest.mark.parametrize("n_before", [0, 7])
def test_average_is_the_weighted_mean_of_the_iterates(n_before):
    """The weight of iterate t is that of polynomial decay: t (t + 1) ... (t + 15)."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(1, 5, generator=generator))
    adam = AveragedAdam(FlatParameters([[parameter]]), [0.0], n_before)
    twin = nn.Parameter(parameter.detach().clone())
    plain = Adam(FlatParameters([[twin]]), [0.0])
    before, iterates = parameter.detach().clone(), []
    for _ in range(30):
        gradient = torch.randn(1, 5, generator=generator)
        for each in (parameter, twin):
            each.grad.copy_(gradient)
        adam.step([0.1])
        plain.step([0.1])
        iterates.append(parameter.detach().clone())
    assert torch.equal(parameter, twin)
    t = np.arange(n_before + 1, n_before + 31)
    weight = np.prod([t + i for i in range(16)], axis=0, dtype=float)
    # The former average stands for all former iterates.
    former = sum(np.prod([float(s + i) for i in range(16)]) for s in range(1, n_before + 1))
    values = np.concatenate([before.numpy(), *(each.numpy() for each in iterates)])
    expected = np.average(values, axis=0, weights=[former, *weight])
    average = adam.parameters.get(0, adam.average)
    np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6)
