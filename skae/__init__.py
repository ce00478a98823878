"""Gaussian, Laplace and variational autoencoders as scikit-learn estimators.

The public names are imported on first access, so that ``import skae`` itself does not
import PyTorch. The import registers the joblib backend ``"skae"``, which trains the models
of a search side by side.
"""

import importlib
from typing import TYPE_CHECKING, Any

from joblib import register_parallel_backend

if TYPE_CHECKING:
    from joblib.parallel import ParallelBackendBase

    from skae.estimators.deterministic import GaussianAutoencoder, LaplaceAutoencoder
    from skae.estimators.variational import VariationalAutoencoder
    from skae.persistence import load

__version__ = "0.1.0.dev0"

__all__ = [
    "GaussianAutoencoder",
    "LaplaceAutoencoder",
    "VariationalAutoencoder",
    "load",
]

_HOME = {
    "GaussianAutoencoder": "skae.estimators.deterministic",
    "LaplaceAutoencoder": "skae.estimators.deterministic",
    "VariationalAutoencoder": "skae.estimators.variational",
    "load": "skae.persistence",
}

_PACKAGES = (
    "impute",
    "inspection",
    "likelihoods",
    "model_selection",
    "networks",
    "objectives",
    "onnx",
    "outlier",
    "persistence",
    "recipes",
    "scales",
    "spmd",
)

# What the error says of a name that is no attribute.
_ADVICE = {
    "save": (
        ": use model.save(path), or skae.persistence.save(pipeline, path) for what holds "
        "a model"
    ),
}


def _make_backend(**parameters: Any) -> "ParallelBackendBase":
    """Make the joblib backend that trains models side by side."""
    from skae.model_selection.searches import LockstepBackend

    return LockstepBackend(**parameters)


register_parallel_backend("skae", _make_backend)


def __getattr__(name: str) -> Any:
    """Import a public name on its first access."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"skae.{name}")
    advice = _ADVICE.get(name, "")
    package = importlib.import_module("skae._utils.homes").PACKAGE_OF.get(name)
    if package is not None:
        advice = f": from skae.{package} import {name}"
    raise AttributeError(f"module 'skae' has no attribute {name!r}{advice}")


def __dir__() -> list[str]:
    """List the public names, those that are not imported yet among them."""
    return ["__version__", *__all__, *_PACKAGES]
