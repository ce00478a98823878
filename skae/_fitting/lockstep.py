"""Fits that are called one by one, and trained side by side.

Whoever calls ``fit`` of many models, a grid search for one, calls it for one after the
other. :func:`run_together` runs such calls in threads of which only one is awake. Each
prepares its model, comes to :func:`fit_together` and sleeps; when all sleep, the models are
trained in one go, and the calls go on one by one. What else takes time on the way, starts
and scores, is handed to :func:`compute`: its call sleeps, and it is done by threads that do
nothing else, on all cores, while other calls are awake. Nobody on the way has to know.
"""

import hashlib
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import parallel_config
from joblib.parallel import get_active_backend

from skae._fitting.problem import FitProblem, FitResult
from skae._fitting.trainer import train_problems
from skae._utils.threads import Submit, cores, in_parts, wait_for

T = TypeVar("T")

_of_thread = threading.local()


def train(jobs: Sequence[FitProblem]) -> list[FitResult]:
    """Train models, beside those of the other calls where there are any.

    Parameters
    ----------
    jobs : sequence of Job
        The models of one call; without any, it is a wait until the others have trained.

    Returns
    -------
    list of Outcome
        What became of each.
    """
    call: _Call | None = getattr(_of_thread, "call", None)
    return train_problems(jobs) if call is None else call.join(jobs)


def offload(function: Callable[[], T]) -> T:
    """Result of a function, at the same time as those of the other calls, if there are any.

    Parameters
    ----------
    function : callable
        What to compute. In which thread, and beside what, must not matter to it.

    Returns
    -------
    object
        What it returned.
    """
    call: _Call | None = getattr(_of_thread, "call", None)
    return function() if call is None else call.offload(function)


def shared_result(function: Callable[..., T], *args: Any) -> T:
    """Result of a function, computed once for all calls that train together.

    Candidates of a search have the same rows in each fold, in an array of their own.

    Parameters
    ----------
    function : callable
        A pure function, whose result nobody writes over.
    *args : ndarray or hashable
        What it takes. Arrays are the same if their contents are.

    Returns
    -------
    object
        What it returns.
    """
    call: _Call | None = getattr(_of_thread, "call", None)
    if call is None:
        return function(*args)
    key = (function, *(_digest(a) if isinstance(a, np.ndarray) else a for a in args))
    # Only one call is awake.
    if key not in call.known:
        call.known[key] = function(*args)
    return call.known[key]


def _digest(array: np.ndarray) -> tuple[object, ...]:
    content = hashlib.sha256(np.ascontiguousarray(array).data).digest()
    return array.shape, array.dtype.str, content


def run_in_lockstep(calls: Sequence[Callable[[], Any]], most: int) -> list[Any]:
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
        What the first of the calls that failed raised; the others are given up.
    """
    results: list[Any] = []
    for some in in_parts(calls, most):
        results += Meeting(some).run()
    return results


class _Cancelled(BaseException):
    """Ends a call whose result nobody waits for any more."""


class _Call:
    """A call in a thread of its own, which sleeps wherever it wants models trained."""

    def __init__(self, function: Callable[[], Any], known: dict[object, Any]) -> None:
        self.function = function
        self.known = known
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = self.is_cancelled = False
        self.jobs: Sequence[FitProblem] = ()
        self.outcomes: list[FitResult] = []
        # Who computes what it wants, if there are cores to spare, and what it waits for.
        self.submit: Submit | None = None
        self.future: Future[Any] | None = None
        # The caller and the call hand over to each other.
        self.may_go_on, self.is_paused = threading.Event(), threading.Event()
        # In a worker of a joblib.Parallel, the call has no workers of its own.
        self.is_nested = bool(get_active_backend()[0].nesting_level)
        # What belongs to a context (numpy's errstate) goes along.
        run = copy_context().run
        self.thread = threading.Thread(target=run, args=(self._run,), daemon=True)

    def go_on(self) -> None:
        """Let the call run until it sleeps or is over.

        Raises
        ------
        BaseException
            What ended the call.
        """
        # Filters of warnings belong to the process: each call gets its own back.
        with warnings.catch_warnings():
            self.is_paused.clear()
            if self.thread.ident is None:
                self.thread.start()
            else:
                self.may_go_on.set()
            self.is_paused.wait()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        """End the call where it sleeps, or where it would do so next, and wait for that."""
        self.is_cancelled = True
        self.may_go_on.set()
        if self.thread.ident is not None:
            self.thread.join()

    def join(self, jobs: Sequence[FitProblem]) -> list[FitResult]:
        """Sleep, in the thread of the call, until its models are trained.

        Parameters
        ----------
        jobs : sequence of Job
            The models.

        Returns
        -------
        list of Outcome
            What became of each.
        """
        self.jobs = jobs
        self._sleep()
        return self.outcomes

    def offload(self, function: Callable[[], T]) -> T:
        """Sleep, in the thread of the call, until a function is computed.

        Parameters
        ----------
        function : callable
            The function.

        Returns
        -------
        object
            What it returned.
        """
        if self.is_cancelled:
            raise _Cancelled
        if self.submit is None:
            return function()
        # It begins while other calls are awake.
        future = self.future = self.submit(function)
        self._sleep()
        self.future = None
        return future.result()

    def _sleep(self) -> None:
        self.may_go_on.clear()
        with warnings.catch_warnings():
            # Else it was cancelled while it was awake.
            if not self.is_cancelled:
                self.is_paused.set()
                self.may_go_on.wait()
        if self.is_cancelled:
            raise _Cancelled

    def _run(self) -> None:
        _of_thread.call = self
        # Else torch would keep helpers for each of these threads, which wake one by one.
        torch.set_num_threads(1)
        try:
            with parallel_config("sequential") if self.is_nested else nullcontext():
                self.result = self.function()
        except BaseException as error:
            self.error = error
        finally:
            self.is_over = True
            self.is_paused.set()


class Meeting:
    """Calls that wait for each other where they train.

    Parameters
    ----------
    functions : sequence of callable
        What to call.
    """

    def __init__(self, functions: Sequence[Callable[[], Any]]) -> None:
        self.n_threads = torch.get_num_threads()
        known: dict[object, Any] = {}
        self.calls = [_Call(function, known) for function in functions]

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
        try:
            with cores(self.n_threads) as submit:
                self._run(submit if self.n_threads > 1 else None)
        finally:
            torch.set_num_threads(self.n_threads)
        for call in self.calls:
            call.thread.join()
        return [call.result for call in self.calls]

    def _run(self, submit: Submit | None) -> None:
        awake = self.calls[0]
        try:
            for awake in self.calls:
                awake.submit = submit
                awake.go_on()
            while waiting := [call for call in self.calls if not call.is_over]:
                # A call may have left another number of threads behind.
                torch.set_num_threads(self.n_threads)
                if computing := [call for call in waiting if call.future is not None]:
                    wait_for([call.future for call in computing if call.future])
                else:
                    self._train(waiting)
                for awake in computing or waiting:
                    awake.go_on()
        except BaseException:
            # A user who interrupts finds one of them at work.
            for call in self.calls:
                call.is_cancelled = True
            for call in (awake, *self.calls):
                call.cancel()
            raise

    @staticmethod
    def _train(calls: Sequence[_Call]) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            outcomes = train_problems([job for call in calls for job in call.jobs])
        for call in calls:
            n = len(call.jobs)
            call.outcomes, outcomes = outcomes[:n], outcomes[n:]
            call.jobs = ()
