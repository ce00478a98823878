"""The display of the most surprising columns of a row."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from skae import VariationalAutoencoder
from skae.inspection import FeatureScoresDisplay
from skae.outlier import LikelihoodOutlierDetector

FEW = {"max_iter": 8, "hidden_layer_sizes": (5,), "random_state": 0}


@pytest.fixture(name="frame")
def named_columns(X):
    return pd.DataFrame(X, columns=list("abcdef"))


def labels_of(display):
    return [t.get_text() for t in display.ax_.get_yticklabels()]


def test_differences_to_the_median_part(vae, X):
    display = FeatureScoresDisplay.from_estimator(vae, X, 5)
    parts = vae.score_features(X)
    expected = np.median(parts, axis=0) - parts[5]
    np.testing.assert_allclose(display.differences, expected)
    np.testing.assert_array_equal(display.values, X[5])
    np.testing.assert_array_equal(display.typical_values, np.median(X, axis=0))
    assert display.feature_names == [f"x{j}" for j in range(6)]


def test_the_row_of_the_lowest_score_is_the_default(vae, X):
    display = FeatureScoresDisplay.from_estimator(vae, X)
    assert display.row == np.argmin(vae.score_samples(X))
    assert FeatureScoresDisplay.from_estimator(vae, X, -1).row == 119
    for row in (120, -121):
        with pytest.raises(IndexError, match=rf"row={row}, but X has 120 rows"):
            FeatureScoresDisplay.from_estimator(vae, X, row)


def test_the_largest_bar_is_the_column_that_was_changed(frame):
    """The bars go down from the largest, with names and values beside them."""
    detector = LikelihoodOutlierDetector(random_state=0).fit(frame)
    frame.loc[7, "d"] += 50
    display = FeatureScoresDisplay.from_estimator(detector, frame, max_features=3)
    assert display.row == 7
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_array_equal(widths, np.sort(display.differences)[:-4:-1])
    middles = [bar.get_y() + bar.get_height() / 2 for bar in display.bars_]
    bottom, top = display.ax_.get_ylim()
    assert middles == sorted(middles)
    assert bottom > top  # the first bar is at the top
    value, median = frame.loc[7, "d"], frame["d"].median()
    assert labels_of(display)[0] == f"d = {value:.4g} ({median:.4g})"
    assert len(labels_of(display)) == 3


def test_missing_entries_are_left_out(frame):
    frame.loc[5, ["b", "e"]] = np.nan
    frame.loc[9, "a"] = np.nan
    vae = VariationalAutoencoder(2, **FEW).fit(frame)
    display = FeatureScoresDisplay.from_estimator(vae, frame, 5)
    assert display.feature_names == list("acdf")
    parts = vae.score_features(frame)
    typical = np.median(np.delete(parts[:, 0], 9))
    assert display.differences[0] == pytest.approx(typical - parts[5, 0])
    frame.loc[5] = np.nan
    assert len(FeatureScoresDisplay.from_estimator(vae, frame, 5).bars_) == 0


def test_masked_entries_are_left_out(X):
    mask = np.zeros(X.shape, bool)
    mask[5, [1, 4]] = mask[9, 0] = True
    masked = np.ma.masked_array(np.where(mask, 1e3, X), mask=mask)
    vae = VariationalAutoencoder(2, **FEW).fit(masked)
    display = FeatureScoresDisplay.from_estimator(vae, masked, 5)
    assert display.feature_names == ["x0", "x2", "x3", "x5"]
    assert display.typical_values[0] == np.median(np.delete(X[:, 0], 9))


def test_mixed_table(frame):
    frame["city"] = np.where(np.arange(120) % 3 > 0, "Bonn", "Ulm")
    frame["is_new"] = np.arange(120) % 4 == 0
    vae = VariationalAutoencoder(2, likelihood="mixed", **FEW).fit(frame)
    display = FeatureScoresDisplay.from_estimator(vae, frame, 0, max_features=8)
    labels = set(labels_of(display))
    assert {"city = Ulm (Bonn)", "is_new = True (False)"} <= labels


def test_values_are_those_before_a_scaler(frame):
    """Steps that keep the columns do not change the values, and others do."""
    for X, names in ((frame, list("abcdef")), (frame.to_numpy(), None)):
        scaled = make_pipeline(StandardScaler(), VariationalAutoencoder(2, **FEW)).fit(X)
        display = FeatureScoresDisplay.from_estimator(scaled, X, 3)
        np.testing.assert_array_equal(display.values, frame.to_numpy()[3])
        np.testing.assert_array_equal(display.typical_values, frame.median())
        assert display.feature_names == (names or [f"x{j}" for j in range(6)])
    reverse = FunctionTransformer(lambda X: X.iloc[:, ::-1], feature_names_out=None)
    pipeline = make_pipeline(reverse, VariationalAutoencoder(2, **FEW)).fit(frame)
    display = FeatureScoresDisplay.from_estimator(pipeline, frame, 3)
    np.testing.assert_array_equal(display.values, frame.to_numpy()[3, ::-1])
    assert display.feature_names == list("fedcba")
    # Arrays have no names by which to see that the columns are others.
    mirror = FunctionTransformer(lambda X: X[:, ::-1])
    pipeline = make_pipeline(mirror, VariationalAutoencoder(2, **FEW)).fit(frame.to_numpy())
    display = FeatureScoresDisplay.from_estimator(pipeline, frame.to_numpy(), 3)
    np.testing.assert_array_equal(display.values, frame.to_numpy()[3, ::-1])
    both = make_pipeline(MinMaxScaler(), StandardScaler(), VariationalAutoencoder(2, **FEW))
    display = FeatureScoresDisplay.from_estimator(both.fit(frame), frame, 3)
    np.testing.assert_array_equal(display.values, frame.to_numpy()[3])


@pytest.mark.parametrize("n_shown", [1, 10])
def test_a_saved_figure_holds_all_of_its_text(X, n_shown, tmp_path):
    """With long names, and the bars have a good part of the width."""
    names = [f"od280/od315_of_diluted_wines_{j}" for j in range(6)]
    frame = pd.DataFrame(X, columns=names, index=[f"wine {i}" for i in range(120)])
    vae = VariationalAutoencoder(2, **FEW).fit(frame)
    display = FeatureScoresDisplay.from_estimator(vae, frame, 5, max_features=n_shown)
    figure, ax = display.figure_, display.ax_
    figure.savefig(tmp_path / "scores.png")
    texts = [ax.xaxis.label, *ax.get_yticklabels(), figure.texts[0]]
    assert texts[-1].get_text() == "Row wine 5: column = value (typical value)"
    assert ax.get_title() == ""
    margin = 0.05 * figure.dpi
    for text in texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 + margin < box.x0 < box.x1 < figure.bbox.x1 - margin
        assert figure.bbox.y0 + margin < box.y0 < box.y1 < figure.bbox.y1 - margin
    assert ax.get_window_extent().width > 0.4 * figure.bbox.width
    label = ax.xaxis.label.get_window_extent()
    assert label.width < ax.get_window_extent().width


def test_a_figure_of_the_user_keeps_its_title_and_layout(vae, X):
    figure, ax = plt.subplots(figsize=(3, 2))
    display = FeatureScoresDisplay.from_estimator(vae, X, 5, ax=ax)
    assert display.figure_ is figure
    assert figure.get_layout_engine() is None
    assert not figure.texts
    assert ax.get_title() == "Row 5: column = value (typical value)"
    np.testing.assert_array_equal(figure.get_size_inches(), [3, 2])


@pytest.mark.parametrize("index", [None, range(5, 125)])
def test_title_names_the_row_of_an_index(vae, frame, index):
    """The position of a plain index is the name."""
    frame.index = range(120) if index is None else index
    model = VariationalAutoencoder(2, **FEW).fit(frame)
    display = FeatureScoresDisplay.from_estimator(model, frame, np.int64(-1))
    assert display.row == 119
    assert display.row_name == (None if index is None else 124)
    title = display.figure_.texts[0].get_text()
    assert title.startswith("Row 119:" if index is None else "Row 124:")


def test_a_label_is_no_position(vae, X, frame):
    model = VariationalAutoencoder(2, **FEW).fit(frame)
    frame.index = [f"w{i}" for i in range(120)]
    message = (
        "row is a position, 0 to 119, but 'w9' is a str; the index has 'w9' at pos.* 9"
    )
    with pytest.raises(TypeError, match=message):
        FeatureScoresDisplay.from_estimator(model, frame, "w9")
    for row in ("w9", 2.0, True):
        with pytest.raises(TypeError, match=r"row is a position, 0 to 119, but .*[a-z]\.$"):
            FeatureScoresDisplay.from_estimator(vae, X, row)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (11790.4, "11,790"),
        (-65.64, "-65.64"),
        (-1234567, "-1,234,567"),
        (9999.4, "9999"),
        (3.2e12, "3.2e+12"),
        (True, "True"),
        (np.float32(2.5e-7), "2.5e-07"),
    ],
)
def test_values_are_shown_without_exponents_where_they_can(value, shown):
    display = FeatureScoresDisplay(
        differences=[1.0], values=[value], typical_values=["x"], feature_names=["a"]
    ).plot()
    assert labels_of(display) == [f"a = {shown} (x)"]
    assert display.ax_.get_xlabel() == "Score of the column below its median (nats)"
