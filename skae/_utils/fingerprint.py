"""Short texts that say whether parameters and data are the same as before."""

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from numbers import Integral, Real
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState

# Hexadecimal digits of a hash that a text has.
_N_DIGITS = 16
# Objects inside of objects that are looked at.
_MOST_LEVELS = 12


def describe(value: Any, level: int = 0) -> str:
    """Return a text of a parameter that differs if its content differs.

    Objects are described by their type and attributes, functions by their code, and arrays
    by a hash. Nothing of an object is called but ``repr`` of numbers and texts.
    """
    if value is None or isinstance(value, (str, bytes, bool, np.bool_)):
        return repr(value)
    if isinstance(value, (Integral, np.integer)):
        return repr(int(value))
    if isinstance(value, (Real, np.floating)):
        return repr(float(value))
    if isinstance(value, torch.Tensor):
        return describe(value.detach().cpu().numpy(), level)
    if isinstance(value, np.ndarray):
        return describe_array(value)
    if isinstance(value, (type, BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    if level == _MOST_LEVELS:
        return "..."
    return _describe_object(value, level + 1)


def _describe_object(value: Any, level: int) -> str:
    """Return the text of an object with others in it."""
    name = type(value).__qualname__
    if isinstance(value, RandomState):
        _, key, *rest = value.get_state()
        return f"RandomState({describe_array(np.asarray(key))}, {rest})"
    if isinstance(value, Mapping):
        parts = sorted((describe(k, level), describe(v, level)) for k, v in value.items())
        return f"{name}({', '.join(f'{k}: {v}' for k, v in parts)})"
    if isinstance(value, (set, frozenset)):
        return f"{name}({', '.join(sorted(describe(v, level) for v in value))})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(describe(v, level) for v in value)}]"
    if isinstance(value, CodeType):
        constants = describe(value.co_consts, level)
        return digest([value.co_code, repr(value.co_names), constants])
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        text = f"{describe(value.__code__, level)}, {describe(cells, level)}"
        return f"{value.__qualname__}({text})"
    if isinstance(value, (slice, range)):
        return repr(value)
    state = _state(value)
    parts = [(key, describe(v, level)) for key, v in sorted(state.items())]
    return f"{name}({', '.join(f'{key}={text}' for key, text in parts)})"


def _state(value: Any) -> dict[str, Any]:
    """Return the attributes of an object."""
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    get_params = getattr(value, "get_params", None)
    if get_params is not None:
        return dict(get_params(deep=False))
    return dict(getattr(value, "__dict__", {}))


def describe_array(array: np.ndarray) -> str:
    """Return dtype, shape and a hash of an array."""
    if array.dtype.hasobject:
        content: Iterable[bytes | str] = map(describe, array.ravel().tolist())
    else:
        # A block at a time, because a copy of an array may not fit into memory.
        rows = array if array.ndim else array[None]
        content = (np.ascontiguousarray(block).tobytes() for block in _blocks(rows))
    return f"{array.dtype} {array.shape} {digest(content)}"


def _blocks(array: np.ndarray) -> Iterable[np.ndarray]:
    """Divide an array into blocks of rows, of about a megabyte."""
    n = max(1, 2**20 // max(array[:1].nbytes, 1))
    return (array[start : start + n] for start in range(0, len(array), n))


def digest(parts: Iterable[bytes | str]) -> str:
    """Return some digits of a hash of texts or bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()[:_N_DIGITS]
