"""Displays of data whose squares overflow raise an error, and give no warning."""

import numpy as np
import pytest

from skae import VariationalAutoencoder
from skae.inspection import (
    KLSpectrumDisplay,
    ReconstructionDisplay,
    ResidualQQDisplay,
    ScaleProfileDisplay,
)

DATA = np.random.default_rng(0).normal(size=(30, 4))


@pytest.mark.parametrize(
    ("display", "what"),
    [
        (KLSpectrumDisplay, "the squares of their codes"),
        (ReconstructionDisplay, "their squares"),
        (ResidualQQDisplay, "the squares of the residuals"),
        (ScaleProfileDisplay, "their scores"),
    ],
)
def test_overflow(display, what):
    """The error says what overflows."""
    model = VariationalAutoencoder(max_iter=1, random_state=0).fit(DATA)
    with pytest.raises(ValueError, match=f"so large that {what} overflow float64"):
        display.from_estimator(model, DATA * 1e300)
