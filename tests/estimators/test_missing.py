"""Data with missing entries: against exact normal marginals, and at the edges."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.helpers import ESTIMATORS, answers, every_estimator, models_in_turns, weights
from tests.likelihoods.generalized_normal import GeneralizedNormal

pytestmark = [
    pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale"),
    pytest.mark.filterwarnings("ignore:The standard deviations of the features differ"),
]


def plane(n=300, d=6, k=2, seed=0):
    """Draw rows near a plane, with noise that depends on the feature."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, d)) * rng.uniform(0.3, 0.8, size=d)
    return rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + noise + 3


def with_holes(X, share=0.3, seed=1):
    """Replace a share of the entries by NaN."""
    mask = np.random.default_rng(seed).random(X.shape) < share
    return np.where(mask, np.nan, X)


def linear(covariance_type="spherical", **parameters):
    """Make a linear VAE, whose exact marginal is normal."""
    return VariationalAutoencoder(
        2,
        hidden_layer_sizes=(),
        covariance_type=covariance_type,
        precision="float64",
        random_state=0,
        **parameters,
    )


def normal_of(model):
    """Return mean and covariance of the marginal of a linear Gaussian model."""
    module, d = model.module_, model.n_features_in_
    unit = model._standardization.likelihood_unit
    gain = module.loc_gain.numpy() * unit
    W = module.linear_decoder.weight[:d].numpy() * gain[:, None]
    mean = module.linear_decoder.bias[:d].numpy() * gain + model._standardization.mean
    return mean, W @ W.T + np.diag(np.broadcast_to(np.square(model.scale_), d))


def log_density(X, mean, covariance):
    """Compute the log-density of the observed entries, (n,)."""
    found = np.zeros(len(X))
    for i, x in enumerate(X):
        o = ~np.isnan(x)
        if o.any():
            part = multivariate_normal(mean[o], covariance[np.ix_(o, o)])
            found[i] = part.logpdf(x[o])
    return found


def condition(x, mean, covariance):
    """Compute the row filled by the conditional mean, and the conditional covariance."""
    o, m = ~np.isnan(x), np.isnan(x)
    A = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
    filled = x.copy()
    filled[m] = mean[m] + A @ (x[o] - mean[o])
    return filled, covariance[np.ix_(m, m)] - A @ covariance[np.ix_(o, m)]


def maximum_likelihood(X, k, is_diagonal):
    """Return the log-likelihood per row of PPCA or factor analysis, by textbook EM."""
    n, d = X.shape
    mean, covariance, last = np.nanmean(X, axis=0), np.diag(np.nanvar(X, axis=0)), -np.inf
    noise = np.diag(covariance) / 2
    while (now := log_density(X, mean, covariance).mean()) > last + 1e-6:
        last, first, second = now, np.zeros(d), np.zeros((d, d))
        for x in X:
            m = np.isnan(x)
            filled, rest = condition(x, mean, covariance)
            first += filled / n
            second += np.outer(filled, filled) / n
            second[np.ix_(m, m)] += rest / n
        mean, S = first, second - np.outer(first, first)
        for _ in range(1 if not is_diagonal else 20):
            root = np.sqrt(noise) if is_diagonal else np.ones(d)
            values, V = np.linalg.eigh(S / np.outer(root, root))
            s2 = 1.0 if is_diagonal else values[:-k].mean()
            W = root[:, None] * V[:, -k:] * np.sqrt(np.maximum(values[-k:] - s2, 0))
            noise = np.diag(S - W @ W.T) if is_diagonal else np.full(d, s2)
        covariance = W @ W.T + np.diag(noise)
    return now


# Linear models, whose marginal is known


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_linear_model_is_exact_and_reaches_em(covariance_type, share):
    X = with_holes(plane(), share)
    model = linear(covariance_type, max_iter=30).fit(X)
    mean, covariance = normal_of(model)
    exact = log_density(X, mean, covariance)
    found = model.log_marginal(X, n_samples=1024)
    # Of each pattern of holes: the mean over its rows.
    _, pattern = np.unique(np.isnan(X), axis=0, return_inverse=True)
    errors = np.bincount(pattern, found - exact) / np.bincount(pattern)
    assert np.abs(errors).max() < 0.01
    best = maximum_likelihood(X, 2, covariance_type == "diag")
    assert exact.mean() == pytest.approx(best, abs=0.05)
    assert (model.score_samples(X) <= exact + 1e-9).all()


def test_start_gives_the_exact_posterior_mean():
    """The linear encoder of a filled row is exact for every pattern of holes."""
    X = with_holes(plane(), 0.4)
    # So small a rate keeps the start, in which W'W is diagonal.
    model = linear(max_iter=1, learning_rate_init=1e-12).fit(X)
    mean, covariance = normal_of(model)
    noise = model.scale_**2
    module, unit = model.module_, model._standardization.likelihood_unit
    W = module.linear_decoder.weight[:6].numpy() * (module.loc_gain.numpy() * unit)[:, None]
    codes, std = model.posterior(X)
    for x, code, deviation in zip(X, codes, std, strict=True):
        o = ~np.isnan(x)
        M = W[o].T @ W[o] / noise + np.eye(2)
        expected = np.linalg.solve(M, W[o].T @ (x - mean)[o] / noise)
        # The scale at the end is that of the residuals, which differs a little.
        assert_allclose(code, expected, atol=0.02)
        assert_allclose(deviation, 1 / np.sqrt(np.diag(M)), rtol=0.05)
    assert np.isfinite(covariance).all()


def test_imputation_is_the_conditional_distribution():
    X = with_holes(plane(), 0.4)
    model = linear(max_iter=30).fit(X)
    mean, covariance = normal_of(model)
    some = X[np.isnan(X).any(axis=1) & ~np.isnan(X).all(axis=1)][:20]
    expected = [condition(x, mean, covariance) for x in some]
    filled = np.array([row for row, _ in expected])
    assert_allclose(model.impute(some, n_draws=2048), filled, atol=0.02)
    assert_allclose(model.impute(some, statistic="median", n_draws=4096), filled, atol=0.1)
    assert_allclose(model.impute(some, statistic="plug_in"), filled, atol=0.1)
    drawn = model.impute(some, n_samples=2000, random_state=0)
    assert drawn.shape == (2000, *some.shape)
    observed = ~np.isnan(some)
    assert (drawn[:, observed] == some[observed]).all()
    for i, (row, spread) in enumerate(expected):
        m = np.isnan(some[i])
        assert_allclose(drawn[:, i, m].mean(axis=0), row[m], atol=0.12)
        assert_allclose(np.cov(drawn[:, i][:, m].T), spread, atol=0.2)


def test_sample_given_a_row_is_conditional():
    X = with_holes(plane())
    model = linear(max_iter=30).fit(X)
    mean, covariance = normal_of(model)
    known = np.array([3.5, np.nan, 2.0, np.nan, np.nan, 4.0])
    expected, spread = condition(known, mean, covariance)
    drawn = model.sample(4000, random_state=0, given=known)
    assert (drawn[:, [0, 2, 5]] == known[[0, 2, 5]]).all()
    m = np.isnan(known)
    assert_allclose(drawn[:, m].mean(axis=0), expected[m], atol=0.1)
    assert_allclose(np.cov(drawn[:, m].T), spread, atol=0.15)
    means = model.sample(4000, random_state=0, noise=False, given=known)
    assert (means[:, m].var(axis=0) < drawn[:, m].var(axis=0)).all()
    with pytest.raises(ValueError, match="given must be one row of 6 features"):
        model.sample(2, given=known[:3])
    with pytest.raises(ValueError, match="given has infinities"):
        model.sample(2, given=np.full(6, np.inf))


@pytest.mark.parametrize("package", [None, pd, pl])
def test_known_columns_by_name(package):
    """A dict, and a frame of one row, equal the row with NaN for the other columns."""
    X = plane()
    names = list("abcdef") if package else range(6)
    columns = dict(zip(names, X.T, strict=True))
    model = linear(max_iter=2).fit(package.DataFrame(columns) if package else X)
    row = np.array([3.5, np.nan, 2.0, np.nan, np.nan, 4.0])
    expected = model.sample(5, 0, given=row)
    known = {names[5]: 4, names[0]: 3.5, names[2]: 2.0}
    givens = [known, known | {names[1]: None, names[3]: np.nan}]
    if package:
        givens += [
            package.DataFrame({k: [v] for k, v in given.items()}) for given in givens
        ]
    for some in givens:
        assert_array_equal(model.sample(5, 0, given=some), expected)
    assert_array_equal(
        model.sample(5, 0, given={}), model.sample(5, 0, given=np.full(6, np.nan))
    )
    with pytest.raises(ValueError, match="given has 'aa', which is no column of X"):
        model.sample(2, given={"aa": 1.0})
    with pytest.raises(ValueError, match="given holds strings"):
        model.sample(2, given={names[0]: "red"})
    with pytest.raises(ValueError, match=r"shape \(3,\)\. A dict or a frame of one row"):
        model.sample(2, given=row[:3])


# All models


@models_in_turns
def test_every_mode_learns_from_holes(likelihood, variance_mode, covariance_type):
    X = plane()
    holes = with_holes(X)
    models = [
        model
        for model in (GaussianAutoencoder(), LaplaceAutoencoder(), VariationalAutoencoder())
        if isinstance(model, VariationalAutoencoder)
        or type(model).__name__.lower().startswith(likelihood)
    ]
    for model in models:
        model.set_params(
            variance_mode=variance_mode, covariance_type=covariance_type, max_iter=20,
            random_state=0,
        )  # fmt: skip
        if isinstance(model, VariationalAutoencoder):
            model.set_params(likelihood=likelihood)
        model.fit(holes)
        for name, value in answers(model, holes).items():
            assert np.isfinite(value).all(), name
        assert np.isfinite(model.loss_curve_).all()
        filled = model.impute(holes)
        mask = np.isnan(holes)
        assert (filled[~mask] == holes[~mask]).all()
        by_mean = np.where(mask, np.nanmean(holes, axis=0), holes)
        error, naive = (np.square(F - X)[mask].mean() for F in (filled, by_mean))
        assert error < 0.8 * naive


@every_estimator
def test_model_of_complete_rows_takes_holes(estimator):
    """A pattern of holes that training did not have."""
    X = plane()
    model = estimator(2, max_iter=20, random_state=0).fit(X)
    holes = with_holes(X)
    for name, value in answers(model, holes).items():
        assert np.isfinite(value).all(), name
    complete = ~np.isnan(holes).any(axis=1)
    # A complete row among others has the score that it has alone.
    assert_allclose(
        model.score_samples(holes)[complete], model.score_samples(X[complete]), rtol=1e-9
    )
    mask = np.isnan(holes)
    error = np.square(model.impute(holes) - X)[mask].mean()
    assert error < 0.6 * np.square(X - X.mean(axis=0))[mask].mean()


@every_estimator
def test_row_without_entries_is_the_prior(estimator):
    X = with_holes(plane())
    model = estimator(2, max_iter=20, random_state=0).fit(X)
    empty = np.full((1, 6), np.nan)
    assert model.score_samples(empty) == [0.0]
    assert_array_equal(model.transform(empty), [[0.0, 0.0]])
    if estimator is VariationalAutoencoder:
        assert model.log_marginal(empty) == [0.0]
        _, std = model.posterior(empty)
        assert_array_equal(std, [[1.0, 1.0]])
        assert_allclose(
            model.impute(empty, n_draws=4096)[0],
            model.sample(20_000, random_state=0, noise=False).mean(axis=0),
            atol=0.05,
        )
    one = np.where(np.arange(6) == 2, 3.0, empty)
    assert np.isfinite(model.score_samples(one)).all()
    assert np.isfinite(model.impute(one)).all()
    # Rows without entries add nothing to a fit.
    same = clone(model).fit(np.vstack([X, empty, empty]))
    assert weights(same) == weights(model)


