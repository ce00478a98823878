"""The scores of the benchmark of kinds of columns, and its comparison of samples."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import laplace, logistic, lognorm, nbinom, norm
from sklearn.decomposition import PCA

from benchmarks.kinds.independent import IndependentColumns, independent_negative_binomials
from benchmarks.kinds.masses import (
    GivenCode,
    count_edges,
    decoder,
    importance_bound,
    log_density_of_counts,
    log_mass_of_categories,
    log_mass_of_counts,
)
from benchmarks.kinds.one_hot import OneHot
from benchmarks.kinds.samples import mean_total_variation, total_variation, two_sample_auc
from skae import VariationalAutoencoder
from skae.likelihoods import (
    GaussianLikelihood,
    LaplaceLikelihood,
    LogisticLikelihood,
    MixtureLikelihood,
)

# Units of the features that differ from those of the likelihood.
MEAN, UNIT = 1.5, 2.0
REFERENCES = [
    (GaussianLikelihood(), norm),
    (LaplaceLikelihood(), laplace),
    (LogisticLikelihood(), logistic),
]


def make_given(likelihood, loc, scale, mean=0.0, unit=1.0):
    """Return densities with the location and scale of arrays, (n, d)."""
    log_scale = torch.as_tensor(np.log(scale))
    units = (torch.as_tensor(float(x)) for x in (mean, unit))
    return GivenCode(likelihood, torch.as_tensor(loc), log_scale, *units)


@pytest.fixture(name="counts")
def draw_counts():
    """Draw 60 rows of five dependent counts, many of them 0."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(size=(60, 2)) @ rng.normal(size=(2, 5)))
    return rng.poisson(rate).astype(float)


@pytest.mark.parametrize(("likelihood", "reference"), REFERENCES)
def test_mass_of_counts_is_that_of_scipy(likelihood, reference, counts):
    """The mass of a count is a difference of scipy's distribution functions."""
    rng = np.random.default_rng(1)
    loc = (counts - MEAN) / UNIT + rng.normal(size=counts.shape)
    scale = rng.uniform(0.3, 2, size=counts.shape)
    given = make_given(likelihood, loc, scale, MEAN, UNIT)
    low = np.where(counts == 0, -np.inf, counts - 0.5)
    frozen = reference(MEAN + UNIT * loc, UNIT * scale)
    # In the upper tail, differences of the survival function keep their digits.
    mass = np.maximum(
        frozen.cdf(counts + 0.5) - frozen.cdf(low), frozen.sf(low) - frozen.sf(counts + 0.5)
    )
    expected = np.log(mass).sum(axis=1)
    np.testing.assert_allclose(log_mass_of_counts(given, counts), expected, rtol=1e-9)


@pytest.mark.parametrize("component", ["gaussian", "laplace", "logistic"])
def test_mass_of_mixture_is_an_integral_of_its_density(component):
    """The mass of an interval is the integral of the density that skae trains."""
    rng = np.random.default_rng(2)
    likelihood = MixtureLikelihood(3, component)
    outputs = torch.as_tensor(rng.normal(size=(1, 3 * 3 * 2)))
    loc, scale = rng.normal(size=(1, 2)), rng.uniform(0.5, 1, size=(1, 2))
    given = make_given(likelihood.given(outputs), loc, scale, MEAN, UNIT)
    for low, high in ((-np.inf, 0.5), (2.5, 3.5), (20.0, np.inf)):
        mass = given.mass(np.full((1, 2), low), np.full((1, 2), high))[0]
        for i in range(2):

            def density(x, i=i):
                return math.exp(given.log_density(np.full((1, 2), x))[0, i])

            expected, _ = quad(density, max(low, -80), min(high, 100), limit=500)
            assert mass[i] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("log1p", [False, True])
def test_masses_of_counts_add_up(log1p):
    """The masses of all counts of a column add up to 1."""
    values = np.arange(3000.0)[:, None]
    given = make_given(GaussianLikelihood(), np.array([[1.0]]), np.array([[0.7]]))
    total = np.exp(log_mass_of_counts(given, values, log1p)).sum()
    assert total == pytest.approx(1, abs=1e-9)


def test_mass_of_distant_count():
    """A mass far out in the upper tail is as exact as one in the lower tail."""
    given = make_given(GaussianLikelihood(), np.zeros((1, 1)), np.ones((1, 1)))
    found = log_mass_of_counts(given, np.array([[20.0]]))[0]
    expected = norm.logsf(19.5) + math.log1p(-math.exp(norm.logsf(20.5) - norm.logsf(19.5)))
    assert found == pytest.approx(expected, rel=1e-12)


def test_density_of_counts_has_the_jacobian(counts):
    """The density of x, if log(1 + x) is normal, is scipy's shifted log-normal density."""
    own = norm(0.4, 0.8).logpdf(np.log1p(counts)).sum(axis=1)
    expected = lognorm(0.8, loc=-1, scale=math.exp(0.4)).logpdf(counts).sum(axis=1)
    np.testing.assert_allclose(log_density_of_counts(own, counts), expected, rtol=1e-12)


def test_density_of_smooth_counts_is_near_their_mass():
    """With a scale of many units, density and mass agree, with and without logarithms."""
    counts = np.array([[40.0], [60.0], [90.0]])
    given = make_given(GaussianLikelihood(), np.array([[55.0]]), np.array([[20.0]]))
    own = given.log_density(counts).sum(axis=1)
    np.testing.assert_allclose(log_mass_of_counts(given, counts), own, atol=1e-3)
    given = make_given(GaussianLikelihood(), np.array([[4.0]]), np.array([[0.5]]))
    own = given.log_density(np.log1p(counts)).sum(axis=1)
    np.testing.assert_allclose(
        log_mass_of_counts(given, counts, log1p=True),
        log_density_of_counts(own, counts),
        atol=1e-3,
    )


def test_edges_of_counts():
    """A count is rounded from the interval around it; 0 is all that is below 1/2."""
    low, high = count_edges(np.array([0.0, 1.0, 7.0]))
    assert low.tolist() == [-np.inf, 0.5, 6.5]
    assert high.tolist() == [0.5, 1.5, 7.5]


def test_mass_of_two_categories_is_exact():
    """The larger of two normal columns follows from the normal density of a difference."""
    rng = np.random.default_rng(3)
    loc, scale = rng.uniform(-0.5, 1.5, size=(8, 2)), rng.uniform(0.3, 0.9, size=(8, 2))
    given = make_given(GaussianLikelihood(), loc, scale)
    X = np.eye(2)[rng.integers(2, size=8)]
    difference = norm(loc[:, 0] - loc[:, 1], np.hypot(scale[:, 0], scale[:, 1]))
    expected = np.where(X[:, 0] == 1, difference.sf(0), difference.cdf(0))
    found = log_mass_of_categories(given, X, [slice(0, 2)])
    np.testing.assert_allclose(np.exp(found), expected, atol=2e-3)


@pytest.mark.parametrize(("likelihood", "reference"), REFERENCES)
def test_mass_of_categories_is_a_frequency(likelihood, reference):
    """The mass of each category is its frequency among decoded draws, in each group."""
    loc = np.array([[0.2, 0.7, 0.4, 3.0, 0.9, 0.1]])
    scale = np.array([[0.3, 0.4, 0.8, 1.0, 0.5, 0.35]])
    groups = [slice(0, 3), slice(4, 6)]  # one column is a number
    draws = reference(loc, scale).rvs(size=(200_000, 6), random_state=0)
    total = 0.0
    for first in range(3):
        for second in range(2):
            X = np.zeros((1, 6))
            X[0, first] = X[0, 4 + second] = 1
            given = make_given(likelihood, loc, scale)
            mass = math.exp(log_mass_of_categories(given, X, groups)[0])
            is_first = draws[:, :3].argmax(axis=1) == first
            is_second = draws[:, 4:].argmax(axis=1) == second
            assert mass == pytest.approx((is_first & is_second).mean(), abs=6e-3)
            total += mass
    assert total == pytest.approx(1)


@pytest.mark.parametrize("prior", [None, "mixture"])
def test_importance_bound_is_that_of_skae(prior):
    """With the density of the model in the place of a mass, the bound is log p(x)."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(200, 1)) @ [[1.0, 2.0, 3.0]] + 0.5 * rng.normal(size=(200, 3))
    model = VariationalAutoencoder(
        1, hidden_layer_sizes=(), prior=prior, max_iter=200, random_state=0
    ).fit(X)
    bound = importance_bound(model, X, lambda given: given.log_density(X).sum(axis=1), 200)
    np.testing.assert_allclose(bound, model.log_marginal(X, 2048), atol=0.1)
    assert bound.mean() == pytest.approx(model.log_marginal(X, 2048).mean(), abs=5e-3)
    if prior is None:
        assert bound.mean() == pytest.approx(PCA(1).fit(X).score(X), abs=5e-2)


def test_decoder_has_the_units_of_the_data():
    """The mean of the densities given a code is what the model decodes."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(100, 4)) * [1, 10, 100, 0.1] + [0, 5, -3, 2]
    model = VariationalAutoencoder(
        2, covariance_type="diag", variance_mode="predicted", max_iter=5, random_state=0
    ).fit(X)
    Z = rng.normal(size=(6, 2))
    given = decoder(model)(Z)
    centre = model.inverse_transform(Z)
    half = given.mass(np.full_like(centre, -np.inf), centre)
    np.testing.assert_allclose(half, 0.5, atol=1e-5)


