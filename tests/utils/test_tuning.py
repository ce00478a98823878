"""The number of threads of repeated calls, with clocks of machines that do not exist."""

from collections import Counter

import numpy as np
import pytest

from skae._utils.tuning import ThreadTuner

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
    used, _ = run(ThreadTuner(8, 8), lambda n, _: 1e-5 * (1 + n), total=1)
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


def test_a_comparison_that_is_lost_ends_early():
    """Threads that wait a hundred times as long are called once for each comparison."""
    used, n_calls = run(ThreadTuner(1, 2), lambda n, _: {1: 1e-3, 2: 0.1}[n])
    assert used.total() / n_calls < 1.1e-3
