"""Tables of mixed columns: frames in, frames out."""

import copy
import pickle
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.compose import make_column_selector
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skae import VariationalAutoencoder
from skae._utils.compat import array_api
from skae.inspection import ResidualQQDisplay, ScaleProfileDisplay
from skae.likelihoods import (
    CategoricalLikelihood,
    GeneralizedLinear,
    LaplaceLikelihood,
    LinkStart,
    Mixed,
    PoissonLikelihood,
)
from skae.model_selection import BatchedGridSearchCV
from skae.outlier import LikelihoodOutlierDetector


@pytest.fixture
def frame():
    """A table with all kinds of columns, which depend on one number."""
    rng = np.random.default_rng(0)
    n = 150
    z = rng.normal(size=n)
    size = pd.cut(z + 0.3 * rng.normal(size=n), [-9, -0.5, 0.5, 9], labels=["S", "M", "L"])
    return pd.DataFrame(
        {
            "height": 170 + 10 * z + rng.normal(size=n),
            "income": np.exp(1 + z),
            "visits": rng.poisson(np.exp(1.5 + 0.8 * z)) * 2,
            "smokes": rng.uniform(size=n) < 1 / (1 + np.exp(-2 * z)),
            "city": np.where(
                z > 0, "Rome", np.where(rng.uniform(size=n) < 0.5, "Oslo", "Bonn")
            ),
            "size": size,
            "stars": np.clip(np.round(z + 3), 1, 5).astype(int),
            "delta": np.round(20 * z + 5 * rng.normal(size=n)).astype(int) - 5,
        },
        index=pd.RangeIndex(1000, 1000 + n),
    )


CHOSEN = [
    (["height", "income", "delta"], "gaussian"),
    (["visits"], "negative_binomial"),
    (["smokes"], "bernoulli"),
    (["city", "size", "stars"], "categorical"),
]


def vae(likelihood="mixed", **parameters):
    parameters = {"max_iter": 15, "random_state": 0, **parameters}
    return VariationalAutoencoder(2, likelihood=likelihood, **parameters)


def test_auto_chooses_by_dtypes_and_values(frame):
    model = vae().fit(frame)
    assert model.likelihood_.columns == CHOSEN
    assert repr(model.likelihood_) == f"Mixed({CHOSEN!r})"
    if array_api is not None:
        # Older versions of scikit-learn show no fitted attributes.
        assert "categorical: city, size, stars" in model._repr_html_()
        assert "categorical: city, size, stars" in make_pipeline(model)._repr_html_()
    assert model.n_features_in_ == 8
    assert list(model.feature_names_in_) == list(frame.columns)
    # A scale for each column that has one.
    has_scale = [True, True, True, False, False, False, False, True]
    assert np.array_equal(~np.isnan(model.scale_), has_scale)
    assert model.transform(frame).shape == (len(frame), 2)


@pytest.mark.parametrize("as_polars", [False, True])
def test_columns_come_back_as_they_came_in(frame, as_polars):
    X = frame
    if as_polars:
        X = pl.DataFrame(
            [
                pl.Series(name, values.tolist(), pl.Categorical if name == "size" else None)
                for name, values in frame.items()
            ]
        )
    model = vae().fit(X)
    codes = model.transform(X)
    for name, result in {
        "inverse_transform": model.inverse_transform(codes),
        "reconstruct": model.reconstruct(X),
        "sample": model.sample(len(frame), random_state=0),
        "mean": model.sample(9, random_state=0, noise=False),
        "impute": model.impute(X),
        "draws": model.impute(X, n_samples=2)[1],
        "given": model.sample(5, random_state=0, given=X[:1]),
    }.items():
        assert type(result) is type(X), name
        assert list(result.columns) == list(X.columns)
        assert list(result.dtypes) == list(X.dtypes), name
        assert set(result["city"]) <= {"Rome", "Oslo", "Bonn"}
        assert set(result["stars"]) <= set(frame["stars"])
        assert min(result["visits"]) >= 0
    filled = model.impute(X)
    if as_polars:
        assert filled.equals(X)
    else:
        pd.testing.assert_frame_equal(filled, X)
        pd.testing.assert_index_equal(model.reconstruct(X).index, X.index)
    # Both libraries describe the same table; polars has no order of these categories.
    assert model.score(X) == pytest.approx(vae().fit(frame).score(frame), abs=0.05)