def test_independent_negative_binomials(counts):
    """Each column has its mean, and no other size has a larger likelihood."""
    scores = independent_negative_binomials(counts, counts)
    means = counts.mean(axis=0)
    for factor in (0.3, 0.7, 1.5, 4.0):
        size = factor * np.square(means) / np.maximum(counts.var(axis=0) - means, 1e-3)
        other = nbinom(size, size / (size + means)).logpmf(counts).sum()
        assert scores.sum() >= other - 1e-6
    # A column without counts leaves a count of the test rows possible.
    unseen = np.column_stack([counts, np.zeros(len(counts))])
    assert np.isfinite(independent_negative_binomials(unseen, unseen + 1)).all()


def test_independent_columns(frame):
    """The score is the sum of the scores of the columns, and samples have their values."""
    rows, _ = frame
    model = IndependentColumns(["size"], ["rings"], ["alive", "sex"]).fit(rows)
    alone = [
        IndependentColumns(["size"], [], []).fit(rows).score_samples(rows),
        independent_negative_binomials(
            rows[["rings"]].to_numpy(), rows[["rings"]].to_numpy()
        ),
    ]
    for name in ("alive", "sex"):
        n = rows[name].map(rows[name].value_counts()).to_numpy(float)
        alone.append(np.log((n + 0.5) / (50 + 0.5 * rows[name].nunique())))
    np.testing.assert_allclose(model.score_samples(rows), np.sum(alone, axis=0))
    sample = model.sample(2000, random_state=0)
    pd.testing.assert_series_equal(sample.dtypes, rows.dtypes)
    assert total_variation(sample["sex"], rows["sex"]) < 0.05


@pytest.fixture(name="frame")
def make_frame():
    """Make a table with all kinds of columns, and its description."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=50),
            "rings": rng.poisson(3, size=50),
            "alive": rng.integers(2, size=50),
            "sex": pd.Categorical(rng.choice(["F", "I", "M"], size=50)),
        }
    )
    table = SimpleNamespace(
        numbers={"size": 0.0}, counts=("rings",), flags=("alive",), categories=("sex",)
    )
    return frame, table


def test_one_hot_and_back(frame):
    """Decoding returns the table, also after noise that leaves the largest column."""
    rows, table = frame
    encoding = OneHot(table, rows)
    X = encoding.encode(rows)
    assert X.shape == (50, 7)
    np.testing.assert_array_equal(X[:, 2:4].sum(axis=1), 1)
    np.testing.assert_array_equal(X[:, 4:] == 1, pd.get_dummies(rows["sex"]))
    assert encoding.is_valid(X).all()
    noise = np.random.default_rng(7).uniform(-0.49, 0.49, size=X.shape)
    noise[:, 0] = 0
    pd.testing.assert_frame_equal(encoding.decode(X + noise), rows)


def test_rows_that_need_decoding(frame):
    """Rows with two levels, with none, or with a negative count are not valid."""
    rows, table = frame
    encoding = OneHot(table, rows)
    X = encoding.encode(rows)[:4]
    X[0, 4:] = [1, 1, 0]
    X[1, 2:4] = 0.3
    X[2, 1] = -1.2
    assert encoding.is_valid(X).tolist() == [False, False, False, True]
    assert encoding.decode(X)["rings"][2] == 0
    noise = encoding.noise(4, np.random.default_rng(0))
    assert (noise[:, 0] == 0).all()
    assert (noise[:, 1:] > 0).all()


def test_total_variation():
    """The distance is half the sum of differences, levels that one table lacks included."""
    first, second = pd.Series(["a", "a", "b", "c"]), pd.Series(["a", "b", "b", "d"])
    assert total_variation(first, second) == pytest.approx(0.5)
    assert total_variation(first, first[::-1]) == 0
    assert total_variation(first, pd.Series(["e"])) == 1
    frames = (pd.DataFrame({"x": x, "y": first}) for x in (first, second))
    assert mean_total_variation(*frames, ["x", "y"]) == pytest.approx(0.25)


def test_classifier_tells_tables_apart():
    """The area is about 1/2 for rows of one table, and larger for a changed category."""
    rng = np.random.default_rng(8)

    def draw(shares):
        levels = pd.Categorical(rng.choice(["a", "b"], 400, p=shares), ["a", "b"])
        return pd.DataFrame({"x": rng.normal(size=400), "y": levels})

    assert two_sample_auc(draw([0.5, 0.5]), draw([0.5, 0.5]), 0) == pytest.approx(
        0.5, abs=0.1
    )
    assert two_sample_auc(draw([0.05, 0.95]), draw([0.95, 0.05]), 0) > 0.9
