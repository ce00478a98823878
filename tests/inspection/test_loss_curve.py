"""The display of the loss curve."""

import numpy as np
import pytest

from skae import VariationalAutoencoder
from skae.inspection import LossCurveDisplay


def test_draws_the_objective(ae):
    display = LossCurveDisplay.from_estimator(ae)
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
    np.testing.assert_array_equal(line.get_ydata(), ae.loss_curve_)
    assert display.validation_loss is None
    assert line.get_label() == "GaussianAutoencoder, training objective"


def test_draws_minus_the_validation_score(X):
    vae = VariationalAutoencoder(2, max_iter=30, random_state=0)
    vae.fit(X[:90], X_val=X[90:])
    display = LossCurveDisplay.from_estimator(vae, name="mine")
    training, validation = display.lines_
    assert validation.get_color() == training.get_color()
    np.testing.assert_array_equal(validation.get_ydata(), -vae.history_["validation_score"])
    # The validation score has 8 draws, the score has 32.
    last = validation.get_ydata()[-1]
    assert last == pytest.approx(-vae.score(X[90:]), abs=0.05)


def test_stored_data_are_copies(ae):
    display = LossCurveDisplay.from_estimator(ae)
    display.loss[:] = 0
    assert not (ae.history_["objective"] == 0).any()


def test_styles_go_to_the_lines(ae):
    display = LossCurveDisplay.from_estimator(ae, line_kwargs={"c": "red", "lw": 3})
    (line,) = display.lines_
    assert (line.get_color(), line.get_linewidth()) == ("red", 3)


def test_data_are_taken_and_not_used(ae):
    """Other displays take X, so this one does."""
    display = LossCurveDisplay.from_estimator(ae, np.zeros((3, 2)))
    np.testing.assert_array_equal(display.loss, ae.history_["objective"])