def test_missing_values_of_all_kinds_are_filled(frame):
    X = frame.astype({"visits": "Int64", "smokes": "boolean", "city": "string"})
    holes = np.random.default_rng(1).uniform(size=X.shape) < 0.2
    X = X.mask(holes)
    X["city"] = X["city"].astype(object)
    model = vae(max_iter=40).fit(X)
    filled = model.impute(X)
    assert not filled.isna().to_numpy().any()
    assert filled["visits"].dtype == "Int64"
    assert filled["smokes"].dtype == "boolean"
    for column in X:
        known = ~X[column].isna()
        assert (filled[column][known] == X[column][known]).all()
    # Imputed categories are better than the most frequent one.
    hidden = holes[:, 5]
    truth = frame["size"].astype(str)[hidden]
    mode = X["size"].mode()[0]
    found = filled["size"].astype(str)[hidden]
    assert (found == truth).mean() > (truth == mode).mean() + 0.1
    assert np.isfinite(model.score(X))


WAYS = {
    "names": [
        (["height", "income"], "laplace"),
        ("visits", "poisson"),
        (["smokes"], "bernoulli"),
        (["city", "size", "stars"], "categorical"),
        ("delta", "gaussian"),
    ],
    "indices": [
        ([0, 1], "laplace"),
        (2, PoissonLikelihood()),
        (3, "bernoulli"),
        (slice(4, 7), "categorical"),
        ([-1], "gaussian"),
    ],
    "slices and a mask": [
        (slice("height", "income"), LaplaceLikelihood()),
        (np.arange(8) == 2, "poisson"),
        ([3], "bernoulli"),
        (slice("city", "stars"), CategoricalLikelihood()),
        (["delta"], "gaussian"),
    ],
    "a selector": [
        (make_column_selector("height|income"), "laplace"),
        (["visits"], "poisson"),
        (make_column_selector(dtype_include=bool), "bernoulli"),
        (make_column_selector("city|size|stars"), "categorical"),
        (["delta"], "auto"),
    ],
}


def test_ways_to_name_columns_are_equal(frame):
    scores = [vae(Mixed(way)).fit(frame).score_samples(frame) for way in WAYS.values()]
    for other in scores[1:]:
        np.testing.assert_array_equal(other, scores[0])


def test_parts_add_up_by_column(frame):
    model = vae().fit(frame)
    parts, kl = model.score_features(frame, return_kl=True)
    assert parts.columns.equals(frame.columns)
    np.testing.assert_allclose(
        parts.sum(axis=1) - kl, model.score_samples(frame), rtol=0, atol=1e-9
    )
    # Log-probabilities of flags and categories.
    assert (parts.iloc[:, 3:7] <= 0).all(axis=None)


def test_units_of_a_column_move_its_part_only(frame):
    """Heights in metres shift the score by a constant, and nothing else."""
    in_metres = frame.assign(height=frame["height"] / 100)
    one, other = vae().fit(frame), vae().fit(in_metres)
    np.testing.assert_allclose(
        other.score_samples(in_metres),
        one.score_samples(frame) + np.log(100),
        rtol=0,
        atol=1e-3,
    )


def test_order_and_repetition_of_rows_do_not_matter(frame):
    shuffled = frame.sample(frac=1, random_state=0)
    twice = pd.concat([frame, frame])
    one = vae().fit(frame)
    other = vae().fit(shuffled)
    np.testing.assert_array_equal(one.transform(frame), other.transform(frame))
    weighted = vae().fit(frame, sample_weight=np.full(len(frame), 2))
    repeated = vae().fit(twice)
    np.testing.assert_array_equal(weighted.transform(frame), repeated.transform(frame))


def test_weights_choose_as_repetitions_do():
    """Rows of weight 0 say nothing, and weights count in what "auto" chooses."""
    X = pd.DataFrame(
        {"n": [0, 30] + list(range(9, 20)) * 3, "c": ["rare"] + list("ab") * 17}
    )
    weight = np.array([0] + [1] + [2] * 33)
    repeated = X.loc[X.index.repeat(weight)]
    one = vae().fit(X, sample_weight=weight)
    other = vae().fit(repeated)
    assert one.likelihood_.columns == other.likelihood_.columns
    used = X[weight > 0]
    np.testing.assert_allclose(
        one.score_samples(used), other.score_samples(used), rtol=1e-6
    )


def test_floats_of_a_frame_are_no_counts():
    """Whole numbers among floats may be an accident, unless what is missing made them."""
    counts = np.random.default_rng(0).poisson(20, 60) * 2
    X = pd.DataFrame({"int": counts, "float": counts * 1.0, "holes": counts * 1.0})
    X.loc[3, "holes"] = np.nan
    assert vae().fit(X).likelihood_.columns == [
        (["int", "holes"], "negative_binomial"),
        (["float"], "gaussian"),
    ]
    assert vae().fit(X.to_numpy()).likelihood_.columns == [([0, 1, 2], "negative_binomial")]


def test_columns_of_one_family_are_one_part(frame):
    parts = [(name, "gaussian") for name in ("height", "income", "delta")]
    rest = [(["visits", "smokes", "city", "size", "stars"], "auto")]
    assert len(vae(Mixed(parts + rest)).fit(frame).likelihood_.columns) == 4


