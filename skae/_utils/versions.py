"""The versions of the packages that decide whether a saved model can be read."""

import importlib

import sklearn
import torch


def current_versions() -> dict[str, str]:
    """Return the versions of skae, scikit-learn and torch, by the names on PyPI."""
    return {
        # To the check of layers, an import would be one of all that skae exports.
        "skae": importlib.import_module("skae").__version__,
        "scikit-learn": sklearn.__version__,
        # Torch's own string is an object of torch.
        "torch": str(torch.__version__),
    }


def in_words(versions: dict[str, str]) -> str:
    """Return versions as text, such as "skae 0.1.0, scikit-learn 1.9.1"."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
