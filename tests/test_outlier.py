"""The outlier detector against its definition, and scikit-learn's contract."""

import math
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.covariance import MinCovDet
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._utils.random import with_random_state
from skae.likelihoods import CategoricalLikelihood, Mixed
from skae.outlier import LikelihoodOutlierDetector
from tests.helpers import ignore_floor, ignore_spread

NORMAL = LikelihoodOutlierDetector(
    GaussianMixture(reg_covar=1e-3, init_params="random_from_data", random_state=0)
)


@ignore_floor
@ignore_spread
@parametrize_with_checks(
    [
        NORMAL,
        LikelihoodOutlierDetector(
            VariationalAutoencoder(1, max_iter=2, random_state=0), random_state=0
        ),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(name="contaminated")
def draw_contaminated():
    """Draw 180 rows near a line in three features, and 20 in a distant cluster."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(180, 1))
    X = z * [3.0, 2.0, 1.0] + 0.3 * rng.normal(size=(180, 3))
    far = [4.0, -4.0, 4.0] + 0.3 * rng.normal(size=(20, 3))
    return np.vstack([X, far]), np.repeat([1, -1], [180, 20])


def test_refits_leave_the_outliers_out(contaminated):
    """The normal density is that of the rows without the cluster, like MinCovDet's."""
    X, y = contaminated
    detector = clone(NORMAL).fit(X)
    assert detector.support_.sum() == 140
    assert not detector.support_[y == -1].any()
    robust = MinCovDet(support_fraction=0.7, random_state=0).fit(X)
    np.testing.assert_allclose(
        detector.estimator_.means_[0], robust.raw_location_, atol=0.3
    )
    assert roc_auc_score(y, detector.score_samples(X)) > 0.999
    assert (detector.predict(X)[y == -1] == -1).all()
    once = clone(NORMAL).set_params(support_fraction=1.0).fit(X)
    assert once.support_.all()
    plain = clone(NORMAL.estimator).fit(X)
    np.testing.assert_array_equal(once.score_samples(X), plain.score_samples(X))


@ignore_floor
def test_default_estimator(contaminated):
    X, y = contaminated
    detector = LikelihoodOutlierDetector(random_state=0).fit(X)
    assert isinstance(detector.estimator_, VariationalAutoencoder)
    assert roc_auc_score(y, detector.score_samples(X)) > 0.95
    same = clone(detector).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), same.score_samples(X))


@pytest.mark.parametrize("contamination", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("estimator", [GaussianMixture(), KernelDensity()])
def test_contamination_is_the_share_of_training_outliers(
    contamination, estimator, contaminated
):
    X, _ = contaminated
    detector = LikelihoodOutlierDetector(estimator, contamination=contamination)
    predicted = detector.fit_predict(X)
    assert (predicted == -1).sum() == math.floor(contamination * len(X))
    np.testing.assert_array_equal(predicted, detector.predict(X))
    scores = detector.score_samples(X)
    assert detector.offset_ == pytest.approx(np.quantile(scores, contamination))
    np.testing.assert_array_equal(detector.decision_function(X), scores - detector.offset_)


def test_automatic_offset_is_tukeys_fence(contaminated):
    X, _ = contaminated
    detector = clone(NORMAL).fit(X)
    low, high = np.percentile(detector.score_samples(X), [25, 75])
    assert detector.offset_ == pytest.approx(low - 1.5 * (high - low))


@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_densities_of_zero(contamination):
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(195, 2)), 50 + 9 * rng.normal(size=(5, 2))])
    kernel = KernelDensity(kernel="tophat", bandwidth=0.5)
    detector = LikelihoodOutlierDetector(kernel, contamination=contamination).fit(X)
    assert (detector.score_samples(X)[-5:] == -np.inf).all()
    assert np.isfinite(detector.offset_)
    assert (detector.predict(X)[-5:] == -1).all()


def test_scores_that_are_nan_are_refused(contaminated):
    class Broken(GaussianMixture):
        def score_samples(self, X):
            return np.full(len(X), np.nan)

    with pytest.raises(ValueError, match=r"Broken\.score_samples returned NaN for 200 of"):
        LikelihoodOutlierDetector(Broken()).fit(contaminated[0])