def test_an_identifier_is_named_in_a_warning():
    ids = [f"c{max(i, 1)}" for i in range(121)]
    X = pd.DataFrame({"id": ids, "x": np.arange(121.0) ** 1.5})
    with pytest.warns(UserWarning, match="Column 'id' has 120 categories in 121 rows"):
        vae(max_iter=1).fit(X)


def test_float32_frames_have_float32_codes(frame):
    X = frame[["height", "income", "city"]].astype({"height": "f4", "income": "f4"})
    assert vae().fit(X).transform(X).dtype == np.float32


def test_share_of_variance_is_not_that_of_rare_categories():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 1)) + 0.1 * rng.normal(size=(400, 8)))
    X.columns = list("abcdefgh")
    X["rare"] = rng.choice(list("stuvwxyz"), 400, p=[0.79] + [0.03] * 7)
    assert vae().set_params(n_components=0.7).fit(X).n_components_ <= 5


def test_a_number_that_is_none_is_named(frame):
    X = frame.assign(height=["1.5", "tall"] + ["2"] * (len(frame) - 2))
    with pytest.raises(ValueError, match="no numbers, such as 'tall'"):
        vae(Mixed([("height", "gaussian"), (slice("income", None), "auto")])).fit(X)


def test_pickles_clones_pipelines_and_searches(frame):
    model = vae().fit(frame)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.transform(frame), model.transform(frame))
        pd.testing.assert_frame_equal(
            other.sample(3, random_state=0), model.sample(3, random_state=0)
        )
    pipeline = make_pipeline(vae()).fit(frame)
    assert pipeline.score(frame) == model.score(frame)
    grid = {"beta": [1.0, 2.0]}
    keywords = {"cv": 2, "refit": False, "error_score": "raise"}
    together = BatchedGridSearchCV(vae(precision="float64"), grid, **keywords).fit(frame)
    alone = GridSearchCV(vae(precision="float64"), grid, **keywords).fit(frame)
    np.testing.assert_allclose(
        together.cv_results_["mean_test_score"],
        alone.cv_results_["mean_test_score"],
        rtol=1e-9,
    )
    codes = vae().set_output(transform="pandas").fit_transform(frame)
    assert list(codes.index) == list(frame.index)


def test_unknown_categories(frame):
    model = vae().fit(frame)
    strange = frame.iloc[:3].assign(city=["Rome", "Paris", "Oslo"])
    with pytest.raises(ValueError, match=r"unknown values in column 'city'.*'Paris'"):
        model.transform(strange)
    tolerant = vae(Mixed("auto", handle_unknown="ignore")).fit(frame)
    hidden = strange.assign(city=["Rome", None, "Oslo"])
    np.testing.assert_array_equal(
        tolerant.score_samples(strange), tolerant.score_samples(hidden)
    )
    part = CategoricalLikelihood(handle_unknown="ignore")
    own = vae(Mixed([("city", part), (slice(0, 4), "auto"), (slice(5, 8), "auto")]))
    assert np.isfinite(own.fit(frame).score(strange))
    # In cross-validation a fold may lack a rare category.
    rare = frame.copy()
    rare.loc[1000, "city"] = "Lima"
    scores = cross_val_score(vae(Mixed(handle_unknown="ignore")), rare, cv=3)
    assert np.isfinite(scores).all()


def test_identifiers_are_named_before_the_start_is_computed(monkeypatch, capsys):
    """The first weights of a wide table take seconds: what is trained is said before."""

    class ReachedError(Exception):
        pass

    def initialize(*args, **kwargs):
        raise ReachedError

    monkeypatch.setattr("skae.estimators.problems.initialize", initialize)
    X = pd.DataFrame({"email": [f"u{max(i, 1)}@x.org" for i in range(61)]})
    with (
        pytest.warns(UserWarning, match="Column 'email' has 60 categories in 61 rows"),
        pytest.raises(ReachedError),
    ):
        vae(verbose=1).fit(X)
    assert "60 features" in capsys.readouterr().out


def ignoring(columns="auto", **parameters):
    return Mixed(columns, handle_unknown="ignore", **parameters)


CITY_AND_REST = [("city", CategoricalLikelihood()), (slice(0, 4), "auto")]


