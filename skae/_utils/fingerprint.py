"""Short texts that say whether parameters and data are the same as before."""

import hashlib
import math
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from numbers import Integral, Real
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from scipy.sparse import issparse

# Hexadecimal digits of a hash that a text has.
_N_DIGITS = 16
# Objects inside of an object that are looked at.
_MOST_OBJECTS = 10_000
# From here on, not every whole number is a float.
_LARGEST_WHOLE = 2.0**53
# Packages whose classes are the same in all versions that are compared.
_PACKAGES = {"numpy", "pandas", "polars", "scipy", "skae", "sklearn", "torch"}


def describe(value: Any) -> str:
    """Return a text of a parameter that differs if its content differs.

    Objects are described by their type and attributes, those of a user by the code of
    their class too, functions by their code, and arrays by a hash.
    """
    return _Description().of(value)


def describe_array(array: Any) -> str:
    """Return dtype, shape and a hash of an array; a sparse one has that of a dense one."""
    if array.dtype.hasobject:
        content: Iterable[bytes | str] = map(describe, array.ravel().tolist())
    else:
        # A block at a time, because a copy of an array may not fit into memory.
        rows = array if array.ndim else array[None]
        content = (np.ascontiguousarray(block).tobytes() for block in _blocks(rows))
    return f"{array.dtype} {array.shape} {digest(content)}"


def _blocks(array: Any) -> Iterable[np.ndarray]:
    """Divide an array into blocks of rows, of about a megabyte."""
    n_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
    n = max(1, 2**20 // max(n_bytes, 1))
    blocks = (array[start : start + n] for start in range(0, array.shape[0], n))
    return (block.toarray() if issparse(block) else block for block in blocks)


def digest(parts: Iterable[bytes | str]) -> str:
    """Return some digits of a hash of texts or bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()[:_N_DIGITS]


class _Description:
    """The description of an object and those inside, each of them once."""

    def __init__(self) -> None:
        # Numbers of the objects by identity; the objects are kept, so that none is reused.
        self.seen: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any) -> str:
        """Return the text of a value."""
        if value is None or isinstance(value, (str, bytes, bool, np.bool_)):
            return repr(value)
        if isinstance(value, (Integral, np.integer)):
            return repr(int(value))
        if isinstance(value, (Real, np.floating)):
            number = float(value)
            is_whole = number.is_integer() and abs(number) < _LARGEST_WHOLE
            return repr(int(number) if is_whole else number)
        if isinstance(value, torch.Tensor):
            return describe_array(value.detach().cpu().numpy())
        if isinstance(value, np.ndarray):
            return describe_array(value)
        if isinstance(value, BuiltinFunctionType):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self.of, value))}]" if self._is_new(value) else "[...]"
        if not self._is_new(value):
            return f"object {self.seen[id(value)][0]}"
        if len(self.seen) > _MOST_OBJECTS:
            return "..."
        return self._of_object(value)

    def _is_new(self, value: Any) -> bool:
        """Return whether an object has not been described yet, and take note of it."""
        is_new = id(value) not in self.seen
        self.seen.setdefault(id(value), (len(self.seen), value))
        return is_new

    def _of_object(self, value: Any) -> str:
        """Return the text of an object with others in it."""
        kind = type(value)
        name = kind.__qualname__
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}{self._code(value)}"
        if isinstance(value, Mapping):
            parts = sorted((self.of(k), self.of(v)) for k, v in value.items())
            return f"{name}({', '.join(f'{k}: {v}' for k, v in parts)})"
        if isinstance(value, (set, frozenset)):
            return f"{name}({', '.join(sorted(map(self.of, value)))})"
        if isinstance(value, CodeType):
            constants = self.of(value.co_consts)
            return digest([value.co_code, repr(value.co_names), constants])
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            inside = value.__code__, value.__defaults__, value.__kwdefaults__, cells
            return f"{value.__qualname__}({', '.join(map(self.of, inside))})"
        state = _state(value)
        if state is None:
            text = repr(value)
            return name if " at 0x" in text else text
        found = ", ".join(f"{key}={self.of(v)}" for key, v in sorted(state.items()))
        return f"{name}({found}){self._code(kind)}"

    def _code(self, kind: type) -> str:
        """Return a hash of the methods of a class of a user; nothing for other classes."""
        own = [base for base in kind.__mro__ if not _is_of_library(base)]
        functions = [f for base in own for f in vars(base).values()]
        code = [f.__code__ for f in functions if isinstance(f, FunctionType)]
        return f" {digest(map(self.of, code))}" if code else ""


def _is_of_library(kind: type) -> bool:
    """Whether a class belongs to Python or to one of the packages below."""
    package = kind.__module__.partition(".")[0]
    return package in _PACKAGES or package in sys.stdlib_module_names - {"__main__"}


def _state(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object; None for one that its ``repr`` describes."""
    if isinstance(value, RandomState):
        return dict(value.get_state(legacy=False))
    if isinstance(value, np.random.Generator):
        return {"bit_generator": value.bit_generator.state}
    if isinstance(value, np.random.BitGenerator):
        return {"state": value.state}
    if isinstance(value, torch.nn.Module):
        return {"layers": repr(value), **value.state_dict()}
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, MethodType):
        return {"func": value.__func__, "self": value.__self__}
    if hasattr(value, "to_numpy"):
        # A frame or a series.
        return {"values": value.to_numpy(), "columns": list(getattr(value, "columns", ()))}
    get_params = getattr(value, "get_params", None)
    if get_params is not None:
        return dict(get_params(deep=False))
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return None
    # With the attributes in slots.
    state: Any = object.__getstate__(value)
    parts = state if isinstance(state, tuple) else (state,)
    return {key: item for part in parts if part for key, item in part.items()}
