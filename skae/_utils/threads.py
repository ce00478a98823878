"""Threads and denormal numbers in this process."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from itertools import pairwise
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import torch
from sklearn import config_context, get_config

from skae._utils.messages import warn_user

T = TypeVar("T")

# Multiply-adds of a step below which a second thread costs more time than it saves, where
# that is not measured. On a machine with other busy processes, waiting for that thread
# costs fifty times as much.
_WORTH_A_THREAD = 2**26
# Seconds between two checks for an interrupt: short enough to seem immediate to a user.
POLL_INTERVAL = 0.1
_FORKED = (
    "This process was forked from another one, so skae uses one thread of torch in it. The "
    "threads of the other process do not exist here, and torch could wait for them for "
    "ever. For several threads, start processes by 'spawn', 'forkserver' or 'loky'."
)


def in_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Split items into as few parts as possible, of sizes that differ by one at most.

    No part has more than ``most`` items.
    """
    n_parts = -(-len(items) // most)
    bounds = [i * len(items) // max(n_parts, 1) for i in range(n_parts + 1)]
    return [items[a:b] for a, b in pairwise(bounds)]


@contextmanager
def suitable_threads(multiply_adds: float) -> Iterator[int]:
    """Use one thread for small steps, and as many as the user allows for large ones.

    ``multiply_adds`` is the size of one step. Yields the number that the user allows; the
    block may set another one, which is put back at its end.
    """
    if _fork.is_limited and is_worth_a_thread(multiply_adds):
        _fork.warn()
    with threads_put_back() as most:
        if most > 1 and not is_worth_a_thread(multiply_adds):
            torch.set_num_threads(1)
        yield most


@contextmanager
def threads_put_back() -> Iterator[int]:
    """Set the number of torch's threads back at the end of a block; yields that number."""
    before = torch.get_num_threads()
    try:
        yield before
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def is_worth_a_thread(multiply_adds: float) -> bool:
    """Whether a second thread makes a step of this size faster."""
    return multiply_adds >= _WORTH_A_THREAD


def on_cores(
    calls: Sequence[Callable[[], T]], n_threads: int, interrupted: Event
) -> list[T]:
    """Run calls at the same time, each with one torch thread; return their results.

    The results are in the order of the calls. ``n_threads`` calls run at the same time. If
    the user interrupts or a call fails, ``interrupted`` is set, and the calls should return
    soon. An interrupt is raised only if some call then has no result. Other errors are
    always raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    is_over, is_waiting = Signal(), Lock()
    config, before = get_config(), torch.get_num_threads()

    def run_all() -> None:
        """Run all calls, and keep their results or the first error."""
        pool = Pool(n_threads)
        try:
            with config_context(**config), _one_thread():
                futures = [pool.submit(call) for call in calls]
                pending = set(futures)
                while pending and not any(f.done() and f.exception() for f in futures):
                    pending = wait(futures, POLL_INTERVAL, FIRST_EXCEPTION).not_done
                    if not is_waiting.locked():
                        interrupted.set()
                # One call has failed, so the others should end.
                if pending:
                    interrupted.set()
                results.extend(future.result() for future in futures)
        # The caller of on_cores raises the error, of any kind.
        except BaseException as error:
            interrupted.set()
            errors.append(error)
        finally:
            pool.shutdown()
            is_over.set()

    runner = Thread(target=copy_context().run, args=(run_all,), daemon=True)
    # This thread only waits, so an interrupt at any time is safe. Python releases the lock
    # even if several interrupts follow each other, and then the calls end by themselves.
    with is_waiting:
        try:
            runner.start()
        except BaseException as error:
            if runner.ident is None:
                raise
            interrupted.set()
            errors.append(error)
        errors += wait_despite_interrupts(is_over, interrupted.set)
    runner.join()
    # New threads inherit the number of torch threads that was set last, in any thread.
    torch.set_num_threads(before)
    for raised in errors:
        if not isinstance(raised, KeyboardInterrupt) or len(results) < len(calls):
            raise raised
    return results


class Pool:
    """Threads that run calls, each with one torch thread.

    Parameters
    ----------
    n_threads : int
        Number of calls that run at the same time.
    """

    def __init__(self, n_threads: int) -> None:
        self._executor = ThreadPoolExecutor(n_threads)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Start a call as soon as a core is free, and return its future.

        The call has context variables and configuration of this thread.
        """

        def run(config: dict[str, Any]) -> T:
            """Run the call with one torch thread."""
            torch.set_num_threads(1)
            with config_context(**config):
                return call()

        return self._executor.submit(copy_context().run, run, get_config())

    def shutdown(self) -> None:
        """Cancel the calls that have not begun, and wait for the others."""
        self._executor.shutdown(cancel_futures=True)


class Signal:
    """An event for one thread that waits, and that may be interrupted meanwhile.

    An interrupt within ``threading.Event.wait`` can leave the event's lock acquired. Then
    the thread that sets the event would block for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._lock = Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Whether the signal is set."""
        return self._is_set

    def set(self) -> None:
        """Set the signal, and wake the thread that waits."""
        self._is_set = True
        if self._lock.locked():
            self._lock.release()

    def clear(self) -> None:
        """Reset the signal."""
        self._is_set = False
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float = -1) -> bool:
        """Wait at most some seconds; return whether the signal is set."""
        if not self._is_set:
            self._lock.acquire(timeout=timeout)
        return self._is_set


def wait_despite_interrupts(
    signal: Signal, on_interrupt: Callable[[], object] = lambda: None
) -> list[BaseException]:
    """Wait for a signal that another thread sets; return the interrupts meanwhile.

    They are exceptions of Python's or a user's signal handlers.
    """
    interrupts: list[BaseException] = []
    while True:
        try:
            # An interrupt may not wake a thread that waits without a timeout.
            while not signal.wait(POLL_INTERVAL):
                pass
            return interrupts
        except BaseException as error:
            interrupts.append(error)
            on_interrupt()


def wait_for(futures: Sequence[Future[Any]]) -> None:
    """Wait until all calls are over, with results or errors, or the user interrupts."""
    # An interrupt may not wake a thread that waits without a timeout.
    while wait(futures, timeout=POLL_INTERVAL).not_done:
        pass


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread."""
    with threads_put_back():
        torch.set_num_threads(1)
        yield


class _Fork:
    """Whether this process was forked, and what follows from that."""

    def __init__(self) -> None:
        self.is_child = self.is_limited = self.has_warned = False

    def note(self) -> None:
        """Note that this process is a new child."""
        self.is_child, self.is_limited, self.has_warned = True, False, False

    def warn(self) -> None:
        """Warn once that several threads would be faster."""
        if not self.has_warned:
            self.has_warned = True
            warn_user(_FORKED, RuntimeWarning)


_fork = _Fork()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_fork.note)


@contextmanager
def one_thread_after_fork() -> Iterator[None]:
    """Use one torch thread in a process that was forked.

    The helper threads of GNU's OpenMP do not survive a fork, but the child waits for them.
    """
    if not _fork.is_child or torch.get_num_threads() == 1:
        yield
        return
    _fork.is_limited = True
    try:
        with _one_thread():
            yield
    finally:
        _fork.is_limited = False


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat numbers below the normal range as 0 in this thread.

    They slow arithmetic down a hundred times. Adam's running means decay to them if a unit
    gets no gradient.
    """
    denormal = torch.tensor(1e-40, dtype=torch.float32, device="cpu")
    was_on = bool(denormal * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)