@pytest.mark.parametrize(
    ("given", "advice", "remedy"),
    [
        ("mixed", "pass likelihood=Mixed(handle_unknown='ignore') (from", ignoring()),
        (
            Mixed(real="laplace"),
            "pass likelihood=Mixed(real='laplace', handle_unknown='ignore') (from",
            ignoring(real="laplace"),
        ),
        (
            Mixed([(slice(0, 5), "auto")]),
            "pass likelihood=Mixed([...], handle_unknown='ignore') (from",
            ignoring([(slice(0, 5), "auto")]),
        ),
        (
            Mixed(CITY_AND_REST),
            "give the column CategoricalLikelihood(handle_unknown='ignore').",
            Mixed(
                [
                    ("city", CategoricalLikelihood(handle_unknown="ignore")),
                    (slice(0, 4), "auto"),
                ]
            ),
        ),
    ],
)
def test_the_error_of_unknown_categories_has_code_to_copy(frame, given, advice, remedy):
    X = frame.iloc[:, :5]
    strange = X.iloc[:2].assign(city="Lima")
    with pytest.raises(ValueError, match=re.escape(advice)):
        vae(given).fit(X).transform(strange)
    assert np.isfinite(vae(remedy).fit(X).score(strange))


def test_the_error_of_unknown_codes_has_code_to_copy():
    X = np.repeat([[0.0, 1.0], [1.0, 2.0]], 20, axis=0)
    advice = (
        "pass likelihood=CategoricalLikelihood(handle_unknown='ignore') "
        "(from skae.likelihoods import CategoricalLikelihood)."
    )
    with pytest.raises(ValueError, match=re.escape(advice)):
        vae("categorical").fit(X).transform([[7.0, 1.0]])
    remedy = CategoricalLikelihood(handle_unknown="ignore")
    assert np.isfinite(vae(remedy).fit(X).score([[7.0, 1.0]]))


def test_folds_may_lack_declared_categories(frame):
    """Categories of a dtype are known to all folds, and come back with the dtype."""
    X = frame[["height", "size"]].copy()
    X["size"] = pd.Categorical(
        ["S"] + ["M", "L"] * (len(X) // 2 - 1) + ["M"], ["S", "M", "L", "XL"], ordered=True
    )
    scores = cross_val_score(vae(), X, cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    assert vae().fit(X).reconstruct(X).dtypes.equals(X.dtypes)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64"])
def test_integers_stay_in_the_range_of_their_dtype(dtype):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    top = limits.max if dtype != "int64" else 2**53
    values = (top - rng.integers(0, 50, 200)).astype(dtype)
    X = pd.DataFrame({"a": values, "b": rng.normal(size=200)})
    model = vae(Mixed([("a", "gaussian"), ("b", "gaussian")])).fit(X)
    if dtype == "int64":
        drawn = model.sample(500, random_state=0)
    else:
        text = rf"of 500 values of column 'a', from {limits.min} to {limits.max}\..*int32"
        with pytest.warns(UserWarning, match=text):
            drawn = model.sample(500, random_state=0)
    assert drawn["a"].dtype == dtype
    assert drawn["a"].min() > top // 4
    pd.testing.assert_frame_equal(model.impute(X), X)


def test_impute_keeps_integers_that_floats_cannot_hold():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"id": 2**60 + np.arange(100) * 7, "b": rng.normal(size=100)})
    X.loc[3, "b"] = np.nan
    filled = vae(Mixed([(slice(None), "gaussian")])).fit(X).impute(X)
    assert (filled["id"] == X["id"]).all()
    assert not filled["b"].isna().any()


def test_decimals_come_back_as_numbers():
    """They are no objects, whose dtype says nothing."""
    decimals = [Decimal(i) / 4 if i % 5 else None for i in range(60)]
    X = pd.DataFrame({"price": decimals, "b": np.random.default_rng(0).normal(size=60)})
    model = vae().fit(X)
    filled = model.impute(X)["price"]
    assert filled.dtype == "float64"
    known = X["price"].notna()
    assert filled[known].tolist() == [float(v) for v in X.loc[known, "price"]]
    assert model.sample(3)["price"].dtype == "float64"


def test_a_row_of_a_frame_is_given(frame):
    model = vae().fit(frame)
    row = frame.iloc[0].copy()
    row["city"] = None
    drawn = model.sample(20, random_state=0, given=row)
    assert (drawn["height"] == frame["height"].iloc[0]).all()
    assert drawn["size"].nunique() == 1


@pytest.mark.parametrize("package", ["pandas", "polars", None])
def test_known_columns_by_name(package):
    """A dict, and a frame of some columns, equal a row in which the others are missing."""
    rng = np.random.default_rng(0)
    values = {"x": rng.normal(size=60), "kind": ["red", "blue", "green"] * 20}
    values["y"] = values["x"] + 0.1 * rng.normal(size=60)
    if package is None:
        X = np.array(list(values.values()), dtype=object).T
        known, row = {1: "blue", 0: 0.5}, [0.5, "blue", None]
    else:
        new_frame = {"pandas": pd, "polars": pl}[package].DataFrame
        X, known = new_frame(values), {"kind": "blue", "x": 0.5}
        row = new_frame({"x": [0.5], "kind": ["blue"], "y": pd.Series([None], dtype=float)})
    model = vae().fit(X)
    expected = np.asarray(model.sample(6, 0, given=row))
    givens = (
        [known]
        if package is None
        else [known, new_frame({k: [v] for k, v in known.items()})]
    )
    for given in givens:
        assert (np.asarray(model.sample(6, 0, given=given)) == expected).all()
    assert set(expected[:, 1]) == {"blue"}
    assert len(set(expected[:, 2])) == 6
    with pytest.raises(ValueError, match="given has 'kinds', which is no column of X"):
        model.sample(2, given={"kinds": "red"})


