"""The display of the KL of each component."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import Normal, kl_divergence

from skae import VariationalAutoencoder
from skae.inspection import KLSpectrumDisplay


@pytest.fixture(name="wide")
def vae_with_inactive_components(X):
    return VariationalAutoencoder(5, beta=1.5, max_iter=20, random_state=0).fit(X)


def test_kl_equals_torch(wide, X):
    display = KLSpectrumDisplay.from_estimator(wide, X)
    mean, std = map(torch.tensor, wide.posterior(X))
    expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).mean(dim=0)
    np.testing.assert_allclose(display.kl, expected.numpy(), rtol=1e-9, atol=1e-12)
    assert 0 < display.active.sum() < 5
    np.testing.assert_array_equal(display.active, expected.numpy() > 0.01)


def test_elbo_is_expected_log_likelihood_minus_the_sum(wide, X):
    """The score subtracts the KL of the spectrum."""
    display = KLSpectrumDisplay.from_estimator(wide, X)
    mean, std = wide.posterior(X)
    rng = np.random.default_rng(0)
    draws = (mean + std * rng.normal(size=mean.shape) for _ in range(400))
    norm = scipy.stats.norm(scale=wide.scale_)
    log_prob = np.mean(
        [norm.logpdf(X - wide.inverse_transform(z)).sum(axis=1) for z in draws]
    )
    assert wide.score(X) == pytest.approx(log_prob - display.kl.sum(), abs=0.05)


def test_bars_are_sorted_and_the_inactive_ones_gray(wide, X):
    display = KLSpectrumDisplay.from_estimator(wide, X, bar_kwargs={"color": "red"})
    heights = [bar.get_height() for bar in display.bars_]
    np.testing.assert_array_equal(heights, np.sort(display.kl)[::-1])
    labels = [int(t.get_text()) for t in display.ax_.get_xticklabels()]
    np.testing.assert_array_equal(display.kl[labels], heights)
    red = [bar.get_facecolor()[:3] == (1, 0, 0) for bar in display.bars_]
    assert sum(red) == display.active.sum()


def test_few_components_are_named_in_words():
    """A label is the number of the component, not a place on the axis."""
    display = KLSpectrumDisplay(kl=[1.0, 3.0]).plot()
    labels = [t.get_text() for t in display.ax_.get_xticklabels()]
    assert labels == ["1", "0"]
    assert display.ax_.get_xlabel() == "Component, the largest KL first"


def test_threshold(wide, X):
    assert KLSpectrumDisplay.from_estimator(wide, X, threshold=1e6).active.sum() == 0


def test_many_components():
    assert KLSpectrumDisplay(kl=np.linspace(0, 1, 100)).plot().active.sum() == 99


def test_deterministic_model_is_refused(ae, X):
    with pytest.raises(TypeError, match=r"posterior.*GaussianAutoencoder"):
        KLSpectrumDisplay.from_estimator(ae, X)
