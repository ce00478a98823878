"""The number of threads of repeated calls, with clocks of machines that do not exist."""

from collections import Counter

import numpy as np
import pytest
import torch

from skae._utils import rounding, tuning
from skae._utils.tuning import ThreadTuner, TunedCall

# Seconds of a call by its number of threads.
ALONE = {1: 10e-3, 2: 7e-3}
BESIDE_ONE = {1: 10e-3, 2: 80e-3}


def run(tuner, seconds_of, total=10.0):
    """Make calls for some seconds; return the seconds by number of threads, and calls."""
    used, n_calls = Counter(), 0
    while used.total() < total:
        n = tuner.n_threads
        seconds = seconds_of(n, used.total())
        used[n] += seconds
        tuner.add(seconds)
        n_calls += 1
    return used, n_calls


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize(("machine", "best"), [(ALONE, 2), (BESIDE_ONE, 1)])
def test_the_faster_number_is_used(first, machine, best):
    used, n_calls = run(ThreadTuner(first, 2), lambda n, _: machine[n])
    assert used[best] > 0.9 * used.total()
    # Comparisons cost little, whatever was set at first.
    assert used.total() / n_calls < 1.1 * machine[best]


@pytest.mark.parametrize("first", [1, 4, 16])
def test_more_threads_are_not_always_faster(first):
    """A call that is fastest with four threads of sixteen."""
    used, _ = run(ThreadTuner(first, 16), lambda n, _: 1e-3 * (8 / n + n / 2))
    assert used[4] > 0.85 * used.total()
    assert set(used) <= {1, 2, 4, 8, 16}


def test_a_number_that_is_no_power_of_two():
    used, _ = run(ThreadTuner(1, 6), lambda n, _: 6e-3 / n)
    assert set(used) == {1, 2, 4, 6}
    assert used[6] > 0.9 * used.total()


@pytest.mark.parametrize("waits", ["always", "sometimes"])
def test_load_that_comes_and_goes(waits):
    """Calls with two threads get slow, all of them or one of ten, and fast again."""
    rng = np.random.default_rng(0)

    def seconds_of(n, now):
        if n == 1 or not 5 < now < 10:
            return ALONE[n]
        if waits == "sometimes":
            return 7e-3 if rng.random() < 0.9 else 0.5
        return BESIDE_ONE[2]

    tuner = ThreadTuner(1, 2)
    assert run(tuner, seconds_of, 5)[0][2] > 4
    busy, n_calls = run(tuner, lambda n, now: seconds_of(n, now + 5), 5)
    assert busy.total() / n_calls < 1.5 * ALONE[1]
    # Rare waits of half a second are remembered for some seconds.
    run(tuner, lambda n, now: seconds_of(n, now + 10), 10)
    assert run(tuner, lambda n, now: seconds_of(n, now + 20), 10)[0][2] > 9


def test_short_calls_stay_with_one_thread():
    """To compare would take longer than it could save."""
    used, _ = run(ThreadTuner(1, 8), lambda n, _: 1e-4, total=1)
    assert set(used) == {1}
    # Many threads for short calls are given up.
    used, _ = run(ThreadTuner(8, 8), lambda n, _: 1e-5 * (1 + n), total=2)
    assert used[1] > 0.9 * used.total()


def test_a_refused_number_is_not_used_again():
    tuner = ThreadTuner(1, 4)
    while tuner.n_threads != 4:
        tuner.add(1e-2 / tuner.n_threads)
    tuner.refuse(use=2)
    assert tuner.n_threads == 2
    used, _ = run(tuner, lambda n, _: 1e-2 / n)
    assert set(used) == {1, 2}
    assert used[2] > 0.9 * used.total()


def test_a_refused_number_does_not_bar_the_way():
    """Of numbers of threads, the next ones may round as the first one does."""
    tuner = ThreadTuner(8, 8)
    while tuner.n_threads != 4:
        tuner.add(1e-3)
    tuner.refuse(use=8)
    used, _ = run(tuner, lambda n, _: 1e-3 * n)
    assert set(used) == {1, 2, 8}
    assert used[1] > 0.9 * used.total()


