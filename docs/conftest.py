"""Set-up of the doctests of the pages.

The page add_a_likelihood.rst shows a file of the tests, and imports it as a user would, from
the folder of the file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "likelihoods"))
