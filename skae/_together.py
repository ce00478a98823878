"""Fits that are called one by one, and trained side by side.

Whoever calls ``fit`` of many models, a grid search for one, calls it for one after the
other. :func:`run_together` runs such calls in threads of which only one is awake. Each
prepares its model, comes to :func:`fit_together` and sleeps; when all sleep, the models are
trained in one go, and the calls go on one by one. Nobody on the way has to know.
"""

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from skae._fit import Job, Outcome, fit_jobs

_of_thread = threading.local()


def fit_together(jobs: Sequence[Job]) -> list[Outcome]:
    """Train models, beside those of the other calls where there are any.

    Parameters
    ----------
    jobs : sequence of Job
        The models of one call.

    Returns
    -------
    list of Outcome
        What became of each.
    """
    meeting: Meeting | None = getattr(_of_thread, "meeting", None)
    if meeting is None:
        return fit_jobs(jobs)
    return meeting.join(jobs)


def run_together(calls: Sequence[Callable[[], Any]], most: int) -> list[Any]:
    """Results of some calls, whose fits are trained side by side.

    Parameters
    ----------
    calls : sequence of callable
        What to call.
    most : int
        Calls that may be under way at the same time.

    Returns
    -------
    list
        What they returned, in the same order.

    Raises
    ------
    BaseException
        What the first of the calls that failed raised.
    """
    results: list[Any] = []
    for first in range(0, len(calls), most):
        # The calls may set filters for their time, and their times overlap.
        with warnings.catch_warnings():
            results += Meeting(calls[first : first + most]).run()
    return results


class _Call:
    """A call, its thread, and what it waits for."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.jobs: Sequence[Job] = ()
        self.outcomes: list[Outcome] | None = None
        self.may_go_on = threading.Event()


class Meeting:
    """Calls that wait for each other where they train.

    Parameters
    ----------
    functions : sequence of callable
        What to call.
    """

    def __init__(self, functions: Sequence[Callable[[], Any]]) -> None:
        self.calls = [_Call(function) for function in functions]
        self.current = self.calls[0]
        # The one who is awake hands over to the one who called run, and back.
        self.is_paused = threading.Event()
        self.is_cancelled = False

    def run(self) -> list[Any]:
        """Results of the calls.

        Returns
        -------
        list
            What they returned.

        Raises
        ------
        BaseException
            What the first of the calls that failed raised.
        """
        threads = [
            threading.Thread(target=self._in_thread, args=(call,), daemon=True)
            for call in self.calls
        ]
        n_threads = torch.get_num_threads()
        try:
            for call, thread in zip(self.calls, threads, strict=True):
                self._wake(call, thread.start)
            while waiting := [call for call in self.calls if not call.is_over]:
                # A call may have left another number of threads behind.
                torch.set_num_threads(n_threads)
                self._train(waiting)
                for call in waiting:
                    self._wake(call, call.may_go_on.set)
        except BaseException:
            self.is_cancelled = True
            for call, thread in zip(self.calls, threads, strict=True):
                if thread.ident is not None and not call.is_over:
                    self._wake(call, call.may_go_on.set)
            raise
        finally:
            torch.set_num_threads(n_threads)
        for call in self.calls:
            if call.error is not None:
                raise call.error
        return [call.result for call in self.calls]

    def join(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Wait, in the thread of a call, until its models are trained.

        Parameters
        ----------
        jobs : sequence of Job
            The models.

        Returns
        -------
        list of Outcome
            What became of each.
        """
        call = self.current
        call.jobs, call.outcomes = jobs, None
        call.may_go_on.clear()
        self.is_paused.set()
        call.may_go_on.wait()
        if self.is_cancelled:
            raise KeyboardInterrupt
        assert call.outcomes is not None
        return call.outcomes

    def _wake(self, call: _Call, start: Callable[[], None]) -> None:
        """Let a call go on until it waits or is over."""
        self.current = call
        self.is_paused.clear()
        start()
        self.is_paused.wait()

    def _in_thread(self, call: _Call) -> None:
        _of_thread.meeting = self
        # Else torch would keep helpers for each of these threads, which wake one by one.
        torch.set_num_threads(1)
        try:
            call.result = call.function()
        except BaseException as error:
            call.error = error
        finally:
            call.is_over = True
            self.is_paused.set()

    @staticmethod
    def _train(calls: Sequence[_Call]) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            outcomes = fit_jobs([job for call in calls for job in call.jobs])
        for call in calls:
            n = len(call.jobs)
            call.outcomes, outcomes = outcomes[:n], outcomes[n:]
            call.jobs = ()