def test_a_short_training_is_not_measured():
    """To compare numbers of threads would take longer than it could save."""
    for first in (1, 4):
        used, _ = run(ThreadTuner(first, 4), lambda n, _: 1e-3, total=0.1)
        assert set(used) == {first}


def test_few_slow_calls_are_enough():
    """Of the first threads, which wait for each other, and for others afterwards."""
    _, n_calls = run(ThreadTuner(2, 2), lambda n, _: {1: 0.02, 2: 1.0}[n], total=5.2)
    assert n_calls > 50


def test_trials_are_marked():
    """Calls with a number that is compared, but was not chosen."""
    tuner, trials = ThreadTuner(1, 2), []
    for _ in range(2000):
        trials.append((tuner.n_threads, tuner.is_trial))
        tuner.add(ALONE[tuner.n_threads])
    assert set(trials) == {(1, False), (2, True), (2, False), (1, True)}


def test_a_break_of_the_process_is_survived():
    """A call that takes an hour, as if the process was stopped, at any time."""
    for when in range(18, 30):
        tuner = ThreadTuner(1, 2)
        for i in range(30):
            tuner.add(3600.0 if i == when else ALONE[tuner.n_threads])
        run(tuner, lambda n, _: ALONE[n], total=90)
        used, _ = run(tuner, lambda n, _: ALONE[n])
        assert used[2] > 0.9 * used.total()


def test_noise_is_not_measured_all_the_time():
    """Steps with one thread whose time varies, and threads that wait for each other."""
    rng = np.random.default_rng(0)

    def seconds_of(n, _):
        return 0.08 if n == 2 else 1e-3 * (1 + 9 * (rng.random() < 0.1))

    used, _ = run(ThreadTuner(1, 2), seconds_of)
    assert used[1] > 0.83 * used.total()


def test_a_comparison_that_is_lost_ends_early():
    """Threads that wait a hundred times as long are called once for each comparison."""
    used, n_calls = run(ThreadTuner(1, 2), lambda n, _: {1: 1e-3, 2: 0.1}[n])
    assert used.total() / n_calls < 1.1e-3


class Clock:
    """Time in a function whose calls take seconds by their number of threads."""

    def __init__(self, seconds):
        self.seconds, self.now, self.calls = seconds, 0.0, []

    def perf_counter(self):
        return self.now

    def function(self, x):
        n = torch.get_num_threads()
        self.calls.append(n)
        self.now += self.seconds[n]
        return x


@pytest.fixture(name="two_threads")
def at_most_two_threads():
    """Begin with one thread; put the number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("machine", "is_asked"), [(ALONE, True), (BESIDE_ONE, False)])
def test_bits_are_compared_only_for_a_faster_number(
    monkeypatch, two_threads, machine, is_asked
):
    """To compare them takes as long as several calls."""
    clock, asked = Clock(machine), []
    monkeypatch.setattr(tuning, "time", clock)
    monkeypatch.setattr(rounding, "_compare", lambda *args: not asked.append(args))
    call = TunedCall(lambda x: clock.function(torch.cumsum(x, 0)), 2)
    x = torch.ones(17)
    for _ in range(100):
        assert torch.equal(call(x), torch.arange(1.0, 18.0))
    assert (len(asked) > 0) == is_asked
    # Without the calls whose results are not used.
    assert len(clock.calls) - 100 < 10


def test_a_trial_leaves_no_trace(monkeypatch, two_threads):
    """Not in the state, nor after an error."""
    clock, state = Clock(ALONE), torch.zeros(3)
    monkeypatch.setattr(tuning, "time", clock)
    error_at = 2

    def function(x):
        state.add_(x)
        if clock.function(x).sum() and torch.get_num_threads() == error_at:
            raise KeyboardInterrupt
        return state

    call, n_calls, n_errors = TunedCall(function, 2, state=[state]), 0, 0
    for _ in range(30):
        try:
            call(torch.ones(3))
            n_calls += 1
        except KeyboardInterrupt:
            n_errors += 1
        assert (state == n_calls).all()
    assert n_errors > 0
