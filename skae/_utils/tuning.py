"""The number of threads of a call that is repeated, chosen by measurement.

With a core for each thread, several threads are faster from some size of a call on. If
other programs use the cores, threads that wait for each other can take fifty times as long
as one thread. So neither size nor number of cores says what is faster: the clock does.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from skae._utils.rounding import RoundingProbe

# Calls that are timed under one number of threads, after one that is not: there the threads
# may have to be started. Fewer suffice if they take many slices of a scheduler.
_CALLS = 3
_SLICES = 0.1
# Seconds that are timed at least: some slices, to see what waiting costs.
_SECONDS = 0.01
# Seconds of calls before the first comparison: in a shorter fit it costs more than it can
# save.
_START = 0.1
# Seconds of a call below which further threads are not tried: to wake them takes about a
# tenth of it.
_SHORT = 3e-4
# Time ratio that further threads have to reach, so that noise alone does not change them.
_WORTH_IT = 0.9
# Increase of the time of a call that is taken for a change of the load.
_SLOWER = 1.5
# Time between two comparisons, in units of the time of one: what they cost at most is 5 %.
_INTERVAL = 20
# The same after a change of the load, which noise can look like: 20 %.
_SHORTEST_INTERVAL = 5
# Seconds between two comparisons at most: one during which the process was stopped may seem
# to have taken hours.
_LONGEST_INTERVAL = 60.0

# Seconds after which a call has a third of its weight in a comparison. A rare long wait
# must not be forgotten at once, but a load that has ended must be.
_MEMORY = 0.5
# Such times after which a call is not forgotten further at once.
_MOST_FORGOTTEN = 10.0

# Time, in units of the time of a call, after which a comparison is lost.
_MUCH_SLOWER = 6

# Yields the number of threads of the next call, and receives its seconds.
_Plan = Generator[int, float, None]


class ThreadTuner:
    """Chooses the number of threads of a call that is repeated, by its time.

    The number in use is compared with half and with twice of it, first at once, then from
    time to time, and again if calls take much longer than they did.

    Parameters
    ----------
    n_threads : int
        Number of threads of the first call.
    most : int
        Largest number of threads.

    Attributes
    ----------
    n_threads : int
        Number of threads of the next call.
    is_trial : bool
        Whether the next call is only timed, for a comparison with the number in use.
    """

    def __init__(self, n_threads: int, most: int) -> None:
        self.is_trial = False
        counts = [2**i for i in range(most.bit_length()) if 2**i < most]
        self._counts = sorted({*counts, n_threads, most})
        self._averages = [_RunningMean() for _ in self._counts]
        self._plan = self._make_plan(self._counts.index(n_threads))
        self.n_threads = next(self._plan)

    def add(self, seconds: float) -> None:
        """Take the time of a call with `n_threads`, and choose their next number."""
        self.n_threads = self._plan.send(seconds)

    def refuse(self, use: int) -> None:
        """Never take the present number of threads again, and use another one next."""
        place = self._counts.index(self.n_threads)
        del self._counts[place], self._averages[place]
        self._plan = self._make_plan(self._counts.index(use), start=0.0)
        self.n_threads = next(self._plan)

    def _make_plan(self, chosen: int, start: float = _START) -> _Plan:
        """Compare and use numbers of threads in turn, from one of the counts on."""
        used = 0.0
        while used < start:
            used += (yield from self._time(chosen))[1]
        while True:
            n_calls, spent = yield from self._time(chosen)
            usual, best = self._averages[chosen].value, chosen
            for i in (chosen - 1, chosen + 1):
                if (i > chosen and usual < _SHORT) or not self._has(i):
                    continue
                self.is_trial = True
                _, seconds = yield from self._time(i, limit=_MUCH_SLOWER * usual)
                self.is_trial = False
                spent += seconds
                fewer, more = (self._averages[j].value for j in sorted((i, best)))
                best = max(i, best) if more < _WORTH_IT * fewer else min(i, best)
            direction, chosen = best - chosen, best
            if direction != 0 and self._has(chosen + direction):
                continue
            usual, used = self._averages[chosen].value, 0.0
            while used < min(_INTERVAL * spent, _LONGEST_INTERVAL):
                n_calls, seconds = yield from self._time(chosen)
                used += seconds
                is_slower = seconds > _SLOWER * n_calls * usual
                if is_slower and used > _SHORTEST_INTERVAL * spent:
                    break

    def _has(self, i: int) -> bool:
        """Whether there is such a count."""
        return 0 <= i < len(self._counts)

    def _time(
        self, i: int, limit: float = math.inf
    ) -> Generator[int, float, tuple[int, float]]:
        """Make some calls; return how many were timed, and their seconds together.

        The calls end early if they take longer than the limit.
        """
        # Threads may have to be started in the first call, so its time does not count.
        first = yield self._counts[i]
        n_calls, seconds = (0, 0.0) if first < limit else (1, first)
        while seconds < min(limit, _SLICES) and (n_calls < _CALLS or seconds < _SECONDS):
            seconds += yield self._counts[i]
            n_calls += 1
        for average in self._averages:
            average.forget(seconds)
        self._averages[i].add(n_calls, seconds)
        return n_calls, seconds


class _RunningMean:
    """The mean seconds of the calls of about the last second."""

    def __init__(self) -> None:
        self._n_calls = self._seconds = 0.0

    @property
    def value(self) -> float:
        """Mean seconds of a call."""
        return self._seconds / self._n_calls

    def forget(self, seconds: float) -> None:
        """Reduce the weight of earlier calls, because some seconds have passed."""
        # Above 0 after any break of the process, so that a mean stays defined.
        weight = math.exp(-min(seconds / _MEMORY, _MOST_FORGOTTEN))
        self._n_calls *= weight
        self._seconds *= weight

    def add(self, n_calls: int, seconds: float) -> None:
        """Add calls that took some seconds together."""
        self._n_calls += n_calls
        self._seconds += seconds


class TunedCall:
    """A function that is called many times, with as many threads as are fastest.

    A number of threads is used only if the function gives the bits that it gives with the
    number that is set at first. So the time decides how long the calls take, and nothing
    else.

    Parameters
    ----------
    function : callable
        Maps tensors on the CPU, of the same shapes at each call, to a tensor. Its
        operations depend on the shapes only, and none draws random numbers.
    most : int
        Largest number of threads.
    state : sequence of Tensor, default=()
        Memory that a call changes, depending on what it was.
    """

    def __init__(
        self, function: Callable[..., Tensor], most: int, state: Sequence[Tensor] = ()
    ) -> None:
        self.function = function
        self.state = state
        self._first = torch.get_num_threads()
        self._tuner = ThreadTuner(self._first, most)
        self._agreeing = {self._first}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Call the function."""
        tuner = self._tuner
        if tuner.n_threads not in self._agreeing:
            if tuner.is_trial:
                # It may be slower, so what it computes is not asked yet, and not used.
                tuner.add(self._seconds_of_trial(tuner.n_threads, inputs))
                return self._call(self._first, inputs)
            if self._agrees(tuner.n_threads, inputs):
                self._agreeing.add(tuner.n_threads)
            else:
                tuner.refuse(use=self._first)
        begin = time.perf_counter()
        result = self._call(tuner.n_threads, inputs)
        tuner.add(time.perf_counter() - begin)
        return result

    def _call(self, n_threads: int, inputs: Sequence[Tensor]) -> Tensor:
        """Call the function with so many threads."""
        if n_threads != torch.get_num_threads():
            torch.set_num_threads(n_threads)
        return self.function(*inputs)

    def _seconds_of_trial(self, n_threads: int, inputs: Sequence[Tensor]) -> float:
        """Return the seconds of a call that leaves no trace in the state."""
        with self._unchanged_state():
            begin = time.perf_counter()
            self._call(n_threads, inputs)
            return time.perf_counter() - begin

    def _agrees(self, n_threads: int, inputs: Sequence[Tensor]) -> bool:
        """Whether so many threads give the bits of the first number, for such inputs."""
        torch.set_num_threads(self._first)
        with self._unchanged_state(), RoundingProbe(n_threads) as probe:
            self.function(*inputs)
        return probe.agrees

    @contextmanager
    def _unchanged_state(self) -> Iterator[None]:
        """Put the state back at the end of a block."""
        before = [memory.clone() for memory in self.state]
        try:
            yield
        finally:
            for memory, value in zip(self.state, before, strict=True):
                memory.copy_(value)
