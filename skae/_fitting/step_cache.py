"""A cache for the results of pipeline steps that the fits of a search share."""

import inspect
import math
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import joblib

from skae._fitting.lockstep import wait_for_others

# Seconds between two looks at a result that a task of another scheduler computes.
_POLL_INTERVAL = 0.01


def n_bytes(data: Any) -> int:
    """Return the bytes of an array, a frame or a list of rows; 8 for any other object."""
    if isinstance(data, list | tuple) and data:
        return len(data) * n_bytes(data[0])
    for name, unit in (("nbytes", 1), ("size", 8)):
        number = getattr(data, name, None)
        if isinstance(number, Integral):
            return unit * int(number)
    return 8 * math.prod(getattr(data, "shape", ()))


class StepCache:
    """A cache in the memory of the process, with the interface of a joblib.Memory.

    A pipeline step that candidates of a search share is fitted once for each fold. If the
    results take more than `most_bytes`, the least recently used ones are dropped.
    """

    def __init__(self, most_bytes: float = math.inf) -> None:
        self.most_bytes = most_bytes
        self.results: OrderedDict[str, bytes] = OrderedDict()
        self.n_bytes_cached = 0
        # An event for each result that is being computed.
        self.under_way: dict[str, threading.Event] = {}
        # The workers of an inner backend may be threads.
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        # The user's pipeline has no memory, so an error message must not show one.
        return "None"

    def __reduce__(self) -> tuple[type["StepCache"], tuple[float]]:
        # The copy in another process is empty: sending the results would cost more.
        return StepCache, (self.most_bytes,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StepCache":
        return self

    def clear(self) -> None:
        """Drop all results."""
        with self.lock:
            self.results.clear()
            self.n_bytes_cached = 0

    def cache(
        self, function: Callable[..., Any], ignore: Iterable[str] = ()
    ) -> Callable[..., Any]:
        """Wrap a pure function so that its results are cached; see joblib.Memory.cache."""
        name = f"{function.__module__}.{function.__qualname__}"
        arguments_of = inspect.signature(function).bind

        def cached(*args: Any, **kwargs: Any) -> Any:
            arguments = arguments_of(*args, **kwargs).arguments
            for ignored in ignore:
                arguments.pop(ignored, None)
            try:
                key = joblib.hash((name, arguments))
            # A user's object may raise anything. Without a key the step is not cached.
            except Exception:
                return function(*args, **kwargs)
            while (event := self._claim(key)) is not None:
                # If the step trains a model, another task may be paused within the step. A
                # task of another scheduler does not pause for this one.
                if not event.is_set():
                    wait_for_others()
                    event.wait(_POLL_INTERVAL)
            try:
                if (pickled := self._get(key)) is not None:
                    # Each caller gets a copy, because the next step may write over it.
                    try:
                        return pickle.loads(pickled)
                    # A user's object may raise anything. The step is then fitted again.
                    except Exception:
                        self._drop(key)
                result = function(*args, **kwargs)
                self._put(key, result)
                return result
            finally:
                with self.lock:
                    self.under_way.pop(key).set()

        return cached

    def _claim(self, key: str) -> threading.Event | None:
        """Claim a result, or return the event of the task that has claimed it."""
        with self.lock:
            if key in self.under_way:
                return self.under_way[key]
            self.under_way[key] = threading.Event()
            return None

    def _get(self, key: str) -> bytes | None:
        """Return a pickled result, or None."""
        with self.lock:
            if key in self.results:
                self.results.move_to_end(key)
            return self.results.get(key)

    def _put(self, key: str, result: Any) -> None:
        """Store a result, and drop the least recently used ones beyond the limit."""
        try:
            pickled = pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)
        # A user's object may raise anything. The result is not kept, but still returned.
        except Exception:
            return
        if len(pickled) > self.most_bytes:
            return
        with self.lock:
            self.results[key] = pickled
            self.n_bytes_cached += len(pickled)
            while self.n_bytes_cached > self.most_bytes:
                _, dropped = self.results.popitem(last=False)
                self.n_bytes_cached -= len(dropped)

    def _drop(self, key: str) -> None:
        """Drop a result."""
        with self.lock:
            self.n_bytes_cached -= len(self.results.pop(key, b""))
