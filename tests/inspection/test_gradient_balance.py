"""The display of the gradient balance."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.inspection import GradientBalanceDisplay


@pytest.mark.parametrize("of", ["outputs", "parameters"])
def test_draws_the_history(vae, of):
    display = GradientBalanceDisplay.from_estimator(vae, of=of)
    for line, what in zip(
        [*display.lines_, display.cosine_line_],
        ["reconstruction", "kl", "cosine"],
        strict=True,
    ):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
        np.testing.assert_array_equal(line.get_ydata(), vae.history_[f"grad_{what}_{of}"])
    expected = vae.history_[f"grad_reconstruction_{of}"] / vae.history_[f"grad_kl_{of}"]
    np.testing.assert_array_equal(display.ratio, expected)
    assert display.ax_.get_yscale() == "log"
    assert display.cosine_line_.axes is not display.ax_
    assert display.cosine_line_.axes.get_yscale() == "linear"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["reconstruction", "beta KL", "cosine"]


def test_outputs_and_parameters_differ(vae):
    outputs, parameters = (
        GradientBalanceDisplay.from_estimator(vae, of=of)
        for of in ("outputs", "parameters")
    )
    assert (outputs.kl != parameters.kl).all()


def test_without_a_cosine():
    display = GradientBalanceDisplay(reconstruction=[2.0, 1.0], kl=[1.0, 0.0], name="mine")
    assert display.plot().cosine_line_ is None
    assert len(display.figure_.axes) == 1
    np.testing.assert_array_equal(display.ratio, [2.0, np.inf])
    assert np.isnan(display.lines_[1].get_ydata()[1])
    assert display.lines_[0].get_label() == "mine, reconstruction"


def test_stored_data_are_copies(vae):
    display = GradientBalanceDisplay.from_estimator(vae)
    display.kl[:] = display.reconstruction[:] = display.cosine[:] = 0
    for key in ("grad_kl_outputs", "grad_reconstruction_outputs", "grad_cosine_outputs"):
        assert (vae.history_[key] != 0).all()


def test_two_models_on_the_same_axes(vae):
    _, ax = plt.subplots()
    for name in ("one", "other"):
        display = GradientBalanceDisplay.from_estimator(vae, name=name, ax=ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    kinds = ("reconstruction", "beta KL", "cosine")
    assert labels == [f"{name}, {kind}" for name in ("one", "other") for kind in kinds]
    colors = [line.get_color() for line in ax.get_lines()]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    display.figure_.canvas.draw()


def test_styles_go_to_the_lines(vae):
    display = GradientBalanceDisplay.from_estimator(
        vae, line_kwargs={"lw": 3}, cosine_kwargs={"c": "red"}
    )
    assert [line.get_linewidth() for line in display.lines_] == [3, 3]
    assert display.cosine_line_.get_color() == "red"


def test_refused_models(vae, X):
    with pytest.raises(TypeError, match=r"a KL term, so a Var.*got GaussianAutoencoder"):
        GradientBalanceDisplay.from_estimator(GaussianAutoencoder(max_iter=1).fit(X))
    plain = VariationalAutoencoder(max_iter=1).fit(X)
    with pytest.raises(ValueError, match="fitted with gradient_balance=True"):
        GradientBalanceDisplay.from_estimator(plain)
    with pytest.raises(ValueError, match=r"of must be one of .*'codes'"):
        GradientBalanceDisplay.from_estimator(vae, of="codes")
    assert plt.get_fignums() == []
