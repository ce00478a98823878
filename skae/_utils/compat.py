"""What scikit-learn has since 1.9 only, and what stands for it before.

Callbacks and the arrays of other libraries need 1.9. With an older version, a fit calls no
callback, and a user who asks for one of them gets an error that names 1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, NoReturn, TypeVar

import numpy as np
import sklearn
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import _array_api
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

__all__ = [
    "CallbackContext",
    "CallbackSupportMixin",
    "array_api",
    "check_sample_weight",
    "fit_context",
    "refuse_other_arrays",
    "with_callbacks",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _needs_newer(subject: str) -> str:
    """Return the words for a feature that this scikit-learn does not have."""
    this = f"this is scikit-learn {sklearn.__version__}"
    return f"{subject} scikit-learn 1.9 or newer; {this}."


class NoContext:
    """Stands for scikit-learn's CallbackContext, and calls nothing."""

    def subcontext(self, **kwargs: Any) -> NoContext:
        """Return the context of a part of the fit."""
        return self

    def call_on_fit_task_begin(self, **kwargs: Any) -> None:
        """Do nothing."""

    def call_on_fit_task_end(self, **kwargs: Any) -> bool:
        """Return that the fit goes on."""
        return False


class NoCallbacks:
    """Stands for scikit-learn's CallbackSupportMixin."""

    @property
    def set_callbacks(self) -> NoReturn:
        """Raise AttributeError, which names the version that has callbacks."""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute 'set_callbacks': "
            + _needs_newer("callbacks need"),
            name="set_callbacks",
            obj=self,
        )

    def _init_callback_context(self, **kwargs: Any) -> NoContext:
        """Return a context that calls nothing."""
        return NoContext()


def _unchanged(method: _Method) -> _Method:
    """Stand for scikit-learn's decorator with_callbacks."""
    return method


try:
    from sklearn.callback import CallbackContext, CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:
    CallbackContext, CallbackSupportMixin = NoContext, NoCallbacks
    _with_callbacks = _unchanged

# Scikit-learn has no types. With these, a decorated method keeps its own.
with_callbacks: Callable[[_Method], _Method] = _with_callbacks


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Method], _Method]:
    """Return scikit-learn's decorator that validates parameters."""
    decorator: Callable[[_Method], _Method] = _fit_context(
        prefer_skip_nested_validation=prefer_skip_nested_validation
    )
    return decorator


# Scikit-learn's functions for the arrays of other libraries; None if some are missing.
array_api: Any = _array_api if hasattr(_array_api, "check_same_namespace") else None


def refuse_other_arrays(X: Any) -> None:
    """Raise TypeError for a tensor, or an array of another library than numpy."""
    is_other = hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray)
    if is_other or isinstance(X, Tensor):
        raise TypeError(
            _needs_newer("With array_api_dispatch=True, arrays of other libraries need")
            + " Pass an array of numpy."
        )


# Whether scikit-learn refuses such weights by itself.
_CHECKS_ZEROS = "allow_all_zero_weights" in signature(_check_sample_weight).parameters


def check_sample_weight(
    sample_weight: ArrayLike | None,
    X: Any,
    *,
    allow_all_zero_weights: bool = False,
    **kwargs: Any,
) -> np.ndarray:
    """Validate sample weights ``(n,)`` by scikit-learn, and refuse weights all zero."""
    if _CHECKS_ZEROS:
        kwargs["allow_all_zero_weights"] = allow_all_zero_weights
    weight: np.ndarray = _check_sample_weight(sample_weight, X, **kwargs)
    if not (_CHECKS_ZEROS or allow_all_zero_weights or weight.any()):
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight
