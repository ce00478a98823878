"""Fits with likelihoods of amounts, counts, flags and categories."""

import copy
import pickle

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from skae import VariationalAutoencoder
from skae._data import dense
from skae.estimators.table import Table
from skae.likelihoods import (
    LIKELIHOODS,
    CategoricalLikelihood,
    Mixed,
    StudentTLikelihood,
)
from skae.model_selection import BatchedGridSearchCV
from skae.recipes import (
    make_density_estimator,
    make_imputation_estimator,
    make_outlier_estimator,
)
from skae.scales import fits, legal_combinations
from tests.estimators.checks import checks_of
from tests.families import GENERALIZED_LINEAR, table
from tests.helpers import assert_finite, assert_same_answers, ignore_floor, weights

FAMILIES = sorted([*GENERALIZED_LINEAR, "log_normal", "mixed", "student_t"])
every_family = pytest.mark.parametrize("name", FAMILIES)


def model(name, **parameters):
    parameters = {"max_iter": 5, "random_state": 0, **parameters}
    return VariationalAutoencoder(2, likelihood=name, **parameters)


@pytest.mark.parametrize(
    ("name", "missing"),
    # Complete data in turns: all other tests have them.
    [(name, True) for name in FAMILIES] + [(name, False) for name in FAMILIES[::2]],
)
def test_fit_improves_and_all_methods_work(name, missing):
    X = table(name, 400)
    if missing:
        X[np.random.default_rng(1).uniform(size=X.shape) < 0.2] = np.nan
    vae = model(name, max_iter=30).fit(X)
    empty = model(name, max_iter=20, beta=100.0)
    with pytest.warns(ConvergenceWarning, match="No component of the code is active"):
        empty.fit(X)
    # A continuous Bernoulli variable has nearly the variance of a uniform one, so there is
    # little that a code can explain; one of flags explains some of their entropy.
    gain = {"continuous_bernoulli": -0.01, "bernoulli": 0.03}.get(name, 0.1)
    assert vae.score(X) > empty.score(X) + gain
    # The other methods work row by row.
    X = X[:100]
    assert (vae.log_marginal(X) >= vae.score_samples(X) - 1e-3).mean() > 0.8
    if name != "mixed":
        assert_finite(vae, X)
    vae.sample(3, random_state=0, noise=False)
    filled = vae.impute(X)
    known = ~np.isnan(X)
    assert np.array_equal(filled[known], X[known])
    assert not np.isnan(filled).any()
    assert vae.impute(X, n_samples=3).shape == (3, *X.shape)
    median = vae.impute(X, statistic="median")
    if name in ("categorical", "bernoulli", "poisson", "negative_binomial"):
        draws = vae.impute(X, n_samples=2)
        assert set(np.unique(draws)) <= set(np.unique(X[known])) | set(range(100))
    assert not np.isnan(median).any()


@every_family
def test_parts_of_the_score_add_up(name):
    X = table(name)
    X[3, 2] = X[5, :] = np.nan
    vae = model(name).fit(X)
    parts, kl = vae.score_features(X, return_kl=True)
    assert parts.shape == X.shape
    np.testing.assert_allclose(
        parts.sum(axis=1) - kl, vae.score_samples(X), rtol=0, atol=1e-9
    )
    assert parts[3, 2] == 0
    assert (parts[5] == 0).all()
    assert kl[5] == 0
    np.testing.assert_array_equal(vae.score_features(X), parts)


@every_family
def test_fits_repeat_copy_and_pickle(name):
    X = table(name)
    vae, twin = model(name).fit(X), clone(model(name)).fit(X)
    assert weights(vae) == weights(twin)
    if name != "mixed":
        assert_same_answers(vae, twin, X)
        assert_same_answers(vae, pickle.loads(pickle.dumps(vae)), X)
        assert_same_answers(vae, copy.deepcopy(vae), X)
    shuffled = np.random.default_rng(0).permutation(len(X))
    other = model(name).fit(X[shuffled])
    np.testing.assert_allclose(other.score(X), vae.score(X), rtol=1e-12)


