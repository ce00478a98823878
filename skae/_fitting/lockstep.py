"""Tasks that run in turns, and pause where the work of all can be done by one call.

A grid search calls ``fit`` of many models, one after the other. :func:`run_in_lockstep`
makes such calls in threads of which one runs at a time. Each task prepares its model,
reaches :func:`gather` and pauses. When all tasks have paused, one call of the gathering
function does the work of all, and the tasks go on in turns. Outside of lockstep,
``gather(function, items)`` is ``function(items)``.

This module does not depend on models or on a trainer: items and function are arguments.
"""

import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.sparse import issparse

from skae._utils.threads import (
    POLL_INTERVAL,
    Pool,
    Signal,
    in_parts,
    wait_despite_interrupts,
    wait_for,
)

S = TypeVar("S")
T = TypeVar("T")

# Seconds without computing after which a task counts as blocked: longer than a busy
# machine delays a thread, and short enough for a user to wait for the message.
IDLE_TIMEOUT = 60.0
# Fraction of that time that an idle thread may compute: more than polling a lock ten times
# a second costs.
_IDLE_FRACTION = 1e-3
# The same where only the time of the process is known, which includes other threads.
_IDLE_FRACTION_OF_PROCESS = 0.05
# Seconds without computing after which the next cancelled task is ended too, because that
# task may hold the lock that this one waits for.
_GRACE = 1.0
_BLOCKED = (
    "A fit or score has computed nothing for {:g} s, while others were paused so that "
    "models can be trained side by side. Most likely one of those holds a lock around "
    "`fit`. Fit without the joblib backend 'skae' (GridSearchCV in place of "
    "BatchedGridSearchCV), or hold no lock around `fit`. A wait for something else "
    "(network, disk, workers of its own) needs a longer limit: "
    "joblib.parallel_config('skae', idle_timeout=...)."
)

_of_thread = threading.local()


def _current_task() -> "Task | None":
    """Return the task that runs in this thread."""
    return getattr(_of_thread, "task", None)


def in_lockstep() -> bool:
    """Whether the caller is a task that runs in lockstep with others."""
    return _current_task() is not None


def task_position() -> tuple[int, int] | None:
    """Return the number of this task, from 1, and of all; None outside of lockstep."""
    task = _current_task()
    return None if task is None else task.position


def gather(function: Callable[[Sequence[S]], Sequence[T]], items: Sequence[S]) -> list[T]:
    """Apply a function to the items of all tasks in lockstep; return this task's results.

    Outside of lockstep the result is ``function(items)``. In lockstep the function is
    called in the thread of the scheduler.
    """
    task = _current_task()
    return list(function(items)) if task is None else task.gather(function, items)


def wait_for_others() -> None:
    """Pause until all other tasks have paused, or are over."""
    if task := _current_task():
        task.pause()


def offload(function: Callable[[], T]) -> T:
    """Call a function in a worker thread, at the same time as those of other tasks."""
    task = _current_task()
    return function() if task is None else task.offload(function)


def shared_result(function: Callable[..., T], *args: Any) -> T:
    """Call a pure function once for all tasks that pass equal arguments.

    Arrays are compared by their contents: candidates of a search have equal rows in each
    fold, but an array each. The callers must not write over the result.
    """
    task = _current_task()
    if task is None:
        return function(*args)
    results = task.scheduler.shared_results
    key = (function, *map(_key, args))
    # No lock is needed, because one task runs at a time.
    if key not in results:
        results[key] = function(*args)
    return results[key]


def _key(value: Any) -> Any:
    """Return what arguments are compared by."""
    if issparse(value):
        return value.shape, *map(_digest, (value.data, value.indices, value.indptr))
    return _digest(value) if isinstance(value, np.ndarray) else value


def _digest(array: np.ndarray) -> tuple[object, ...]:
    """Return shape, dtype and a hash of the contents."""
    content = hashlib.sha256(np.ascontiguousarray(array).data).digest()
    return array.shape, array.dtype.str, content


def run_in_lockstep(
    functions: Iterable[Callable[[], Any]],
    n_at_once: int,
    idle_timeout: float = IDLE_TIMEOUT,
) -> list[Any]:
    """Call functions in lockstep, at most `n_at_once` at the same time.

    Returns the results in order. The first error is raised, and cancels the other tasks.
    """
    results: list[Any] = []
    parts = in_parts(list(functions), n_at_once)
    n = sum(map(len, parts))
    # A function may hold a fitted model: drop each part after its calls.
    while parts:
        scheduler = LockstepScheduler(parts.pop(0), idle_timeout)
        for i, task in enumerate(scheduler.tasks, start=len(results) + 1):
            task.position = i, n
        results += scheduler.run()
    return results


