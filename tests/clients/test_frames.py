"""Frames of pandas and polars, in and out."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from tests.helpers import every_estimator


@every_estimator
def test_data_frames_out(estimator, X):
    """`set_output` names the components and keeps the index of a data frame."""
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(120) * 3)
    model = estimator(3, max_iter=2, random_state=0)
    plain = clone(model).fit(frame).transform(frame)
    names = [f"{estimator.__name__.lower()}{i}" for i in range(3)]
    out = model.set_output(transform="pandas").fit(frame).transform(frame)
    assert isinstance(out, pd.DataFrame)
    assert out.columns.tolist() == names
    assert out.index.equals(frame.index)
    np.testing.assert_array_equal(out.to_numpy(), plain)
    back = model.inverse_transform(out)
    assert back.columns.tolist() == list("abcdef")
    assert back.index.equals(frame.index)
    out = model.set_output(transform="polars").fit_transform(frame)
    assert isinstance(out, pl.DataFrame)
    assert out.columns == names
    np.testing.assert_array_equal(out.to_numpy(), plain)
    frame = pl.DataFrame(X, schema=list("abcdef"))
    # The memory of a frame may have rows or columns in sequence, which rounds otherwise.
    out = model.fit(frame).transform(frame)
    np.testing.assert_allclose(out.to_numpy(), plain, rtol=1e-10)
    assert model.feature_names_in_.tolist() == list("abcdef")


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_through_a_pipeline(package, X):
    """The index goes through all steps, and the frame back is one of the last step."""
    index = pd.Index([f"row {i}" for i in range(len(X))], name="who")
    frame = pd.DataFrame(X, columns=list("abcdef"), index=index)
    given = frame if package == "pandas" else pl.from_pandas(frame)
    model = VariationalAutoencoder(2, max_iter=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model).set_output(transform=package)
    codes = pipeline.fit(given).transform(given)
    alone = clone(model).set_output(transform="default")
    scaled = StandardScaler().fit_transform(X)
    expected = alone.fit(scaled).transform(scaled)
    np.testing.assert_allclose(codes.to_numpy(), expected, atol=1e-12)
    assert type(codes) is type(given)
    names = ["variationalautoencoder0", "variationalautoencoder1"]
    assert list(codes.columns) == names == list(pipeline.get_feature_names_out())
    # A step after ours sees these names.
    again = StandardScaler().fit(codes)
    assert again.feature_names_in_.tolist() == names
    if package == "pandas":
        pd.testing.assert_index_equal(codes.index, index)
        # Rows in another order keep their codes, by their labels.
        shuffled = pipeline.transform(frame.sample(frac=1, random_state=0))
        pd.testing.assert_frame_equal(shuffled.loc[index], codes, rtol=1e-6)
