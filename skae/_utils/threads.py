"""Threads, rounded matrix products and denormal numbers in this process."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from itertools import pairwise
from threading import Event, Lock, Thread
from typing import Any, Protocol, TypeVar

import torch
from sklearn import config_context, get_config

T = TypeVar("T")

# Multiply-adds of a step below which a second thread costs more time than it saves. On a
# machine with other busy processes, waiting for that thread costs fifty times as much.
_WORTH_A_THREAD = 2**25
# Seconds between two checks for an interrupt: short enough to seem immediate to a user.
POLL_INTERVAL = 0.1


def in_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Split items into as few parts as possible, of sizes that differ by one at most.

    No part has more than ``most`` items.
    """
    n_parts = -(-len(items) // most)
    bounds = [i * len(items) // max(n_parts, 1) for i in range(n_parts + 1)]
    return [items[a:b] for a, b in pairwise(bounds)]


@contextmanager
def suitable_threads(multiply_adds: float) -> Iterator[None]:
    """Use one thread for small steps, and as many as the user allows for large ones.

    ``multiply_adds`` is the size of one step.
    """
    if is_worth_a_thread(multiply_adds) or torch.get_num_threads() == 1:
        yield
        return
    with _one_thread():
        yield


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
    is_over = Event()
    config, before = get_config(), torch.get_num_threads()

    def run_all() -> None:
        """Run all calls, and keep their results or the first error."""
        try:
            with config_context(**config), cores(n_threads) as submit:
                futures = [submit(call) for call in calls]
                done = wait(futures, return_when=FIRST_EXCEPTION).done
                if any(future.exception() for future in done):
                    interrupted.set()
                results.extend(future.result() for future in futures)
        # The caller of on_cores raises the error, of any kind.
        except BaseException as error:
            errors.append(error)
        finally:
            is_over.set()

    # This thread only waits, so an interrupt at any time is safe.
    runner = Thread(target=copy_context().run, args=(run_all,), daemon=True)
    try:
        runner.start()
    except BaseException as error:
        if runner.ident is None:
            raise
        interrupted.set()
        errors.append(error)
    while not is_over.is_set():
        try:
            is_over.wait(POLL_INTERVAL)
        # An interrupt, or an exception of a user's signal handler.
        except BaseException as error:
            interrupted.set()
            errors.append(error)
    runner.join()
    # New threads inherit the number of torch threads that was set last, in any thread.
    torch.set_num_threads(before)
    for raised in errors:
        if not isinstance(raised, KeyboardInterrupt) or len(results) < len(calls):
            raise raised
    return results


class Submit(Protocol):
    """A function that runs a call in a pool of threads."""

    def __call__(self, call: Callable[[], T]) -> "Future[T]":
        """Start a call as soon as a core is free, and return its future."""


@contextmanager
def cores(n_threads: int) -> Iterator[Submit]:
    """Open a pool of threads, each with one torch thread; yield its :class:`Submit`.

    All calls are over at the end of the block. After an error, calls that have not begun
    are cancelled.
    """

    def run(call: Callable[[], T], config: dict[str, Any]) -> T:
        """Run a call with one torch thread and the configuration of its submitter."""
        torch.set_num_threads(1)
        with config_context(**config):
            return call()

    with _one_thread(), ThreadPoolExecutor(n_threads) as pool:

        def submit(call: Callable[[], T]) -> Future[T]:
            """Submit a call with the context of this thread."""
            return pool.submit(copy_context().run, run, call, get_config())

        try:
            yield submit
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def wait_for(futures: Sequence[Future[Any]]) -> None:
    """Wait until all calls are over, with results or errors, or the user interrupts."""
    # An interrupt may not wake a thread that waits without a timeout.
    while wait(futures, timeout=POLL_INTERVAL).not_done:
        pass


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


class _Tf32:
    """The process-wide setting of rounded matrix products, with a count of its users."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.n_users = 0
        self.before: str | bool = False

    def enter(self) -> None:
        """Add a user; the first one changes the setting."""
        with self.lock:
            if self.n_users == 0:
                products, name, value = self._setting()
                self.before = getattr(products, name)
                setattr(products, name, value)
            self.n_users += 1

    def leave(self) -> None:
        """Remove a user; the last one restores the setting."""
        with self.lock:
            self.n_users -= 1
            if self.n_users == 0:
                products, name, _ = self._setting()
                setattr(products, name, self.before)

    @staticmethod
    def _setting() -> tuple[Any, str, str | bool]:
        """Return the owner of the setting, its name, and the value for TF32."""
        products = torch.backends.cuda.matmul
        # torch.set_float32_matmul_precision fails if a user has set the precision by this
        # name.
        if hasattr(products, "fp32_precision"):
            return products, "fp32_precision", "tf32"
        return products, "allow_tf32", True  # before torch 2.9


_tf32 = _Tf32()


@contextmanager
def tf32_products(enabled: bool) -> Iterator[None]:
    """Let a GPU round the factors of matrix products to TF32, if enabled.

    Fits in several threads share the setting, which is restored when the last of them ends.
    """
    if not enabled:
        yield
        return
    _tf32.enter()
    try:
        yield
    finally:
        _tf32.leave()