def test_least_and_most_support(contaminated):
    X, _ = contaminated
    for fraction, n in ((0.55, 110), (1e-6, 2), (0.999, 200)):
        detector = clone(NORMAL).set_params(support_fraction=fraction)
        assert detector.fit(X).support_.sum() == n


def test_warnings_are_those_of_the_last_fit(contaminated):
    X = contaminated[0] * [1, 1, 1e5]
    detector = LikelihoodOutlierDetector(
        VariationalAutoencoder(1, max_iter=2, random_state=0)
    )
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        detector.fit(X)
    messages = [str(warning.message) for warning in record]
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        clone(detector.estimator).fit(X[detector.support_])
    assert messages == [str(warning.message) for warning in record]
    assert len([message for message in messages if "spherical" in message]) == 1


@pytest.mark.parametrize("share", [0.08, 0.35])
def test_a_code_in_rows_that_the_last_fit_leaves_out_is_named_once(share):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    X["age"] = np.where(rng.random(300) < share, -999, rng.normal(40, 2, 300))
    n = (X["age"] == -999).sum()
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        LikelihoodOutlierDetector(random_state=0).fit(X)
    [found] = [str(w.message) for w in record if "far beside" in str(w.message)]
    assert f"'age' (-999 in {n} rows" in found


def test_frames_and_searches(contaminated):
    X, y = contaminated
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    detector = LikelihoodOutlierDetector(
        VariationalAutoencoder(1, max_iter=2, random_state=0)
    ).fit(frame)
    assert list(detector.estimator_.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        detector.predict(frame[["b", "a", "c"]])
    search = GridSearchCV(
        NORMAL,
        {"estimator__n_components": [1, 2]},
        scoring="roc_auc",
        cv=StratifiedKFold(2),
    )
    assert search.fit(X, y).best_score_ > 0.9


@pytest.mark.parametrize("package", [pd, pl])
@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
@pytest.mark.parametrize("set_output", ["default", "pandas"])
def test_an_array_after_a_frame_is_warned_of_once(
    package, likelihood, set_output, contaminated
):
    """The warning is that of the class that the user made; results are those of a frame."""
    X, _ = contaminated
    frame = package.DataFrame({name: X[:, i] for i, name in enumerate("abc")})
    model = small_vae(likelihood, covariance_type="diag")
    detector = LikelihoodOutlierDetector(model.set_output(transform=set_output)).fit(frame)
    for method in ("predict", "score_features", "score_samples"):
        with pytest.warns(UserWarning, match="feature names") as caught:
            found = getattr(detector, method)(X)
        assert [str(w.message) for w in caught] == [
            "X does not have valid feature names, but LikelihoodOutlierDetector was fitted "
            "with feature names"
        ]
        np.testing.assert_array_equal(found, getattr(detector, method)(frame))


@pytest.mark.filterwarnings("ignore:Training did not improve")
@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_an_array_of_objects_after_a_frame(table, package):
    frame = table
    if package == "polars":
        columns = table.astype(object).where(table.notna(), None)
        frame = pl.DataFrame({name: columns[name].tolist() for name in columns})
    detector = LikelihoodOutlierDetector(small_vae("mixed")).fit(frame)
    with pytest.warns(UserWarning, match="LikelihoodOutlierDetector was") as caught:
        found = detector.score_samples(table.to_numpy(dtype=object))
    assert len(caught) == 1
    np.testing.assert_array_equal(found, detector.score_samples(table))


def test_random_state_goes_to_an_estimator_without_one(contaminated):
    """As if the estimator had it; one that has its own keeps that."""
    X, _ = contaminated

    def scores(estimator, random_state=None):
        detector = LikelihoodOutlierDetector(estimator, random_state=random_state)
        return detector.fit(X).score_samples(X)

    def make(random_state=None):
        return VariationalAutoencoder(
            1, init="random", max_iter=2, random_state=random_state
        )

    own = scores(make(0))
    for estimator in (make(), make(0), make_pipeline(StandardScaler(), make())):
        first = scores(estimator, 0)
        np.testing.assert_array_equal(scores(estimator, 0), first)
        if not isinstance(estimator, Pipeline):
            np.testing.assert_array_equal(first, own)
    np.testing.assert_array_equal(scores(make(0), 5), own)
    np.testing.assert_array_equal(scores(make(), np.random.RandomState(0)), own)
    assert not np.array_equal(scores(make(), 5), own)
    free = make()
    LikelihoodOutlierDetector(free, random_state=0).fit(X)
    assert free.random_state is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"contamination": 0.6}, "contamination"),
        ({"contamination": 2}, "the share of outliers, such as 0.02"),
        ({"estimator": "mixed"}, r"make_outlier_estimator\(likelihood='mixed'\)"),
        ({"estimator": "vae"}, r"Pass an object, .*skae\.recipes\.make_outlier_est"),
        ({"contamination": "Auto"}, "contamination"),
        ({"support_fraction": 0.0}, "support_fraction"),
        ({"estimator": "gmm"}, "estimator"),
    ],
)
def test_bad_values(parameters, message, contaminated):
    with pytest.raises(ValueError, match=message):
        LikelihoodOutlierDetector(**parameters).fit(contaminated[0])