class _Cancelled(BaseException):
    """Exception that ends a task whose result is no longer needed."""


class Task:
    """Function in a thread of its own, which pauses where work is gathered."""

    def __init__(self, function: Callable[[], Any], scheduler: "LockstepScheduler") -> None:
        self.function: Callable[[], Any] | None = function
        self.scheduler = scheduler
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = self.is_cancelled = False
        # Counted from 1, and the number of tasks, those of other parts included.
        self.position: tuple[int, int] | None = None
        # Whether a nested scheduler runs in this thread; that one detects blocked tasks.
        self.has_scheduler = False
        # The reason of a pause: a gathering function with its items, or an offloaded call.
        self.gathering: Callable[[Sequence[Any]], Sequence[Any]] | None = None
        self.items: Sequence[Any] = ()
        self.gathered: list[Any] = []
        self.future: Future[Any] | None = None
        # Signals by which the scheduler and the task hand over to each other.
        self.has_paused, self.may_go_on = Signal(), Signal()
        self.clock: int | None = None
        self.idle_fraction = _IDLE_FRACTION_OF_PROCESS
        # Context variables, such as numpy's errstate, are those of the caller.
        run = copy_context().run
        self.thread = threading.Thread(
            target=run, args=(self._run,), name="skae-task", daemon=True
        )

    @property
    def is_paused(self) -> bool:
        """Whether the task waits for its turn."""
        return self.has_paused.is_set() and not self.is_over

    def go_on(self) -> None:
        """Let the task run until its next pause."""
        self.has_paused.clear()
        self.may_go_on.set()

    def start(self) -> None:
        """Start the thread, in which the task waits for its first turn."""
        try:
            self.thread.start()
        # The system may not allow another thread.
        except BaseException as error:
            self._end(error)

    def cpu_time(self) -> float:
        """Return the CPU seconds of the thread; of the process if that is not known."""
        if self.clock is None:
            return time.process_time()
        try:
            return time.clock_gettime(self.clock)
        except OSError:  # the thread has ended
            return 0.0

    def has_ended(self, seconds: float) -> bool:
        """Wait some seconds for the end of the thread; return whether it has ended."""
        if self.thread.ident is not None:
            self.thread.join(seconds)
        return not self.thread.is_alive()

    def gather(
        self, function: Callable[[Sequence[S]], Sequence[T]], items: Sequence[S]
    ) -> list[T]:
        """Pause until the function has been applied to the items of all tasks."""
        self.gathering, self.items = function, items
        self.pause()
        gathered, self.gathered = self.gathered, []
        return gathered

    def offload(self, function: Callable[[], T]) -> T:
        """Pause until another thread has called the function, if there is more than one."""
        if self.is_cancelled:
            raise _Cancelled
        if self.scheduler.n_threads == 1:
            return function()
        # The call begins while other tasks still run.
        future = self.future = self.scheduler.pool.submit(function)
        self.pause()
        self.future = None
        return future.result()

    def pause(self) -> None:
        """Let other tasks run, until it is the turn of this one."""
        self.may_go_on.clear()
        # Warning filters belong to the process: restore those of this task afterwards.
        with warnings.catch_warnings():
            # A task that was cancelled while it ran does not pause again.
            if not self.is_cancelled:
                self.has_paused.set()
                self.may_go_on.wait()
        if self.is_cancelled:
            raise _Cancelled

    def _run(self) -> None:
        """Call the function in this thread."""
        _of_thread.task = self
        # Here and not in the scheduler: the clock of a thread that has ended is undefined.
        if hasattr(time, "pthread_getcpuclockid"):
            self.clock = time.pthread_getcpuclockid(threading.get_ident())
            self.idle_fraction = _IDLE_FRACTION
        # Torch would otherwise keep a pool of helper threads for each task.
        torch.set_num_threads(1)
        self.may_go_on.wait()
        try:
            if self.is_cancelled:
                raise _Cancelled
            function, self.function = self.function, None
            assert function is not None
            self.result = function()
        except BaseException as error:
            self._end(error)
        else:
            self._end()

    def _end(self, error: BaseException | None = None) -> None:
        """Give the turn back for the last time."""
        self.error = error
        self.is_over = True
        self.has_paused.set()


