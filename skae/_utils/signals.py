"""Signals that end a process, which leave time for a file first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def sigterm_as_interrupt(enabled: bool) -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in a block, and take effect after the block.

    Clusters send this signal some time before they end a process. Python allows handlers
    in the main thread only; in other threads nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    # An ignored signal stays ignored. None is a handler that was not set by Python, and
    # that Python cannot restore.
    is_left = signal.getsignal(signal.SIGTERM) in (None, signal.SIG_IGN)
    if not enabled or not is_main or is_left:
        yield
        return
    is_received = False

    def interrupt(number: int, frame: FrameType | None) -> Any:
        nonlocal is_received
        is_received = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if is_received:
            signal.raise_signal(signal.SIGTERM)