def test_not_fitted(contaminated):
    with pytest.raises(NotFittedError):
        NORMAL.predict(contaminated[0])


@pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale")
def test_holes_go_to_an_estimator_that_takes_them():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1)) * np.ones(4) + 0.1 * rng.normal(size=(200, 4))
    X[::4, 2] = np.nan
    X[0] = [5, -5, np.nan, 5]
    detector = LikelihoodOutlierDetector(random_state=0).fit(X)
    assert detector.predict(X)[0] == -1
    assert np.isfinite(detector.score_samples(X)).all()
    with pytest.raises(ValueError, match="NaN"):
        LikelihoodOutlierDetector(GaussianMixture()).fit(X)


@ignore_spread
def test_holes_do_not_depend_on_units():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(
        size=(300, 6)
    )
    X[rng.random(X.shape) < 0.25] = np.nan
    found = [
        LikelihoodOutlierDetector(random_state=0).fit(a * X).predict(a * X)
        for a in (2.0**-10, 1.0, 2.0**10)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[1])
    assert 0.8 < found[1].mean() < 1
    masked = np.ma.masked_invalid(X)
    again = LikelihoodOutlierDetector(random_state=0).fit(masked)
    np.testing.assert_array_equal(again.predict(masked), found[1])


@pytest.mark.parametrize("factor", [1e-4, 1e3])
def test_holes_of_complete_training_data_are_compensated(factor):
    """A missing entry makes no row abnormal, whatever the unit of its column."""
    X = np.random.default_rng(0).normal(size=(400, 3)) * [1, 1, factor]
    detector = LikelihoodOutlierDetector(contamination=0.05, random_state=0).fit(X)
    holes = X.copy()
    holes[:, 2] = np.nan
    assert 0.005 < (detector.predict(holes) == -1).mean() < 0.2


