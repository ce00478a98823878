"""Displays of a table of several kinds of columns draw its numbers and flags."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae import VariationalAutoencoder
from skae.inspection import ImputationDisplay, ReconstructionDisplay

pytestmark = [
    pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale"),
]


@pytest.fixture(name="frame", scope="module")
def mixed_frame():
    rng = np.random.default_rng(0)
    n = 80
    frame = pd.DataFrame(
        {
            "city": np.resize(["Oslo", "Rome", "Lima"], n),
            "age": rng.normal(40, 10, n),
            "owner": rng.random(n) < 0.5,
            "visits": rng.poisson(20, n),
        }
    )
    frame.loc[::5, "age"] = np.nan
    frame.loc[::7, "city"] = None
    return frame


@pytest.fixture(name="model", scope="module")
def fitted_model(frame):
    model = VariationalAutoencoder(2, likelihood="mixed", max_iter=3, random_state=0)
    return model.fit(frame)


def test_imputed_numbers(model, frame):
    """The positions are those of the table."""
    display = ImputationDisplay.from_estimator(model, frame)
    assert display.columns_.tolist() == [1]
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["age"]
    expected = model.impute(frame, n_samples=1, random_state=0)[0]["age"]
    np.testing.assert_array_equal(display.filled[:, 1], expected)
    np.testing.assert_array_equal(display.missing[:, 1], frame["age"].isna())
    assert not display.missing[:, [0, 2, 3]].any()


def test_missing_strings_only(model, frame):
    whole = frame.assign(age=40.0)
    with pytest.raises(ValueError, match=r"no missing values .* in columns of numbers"):
        ImputationDisplay.from_estimator(model, whole)


def test_reconstructed_numbers(model, frame):
    display = ReconstructionDisplay.from_estimator(model, frame, n_samples=6)
    assert list(display.feature_names) == ["age", "owner", "visits"]
    reconstructed = model.reconstruct(frame[:6])
    np.testing.assert_allclose(display.X_hat[:, 0], reconstructed["age"])
    np.testing.assert_array_equal(display.X_hat[:, 1], reconstructed["owner"])
    assert len(display.images_) == 3


def test_frames_of_polars(frame):
    columns = frame.astype(object).where(frame.notna(), None)
    table = pl.DataFrame({name: columns[name].to_list() for name in columns})
    model = VariationalAutoencoder(2, likelihood="mixed", max_iter=2, random_state=0)
    model.fit(table)
    display = ImputationDisplay.from_estimator(model, table)
    assert display.columns_.tolist() == [1]
    display = ReconstructionDisplay.from_estimator(model, table)
    assert display.X_hat.shape == (10, 3)


def test_a_table_without_numbers(frame):
    table = frame[["city"]].assign(other=np.resize(["a", "b"], len(frame)))
    model = VariationalAutoencoder(1, likelihood="mixed", max_iter=2).fit(table)
    for display in (ImputationDisplay, ReconstructionDisplay):
        with pytest.raises(ValueError, match="X has no column of numbers"):
            display.from_estimator(model, table)


def test_a_pipeline_whose_table_has_other_columns(frame):
    """The numbers are those of the table that is given, also of the last columns."""
    given = frame.assign(key=range(len(frame)))[["key", *frame.columns]]
    drop = FunctionTransformer(
        lambda X: X.drop(columns="key"),
        inverse_func=lambda X: X.assign(key=0)[given.columns],
        check_inverse=False,
    )
    model = VariationalAutoencoder(2, likelihood="mixed", max_iter=3, random_state=0)
    pipe = make_pipeline(drop, model).fit(given)
    display = ReconstructionDisplay.from_estimator(pipe, given)
    assert list(display.feature_names) == ["key", "age", "owner", "visits"]
    assert display.X.shape == display.X_hat.shape == (10, 4)
    np.testing.assert_array_equal(display.X[:, 3], frame["visits"][:10])
