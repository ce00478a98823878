"""A library of arrays by the names of the array API standard, which is neither NumPy's
nor torch's: it refuses to be converted to an array of NumPy by ``numpy.asarray``."""

import operator

import numpy as np
from sklearn.utils._array_api import array_api_compat

_numpy = array_api_compat.get_namespace(np.empty(0))
DEVICE = "their device"


def _values(x):
    """Return what arrays of this library, also inside of a tuple, hold."""
    if isinstance(x, (tuple, list)):
        return type(x)(map(_values, x))
    return x._values if isinstance(x, Array) else x


def _array(x):
    """Return an array of this library; anything else as it is."""
    return Array(np.asarray(x)) if isinstance(x, (np.ndarray, np.generic)) else x


class Array:
    """An array of this library."""

    device = DEVICE

    def __init__(self, values):
        self._values = values

    dtype = property(lambda self: self._values.dtype)
    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)

    def __array_namespace__(self, api_version=None):
        return Namespace()

    def __array__(self, dtype=None, copy=None):
        raise TypeError("an array of this library is no array of NumPy")

    def __dlpack__(self, **options):
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()

    def __bool__(self):
        return bool(self._values)

    def __float__(self):
        return float(self._values)

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return _array(self._values[_values(index)])


def _operator(name):
    """Return a method that applies an operator to the arrays inside."""
    function = getattr(operator, name)
    return lambda self, *others: _array(function(self._values, *map(_values, others)))


for _name in ("__eq__", "__ne__", "__lt__", "__invert__", "__sub__", "__mul__", "__and__"):
    setattr(Array, _name, _operator(_name))


class Namespace:
    """The functions of this library: those of NumPy, on its own arrays only."""

    __name__ = "other_arrays"

    def __eq__(self, other):
        return isinstance(other, Namespace)

    def __hash__(self):
        return hash(Namespace)

    def from_dlpack(self, x, *, device=None, copy=None):
        assert device in (None, DEVICE)
        return Array(np.from_dlpack(x))

    def asarray(self, x, *, dtype=None, device=None, copy=None):
        assert device in (None, DEVICE)
        return Array(np.array(_values(x), dtype=dtype, copy=copy))

    def __array_namespace_info__(self):
        return _Info()

    def __getattr__(self, name):
        found = getattr(_numpy, name)
        if isinstance(found, type) or not callable(found):
            return found

        def function(*args, **kwargs):
            kwargs.pop("device", None)
            values = {key: _values(value) for key, value in kwargs.items()}
            return _array(found(*map(_values, args), **values))

        return function


class _Info:
    """What this library says of its dtypes."""

    def dtypes(self, *, kind=None, device=None):
        return {"float64": np.dtype("float64"), "float32": np.dtype("float32")}