@pytest.fixture(name="table")
def mixed_table():
    """Draw 150 rows of heights, visits and cities, with a hole in two columns."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, 150),
            "visits": rng.poisson(rng.gamma(2, 6, 150)),
            "city": rng.choice(["Bonn", "Kiel", "Ulm"], 150),
        }
    )
    frame.loc[3, "height"] = np.nan
    frame.loc[4, "city"] = None
    return frame


def small_vae(likelihood="gaussian", **parameters):
    return VariationalAutoencoder(
        1, likelihood=likelihood, max_iter=3, random_state=0, **parameters
    )


ADDS_UP = {
    "variational": small_vae("laplace"),
    "deterministic": GaussianAutoencoder(1, max_iter=3, random_state=0),
    "predicted scale": small_vae(variance_mode="predicted", covariance_type="diag"),
    "mixture": small_vae("mixture"),
}


@ignore_spread
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("estimator", ADDS_UP.values(), ids=ADDS_UP)
def test_parts_of_columns_add_up_to_the_score(estimator, dtype, contaminated):
    X = contaminated[0].astype(dtype)
    X[::7, 1] = np.nan
    detector = LikelihoodOutlierDetector(estimator).fit(X)
    parts, kl = detector.score_features(X, return_kl=True)
    assert parts.shape == X.shape
    tolerance = 1e-9 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(
        parts.sum(axis=1) - kl, detector.score_samples(X), rtol=0, atol=tolerance
    )
    np.testing.assert_array_equal(detector.score_features(X), parts)
    # What is missing has the mean log-density of a normal density.
    variance = np.nanvar(X[:, 1], dtype=np.float64)
    expected = -0.5 * (1 + np.log(2 * np.pi * variance))
    np.testing.assert_allclose(parts[::7, 1], expected, rtol=1e-5)
    # A row on its own, and the rows in blocks, have the parts of the row among others.
    blocks = np.vstack([detector.score_features(X[i : i + 64]) for i in range(0, 200, 64)])
    np.testing.assert_allclose(blocks, parts, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        detector.score_features(X[5:6])[0], parts[5], rtol=0, atol=tolerance
    )


def test_parts_of_a_mixed_table_add_up(table):
    ignore = Mixed("auto", handle_unknown="ignore")
    detector = LikelihoodOutlierDetector(small_vae(ignore)).fit(table)
    strange = table.copy()
    strange.loc[7, "city"] = "Rome"
    parts, kl = detector.score_features(strange, return_kl=True)
    assert parts.shape == table.shape
    np.testing.assert_allclose(
        parts.sum(axis=1) - kl, detector.score_samples(strange), rtol=0, atol=1e-9
    )
    of_training = detector.score_features(table)
    known = table["city"].notna().to_numpy()
    assert isinstance(parts, pd.DataFrame)
    assert parts.columns.equals(table.columns)
    of_city = of_training.loc[known, "city"]
    share_of_half_a_row = np.log(0.5 / (known.sum() + 0.5 * 4))
    assert share_of_half_a_row < of_city.min()
    assert parts["city"][7] == pytest.approx(share_of_half_a_row)
    # A missing city has the mean of the others.
    assert parts["city"][4] == pytest.approx(of_city.mean())


def test_new_values_are_strange_and_no_error(table):
    """A category, a code and a flag that the training rows do not have."""
    X = table.assign(rooms=np.arange(len(table)) % 7 + 1, kind="old")
    X.loc[::3, "kind"] = "new"
    kinds = Mixed([("kind", "bernoulli"), (slice("rooms"), "auto")])
    detector = LikelihoodOutlierDetector(small_vae(kinds)).fit(X)
    scores, parts = detector.score_samples(X), detector.score_features(X)
    for column, value in {"city": "Moon", "rooms": 12, "kind": "older"}.items():
        with pytest.warns(UserWarning, match=f"column '{column}' .*{value}"):
            strange = detector.score_features(X.assign(**{column: value}))
        # Half a row of all, of one value more than the training rows have.
        n, k = X[column].count(), X[column].nunique()
        share = np.log(0.5 / (n + 0.5 * (k + 1)))
        assert (strange[column] <= share + 1e-12).all()
        assert (strange[column] <= parts.loc[X[column].notna(), column].min()).all()
        with pytest.warns(UserWarning, match="mostly values that the training data do not"):
            changed = detector.score_samples(X.assign(**{column: value}))
        assert (changed < scores).mean() > 0.9
    # The estimator, which was given, still refuses them.
    with pytest.raises(ValueError, match="Found unknown values in column 'city'"):
        clone(detector.estimator_).fit(X).score(X.assign(city="Moon"))


@pytest.mark.parametrize("ignores", [False, True])
def test_columns_of_another_dtype_or_spelling_are_named_once(table, ignores):
    """A detector takes unknown values, and so does a model that is told to."""
    X = table.assign(flag=np.arange(len(table)) % 3 == 0)
    estimator = small_vae(Mixed("auto", handle_unknown="ignore") if ignores else "mixed")
    estimator.set_params(max_iter=2)
    model = estimator if ignores else LikelihoodOutlierDetector(estimator)
    model.fit(X)
    city, flag = X["city"].str.upper() + " ", X["flag"].astype(str)
    half = X["city"].where(np.arange(len(X)) % 3 == 0, "Moon")
    known = "the training data have"
    one = rf"'flag' \(1 of 1 values, such as 'True'; {known} False, True"
    two = f"'city' .*{known} .*'flag' .*; {known} False, True"
    for changed, pattern in [
        (X.assign(city=city, flag=flag), two),
        (X.assign(flag=flag)[:1], one),
        (X.assign(city=half), "'city' .* of .* values, such as 'Moon'; "),
    ]:
        for method in (model.score_samples, model.score_features):
            with pytest.warns(UserWarning, match=pattern) as record:
                method(changed)
            assert len(record) == 1
    # A few rows may have a new category, and missing values are none.
    model.score_samples(X[:3].assign(city="Moon"))
    model.score_samples(X.assign(city=None))
    model.score_samples(X.assign(city=X["city"].where(np.arange(len(X)) % 3 > 0, "Moon")))


def test_all_refused_columns_are_in_one_error_of_the_detector(table):
    X = table.assign(day=pd.Timestamp("2026-01-01"), note=[f"n{i}" for i in range(150)])
    with pytest.raises(ValueError, match=r"(?s)2 columns cannot be.*'day'.*'note'"):
        LikelihoodOutlierDetector(small_vae("mixed")).fit(X)


def test_parts_name_the_column_that_was_changed(contaminated):
    X = contaminated[0][:180]
    detector = LikelihoodOutlierDetector(random_state=0).fit(X)
    for j in range(3):
        changed = X[:1].copy()
        changed[0, j] += 20 * X[:, j].std()
        difference = detector.score_features(changed) - detector.score_features(X[:1])
        assert difference.argmin() == j


def test_only_estimators_with_parts_have_them(contaminated):
    assert hasattr(LikelihoodOutlierDetector(), "score_features")
    assert hasattr(LikelihoodOutlierDetector(small_vae()), "score_features")
    assert not hasattr(NORMAL, "score_features")
    assert not hasattr(clone(NORMAL).fit(contaminated[0]), "score_features")
    with pytest.raises(NotFittedError):
        LikelihoodOutlierDetector().score_features(contaminated[0])


class NormalOfColumns(GaussianMixture):
    """A density of a user with a part for each column, and no KL."""

    def score_features(self, X):
        deviation = np.sqrt(self.covariances_)
        return scipy.stats.norm(self.means_, deviation).logpdf(X)


def test_parts_of_an_estimator_without_kl(contaminated):
    X = contaminated[0]
    detector = LikelihoodOutlierDetector(NormalOfColumns(covariance_type="diag")).fit(X)
    parts = detector.score_features(X)
    np.testing.assert_allclose(parts.sum(axis=1), detector.score_samples(X))


def rare_values(kind, n=200):
    """Draw a table in which few rows have one value of the second column."""
    rng = np.random.default_rng(1)
    values = {
        "counts": rng.poisson(1, n),
        "many counts": rng.poisson(1, n) * rng.choice([0, 1, 5], n),
        "strings": np.where(np.arange(n) < 2, "Ulm", rng.choice(["Bonn", "Kiel"], n)),
        "flag": (np.arange(n) < 2).astype(int),
        "strings of a flag": np.where(np.arange(n) < 2, "yes", "no"),
        "declared": pd.Categorical(
            np.where(np.arange(n) < 2, "Ulm", "Bonn"), ["Bonn", "Kiel", "Ulm"]
        ),
    }[kind]
    height = rng.normal(170, 10, n)
    height[:2] = 240  # the rows of the rare value are not among the most likely ones
    return pd.DataFrame({"height": height, "rare": values})


@pytest.mark.parametrize(
    "kind",
    ["counts", "many counts", "strings", "flag", "strings of a flag", "declared"],
)
def test_refits_keep_the_kinds_and_categories_of_all_rows(kind):
    X = rare_values(kind)
    likelihood = "mixed"
    if kind == "strings of a flag":
        likelihood = Mixed([("height", "gaussian"), ("rare", "bernoulli")])
    estimator = small_vae(likelihood, hidden_layer_sizes=(4,)).set_params(max_iter=20)
    detector = LikelihoodOutlierDetector(estimator).fit(X)
    assert X["rare"][detector.support_].nunique() < X["rare"].nunique()
    whole = clone(estimator).fit(X)
    assert detector.estimator_._table.columns == whole._table.taking_unknown().columns
    assert repr(detector.estimator_.likelihood_) == repr(whole.likelihood_)
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    if kind != "many counts":
        # The value counts with its share, and makes no row hundreds of nats stranger.
        values = X["rare"]
        lacking = sorted(set(values) - set(values[detector.support_]))
        n_values = len(whole._table.columns.columns[1].categories)
        for value in lacking:
            expected = np.log(((values == value).sum() + 0.5) / (200 + 0.5 * n_values))
            parts = detector.score_features(X[values == value])["rare"]
            np.testing.assert_allclose(parts, expected)
            assert expected < detector.score_features(X)["rare"][detector.support_].mean()
    parts, kl = detector.score_features(X, return_kl=True)
    np.testing.assert_allclose(parts.sum(axis=1) - kl, scores, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(
        detector.predict(X), np.where(scores < detector.offset_, -1, 1)
    )


def test_another_fit_of_the_estimator_finds_out_its_own_columns():
    X = rare_values("counts")
    detector = LikelihoodOutlierDetector(small_vae("mixed")).fit(X)
    of_support = X[detector.support_]
    again = detector.estimator_.fit(of_support)
    assert again._table.columns == small_vae("mixed").fit(of_support)._table.columns


def test_missing_entries_are_not_stranger_for_categories_that_refits_lack():
    """What a missing entry adds is a mean of parts, none of them beyond all limits."""
    X = rare_values("counts")
    detector = LikelihoodOutlierDetector(small_vae("mixed").set_params(max_iter=20)).fit(X)
    holes = X.astype({"rare": float}).assign(rare=np.nan)
    parts = detector.score_features(holes)["rare"]
    np.testing.assert_allclose(parts, detector.score_features(X)["rare"].mean())
    assert (parts > -5).all()


def test_identifiers_are_warned_of_once():
    """The last fit takes the columns that were found before the first one."""
    X = rare_values("strings").assign(rare=[f"user {max(i, 1)}" for i in range(200)])
    with pytest.warns(UserWarning, match="Column 'rare' has 199 categories") as record:
        detector = LikelihoodOutlierDetector(small_vae("mixed")).fit(X)
    messages = [str(w.message) for w in record if "categories" in str(w.message)]
    assert len(messages) == 1
    assert np.isfinite(detector.score_samples(X)).all()


def test_one_hot_columns_that_the_most_likely_rows_lack():
    X = rare_values("strings")
    one_hot = pd.get_dummies(X["rare"]).astype(int)
    table = pd.concat([X[["height"]], one_hot], axis=1)
    likelihood = Mixed(
        [("height", "gaussian"), (list(one_hot), CategoricalLikelihood(one_hot=True))]
    )
    detector = LikelihoodOutlierDetector(small_vae(likelihood).set_params(max_iter=20))
    detector.fit(table)
    assert not one_hot["Ulm"][detector.support_].any()
    parts = detector.score_features(table)
    np.testing.assert_allclose(parts["Ulm"][:2], np.log(2.5 / 201))
    assert (parts["Ulm"][2:] == 0).all()


def test_a_random_state_is_for_the_outermost_estimators_without_one():
    """An estimator with a random state decides on what is inside of it."""
    inner = VariationalAutoencoder(prior=GaussianMixture(2), random_state=5)
    pipeline = with_random_state(make_pipeline(PCA(2), inner), 3).get_params()
    states = {n: v for n, v in pipeline.items() if n.endswith("random_state")}
    assert states == {
        "pca__random_state": 3,
        "variationalautoencoder__random_state": 5,
        "variationalautoencoder__prior__random_state": None,
    }
    assert (
        with_random_state(clone(inner).set_params(random_state=None), 3).random_state == 3
    )
