"""Observed beside imputed values."""

import numpy as np
import pandas as pd
import pytest

from skae import GaussianAutoencoder
from skae.inspection import ImputationDisplay


def test_points_are_the_values_in_standard_deviations(vae, X):
    holes = X.copy()
    holes[::3, 1] = np.nan
    holes[::5, 4] = np.nan
    display = ImputationDisplay.from_estimator(vae, holes)
    assert display.columns_.tolist() == [1, 4]
    np.testing.assert_array_equal(display.missing, np.isnan(holes))
    np.testing.assert_array_equal(
        display.filled, vae.impute(holes, n_samples=1, random_state=0)[0]
    )
    for artist, mask in (
        (display.observed_, ~np.isnan(holes)),
        (display.imputed_, np.isnan(holes)),
    ):
        expected = []
        for column in (1, 4):
            observed = holes[~np.isnan(holes[:, column]), column]
            own = display.filled[mask[:, column], column]
            expected.append((own - observed.mean()) / observed.std())
        np.testing.assert_allclose(artist.get_ydata(), np.concatenate(expected))
    # The strips of one column do not overlap.
    assert (display.observed_.get_xdata() % 1 > 0.5).all()
    assert (display.imputed_.get_xdata() % 1 < 0.5).all()


def test_names_and_most_columns(X):
    rng = np.random.default_rng(0)
    wide = np.hstack([X, X + rng.normal(size=X.shape), X - rng.normal(size=X.shape)])
    mask = rng.random(wide.shape) < np.linspace(0.05, 0.4, wide.shape[1])
    frame = pd.DataFrame(np.where(mask, np.nan, wide)).add_prefix("column ")
    model = GaussianAutoencoder(2, max_iter=2, random_state=0).fit(frame)
    display = ImputationDisplay.from_estimator(model, frame, statistic="median")
    assert len(display.columns_) == 12
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == [f"column {j}" for j in display.columns_]
    fewest = mask.sum(axis=0)[display.columns_].min()
    assert fewest >= np.sort(mask.sum(axis=0))[-12]


def test_nothing_to_draw(vae, X):
    with pytest.raises(ValueError, match="no missing values"):
        ImputationDisplay.from_estimator(vae, X)
    with pytest.raises(ValueError, match="statistic"):
        ImputationDisplay.from_estimator(vae, X, statistic="mode")


@pytest.mark.parametrize(
    ("n_with", "label"),
    [(12, "Column"), (15, "Column (12 of 15, those with the most missing values)")],
)
def test_the_axis_says_if_columns_are_left_out(n_with, label):
    missing = np.zeros((9, 20), bool)
    missing[0, :n_with] = True
    filled = np.random.default_rng(0).normal(size=missing.shape)
    display = ImputationDisplay(filled=filled, missing=missing).plot()
    assert display.ax_.get_xlabel() == label
