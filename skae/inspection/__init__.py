"""Pictures of a fitted model, as scikit-learn's Display classes.

Each display computes its data in ``from_estimator`` and keeps them as attributes;
``plot`` draws them, again and elsewhere if asked to. Matplotlib is imported when something
is drawn: ``pip install skae[plot]``.
"""

from skae.inspection.gradient_balance import GradientBalanceDisplay
from skae.inspection.kl_spectrum import KLSpectrumDisplay
from skae.inspection.latent_space import LatentSpaceDisplay
from skae.inspection.loss_curve import LossCurveDisplay
from skae.inspection.reconstruction import ReconstructionDisplay
from skae.inspection.residual_qq import ResidualQQDisplay
from skae.inspection.scale_profile import ScaleProfileDisplay

__all__ = [
    "GradientBalanceDisplay",
    "KLSpectrumDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
    "ResidualQQDisplay",
    "ScaleProfileDisplay",
]
