"""Schedules of the learning rate."""

import json

import numpy as np
import pytest

from skae._optim import SCHEDULES, CosineSchedule, Schedule


@pytest.mark.parametrize("n_epochs", [1, 7, 100])
def test_rate_is_half_a_cosine(n_epochs):
    schedule = CosineSchedule(0.02, n_epochs)
    times = np.linspace(0, n_epochs, 57)
    rates = [schedule.rate(t) for t in times]
    expected = 0.02 * np.cos(np.pi * times / n_epochs / 2) ** 2
    np.testing.assert_allclose(rates, expected, atol=1e-16)
    assert rates[0] == 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-18)
    assert not schedule.is_ending


@pytest.mark.parametrize(
    ("epoch", "length"), [(10, 5), (1, 3), (50, 10), (97, 10), (99, 1)]
)
def test_cooldown_is_linear(epoch, length):
    schedule = CosineSchedule(0.02, 100)
    before = schedule.rate(epoch)
    schedule.end_soon(epoch, length)
    assert schedule.is_ending
    assert schedule.n_epochs == min(100, epoch + length)
    times = np.linspace(epoch, schedule.n_epochs, 23)
    rates = [schedule.rate(t) for t in times]
    np.testing.assert_allclose(rates, before * np.linspace(1, 0, 23), atol=1e-17)
    assert rates[-1] == 0


def test_cooldown_after_last_epoch_ends_training():
    schedule = CosineSchedule(0.02, 20)
    schedule.end_soon(20, 10)
    assert schedule.n_epochs == 20


def test_constant_schedule():
    schedule = Schedule(0.02, 20)
    assert {schedule.rate(t) for t in np.linspace(0, 20, 11)} == {0.02}
    schedule.end_soon(7, 10)
    assert schedule.is_ending
    assert schedule.n_epochs == 7


@pytest.mark.parametrize("kind", SCHEDULES.values())
def test_half_the_rate(kind):
    schedule, other = kind(0.02, 20), kind(0.02, 20)
    schedule.halve()
    assert [schedule.rate(t) for t in (0, 3, 11)] == [other.rate(t) / 2 for t in (0, 3, 11)]
    for each in (schedule, other):
        each.end_soon(12, 6)
    assert [schedule.rate(t) for t in (12, 15)] == [other.rate(t) / 2 for t in (12, 15)]


@pytest.mark.parametrize("kind", SCHEDULES.values())
@pytest.mark.parametrize("is_ending", [False, True])
def test_a_restored_schedule_goes_on(kind, is_ending):
    schedule, other = kind(0.02, 20), kind(0.02, 20)
    schedule.halve()
    if is_ending:
        schedule.end_soon(9, 5)
    other.restore(json.loads(json.dumps(schedule.state())))
    assert (other.n_epochs, other.is_ending) == (schedule.n_epochs, is_ending)
    times = np.linspace(0, schedule.n_epochs - 0.5, 7)
    assert [other.rate(t) for t in times] == [schedule.rate(t) for t in times]
