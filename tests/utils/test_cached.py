"""Tests of properties that are computed once."""

import copy
import pickle
import threading
from dataclasses import dataclass

from skae._utils.cached import cached

COMPUTED = []


@dataclass(frozen=True)
class Square:
    """A class whose instances cannot be assigned to."""

    side: int

    @cached
    def area(self):
        """Area of the square."""
        COMPUTED.append(self.side)
        return self.side**2


def test_a_value_is_computed_once():
    """Also in copies and pickles."""
    COMPUTED.clear()
    square = Square(3)
    assert [square.area, square.area] == [9, 9]
    assert copy.copy(square).area == pickle.loads(pickle.dumps(square)).area == 9
    assert COMPUTED == [3]
    assert Square(4).area == 16
    assert Square.area.__doc__ == "Area of the square."


def test_no_lock_is_held():
    """A value can be computed while another thread computes that of another instance."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, is_slow):
            self.is_slow = is_slow

        @cached
        def value(self):
            if self.is_slow:
                inside.set()
                assert go_on.wait(30)
            return self.is_slow

    slow = Slow(True)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert inside.wait(30)
    done = []
    other = threading.Thread(target=lambda: done.append(Slow(False).value))
    other.start()
    other.join(5)
    go_on.set()
    thread.join(30)
    other.join(30)
    assert done == [False]
