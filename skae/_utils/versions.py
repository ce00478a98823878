"""The version of this package."""

import sys


def own_version() -> str:
    """Return the version of skae, which no module below the package may import."""
    version: str = sys.modules["skae"].__version__
    return version
