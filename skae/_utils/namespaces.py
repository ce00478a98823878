"""Arrays of other libraries: tensors on the way in, the library of X on the way out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from sklearn import config_context, get_config
from sklearn.utils import Bunch
from torch import Tensor

from skae._utils.compat import array_api, refuse_other_arrays

_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class Home:
    """The library and the device of an array of a user.

    Attributes
    ----------
    xp : namespace
        The library, by the names of the array API standard.
    device : device of the library
        Where the array is.
    """

    xp: Any
    device: Any

    @property
    def is_torch(self) -> bool:
        """Whether the library is torch."""
        return array_api._is_xp_namespace(self.xp, "torch")

    @property
    def floats(self) -> list[Any]:
        """Dtypes of data that are not converted, those of the device only."""
        largest = array_api._max_precision_float_dtype(self.xp, self.device)
        return [largest] if largest == self.xp.float32 else [largest, self.xp.float32]

    def to_tensor(self, X: Any, device: torch.device) -> Tensor:
        """Return a validated array as a tensor on a device, or else on the CPU.

        A tensor that is on the device stays as it is, if the device has the double
        precision that rows are standardised in. Others go there later, block by block.
        """
        if self.is_torch:
            is_there = X.device == device and len(self.floats) > 1
            return X if is_there else X.cpu()
        xp, _ = array_api.get_namespace(torch.empty(0, device="cpu"))
        return array_api.move_to(X, xp=xp, device=device)

    def to_host(self, X: Any) -> np.ndarray:
        """Return an array as one of numpy, which shares the memory of one on the CPU."""
        if not self.is_torch:
            return array_api.move_to(X, xp=np, device="cpu")
        is_short = X.dtype.is_floating_point and X.dtype.itemsize < 4
        # NumPy does not know all of the short ones.
        return (X.double() if is_short else X).numpy(force=True)

    def bring(self, values: Any) -> Any:
        """Return results as arrays of the library, on the device.

        They are a tensor or an array of numpy, or several of them in a tuple or a Bunch.
        """
        if isinstance(values, tuple):
            return tuple(map(self.bring, values))
        if isinstance(values, Bunch):
            return Bunch(**{name: self.bring(value) for name, value in values.items()})
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values)
        if not isinstance(values, Tensor):
            return values
        if not self.is_torch:
            return array_api.move_to(values, xp=self.xp, device=self.device)
        is_double = values.dtype == torch.float64
        return values.to(self.device, self.floats[0] if is_double else values.dtype)


def home_of(X: Any) -> Home | None:
    """Return where an array of a user is; None if all is computed as with numpy.

    It is None without ``array_api_dispatch`` of scikit-learn, for numpy, and for lists,
    frames and sparse matrices. Raises TypeError for a tensor that is not a dense array of
    numbers, and for all of them if scikit-learn is older than 1.9. Raises ValueError for
    one that requires gradients, and for complex numbers.
    """
    if not get_config()["array_api_dispatch"]:
        return None
    if array_api is None:
        refuse_other_arrays(X)
        return None
    if not array_api.array_api_compat.is_array_api_obj(X):
        return None
    xp, _, device = array_api.get_namespace_and_device(X)
    if array_api._is_numpy_namespace(xp):
        return None
    if xp.isdtype(X.dtype, "complex floating"):
        # Scikit-learn's validation would drop the imaginary part.
        raise ValueError("Complex data not supported.")
    if isinstance(X, Tensor):
        if X.layout != torch.strided or X.is_meta or X.is_nested:
            kind = "meta" if X.is_meta else "nested" if X.is_nested else str(X.layout)
            raise TypeError(
                f"Dense data is required, but this is a tensor of torch that is {kind}. "
                "Of a sparse tensor, pass X.to_dense(), or a sparse array of SciPy."
            )
        if X.requires_grad:
            raise ValueError(
                "This tensor requires gradients, which would be lost: results of this "
                "estimator have none. Pass X.detach()."
            )
    return Home(xp, device)


def device_name(device: str | torch.device, home: Home | None) -> str | torch.device:
    """Return the device to train on, or its name: "auto" is that of data on a device."""
    if device != "auto" or home is None or not home.is_torch or home.device.type == "cpu":
        return device
    # Sums are computed in double precision.
    return str(home.device) if len(home.floats) > 1 else device


def on_host(X: Any) -> Any:
    """Return an array of another library as one of numpy; anything else as it is."""
    home = home_of(X)
    return X if home is None else home.to_host(X)


def like_input(method: _Method) -> _Method:
    """Let a method of a fitted estimator return arrays of the library of its first one.

    The method may return tensors, arrays of numpy and other results. As scikit-learn has
    it, the data must be of the library and on the device of those of `fit`. But a model
    that was fitted to arrays of numpy takes arrays of all libraries.
    """

    @wraps(method)
    def wrapped(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        if self._fitted_to is not None:
            names = {"attribute": "_fitted_to", "method": method.__name__}
            array_api.check_same_namespace(X, self, **names)
        return like(X, method(self, X, *args, **kwargs))

    return cast(_Method, wrapped)


def of_numpy() -> AbstractContextManager[None]:
    """Let scikit-learn compute by numpy: by its array API, it rounds and refuses more."""
    return config_context(array_api_dispatch=False)


def by_numpy(method: _Method) -> _Method:
    """Let a method compute by numpy, with its first array on the host.

    Results are arrays of the library of this array. A model takes arrays of any library.
    """

    @wraps(method)
    def wrapped(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        data = on_host(X)
        with of_numpy():
            results = method(self, data, *args, **kwargs)
        return like(X, results)

    return cast(_Method, wrapped)


def like(X: Any, results: Any) -> Any:
    """Return results as arrays of the library of X; see `Home.bring`."""
    home = home_of(X)
    return to_numpy(results) if home is None else home.bring(results)


def to_numpy(values: Any) -> Any:
    """Return results as arrays of numpy; see `Home.bring`."""
    if isinstance(values, tuple):
        return tuple(map(to_numpy, values))
    if isinstance(values, Bunch):
        return Bunch(**{name: to_numpy(value) for name, value in values.items()})
    return values.cpu().numpy() if isinstance(values, Tensor) else values
