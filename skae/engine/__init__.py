"""How one step of training is computed: by autograd, or by a program without it.

Nothing else in the package knows which of the two it is: both leave the same gradients.
"""

from skae.engine.step import AutogradStep, make_step

__all__ = ["AutogradStep", "make_step"]
