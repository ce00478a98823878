"""Set-up of the doctests of the pages.

The page add_a_likelihood.rst shows a file of the tests, and imports this file as a user
would, from its folder.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "likelihoods"))
