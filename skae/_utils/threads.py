"""The arithmetic of this process: threads, precision, and numbers too small to matter."""

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

# Multiply-adds of a step below which handing work to a second thread costs more than the
# thread brings; and where others compute too, waiting for it costs fifty times that.
_WORTH_A_THREAD = 2**25
# Seconds after which an interrupt is looked for.
PATIENCE = 0.1


def in_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Split items into as few parts as possible, of sizes that differ by one at most.

    No part has more than ``most`` items.
    """
    n_parts = -(-len(items) // most)
    bounds = [i * len(items) // max(n_parts, 1) for i in range(n_parts + 1)]
    return [items[a:b] for a, b in pairwise(bounds)]


@contextmanager
def suitable_threads(multiply_adds: float) -> Iterator[None]:
    """One thread for small steps, as many as the user allows for large ones.

    Parameters
    ----------
    multiply_adds : float
        Size of one step.

    Yields
    ------
    None
    """
    if is_worth_a_thread(multiply_adds) or torch.get_num_threads() == 1:
        yield
        return
    with _one_thread():
        yield


def is_worth_a_thread(multiply_adds: float) -> bool:
    """Whether a step is so large that a thread more makes it faster.

    Parameters
    ----------
    multiply_adds : float
        Size of one step.

    Returns
    -------
    bool
        Whether it is.
    """
    return multiply_adds >= _WORTH_A_THREAD


def on_cores(
    calls: Sequence[Callable[[], T]], n_threads: int, interrupted: Event
) -> list[T]:
    """Results of calls that compute at the same time, each with one thread of torch's.

    Parameters
    ----------
    calls : sequence of callable
        What to call.
    n_threads : int
        How many at the same time.
    interrupted : Event
        Set when the user interrupts, or one of the calls fails; the calls should then
        return soon. An interrupt is not raised: it is for the calls to end with.

    Returns
    -------
    list
        What they returned, in the same order.

    Raises
    ------
    BaseException
        What one of them raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    is_over = Event()
    config, before = get_config(), torch.get_num_threads()

    def conduct() -> None:
        try:
            with config_context(**config), cores(n_threads) as submit:
                futures = [submit(call) for call in calls]
                done = wait(futures, return_when=FIRST_EXCEPTION).done
                if any(future.exception() for future in done):
                    interrupted.set()
                results.extend(future.result() for future in futures)
        # Whoever waits for the results gets it, whatever it is.
        except BaseException as error:
            errors.append(error)
        finally:
            is_over.set()

    # This thread only waits, so that it can be interrupted anywhere.
    conductor = Thread(target=copy_context().run, args=(conduct,), daemon=True)
    try:
        conductor.start()
    except BaseException as error:
        if conductor.ident is None:
            raise
        interrupted.set()
        errors.append(error)
    while not is_over.is_set():
        try:
            is_over.wait(PATIENCE)
        # An interrupt, or what a user's handler of another signal raises.
        except BaseException as error:
            interrupted.set()
            errors.append(error)
    conductor.join()
    # Threads had another number, and those to come take it from the last one.
    torch.set_num_threads(before)
    for raised in errors:
        if not isinstance(raised, KeyboardInterrupt) or len(results) < len(calls):
            raise raised
    return results


class Submit(Protocol):
    """What hands a call to a core."""

    def __call__(self, call: Callable[[], T]) -> "Future[T]":
        """Begin a call as soon as a core is free.

        Parameters
        ----------
        call : callable
            What to call.

        Returns
        -------
        Future
            What it will return.
        """


@contextmanager
def cores(n_threads: int) -> Iterator[Submit]:
    """Threads that compute at the same time, each with one thread of torch's.

    Parameters
    ----------
    n_threads : int
        How many.

    Yields
    ------
    callable
        See :class:`Submit`. All calls are over when the block is; after an error those
        that have not begun are left out.
    """

    def run(call: Callable[[], T], config: dict[str, Any]) -> T:
        torch.set_num_threads(1)
        with config_context(**config):
            return call()

    with _one_thread(), ThreadPoolExecutor(n_threads) as pool:

        def submit(call: Callable[[], T]) -> Future[T]:
            return pool.submit(copy_context().run, run, call, get_config())

        try:
            yield submit
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def wait_for(futures: Sequence[Future[Any]]) -> None:
    """Wait until some calls are over, whatever became of them, or the user interrupts.

    Parameters
    ----------
    futures : sequence of Future
        The calls.
    """
    # Not every interrupt wakes a thread that waits without end.
    while wait(futures, timeout=PATIENCE).not_done:
        pass


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Let numbers below the normal range count as 0 in this thread.

    They slow arithmetic down a hundred times, and Adam's running means of a unit that gets
    no gradient decay to them.

    Yields
    ------
    None
    """
    denormal = torch.tensor(1e-40, dtype=torch.float32)
    was_on = bool(denormal * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)


class _Tf32:
    """The setting of the process that lets products be rounded, and who wants it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.n_users = 0
        self.before: str | bool = False

    def enter(self) -> None:
        """Set it, for the first of those who want it."""
        with self.lock:
            if self.n_users == 0:
                products, name, value = self._setting()
                self.before = getattr(products, name)
                setattr(products, name, value)
            self.n_users += 1

    def leave(self) -> None:
        """Put it back, after the last of them."""
        with self.lock:
            self.n_users -= 1
            if self.n_users == 0:
                products, name, _ = self._setting()
                setattr(products, name, self.before)

    @staticmethod
    def _setting() -> tuple[Any, str, str | bool]:
        """Where it is, its name, and the value that means TF32."""
        products = torch.backends.cuda.matmul
        # torch.set_float32_matmul_precision fails where a user has set it by this name.
        if hasattr(products, "fp32_precision"):
            return products, "fp32_precision", "tf32"
        return products, "allow_tf32", True  # before torch 2.9


_tf32 = _Tf32()


@contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Let a GPU round the factors of its products to TF32, if that is wanted.

    Fits in several threads share the setting: it is put back when the last of them ends.

    Parameters
    ----------
    wanted : bool
        Else nothing happens.

    Yields
    ------
    None
    """
    if not wanted:
        yield
        return
    _tf32.enter()
    try:
        yield
    finally:
        _tf32.leave()
