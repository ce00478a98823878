"""Random estimators, hostile tables and faults, and the contract of each fit."""

import os

# One of the settings under which fits are repeated is scikit-learn's array API. SciPy reads
# this variable at its first import.
os.environ["SCIPY_ARRAY_API"] = "1"
