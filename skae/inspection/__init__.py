"""Plots of a fitted model, as Display classes in scikit-learn's convention.

Each display computes its data in ``from_estimator`` and stores them as attributes;
``plot`` can draw them again, on other axes. Matplotlib is needed to draw, and only then
imported: ``pip install 'skae[plot]'``.
"""

from skae.inspection.feature_scores import FeatureScoresDisplay
from skae.inspection.gradient_balance import GradientBalanceDisplay
from skae.inspection.imputation import ImputationDisplay
from skae.inspection.kl_spectrum import KLSpectrumDisplay
from skae.inspection.latent_space import LatentSpaceDisplay
from skae.inspection.loss_curve import LossCurveDisplay
from skae.inspection.reconstruction import ReconstructionDisplay
from skae.inspection.residual_qq import ResidualQQDisplay
from skae.inspection.scale_profile import ScaleProfileDisplay

__all__ = [
    "FeatureScoresDisplay",
    "GradientBalanceDisplay",
    "ImputationDisplay",
    "KLSpectrumDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
    "ResidualQQDisplay",
    "ScaleProfileDisplay",
]


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