def test_names_that_are_no_strings():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=[0, 1])
    assert list(vae().fit(X).reconstruct(X).columns) == [0, 1]


def test_warm_start_knows_an_equal_selector(frame):
    def likelihood():
        return Mixed([(make_column_selector("height|income"), "laplace"),
                      (slice("visits", None), "auto")])  # fmt: skip

    model = vae(likelihood(), warm_start=True, max_iter=2).fit(frame)
    model.set_params(likelihood=likelihood()).fit(frame)
    assert model.n_iter_ == 4
    model.set_params(likelihood=copy.deepcopy(likelihood())).fit(frame)
    assert model.n_iter_ == 6


def test_outliers_among_mixed_columns(frame):
    X = frame.copy()
    X.iloc[:3, X.columns.get_loc("visits")] = 500
    X.loc[1005:1009, "city"] = None
    # The refits to the likeliest rows may lack a rare category.
    estimator = vae(Mixed("auto", handle_unknown="ignore"), max_iter=30)
    detector = LikelihoodOutlierDetector(estimator).fit(X)
    scores = detector.score_samples(X)
    assert set(np.argsort(scores)[:3]) == {0, 1, 2}
    assert np.isfinite(scores).all()
    assert set(detector.predict(X)) <= {1, -1}
    # An unknown city is stranger than one that is not said.
    row = frame.iloc[20:21]
    strange, unsaid = row.assign(city="Atlantis"), row.assign(city=None)
    assert detector.score_samples(strange)[0] < detector.score_samples(row)[0]
    assert detector.score_samples(strange)[0] < detector.score_samples(unsaid)[0]


@pytest.mark.parametrize("display", [ResidualQQDisplay, ScaleProfileDisplay])
def test_displays_of_residuals_refuse_flags(frame, display):
    model = vae().fit(frame)
    with pytest.raises(ValueError, match="BinomialLikelihood has none"):
        display.from_estimator(model, frame)


def test_one_hot_columns_are_one_group(frame):
    one_hot = pd.get_dummies(frame["size"], dtype=float)
    X = pd.concat([frame[["height"]], one_hot], axis=1)
    parts = [("height", "gaussian"), (list("SML"), CategoricalLikelihood(one_hot=True))]
    model = vae(Mixed(parts)).fit(X)
    by_codes = vae(Mixed([("height", "gaussian"), ("size", "categorical")]))
    by_codes.fit(frame[["height", "size"]])
    assert model.score(X) == pytest.approx(
        by_codes.score(frame[["height", "size"]]), abs=0.03
    )
    drawn = model.sample(20, random_state=0)
    assert (drawn[list("SML")].sum(axis=1) == 1).all()
    X.iloc[3, 1:] = np.nan
    assert np.isfinite(model.score(X))
    X.iloc[3, 1:] = [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="one-hot columns: each row has a single 1"):
        model.score(X)


