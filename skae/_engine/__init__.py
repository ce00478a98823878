"""One gradient step: analytic for the built-in parts, by autograd for all others.

Both kinds of step leave the same gradients, so no other module depends on the kind.
"""

from skae._engine.graphed_step import Captures
from skae._engine.step import AutogradStep, flatten, make_step

__all__ = ["AutogradStep", "Captures", "flatten", "make_step"]
