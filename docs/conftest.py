"""Set-up of the doctests of the pages.

The page add_a_likelihood.rst shows a file of the tests, and imports this file as a user
would, from its folder.

An example whose training keeps its start is an error: a reader would see a warning.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "likelihoods"))


def pytest_collection_modifyitems(items):
    """Turn the warning of a start that is kept into an error, for pages of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            error = "error:Training did not improve on its start"
            item.add_marker(pytest.mark.filterwarnings(error))