def test_categories_as_codes_in_an_array():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, size=(80, 3)) * 10
    model = vae("categorical").fit(X)
    assert model.reconstruct(X).dtype == X.dtype
    assert set(np.unique(model.sample(30, random_state=0))) <= {0, 10, 20}
    words = np.array(["a", "b", "c"], dtype=object)[X // 10]
    assert vae("categorical").fit(words).score(words) == model.score(X)
    assert set(np.unique(vae("categorical").fit(words).reconstruct(words))) <= set("abc")
    mixed = np.column_stack([words[:, 0], rng.normal(size=80).astype(object)])
    back = vae().fit(mixed).reconstruct(mixed)
    assert back.dtype == object
    assert isinstance(back[0, 0], str)
    assert isinstance(back[0, 1], float)


def test_early_stopping_and_warm_start(frame):
    assert np.isfinite(vae(early_stopping=True).fit(frame).score(frame))
    model = vae(warm_start=True, max_iter=3).fit(frame).fit(frame)
    assert model.n_iter_ == 6
    model.set_params(likelihood=Mixed([(slice(None), "auto")]))
    with pytest.raises(ValueError, match="had another likelihood"):
        model.fit(frame)
    assert np.isfinite(model.score(frame))


BAD_TABLES = {
    "missing column": (
        lambda f: Mixed([(["height"], "gaussian")]),
        lambda f: f,
        "Mixed has no likelihood for 7 columns: 'income', 'visits'",
    ),
    "twice": (
        lambda f: Mixed([(slice(None), "auto"), ("height", "laplace")]),
        lambda f: f,
        "Column 'height' is twice in Mixed",
    ),
    "twice in one part": (
        lambda f: Mixed([(["height"] * 2, "laplace"), (slice("income", None), "auto")]),
        lambda f: f,
        "Column 'height' is twice in Mixed",
    ),
    "dates with a zone": (
        lambda f: Mixed(),
        lambda f: f.assign(day=pd.Timestamp("2026-01-01", tz="UTC")),
        "Column 'day' has dates or durations",
    ),
    "complex numbers": (
        lambda f: Mixed(),
        lambda f: f.assign(wave=1j),
        "Complex data not supported: column 'wave'",
    ),
    "lists": (
        lambda f: Mixed(),
        lambda f: f.assign(tags=[["a"]] * len(f)),
        "Column 'tags' has lists",
    ),
    "a misspelt family for reals": (
        lambda f: Mixed(real="lapalce"),
        lambda f: f,
        r"got 'lapalce'. Did you mean 'laplace'\?",
    ),
    "no such name": (
        lambda f: Mixed([("weight", "gaussian")]),
        lambda f: f,
        "not (a column|columns) of the dataframe",
    ),
    "no such family": (
        lambda f: Mixed([("height", "normal")]),
        lambda f: f,
        "A likelihood of Mixed must be one of",
    ),
    "nested": (
        lambda f: Mixed([("height", Mixed())]),
        lambda f: f,
        "cannot be mixed itself",
    ),
    "numbers as words": (
        lambda f: Mixed([("city", "gaussian"), (slice("height", "smokes"), "auto")]),
        lambda f: f.drop(columns=["size", "stars", "delta"]),
        "Column 'city' has values that are no numbers, such as 'Rome'",
    ),
    "three values of a flag": (
        lambda f: Mixed([("city", "bernoulli")]),
        lambda f: f[["city"]],
        "column 'city' has 3 different values",
    ),
    "dates": (
        lambda f: Mixed(),
        lambda f: f.assign(day=pd.Timestamp("2026-01-01")),
        "dates or durations",
    ),
    "an empty column": (
        lambda f: Mixed(),
        lambda f: f.assign(nothing=np.nan),
        "no observed value of 'nothing'",
    ),
    "infinity": (
        lambda f: Mixed(),
        lambda f: f.assign(height=np.inf),
        "infinity|real numbers",
    ),
    "half a count": (
        lambda f: Mixed([("height", "poisson")]),
        lambda f: f[["height"]],
        "PoissonLikelihood is for counts.* but column 'height' has",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD_TABLES))
def test_bad_tables_are_refused(frame, name):
    likelihood, change, message = BAD_TABLES[name]
    model = vae(likelihood(frame))
    with pytest.raises(ValueError, match=message):
        model.fit(change(frame))
    assert not hasattr(model, "n_features_in_")


def messy(frame):
    """Return a table with columns that are refused."""
    return frame.assign(
        day=pd.Timestamp("2026-01-01"),
        # Also in a later part than other columns.
        comment=[f"no. {i}" for i in range(len(frame))],
        nothing=None,
        end=pd.Timedelta(1, "D"),
        id=np.arange(len(frame)) * 7,
    )


def test_all_refused_columns_are_in_one_error(frame):
    """Warnings about other columns wait for a table without errors."""
    with pytest.raises(ValueError, match="4 columns cannot be used:") as error:
        vae().fit(messy(frame))
    _, *reasons = str(error.value).split("\n- ")
    assert [reason.split(" has ")[0] for reason in reasons[:2]] == [
        "Column 'day'",
        "Column 'comment'",
    ]
    assert reasons[0].endswith("The same holds for 'end'.")
    assert reasons[2].startswith("There is no observed value of 'nothing'")
    X = messy(frame).drop(columns=["day", "comment", "nothing", "end"])
    with pytest.warns(UserWarning, match="Column 'id' has whole numbers that all differ"):
        vae(max_iter=1).fit(X)


@pytest.mark.parametrize("given", ["mixed", "categorical"])
def test_all_refused_columns_of_an_array_are_in_one_error(given):
    X = np.array([[f"a{i}", i % 3, f"b{i}", None] for i in range(60)], dtype=object)
    with pytest.raises(ValueError, match="3 columns cannot be used:") as error:
        vae(given).fit(X)
    assert "- Column 0 has 60 categories" in str(error.value)
    assert "The same holds for 2.\n" in str(error.value)
    assert "no observed value of 3" in str(error.value)


def test_an_error_shows_five_columns():
    columns = {f"c{i}": [None] * i + [f"x{j}" for j in range(60 - i)] for i in range(8)}
    with pytest.raises(ValueError, match="8 columns cannot be used:") as error:
        vae().fit(pd.DataFrame(columns))
    assert str(error.value).endswith("\n- and 3 more.")


def test_other_columns_than_in_the_fit_are_refused(frame):
    model = vae().fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.rename(columns={"height": "tall"}))
    with (
        pytest.warns(UserWarning, match="does not have valid feature names"),
        pytest.raises(ValueError, match="features, but VariationalAutoencoder"),
    ):
        model.transform(frame.to_numpy(dtype=object)[:, :5])


