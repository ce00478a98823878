"""One gradient step: written out for the built-in parts, by autograd for all others.

Both kinds of step leave the same gradients, so no other module depends on which it is.
"""

from skae._engine.step import AutogradStep, flatten, make_step

__all__ = ["AutogradStep", "flatten", "make_step"]
