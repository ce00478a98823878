"""The convention of scikit-learn's displays, for all displays."""

import inspect
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import inspection
from skae.inspection import (
    FeatureScoresDisplay,
    GradientBalanceDisplay,
    ImputationDisplay,
    KLSpectrumDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    ResidualQQDisplay,
    ScaleProfileDisplay,
)

DISPLAYS = [getattr(inspection, name) for name in inspection.__all__]
every_display = pytest.mark.parametrize("display", DISPLAYS)
# All displays, with arguments for each kind of plot.
PICTURES = {
    "loss curve": (LossCurveDisplay, {}),
    "gradient balance": (GradientBalanceDisplay, {}),
    "KL spectrum": (KLSpectrumDisplay, {}),
    "codes": (LatentSpaceDisplay, {}),
    "codes by class": (LatentSpaceDisplay, {"y": np.arange(120) % 3}),
    "codes by number": (LatentSpaceDisplay, {"y": np.linspace(0.1, 0.7, 120)}),
    "decoded grid": (LatentSpaceDisplay, {"image_shape": (2, 3)}),
    "colour grid": (LatentSpaceDisplay, {"image_shape": (1, 2, 3)}),
    "images": (ReconstructionDisplay, {"image_shape": (2, 3)}),
    "colour images": (ReconstructionDisplay, {"image_shape": (1, 2, 3)}),
    "table": (ReconstructionDisplay, {}),
    "residuals": (ResidualQQDisplay, {}),
    "scale profile": (ScaleProfileDisplay, {}),
    "imputed values": (ImputationDisplay, {}),
    "imputed means": (ImputationDisplay, {"statistic": "mean"}),
    "scores of features": (FeatureScoresDisplay, {}),
    "scores of a row": (FeatureScoresDisplay, {"row": 3, "max_features": 2}),
}
every_picture = pytest.mark.parametrize(
    ("display", "kwargs"), PICTURES.values(), ids=PICTURES
)


# The displays of the history of a fit, which need no data.
OF_THE_HISTORY = (LossCurveDisplay, GradientBalanceDisplay)


def draw(display, estimator, X, **kwargs):
    if display is ImputationDisplay:
        hidden = np.arange(len(X))[:, None] % 3 == np.arange(6) % 3
        X = np.where(hidden, np.nan, X)
    data = () if display in OF_THE_HISTORY else (X,)
    return display.from_estimator(estimator, *data, **kwargs)


def test_every_display_is_drawn_here():
    assert {display for display, _ in PICTURES.values()} == set(DISPLAYS)


@every_picture
def test_draws_on_a_figure_of_its_own(display, kwargs, vae, X):
    """And the stored data again on another one."""
    before = dict(mpl.rcParams)
    drawn = draw(display, vae, X, **kwargs)
    assert isinstance(drawn, display)
    assert plt.get_fignums() == [1]
    assert drawn.figure_ is plt.figure(1)
    assert drawn.ax_ in drawn.figure_.axes
    drawn.figure_.canvas.draw()
    assert dict(mpl.rcParams) == before
    first, stored = drawn.ax_, dict(vars(drawn))
    assert drawn.plot() is drawn
    assert drawn.ax_ is not first
    for name in inspect.signature(display).parameters:
        assert getattr(drawn, name) is stored[name]


@every_picture
def test_draws_a_table_with_holes(display, kwargs, vae, X):
    """What is missing is left out; the data of a display have no other NaN."""
    X = np.where(np.arange(X.size).reshape(X.shape) % 7 == 3, np.nan, X)
    drawn = draw(display, vae, X, **kwargs)
    drawn.figure_.canvas.draw()
    for name, value in vars(drawn).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and name != "X":
            assert np.isfinite(value).all(), name


@every_picture
def test_draws_on_the_given_axes_only(display, kwargs, vae, X):
    figure, (left, right) = plt.subplots(1, 2)
    before, other = dict(mpl.rcParams), len(right.get_children())
    drawn = draw(display, vae, X, ax=left, **kwargs)
    assert drawn.ax_ is left
    assert drawn.figure_ is figure
    assert len(right.get_children()) == other
    assert plt.get_fignums() == [1]
    assert dict(mpl.rcParams) == before
    figure.canvas.draw()


# One picture of each display: its kinds of plot share the figure.
@pytest.mark.parametrize(
    ("display", "kwargs"), {picture[0]: picture for picture in PICTURES.values()}.values()
)
def test_draws_in_a_subfigure(display, kwargs, vae, X):
    figure = plt.figure()
    drawn = draw(display, vae, X, ax=figure.subfigures(1, 2)[0].subplots(), **kwargs)
    assert drawn.figure_ is figure


@every_display
def test_constructor_only_stores(display):
    parameters = inspect.signature(display).parameters
    given = {name: object() for name in parameters}
    assert vars(display(**given)) == given
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())


@every_display
def test_not_fitted(display, vae, X):
    with pytest.raises(NotFittedError):
        draw(display, clone(vae), X)
    with pytest.raises(NotFittedError):
        draw(display, make_pipeline(StandardScaler(), clone(vae)), X)
    assert plt.get_fignums() == []


@every_display
def test_model_in_a_pipeline_and_in_a_search(display, vae, X):
    """The display equals that of the model alone on the transformed data."""
    pipeline = make_pipeline(StandardScaler(), clone(vae)).fit(X)
    search = GridSearchCV(pipeline, {"variationalautoencoder__beta": [1.0]}, cv=2).fit(X)
    alone = draw(display, pipeline[-1], pipeline[0].transform(X))
    for estimator in (pipeline, search):
        drawn = draw(display, estimator, X)
        for name in inspect.signature(display).parameters:
            if display is ReconstructionDisplay or name.endswith("values"):
                continue  # in the units of X: see test_reconstruction, test_feature_scores
            np.testing.assert_equal(getattr(drawn, name), getattr(alone, name))


@pytest.mark.parametrize(
    "display",
    [
        LossCurveDisplay,
        GradientBalanceDisplay,
        KLSpectrumDisplay,
        ResidualQQDisplay,
        ScaleProfileDisplay,
        FeatureScoresDisplay,
    ],
)
def test_other_models_are_refused_by_name(display, X):
    with pytest.raises(TypeError, match=f"{display.__name__} needs .*got StandardScaler"):
        draw(display, StandardScaler().fit(X), X)


@every_display
def test_without_matplotlib(display, vae, X, monkeypatch):
    # A module that is None in sys.modules cannot be imported.
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"from_estimator needs .* 'skae\[plot\]'"):
        draw(display, vae, X)
    stored = dict.fromkeys(inspect.signature(display).parameters)
    with pytest.raises(ImportError, match=r"plot needs .* 'skae\[plot\]'"):
        display(**stored).plot()


def test_imports_are_lazy():
    code = (
        "import sys, skae\n"
        "assert not {'torch', 'matplotlib', 'skae.inspection'} & set(sys.modules)\n"
        "skae.inspection.LossCurveDisplay\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