@pytest.mark.filterwarnings("ignore:Training did not improve")
@pytest.mark.parametrize("package", ["pandas", "polars"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_continued_fit_warns_once_of_lost_names(frame, package, method):
    table = frame.drop(columns="size")
    if package == "polars":
        table = pl.DataFrame({name: table[name].tolist() for name in table})
    model = vae(warm_start=method == "fit", max_iter=2)
    getattr(model, method)(table)
    with pytest.warns(UserWarning, match="does not have valid feature names") as caught:
        getattr(model, method)(frame.drop(columns="size").to_numpy(dtype=object))
    assert sum("valid feature names" in str(w.message) for w in caught) == 1
    # Names that differ, and a wrong number of columns, are errors as before.
    with pytest.raises(ValueError, match="feature names should match"):
        getattr(model, method)(frame.drop(columns="city"))
    with pytest.raises(ValueError, match="has 8 features, but Variational"):
        getattr(model, method)(frame.to_numpy(dtype=object))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "all"}, "columns must be 'auto' or a list"),
        ({"columns": ["height"]}, "tuples of columns and a likelihood"),
        ({"columns": [("height", 3)]}, "tuples of columns and a likelihood"),
        ({"handle_unknown": "drop"}, "handle_unknown must be"),
    ],
)
def test_parameters_of_mixed(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixed(**arguments)


def test_verbose_says_what_was_chosen(frame, capsys):
    vae(verbose=1).fit(frame)
    printed = capsys.readouterr().out
    assert "negative_binomial: visits\n" in printed
    assert "gaussian: height, income, delta\n" in printed


def test_callers_objects_are_not_changed(frame):
    before, likelihood = frame.copy(), Mixed("auto")
    model = vae(likelihood).fit(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert likelihood.columns == "auto"
    assert likelihood._parts == ()
    assert model.get_params()["likelihood"] is likelihood


@pytest.mark.filterwarnings("ignore:The scales? of .* floor")
def test_a_single_row_and_few_rows(frame):
    model = vae().fit(frame)
    assert model.transform(frame[:1]).shape == (1, 2)
    np.testing.assert_allclose(
        model.score_samples(frame[3:4]), model.score_samples(frame)[3:4], rtol=1e-9
    )
    assert np.isfinite(vae().fit(frame[:3]).score(frame[:3]))


def test_fixed_scales_of_columns(frame):
    X = frame[["height", "city", "delta"]]
    model = vae(variance_mode="fixed", scale=[2.0, 1.0, 3.0]).fit(X)
    assert model.scale_[[0, 2]] == pytest.approx([2.0, 3.0])
    assert np.isnan(model.scale_[1])


def test_one_hot_columns_alone(frame):
    X = pd.get_dummies(frame["size"], dtype=float).to_numpy()
    model = vae(CategoricalLikelihood(one_hot=True)).fit(X)
    np.testing.assert_allclose(model.reconstruct(X).sum(axis=1), 1)
    assert (model.sample(9, random_state=0).sum(axis=1) == 1).all()
    with pytest.raises(ValueError, match="Expected 2D array"):
        vae(CategoricalLikelihood(one_hot=True)).fit(X[:, 0])


def test_tables_without_rows_or_values(frame):
    with pytest.raises(ValueError, match="0 sample"):
        vae().fit(frame[:0])
    with pytest.raises(ValueError, match="no observed value of 'city'"):
        vae(Mixed([("city", "categorical")])).fit(frame[["city"]].assign(city=None))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        LikelihoodOutlierDetector(vae()).fit(frame[:1])
    with pytest.raises(ValueError, match="given must be one row, but has 2 rows"):
        vae().fit(frame).sample(2, given=frame[:2])


def test_models_of_former_versions(frame):
    """A pickle without what tables need is that of a table of numbers."""
    X = frame[["height", "income"]].to_numpy()
    model = vae("gaussian").fit(X)
    state = model.__getstate__()
    del state["_table"], state["likelihood_"]
    old = VariationalAutoencoder.__new__(VariationalAutoencoder)
    old.__setstate__(state)
    np.testing.assert_array_equal(old.score_samples(X), model.score_samples(X))
    assert repr(old.likelihood_) == repr(model.likelihood_)


def test_values_of_several_types():
    X = np.array([[1, "a"], ["one", "b"], [1, "a"], ["two", "b"]] * 9, dtype=object)
    model = vae().fit(X)
    assert set(model.reconstruct(X)[:, 0]) <= {1, "one", "two"}
    flags = np.array([[True, False], [False, False], [True, True]] * 9)
    assert vae().fit(flags).reconstruct(flags).dtype == bool


def test_enums_and_decimals_of_polars(frame):
    sizes = pl.Series("size", frame["size"].tolist(), pl.Enum(["S", "M", "L", "XL"]))
    price = pl.Series("price", frame["income"].round(2).tolist()).cast(pl.Decimal(10, 2))
    X = pl.DataFrame([sizes, price])
    drawn = vae().fit(X).sample(5, random_state=0)
    assert drawn["size"].dtype == sizes.dtype
    assert drawn["price"].dtype == pl.Float64


class Geometric(GeneralizedLinear):
    """A user's distribution of counts, with a parameter that cannot be hashed."""

    support = "nonnegative_integer"

    def __init__(self):
        self.notes = ["trained alone"]

    def start(self, moments):
        mean = moments.mean + 0.5 / moments.n
        ones = np.ones_like(mean)
        return LinkStart(np.log(mean), ones, 1 + 1 / mean, ones)

    def log_prob(self, x, loc, log_scale):
        return x * loc - (x + 1) * torch.nn.functional.softplus(loc)

    def mean(self, loc, log_scale):
        return torch.exp(loc)

    def sample(self, loc, log_scale, generator):
        uniform = torch.empty_like(loc).uniform_(generator=generator).clamp(min=1e-30)
        return torch.floor(-uniform.log() / torch.nn.functional.softplus(-loc))


def test_a_counts_distribution_of_a_user(frame):
    """It needs the analytic step no more than a user's network, alone and in a table."""
    X = frame[["visits"]].assign(again=frame["visits"] + 1, height=frame["height"])
    alone = vae(Geometric()).fit(X[["visits", "again"]])
    assert np.isfinite(alone.score(X[["visits", "again"]]))
    mixed = Mixed([(["visits", "again"], Geometric()), ("height", "gaussian")])
    model = vae(mixed).fit(X)
    assert np.isfinite(model.score(X))
    assert model.likelihood_.batch_key is None
    assert model.sample(5, random_state=0)["visits"].min() >= 0
    with pytest.raises(TypeError, match="Geometric has no derivatives"):
        Geometric().derivatives(*torch.zeros(4, 1, 1))


def test_a_bound_mixture_of_likelihoods_as_a_density():
    """`mean` and `sample` of all features join those of the parts."""
    parts = [(slice(0, 2), LaplaceLikelihood()), (slice(2, 3), PoissonLikelihood())]
    mixed = Mixed().bind([], parts)
    loc, log_scale = torch.zeros(4, 3), torch.zeros(1, 3)
    torch.testing.assert_close(mixed.mean(loc, log_scale)[0], torch.tensor([0.0, 0.0, 1.0]))
    drawn = mixed.sample(loc, log_scale, torch.Generator().manual_seed(0))
    assert torch.equal(drawn[:, 2], drawn[:, 2].round())
    assert mixed.unit_stddev == 1.0
    assert Mixed().describe() == []
    assert repr(Mixed(real="laplace", handle_unknown="ignore")) == (
        "Mixed('auto', real='laplace', handle_unknown='ignore')"
    )


def test_the_remedies_for_a_new_category_in_a_stream_run():
    """The error names both: a dtype with all categories, and a likelihood that ignores."""
    rng = np.random.default_rng(0)
    blocks = [
        pd.DataFrame({"x": rng.normal(size=60), "city": rng.choice(cities, 60)})
        for cities in (["Bonn", "Kiel"], ["Bonn", "Ulm"])
    ]
    model = VariationalAutoencoder(1, likelihood="mixed", random_state=0)
    with pytest.raises(ValueError, match=r"in column 'city'.*'Ulm'") as caught:
        model.partial_fit(blocks[0]).partial_fit(blocks[1])
    assert "handle_unknown='ignore'" in str(caught.value)
    assert "declare all of them to fit: astype(pandas.CategoricalDtype([...]))." in str(
        caught.value
    )
    city = pd.CategoricalDtype(["Bonn", "Kiel", "Ulm"])
    model = VariationalAutoencoder(1, likelihood="mixed", random_state=0)
    for block in blocks:
        model.partial_fit(block.astype({"city": city}))
    assert np.isfinite(model.score(blocks[1].astype({"city": city})))
