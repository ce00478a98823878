"""A property that is computed once, without a lock."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class cached(Generic[T]):  # noqa: N801  (used as a decorator, as `property` is)
    """A property whose value is computed once and kept in the instance.

    ``functools.cached_property`` of Python 3.11 holds one lock for all instances of a
    class. A process that is forked while another thread computes a value would wait for
    this lock for ever. Here two threads may both compute the value, which is the same.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """Compute the value, and store it under the name of the property."""
        if instance is None:
            return self
        value = self.function(instance)
        instance.__dict__[self.name] = value
        return value
