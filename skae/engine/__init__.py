"""How one step of training is computed: by autograd, or by a program without it.

Nothing else in the package knows which of the two it is: both leave the same gradients.
"""

from skae.engine.compiled import is_compilable
from skae.engine.halves import is_known
from skae.engine.step import AutogradStep, flatten, make_step

__all__ = ["AutogradStep", "flatten", "is_compilable", "is_known", "make_step"]