class LockstepScheduler:
    """Scheduler of tasks of which one runs at a time, with the results that they share."""

    def __init__(
        self, functions: Sequence[Callable[[], Any]], idle_timeout: float = IDLE_TIMEOUT
    ) -> None:
        self.idle_timeout = idle_timeout
        self.shared_results: dict[object, Any] = {}
        self.parent = _current_task()
        # The thread of a task has one thread of torch; its other tasks are paused.
        self.n_threads: int = (
            self.parent.scheduler.n_threads if self.parent else torch.get_num_threads()
        )
        self.pool = Pool(self.n_threads)
        self.tasks = [Task(function, self) for function in functions]
        self.running: Task | None = None

    def run(self) -> list[Any]:
        """Return the results of the tasks, or raise the first error."""
        if self.parent:
            self.parent.has_scheduler = True
        is_running, is_clean = threading.Lock(), Signal()
        # Threads are started and ended in a thread that cannot be interrupted. That thread
        # waits for the lock, which Python releases whatever interrupts follow each other.
        cleaner = threading.Thread(
            target=self._start_and_end, args=(is_running, is_clean), name="skae-clean-up",
            daemon=True,
        )  # fmt: skip
        try:
            with is_running:
                cleaner.start()
                self._run()
        finally:
            interrupts = []
            if cleaner.ident is not None:
                interrupts = wait_despite_interrupts(is_clean)
                cleaner.join()
            torch.set_num_threads(self.n_threads)
            if self.parent:
                self.parent.has_scheduler = False
            if interrupts:
                raise interrupts[0]
        return [task.result for task in self.tasks]

    def _run(self) -> None:
        """Give each task its turn until all are over."""
        for task in self.tasks:
            self._resume(task)
        while waiting := [task for task in self.tasks if not task.is_over]:
            # A task may have changed the number of torch's threads.
            torch.set_num_threads(self.n_threads)
            offloaded = [task for task in waiting if task.future is not None]
            if offloaded:
                wait_for([task.future for task in offloaded if task.future])
            else:
                self._do_gathered(waiting)
            for task in offloaded or waiting:
                self._resume(task)

    def _resume(self, task: Task) -> None:
        """Let a task run until it pauses or is over; raise the error that ended it."""
        self.running = task
        with warnings.catch_warnings():
            task.go_on()
            has_paused = self._is_done(task, task.has_paused.wait, self.idle_timeout)
        if not has_paused:
            raise RuntimeError(_BLOCKED.format(self.idle_timeout))
        self.running = None
        if task.error is not None:
            raise task.error

    def _is_done(self, task: Task, wait: Callable[[float], bool], timeout: float) -> bool:
        """Wait for a task; return False if it has computed nothing for too many seconds."""
        # Count the waits instead of reading a clock: the process itself may be suspended.
        used, n_waits = 0.0, 0
        while not wait(POLL_INTERVAL):
            now = task.cpu_time()
            has_computed = now - used > task.idle_fraction * timeout
            if has_computed or task.has_scheduler or not self._may_be_blocked(task):
                used, n_waits = now, 0
            elif (n_waits := n_waits + 1) * POLL_INTERVAL >= timeout:
                return False
        return True

    def _may_be_blocked(self, task: Task) -> bool:
        """Return whether there is a paused task, which could hold a lock."""
        if self.parent is not None or task.is_cancelled:
            return True
        return any(other.is_paused for other in self.tasks)

    @staticmethod
    def _do_gathered(tasks: Sequence[Task]) -> None:
        """Call each gathering function once, and divide its results."""
        groups: dict[object, list[Task]] = {}
        for task in tasks:
            if task.gathering is not None:
                groups.setdefault(task.gathering, []).append(task)
        for group in groups.values():
            function = group[0].gathering
            assert function is not None
            results = list(function([item for task in group for item in task.items]))
            for task in group:
                n = len(task.items)
                task.gathered, results = results[:n], results[n:]
                task.gathering, task.items = None, ()

    def _start_and_end(self, is_running: threading.Lock, is_clean: Signal) -> None:
        """Start all tasks, and end them as soon as the scheduler has released the lock."""
        for task in self.tasks:
            task.start()
        with is_running:
            pass
        try:
            # Tasks that end restore the warning filters of their own begin.
            with warnings.catch_warnings():
                self._end_tasks()
            self.pool.shutdown()
        finally:
            is_clean.set()

    def _end_tasks(self) -> None:
        """End the tasks one after the other, at their present or next pause."""
        for task in self.tasks:
            task.is_cancelled = True
        # The running task comes first, so that one task runs at a time here too.
        ordered = sorted(self.tasks, key=lambda task: task is not self.running)
        # A task that stays blocked is left behind, and ends when it gets its lock.
        for timeout in (min(_GRACE, self.idle_timeout), self.idle_timeout):
            for task in ordered:
                task.may_go_on.set()
                self._is_done(task, task.has_ended, timeout)
