"""The parts of the density benchmark that are models or files of their own."""

import json

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from benchmarks.densities.factor_analysers import MixtureOfFactorAnalysers
from benchmarks.records import Records


@pytest.fixture(name="clusters")
def draw_clusters():
    """Draw three clusters of 200 rows, each near a plane, in five features."""
    rng = np.random.default_rng(0)
    parts = [
        rng.normal(size=5)
        + rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5))
        + 0.3 * rng.normal(size=(200, 5))
        for _ in range(3)
    ]
    return np.concatenate(parts)


def test_log_density_is_that_of_normals(clusters):
    """The density is that of a mixture of scipy's normals, with the same parameters."""
    model = MixtureOfFactorAnalysers(3, 2, random_state=0).fit(clusters)
    log_joint = [
        np.log(weight)
        + multivariate_normal(mean, loadings @ loadings.T + np.diag(noise)).logpdf(clusters)
        for weight, mean, loadings, noise in zip(
            model.weights_, model.means_, model.loadings_, model.noise_, strict=True
        )
    ]
    expected = logsumexp(log_joint, axis=0)
    np.testing.assert_allclose(model.score_samples(clusters), expected, rtol=1e-10)
    assert model.weights_.sum() == pytest.approx(1)
    assert model.score(clusters) == pytest.approx(expected.mean())


def test_likelihood_never_decreases(clusters):
    """Each iteration of EM increases the likelihood, which ends at a stationary point."""
    model = MixtureOfFactorAnalysers(3, 2, tol=1e-8, max_iter=2000, random_state=0)
    history = np.array(model.fit(clusters).history_)
    assert len(history) > 10
    assert np.diff(history).min() > -1e-10
    log_joint = model._log_joint(clusters)
    shares = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    means = shares.T @ clusters / shares.sum(axis=0)[:, None]
    np.testing.assert_allclose(means, model.means_, atol=1e-3)


def test_one_component_is_factor_analysis():
    """With one component, the optimum is that of scikit-learn's factor analysis."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 6))
    X = rng.normal(size=(500, 2)) @ loadings + rng.normal(size=(500, 6))
    model = MixtureOfFactorAnalysers(1, 2, min_noise=1e-9, tol=1e-10, max_iter=5000)
    reference = FactorAnalysis(2, tol=1e-6, max_iter=5000).fit(X)
    assert model.fit(X).score(X) == pytest.approx(reference.score(X), abs=1e-6)
    np.testing.assert_allclose(model.noise_[0], reference.noise_variance_, rtol=1e-2)


def test_smallest_noise(clusters):
    """The noise stays at its floor where a feature is constant."""
    X = np.column_stack([clusters, np.ones(len(clusters))])
    model = MixtureOfFactorAnalysers(2, 2, min_noise=0.01, random_state=0).fit(X)
    np.testing.assert_allclose(model.noise_[:, -1], 0.01)
    assert np.isfinite(model.score(X))


def test_records(tmp_path):
    """The last result of a key counts, and a file of two processes stays readable."""
    records, others = (Records(tmp_path / "a.jsonl", ("x", "y")) for _ in range(2))
    assert records.read() == []
    assert not records.has(x=1, y="a")
    records.append({"x": 1, "y": "a", "score": 0.1})
    others.append({"x": 2, "y": "a", "score": 0.2})
    others.append({"x": 1, "y": "a", "score": 0.3})
    assert records.has(x=1, y="a")
    assert not records.has(x=1, y="b")
    assert {(r["x"], r["score"]) for r in records.read()} == {(1, 0.3), (2, 0.2)}
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in lines] == [0.1, 0.2, 0.3]
