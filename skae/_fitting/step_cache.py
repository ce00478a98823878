"""Results of the steps of pipelines that many fits share."""

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

# What pickle raises for what it cannot take, as a lambda in a step.
_UNPICKLED = (pickle.PicklingError, AttributeError, TypeError)


def n_bytes(data: Any) -> int:
    """Return the size of an array, a frame or a list of rows; 8 for anything else."""
    if isinstance(data, list | tuple) and data:
        return len(data) * n_bytes(data[0])
    for name, unit in (("nbytes", 1), ("size", 8)):
        number = getattr(data, name, None)
        if isinstance(number, Integral):
            return unit * int(number)
    return 8 * math.prod(getattr(data, "shape", ()))


class StepCache:
    """A cache in the memory of the process, with the interface of a joblib.Memory.

    A step of a pipeline that candidates of a search share is fitted once for each fold.
    The results that were not used for the longest time are dropped if all take more than
    `most_bytes`.
    """

    def __init__(self, most_bytes: float = math.inf) -> None:
        self.most_bytes = most_bytes
        self.results: OrderedDict[str, bytes] = OrderedDict()
        self.under_way: set[str] = set()
        # Workers may be threads.
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        # Users gave their pipeline no memory, and should find none in a message.
        return "None"

    def __reduce__(self) -> tuple[type["StepCache"], tuple[float]]:
        # A worker in another process begins with nothing.
        return StepCache, (self.most_bytes,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StepCache":
        return self

    @property
    def n_bytes(self) -> int:
        """Size of all results."""
        return sum(map(len, self.results.values()))

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self.results.clear()

    def cache(
        self, function: Callable[..., Any], ignore: Iterable[str] = ()
    ) -> Callable[..., Any]:
        """Return a pure function with its results cached, as joblib.Memory.cache does."""
        name = f"{function.__module__}.{function.__qualname__}"
        arguments_of = inspect.signature(function).bind

        def cached(*args: Any, **kwargs: Any) -> Any:
            arguments = arguments_of(*args, **kwargs).arguments
            for ignored in ignore:
                arguments.pop(ignored, None)
            try:
                key = joblib.hash((name, arguments))
            except _UNPICKLED:
                return function(*args, **kwargs)
            # Another task may have begun it, and be paused, if the step trains a model.
            while key in self.under_way:
                wait_for_others()
            # Each gets a copy, since the next step may write over it.
            if (pickled := self._get(key)) is not None:
                return pickle.loads(pickled)
            self.under_way.add(key)
            try:
                result = function(*args, **kwargs)
                self._put(key, result)
            finally:
                self.under_way.discard(key)
            return result

        return cached

    def _get(self, key: str) -> bytes | None:
        """Return a pickled result, if there is one."""
        with self.lock:
            if key in self.results:
                self.results.move_to_end(key)
            return self.results.get(key)

    def _put(self, key: str, result: Any) -> None:
        """Keep a result, and drop others if there is no space."""
        try:
            pickled = pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)
        except _UNPICKLED:
            return
        with self.lock:
            self.results[key] = pickled
            while self.n_bytes > self.most_bytes:
                self.results.popitem(last=False)