@ignore_floor
@every_family
@pytest.mark.parametrize("variance_mode", ["auto", "predicted"])
def test_search_side_by_side_equals_one_by_one(name, variance_mode):
    if variance_mode == "predicted" and name != "mixed":
        likelihood = LIKELIHOODS[name]()
        if not fits("predicted", likelihood):
            pytest.skip("has no scale")
    X, grid = table(name, 120), {"beta": [0.5, 1.0, 2.0]}
    estimator = model(name, variance_mode=variance_mode, precision="float64")
    keywords = {"cv": 2, "error_score": "raise", "refit": False}
    together = BatchedGridSearchCV(estimator, grid, **keywords).fit(X)
    alone = GridSearchCV(estimator, grid, **keywords).fit(X)
    np.testing.assert_allclose(
        together.cv_results_["mean_test_score"],
        alone.cv_results_["mean_test_score"],
        rtol=1e-9,
    )


@ignore_floor
@every_family
def test_models_side_by_side_are_one_group(name, counted):
    X = table(name, 120)
    keywords = {"cv": 2, "error_score": "raise", "refit": False}
    BatchedGridSearchCV(model(name), {"beta": [0.5, 2.0]}, **keywords).fit(X)
    assert counted == [4]


@every_family
def test_other_ways_to_train(name):
    """Early stopping, validation data, several starts, float64, warm starts, weights."""
    X = table(name)
    for parameters in (
        {"early_stopping": True},
        {"n_init": 2},
        {"init": "random"},
        {"precision": "float64"},
        {"n_mc_samples": 2},
        {"hidden_layer_sizes": ()},
        {"prior": "mixture"},
        {"covariance_type": "diag"},
        {"n_components": "auto"},
    ):
        vae = model(name).set_params(**parameters).fit(X, X_val=X[:20])
        assert np.isfinite(vae.score(X))
        assert np.isfinite(vae.history_["validation_score"]).all()
    vae = model(name, warm_start=True).fit(X).fit(X)
    assert vae.n_iter_ == 10
    weight = np.arange(len(X)) % 3
    weighted = model(name).fit(X, sample_weight=weight)
    repeated = model(name).fit(np.repeat(X, weight, axis=0))
    assert weighted.score(X) == pytest.approx(repeated.score(X), rel=1e-9)


def quadrature(vae, X, log_prob, n=4001):
    """Integrate p(x|z) p(z) over one code, ``(n,)``; log_prob takes x, z, loc and scale."""
    z = np.linspace(-8, 8, n)
    terms = np.array([log_prob(x, z[:, None]).sum(axis=1) for x in X])
    terms += scipy.stats.norm.logpdf(z) + np.log(z[1] - z[0])
    return scipy.special.logsumexp(terms, axis=1)


def _nbinom(x, mean, s):
    r = s**-2.0
    return scipy.stats.nbinom.logpmf(x, r, r / (r + mean))


# The log-probability of x for the mean of the data and the scale.
EXACT = {
    "bernoulli": lambda x, mean, _: scipy.stats.bernoulli.logpmf(x, mean),
    "poisson": lambda x, mean, _: scipy.stats.poisson.logpmf(x, mean),
    "negative_binomial": _nbinom,
    # The mean of a log-normal variable is exp(mu + s^2 / 2).
    "log_normal": lambda x, mean, s: scipy.stats.lognorm.logpdf(
        x, s, scale=mean / np.exp(s**2 / 2)
    ),
    "student_t": lambda x, mean, s: scipy.stats.t.logpdf(x, 5.0, mean, s),
}


@pytest.mark.parametrize("name", sorted(EXACT))
def test_score_equals_quadrature_with_scipy(name):
    """The bound with many draws is the integral over the code, in units of the data."""
    X = table(name, 100, 4)
    vae = model(name, max_iter=20).set_params(n_components=1)
    vae.set_params(batch_size=32, learning_rate_init=1e-2).fit(X)

    def log_prob(x, z):
        mean = vae.inverse_transform(z)
        return EXACT[name](x, mean, vae.scale_)

    exact = quadrature(vae, X[:20], log_prob)
    bound = vae.log_marginal(X[:20], 2**13)
    # A row far out has few draws near its code.
    assert np.median(np.abs(bound - exact)) < 2e-3
    np.testing.assert_allclose(bound, exact, atol=0.1)
    assert (vae.score_samples(X[:20]) <= exact + 1e-3).all()


def test_categorical_score_equals_quadrature():
    X = table("categorical", 100, 4)
    one_hot = np.concatenate([X[:, [j]] == np.unique(X[:, j]) for j in range(4)], axis=1)
    vae = model("categorical", max_iter=20).set_params(n_components=1).fit(X)
    as_one = model(Mixed([(slice(0, 3), CategoricalLikelihood(one_hot=True))] * 1))
    assert one_hot.shape[1] == 12
    mixed = model(
        Mixed(
            [
                (slice(3 * j, 3 * j + 3), CategoricalLikelihood(one_hot=True))
                for j in range(4)
            ]
        ),
        max_iter=20,
    ).set_params(n_components=1)
    mixed.fit(one_hot.astype(float))
    # Codes and one-hot columns are the same model; the order of the rows may differ.
    assert mixed.score(one_hot.astype(float)) == pytest.approx(vae.score(X), abs=0.05)
    only = as_one.fit(one_hot[:, :3].astype(float))
    assert only.score(one_hot[:, :3].astype(float)) < 0
    assert (np.exp(vae.score_samples(X)) <= 1).all()


def test_log_normal_is_gaussian_on_logarithms():
    """The score is that of the logarithms, less their sum, in every variance mode."""
    X = table("log_normal")
    for name, mode, kind in legal_combinations():
        if name != "log_normal":
            continue
        parameters = {"variance_mode": mode, "covariance_type": kind}
        direct = model("log_normal", **parameters).fit(X)
        of_logs = model("gaussian", **parameters).fit(np.log(X))
        expected = of_logs.score_samples(np.log(X)) - np.log(X).sum(axis=1)
        np.testing.assert_allclose(direct.score_samples(X), expected, rtol=1e-9)
        np.testing.assert_array_equal(direct.transform(X), of_logs.transform(np.log(X)))
        assert direct.loss_curve_[-1] == pytest.approx(
            of_logs.loss_curve_[-1] + np.log(X).sum(axis=1).mean()
        )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_log_normal_has_no_unit(factor):
    X = table("log_normal")
    one, other = (model("log_normal").fit(a * X) for a in (1.0, factor))
    shift = X.shape[1] * np.log(factor)
    np.testing.assert_allclose(
        other.score_samples(factor * X) + shift, one.score_samples(X), atol=1e-4
    )
    np.testing.assert_allclose(
        other.reconstruct(factor * X), factor * one.reconstruct(X), rtol=1e-3
    )


def test_negative_binomial_beats_poisson_on_overdispersed_counts():
    X = table("negative_binomial", 600)
    train, test = X[:400], X[400:]
    fitted = {
        name: model(name, max_iter=60).fit(train)
        for name in ("poisson", "negative_binomial")
    }
    assert fitted["negative_binomial"].score(test) > fitted["poisson"].score(test) + 0.1
    # The counts were drawn with a standard deviation of the rate of 0.71 of the rate.
    assert fitted["negative_binomial"].scale_ == pytest.approx(0.71, abs=0.15)


def test_counts_in_one_dimension_equal_the_fit_of_a_linear_model():
    """Without components that are active, the rate is the mean of the data."""
    X = table("poisson", 300)
    with pytest.warns(ConvergenceWarning, match="No component of the code is active"):
        vae = model("poisson", beta=1e4, max_iter=100).fit(X)
    exact = scipy.stats.poisson.logpmf(X, X.mean(axis=0)).sum(axis=1).mean()
    assert vae.score(X) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("rate", [0.01, 30.0, 1e6, 1e8])
def test_the_start_of_counts_has_the_mean_of_the_data(rate):
    """One epoch from the start is as good as the constant rate, also for large counts."""
    X = np.random.default_rng(0).poisson(rate, size=(300, 4)).astype(float)
    exact = scipy.stats.poisson.logpmf(X, X.mean(axis=0)).sum(axis=1).mean()
    vae = model("poisson", max_iter=1, precision="float64").fit(X)
    assert vae.score(X) > exact - 0.3


def test_rare_predictors_are_finite():
    """A predictor far below the data has a finite score, by both kinds of gradient."""
    likelihood = LIKELIHOODS["poisson"]()
    loc = torch.full((1, 2), -110.0, requires_grad=True)
    value = likelihood.log_prob(torch.tensor([[0.0, 3.0]]), loc, torch.zeros(1, 1))
    value.sum().backward()
    assert value[0, 1].item() == pytest.approx(-330 - np.log(6), rel=1e-3)
    assert torch.isfinite(loc.grad).all()
    huge = torch.full((2000, 1), 50.0, dtype=torch.float64)
    draws = likelihood.sample(huge, huge, torch.Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(np.exp(40.0) * 11, rel=1e-6)


@pytest.mark.parametrize("name", ["log_normal", "poisson", "bernoulli"])
def test_callbacks_see_the_data(name):
    X, seen = table(name), []

    class Callback:
        def setup(self, estimator, context):
            """Nothing to prepare."""

        def teardown(self, estimator, context):
            """Nothing to close."""

        def on_fit_task_begin(self, estimator, context):
            """Nothing to record."""

        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
            seen.append(X)
            if fitted_estimator is not None:
                assert np.isfinite(fitted_estimator.score(X))

    vae = model(name, max_iter=2).set_callbacks(Callback())
    vae.fit(X)
    assert len(seen) == 3
    assert all(np.array_equal(each, X) for each in seen)


@pytest.mark.parametrize(("statistic", "values"), [("median", {0.0, 1.0}), ("mean", None)])
def test_imputed_flags(statistic, values):
    X = table("bernoulli")
    X[::7, 1] = np.nan
    vae = model("bernoulli").fit(X)
    filled = vae.impute(X, statistic=statistic)
    if values:
        assert set(np.unique(filled)) <= values
        assert np.isfinite(vae.score(filled))
    else:
        assert ((filled >= 0) & (filled <= 1)).all()


def test_recipes_take_likelihoods_without_scale():
    X = table("poisson")
    for make in (make_density_estimator, make_imputation_estimator, make_outlier_estimator):
        vae = make(likelihood="poisson", max_iter=2, random_state=0)
        assert vae.variance_mode == "auto"
        assert np.isfinite(vae.fit(X).score(X))
    assert make_density_estimator(likelihood="logistic").variance_mode == "predicted"


def test_a_warm_start_with_another_kind_of_likelihood_is_refused():
    X = table("poisson")
    vae = model("gaussian", warm_start=True).fit(X)
    for name in ("poisson", "mixed", "categorical"):
        vae.set_params(likelihood=name)
        with pytest.raises(ValueError, match="which had another likelihood"):
            vae.fit(X)


def test_learned_degrees_of_freedom_find_heavy_tails():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(2000, 2))
    noise = np.stack([rng.standard_t(df, 2000) for df in (2.5, 2.5, 2.5, 50, 50, 50)], 1)
    X = Z @ rng.normal(size=(2, 6)) + noise
    vae = model(StudentTLikelihood("learned"), max_iter=60, covariance_type="diag").fit(X)
    df = vae.likelihood_.given(vae.module_.shape)._df(vae.module_.shape)[0]
    assert (df[:3] < 4.5).all()
    assert (df[3:] > 1.5 * df[:3].max()).all()
    worse = model(StudentTLikelihood(30.0), max_iter=60, covariance_type="diag").fit(X)
    assert vae.score(X) > worse.score(X)


BAD = {
    "bernoulli": (0.5, "BernoulliLikelihood is for flags, 0 or 1, but column 1 has 0.5"),
    "continuous_bernoulli": (1.5, "numbers from 0 to 1, but column 1 has 1.5"),
    "log_normal": (0.0, "LogNormalLikelihood is for positive numbers, but column 1 has 0"),
    "negative_binomial": (-1.0, "NegativeBinomialLikelihood is for counts.*has -1"),
    "poisson": (0.5, "PoissonLikelihood is for counts, 0, 1, 2, ..., but column 1 has 0.5"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_values_without_a_density_are_refused(name):
    value, message = BAD[name]
    X = table(name)
    vae = model(name).fit(X)
    bad = X.copy()
    bad[7, 1] = value
    for call in (model(name).fit, vae.transform, vae.score, vae.impute):
        with pytest.raises(ValueError, match=message):
            call(bad)
    with pytest.raises(ValueError, match="X_val cannot be used"):
        model(name).fit(X, X_val=bad)
    with pytest.raises(ValueError, match=message.replace("column 1", "column 1")):
        vae.sample(2, given=bad[7])


@pytest.mark.parametrize(
    ("name", "values", "advice"),
    [
        ("bernoulli", [0.0, 0.25, 1.0], "'continuous_bernoulli'"),
        ("bernoulli", [0.0, 0.25, 0.0], "'continuous_bernoulli'"),
        ("bernoulli", [-1, 1, -1], "X == 1"),
        ("bernoulli", [1, 2, np.nan], r"X == 2\."),
        ("bernoulli", [7, 1234567, 7], r"X == 1234567\."),
        ("bernoulli", [1, 2, 3], "'negative_binomial' or 'poisson'"),
        ("bernoulli", [0.5, 2.5, 3], "'log_normal' or 'gaussian'"),
        ("poisson", [0.5, 2.5, np.nan], "'log_normal' or 'gaussian'"),
        ("poisson", [-1, 2, 3], "'gaussian' or 'laplace'"),
        ("log_normal", [-1.5, 2, 3], "'gaussian' or 'laplace'"),
        ("log_normal", [0, 2, 3], "log1p"),
    ],
)
def test_the_error_names_the_likelihood_of_the_values(name, values, advice):
    """It looks at the whole column that has the bad value."""
    X = np.array(values)[:, None]
    with pytest.raises(ValueError, match=advice):
        model(name).fit(X)
    with pytest.raises(ValueError, match=rf"{advice}.* several kinds, .*'mixed'\.$"):
        model(name).fit(np.hstack([X, X]))
    if name != "bernoulli":  # as a part of Mixed, it takes any two values
        with pytest.raises(ValueError, match=f"another part of Mixed.*{advice}"):
            model(Mixed([([0], name)])).fit(X)


def test_modes_that_do_not_apply_name_both_parts():
    X = table("poisson")
    with pytest.raises(ValueError, match=r"'predicted' needs a likelihood with a scale, "
                       r"and PoissonLikelihood has none"):  # fmt: skip
        model("poisson", variance_mode="predicted").fit(X)
    with pytest.raises(ValueError, match=r"NegativeBinomialLikelihood has none\. Use"):
        model("negative_binomial", variance_mode="optimal").fit(X)
    with pytest.raises(ValueError, match="LogisticLikelihood has none"):
        model(Mixed([(slice(None), "logistic")]), variance_mode="optimal").fit(X)


@pytest.mark.filterwarnings("ignore:The scale of the likelihood is at its floor")
def test_a_given_floor_holds_for_the_scale_of_counts():
    X = table("negative_binomial")
    assert model("negative_binomial", min_scale=1.5).fit(X).scale_ >= 1.5


@pytest.mark.parametrize("name", ["poisson", "bernoulli", "categorical"])
def test_no_scale_leaks(name):
    vae = model(name).fit(table(name))
    assert vae.scale_ is None
    assert "scale" not in vae.history_
    assert not list(vae.module_.scale.parameters())


def test_degenerate_columns():
    """Constant columns, single values, and a few rows have finite scores."""
    for name in GENERALIZED_LINEAR:
        X = table(name, 6)
        X[:, 0] = X[0, 0]
        vae = model(name).fit(X)
        assert np.isfinite(vae.score_samples(X)).all()
        one = model(name).fit(X[:1])
        assert np.isfinite(one.score(X[:1]))


def test_large_counts_and_rare_flags():
    rng = np.random.default_rng(0)
    X = rng.poisson(np.exp(rng.normal(size=(300, 1)) * [1, 2, 4] + [0, 5, 10]))
    vae = model("negative_binomial", max_iter=30).fit(X.astype(float))
    assert np.isfinite(vae.score(X))
    median = np.median(vae.sample(3000, random_state=0), axis=0)
    ratio = (1 + median) / (1 + np.median(X, axis=0))
    assert (np.abs(np.log(ratio)) < 1).all()
    flags = (rng.uniform(size=(3000, 6)) < 0.004).astype(float)
    rare = model("bernoulli", max_iter=10).fit(flags)
    p = flags.mean(axis=0)
    independent = (p * np.log(p) + (1 - p) * np.log1p(-p)).sum()
    assert rare.score(flags) > independent - 0.05


def test_pipeline_and_tags():
    X = table("poisson")
    pipeline = make_pipeline(model("poisson")).fit(X)
    assert np.isfinite(pipeline.score(X))
    tags = get_tags(model("poisson")).input_tags
    assert tags.positive_only
    assert get_tags(model("mixed")).input_tags.categorical
    assert get_tags(model("mixed")).input_tags.string
    assert not get_tags(model("gaussian")).input_tags.positive_only


MAPS = {
    "bernoulli": lambda x: np.where(np.isnan(x), x, x > 0),
    "continuous_bernoulli": lambda x: scipy.special.expit(x),
    "log_normal": lambda x: np.exp(np.clip(x, -30, 30)),
    "poisson": lambda x: np.floor(np.minimum(np.abs(x), 1e6)),
    "negative_binomial": lambda x: np.floor(np.minimum(np.abs(x), 1e6)),
}


@pytest.fixture
def mapped(monkeypatch):
    """Let tables map real numbers into the support of the likelihood."""
    encode = Table.encode

    def encode_mapped(self, estimator, X, *, takes_unknown=False, **kwargs):
        kind = type(self.likelihood)
        name = next((n for n, k in LIKELIHOODS.items() if k is kind), None)
        if name not in MAPS:
            return encode(self, estimator, X, **kwargs)
        kwargs.setdefault("takes_sparse", get_tags(estimator).input_tags.sparse)
        numbers = Table(LIKELIHOODS["gaussian"]())
        features = dense(encode(numbers, estimator, X, **kwargs))
        if (features < 0).any():
            return encode(self, estimator, X, **kwargs)
        if isinstance(features, torch.Tensor):
            return torch.from_numpy(MAPS[name](features.numpy())).to(features)
        return MAPS[name](features).astype(features.dtype)

    monkeypatch.setattr(Table, "encode", encode_mapped)


OF_NUMBERS = [VariationalAutoencoder(likelihood=name, max_iter=2) for name in MAPS]
# Those that read tables of their own.
OF_TABLES = [
    VariationalAutoencoder(likelihood="mixed", max_iter=2),
    VariationalAutoencoder(
        likelihood=CategoricalLikelihood(handle_unknown="ignore"), max_iter=2
    ),
]


@pytest.mark.filterwarnings("ignore:The scales? of .* floor:UserWarning")
@pytest.mark.filterwarnings("ignore:Column .* categories in .* rows:UserWarning")
@pytest.mark.parametrize(
    ("estimator", "check"), checks_of([*OF_NUMBERS, *OF_TABLES], OF_TABLES)
)
def test_estimator_checks(estimator, check, mapped):
    """The checks of scikit-learn pass, on numbers mapped into the support."""
    check(estimator)