def test_prior_of_mixture_scores_holes():
    X = with_holes(plane())
    model = VariationalAutoencoder(2, prior="mixture", max_iter=20, random_state=0).fit(X)
    empty = np.full((2, 6), np.nan)
    assert_array_equal(model.score_samples(empty), 0.0)
    assert_array_equal(model.log_marginal(empty), 0.0)
    assert (model.log_marginal(X) - model.score_samples(X)).mean() > 0


@every_estimator
def test_bad_holes_are_refused(estimator):
    X = plane()
    X[:, 4] = np.nan
    with pytest.raises(ValueError, match="no observed value of column 4 to train on"):
        estimator().fit(X)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    with pytest.raises(ValueError, match=r"no observed value of 'e' .* such columns\.$"):
        estimator().fit(frame)
    with pytest.raises(ValueError, match=r"'e' .*early_stopping=True holds out"):
        estimator(early_stopping=True).fit(frame)
    with pytest.raises(ValueError, match="no observed value of columns 0, 1"):
        estimator().fit(np.full((4, 2), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        estimator().fit(np.where(np.isnan(X), np.inf, X))
    model = estimator(max_iter=2).fit(plane())
    with pytest.raises(ValueError, match="infinity"):
        model.impute(np.where(np.isnan(X), np.inf, X))
    with pytest.raises(ValueError, match="statistic"):
        model.impute(plane(), statistic="mode")
    with pytest.raises(ValueError, match="n_samples == 0"):
        model.impute(plane(), n_samples=0)


def test_every_kind_of_missing_value_is_one():
    X = with_holes(plane())
    expected = VariationalAutoencoder(2, max_iter=5, random_state=0).fit(X)
    mask = np.isnan(X)
    hidden = np.ma.array(np.where(mask, 1e9, X), mask=mask)
    frame = pd.DataFrame(X)
    tables = {
        "masked": hidden,
        "list of masked rows": list(hidden),
        "pandas": frame,
        "pandas' NA": frame.convert_dtypes(),
        "objects": frame.astype(object).where(~mask, pd.NA),
        "None": frame.astype(object).where(~mask, None),
    }
    for name, table in tables.items():
        model = clone(expected).fit(table)
        assert weights(model) == weights(expected), name
        assert_array_equal(model.impute(table), expected.impute(X), err_msg=name)
    named = pl.DataFrame({f"x{i}": [*column] for i, column in enumerate(X.T)}).fill_nan(
        None
    )
    model = clone(expected).fit(named)
    assert weights(model) == weights(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_pickle(dtype):
    X = with_holes(plane()).astype(dtype)
    model = VariationalAutoencoder(2, max_iter=5, random_state=0).fit(X)
    for name in ("impute", "transform", "score_samples"):
        found = getattr(model, name)(X)
        assert found.dtype == dtype
        again = getattr(pickle.loads(pickle.dumps(model)), name)(X)
        assert_array_equal(again, found)
    assert model.impute(X, n_samples=3).dtype == dtype


def test_validation_data_may_have_holes():
    X = plane()
    model = VariationalAutoencoder(2, max_iter=5, early_stopping=True, random_state=0)
    for train, validation in ((X, with_holes(X)), (with_holes(X), X)):
        model.fit(train, X_val=validation)
        assert np.isfinite(model.history_["validation_score"]).all()


def test_warm_start_goes_on_with_holes():
    X = plane()
    model = VariationalAutoencoder(2, max_iter=5, warm_start=True, random_state=0).fit(X)
    before = model.score(X)
    model.fit(with_holes(X)).fit(X)
    assert model.n_iter_ == 15
    assert model.score(X) > before - 0.5


def test_gradients_are_compared():
    X = with_holes(plane())
    model = VariationalAutoencoder(
        2, gradient_balance=True, max_iter=3, random_state=0
    ).fit(X)
    assert np.isfinite(model.history_["grad_cosine_parameters"]).all()


# Searches, weights, units


def test_searches_equal_one_by_one():
    X = with_holes(plane(n=160))
    X[:80] = plane(n=160)[:80]  # one of the folds is complete
    model = VariationalAutoencoder(2, max_iter=5, random_state=0)
    grid = {"beta": [0.5, 2.0]}
    batched = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    single = GridSearchCV(model, grid, cv=2).fit(X)
    for name in ("split0_test_score", "split1_test_score"):
        assert_array_equal(batched.cv_results_[name], single.cv_results_[name])
    pipeline = make_pipeline(StandardScaler(), model).fit(X)
    assert np.isfinite(pipeline.score(X))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31), share=st.floats(0.0, 0.8), Model=st.sampled_from(ESTIMATORS)
)
def test_order_weights_and_units_of_rows_with_holes(seed, share, Model):
    rng = np.random.default_rng(seed)
    X = with_holes(plane(n=40), share, seed)
    X[:2] = plane(n=2)
    model = Model(2, max_iter=2, random_state=0, covariance_type="diag")
    fitted = clone(model).fit(X)
    order = rng.permutation(len(X))
    assert weights(clone(model).fit(X[order])) == weights(fitted)
    # Repeated rows equal weights.
    times = rng.integers(1, 4, size=len(X))
    repeated = clone(model).fit(np.repeat(X, times, axis=0))
    weighted = clone(model).fit(X, sample_weight=times)
    assert weights(weighted) == weights(repeated)
    # Powers of two: no digit changes.
    factor = 2.0 ** rng.integers(-20, 20, size=6)
    scaled = clone(model).fit(X * factor)
    observed = ~np.isnan(X)
    assert_allclose(
        scaled.score_samples(X * factor),
        fitted.score_samples(X) - observed @ np.log(factor),
        rtol=1e-6,
        atol=1e-6,
    )
    assert_allclose(scaled.impute(X * factor), fitted.impute(X) * factor, rtol=1e-5)


@every_estimator
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_constant_and_rare_values(estimator, covariance_type):
    """Columns that are constant where observed, or observed in a single row."""
    X = with_holes(plane(n=60, d=8))
    X[:, 0] = np.where(np.isnan(X[:, 0]), np.nan, 2.0)
    X[1:, 1] = np.nan
    X[0, 1] = 7.0
    X[2:, 2] = np.nan
    X[:2, 2] = [0.0, 1.0]
    for n_components in (2, 8, 0.9):
        model = estimator(
            n_components, covariance_type=covariance_type, max_iter=3, random_state=0
        ).fit(X)
        for name, value in answers(model, X).items():
            assert np.isfinite(value).all(), name
        filled = model.impute(X)
        assert np.isfinite(filled).all()
        assert_allclose(filled[:, 0], 2.0, atol=0.1)


def test_many_features():
    """With more features than the covariance is worth, holes start as means."""
    X = with_holes(plane(n=30, d=2100, k=2), 0.2)
    model = VariationalAutoencoder(2, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.impute(X)).all()
    assert np.isfinite(model.score(X))


# What a reader of the code found


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
def test_one_hole_hardly_moves_the_start(beta, covariance_type):
    X = plane(n=400, d=8)
    holes = X.copy()
    holes[0, 0] = np.nan
    model = VariationalAutoencoder(
        2, beta=beta, covariance_type=covariance_type, max_iter=1, random_state=0,
        learning_rate_init=1e-12,
    )  # fmt: skip
    found = [clone(model).fit(table).score(X) for table in (X, holes)]
    assert found[1] == pytest.approx(found[0], abs=0.05)


@every_estimator
def test_median_is_that_of_the_row(estimator):
    X = with_holes(plane())
    model = estimator(2, max_iter=10, random_state=0).fit(X)
    both = [model.impute(X, statistic="median", random_state=seed) for seed in (0, 1)]
    if estimator is VariationalAutoencoder:
        assert_allclose(both[0], both[1], atol=0.6)
    else:
        assert_array_equal(both[0], both[1])
    some = model.impute(X[150:], statistic="median")
    assert_allclose(some, both[0][150:], rtol=1e-9)


def test_proposal_is_not_wider_than_the_prior():
    X = with_holes(plane(d=8), 0.6)
    model = VariationalAutoencoder(6, max_iter=20, random_state=0).fit(X)
    module = model.module_
    missing = torch.from_numpy(np.isnan(X))
    std = torch.full((len(X), 6), 0.9, dtype=torch.float64)
    factor, log_det = module.fill.posterior_factor(missing, std)
    values = torch.linalg.svdvals(factor)
    assert values.max() <= 1 + 1e-9
    torch.testing.assert_close(values.log().sum(dim=1), log_det)


@pytest.mark.filterwarnings("ignore:Training did not improve")
@pytest.mark.parametrize("variance_mode", ["learned", "predicted", "optimal"])
def test_column_that_a_subsample_lacks(variance_mode):
    """Three values among thousands do not spoil the other columns."""
    X = plane(n=6000, d=5)
    X[10:, 4] = np.nan
    X[:10, 4][::3] = np.nan
    model = VariationalAutoencoder(
        2, variance_mode=variance_mode, covariance_type="diag", max_iter=3,
        random_state=0, early_stopping=False,
    )  # fmt: skip
    scores = clone(model).fit(X).score_samples(X[100:])
    without = clone(model).fit(X[:, :4]).score_samples(X[100:, :4])
    assert scores.mean() == pytest.approx(without.mean(), abs=0.2)
    held = clone(model).fit(X, X_val=X[100:200]).history_["validation_score"]
    assert held.min() > -50


@pytest.mark.parametrize(
    "parameters",
    [
        {"variance_mode": "fixed", "scale": 1e-8},
        {"n_components": 6, "beta": 1e-6},
        {"n_components": 6, "covariance_type": "diag"},
    ],
    ids=str,
)
def test_small_noise(parameters):
    X = with_holes(plane(), 0.5)
    model = VariationalAutoencoder(4, max_iter=2, random_state=0).set_params(**parameters)
    model.fit(X)
    assert np.isfinite(model.impute(X)).all()
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("value", [1e22, 1e160])
def test_draws_of_distant_rows_are_finite(value):
    X = with_holes(plane())
    model = VariationalAutoencoder(2, max_iter=2, random_state=0).fit(X)
    row = np.array([[value, np.nan, 1.0, 2.0, np.nan, 3.0]])
    for dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            one = row.astype(dtype)
        if np.isfinite(one[0, 0]):
            assert np.isfinite(model.impute(one, n_samples=3)).all()


def test_objects_with_missing_values():
    X = with_holes(plane()).astype(object)
    expected = VariationalAutoencoder(2, max_iter=2, random_state=0).fit(X.astype(float))
    for missing in (pd.NA, None):
        given = np.where(np.isnan(X.astype(float)), missing, X)
        assert_array_equal(expected.impute(given), expected.impute(X.astype(float)))
    row = np.ma.masked_invalid(X[0].astype(float))
    assert expected.sample(2, given=row).shape == (2, 6)


def test_parts_of_a_user_learn_from_holes():
    """A likelihood without a derivative, and a network that sees no mask: by autograd."""

    class Network:
        def encoder(self, n_features, n_outputs):
            assert n_features == 6
            return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(),
                                       torch.nn.Linear(8, n_outputs))  # fmt: skip

        def decoder(self, n_components, n_outputs):
            return torch.nn.Linear(n_components, n_outputs)

    X = plane()
    holes = with_holes(X)
    mask = np.isnan(holes)
    for parameters in (
        {"likelihood": GeneralizedNormal(1.2), "variance_mode": "learned"},
        {"network": Network()},
    ):
        model = VariationalAutoencoder(2, max_iter=10, random_state=0, **parameters)
        model.fit(holes)
        assert np.isfinite(model.score_samples(holes)).all()
        error = np.square(model.impute(holes) - X)[mask].mean()
        assert error < 0.8 * np.square(X - np.nanmean(holes, axis=0))[mask].mean()


@every_estimator
def test_complete_data_build_no_mask(estimator):
    """So their results and their speed are those of a model that knows no holes."""
    X = plane()
    module = estimator(2, max_iter=2, random_state=0).fit(X).module_
    y = torch.from_numpy(X).to(module.dtype)
    assert module.prepare(y) is y
    assert module.observed(y) is None
    assert module.encoder[0].in_features == 6
    holes = estimator(2, max_iter=2, random_state=0).fit(with_holes(X)).module_
    assert holes.encoder[0].in_features == 12
    assert holes.prepare(y).shape[1] > 6
