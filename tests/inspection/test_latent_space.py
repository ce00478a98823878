"""The display of the codes and of the decoded grid."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder
from skae.inspection import LatentSpaceDisplay


def points(scatter):
    return np.asarray(scatter.get_offsets())


def test_codes_are_those_of_transform(vae, X):
    display = LatentSpaceDisplay.from_estimator(vae, X)
    np.testing.assert_array_equal(display.codes, vae.transform(X))
    np.testing.assert_array_equal(points(display.scatters_[0]), display.codes)
    assert display.image_ is None


def test_components_are_chosen(X):
    pca = PCA(4).fit(X)
    display = LatentSpaceDisplay.from_estimator(pca, X, components=(3, 1))
    np.testing.assert_array_equal(display.codes, pca.transform(X)[:, [3, 1]])
    assert display.ax_.get_xlabel() == "component 3"
    assert display.ax_.get_ylabel() == "component 1"
    with pytest.raises(ValueError, match=r"components=\(0, 4\)"):
        LatentSpaceDisplay.from_estimator(pca, X, components=(0, 4))


def test_one_collection_for_each_class(vae, X):
    y = np.array(["b", "a", "c"])[np.arange(len(X)) % 3]
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    assert [s.get_label() for s in display.scatters_] == ["a", "b", "c"]
    for scatter in display.scatters_:
        np.testing.assert_array_equal(
            points(scatter), display.codes[y == scatter.get_label()]
        )


@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
def test_legends_do_not_lie_over_other_axes(vae, X, layout):
    figure, axes = plt.subplots(2, 2, layout=layout)
    for ax in axes.flat:
        LatentSpaceDisplay.from_estimator(vae, X, np.arange(len(X)) % 10, ax=ax)
    figure.canvas.draw()
    for ax in axes.flat:
        legend = ax.get_legend().get_window_extent()
        others = [other.get_window_extent() for other in axes.flat if other is not ax]
        assert legend.count_overlaps(others) == 0
        assert figure.bbox.containsx(legend.x0)
        assert figure.bbox.containsx(legend.x1)


@pytest.mark.parametrize("y", [np.linspace(0, 1, 120), np.arange(120)])
def test_numbers_get_a_colour_bar(vae, X, y):
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    (scatter,) = display.scatters_
    np.testing.assert_array_equal(scatter.get_array(), y)
    assert len(display.figure_.axes) == 2


@pytest.mark.parametrize("name", ["c", "color"])
def test_a_given_colour_replaces_those_of_the_classes(vae, X, name):
    display = LatentSpaceDisplay.from_estimator(
        vae, X, np.arange(120) % 2, scatter_kwargs={name: "red", "s": 3}
    )
    (scatter,) = display.scatters_
    assert tuple(scatter.get_facecolor()[0][:3]) == (1, 0, 0)
    assert scatter.get_sizes().tolist() == [3]


def test_grid_is_decoded_at_each_code(vae, X):
    display = LatentSpaceDisplay.from_estimator(vae, X, image_shape=(2, 3), n_images=4)
    left, right, bottom, top = display.grid_limits
    first, second = np.linspace(left, right, 4), np.linspace(bottom, top, 4)
    low, high = np.quantile(vae.transform(X), [0.01, 0.99], axis=0)
    np.testing.assert_allclose([left, bottom, right, top], [*low, *high])
    for i in range(4):
        for j in range(4):
            expected = vae.inverse_transform([[first[j], second[i]]]).reshape(2, 3)
            np.testing.assert_allclose(display.grid[i, j], expected, rtol=1e-6)


def test_each_image_is_at_its_code(vae, X):
    """The pixels around a code are those of the image that is decoded from it."""
    display = LatentSpaceDisplay.from_estimator(vae, X, image_shape=(2, 3), n_images=4)
    mosaic = np.array(display.image_.get_array())
    left, right, bottom, top = display.image_.get_extent()
    first = np.linspace(*display.grid_limits[:2], 4)
    second = np.linspace(*display.grid_limits[2:], 4)
    for i in range(4):
        for j in range(4):
            # Each image has a frame of one pixel; row 0 is the top.
            column = (first[j] - left) / (right - left) * 4 * 5
            row = (top - second[i]) / (top - bottom) * 4 * 4
            rows = slice(round(row - 1), round(row + 1))
            columns = slice(round(column - 1.5), round(column + 1.5))
            np.testing.assert_array_equal(mosaic[rows, columns], display.grid[i, j])
            mosaic[rows, columns] = np.nan
    assert np.isnan(mosaic).all()


def test_pixels_are_square(vae, X):
    """A pixel is as high as it is wide, whatever the ranges of the codes are."""
    for shape in [(2, 3), (3, 2), (1, 6)]:
        display = LatentSpaceDisplay.from_estimator(vae, X, image_shape=shape, n_images=5)
        height, width = np.asarray(display.image_.get_array()).shape
        display.figure_.canvas.draw()
        box = display.ax_.get_window_extent()
        np.testing.assert_allclose(box.width / width, box.height / height, rtol=1e-6)


def test_frames_of_colour_images_are_white():
    grid = np.full((2, 2, 2, 2, 3), 0.25)
    display = LatentSpaceDisplay(
        codes=np.zeros((4, 2)), grid=grid, grid_limits=(0, 1, 0, 1)
    )
    mosaic = np.asarray(display.plot().image_.get_array())
    assert mosaic.shape == (8, 8, 3)
    assert (mosaic[0] == 1).all()
    assert (mosaic[1:3, 1:3] == 0.25).all()


def test_components_of_the_grid_are_not_swapped(vae, X):
    swapped = LatentSpaceDisplay.from_estimator(
        vae, X, components=(1, 0), image_shape=(2, 3), n_images=3
    )
    straight = LatentSpaceDisplay.from_estimator(vae, X, image_shape=(2, 3), n_images=3)
    np.testing.assert_array_equal(swapped.grid, np.swapaxes(straight.grid, 0, 1))


def test_colours_end_at_the_data(vae, X):
    display = LatentSpaceDisplay.from_estimator(vae, X, image_shape=(2, 3))
    assert display.image_.get_clim() == (X.min(), X.max())


def test_both_kinds_from_one_display(vae, X):
    display = LatentSpaceDisplay.from_estimator(vae, X, image_shape=(2, 3), kind="scatter")
    assert display.image_ is None
    display.plot(kind="grid")
    assert display.image_ is not None
    assert display.scatters_ == []


def test_refused_plots(vae, X):
    three = GaussianAutoencoder(3, max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="n_components=2; the codes have 3"):
        LatentSpaceDisplay.from_estimator(three, X, image_shape=(2, 3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LatentSpaceDisplay.from_estimator(vae, X, np.arange(len(X) - 1))
    display = LatentSpaceDisplay.from_estimator(vae, X)
    with pytest.raises(ValueError, match="image_shape"):
        display.plot(kind="grid")
    with pytest.raises(ValueError, match='"scatter" or "grid"'):
        display.plot(kind="both")


def test_data_frames(vae, X):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = GaussianAutoencoder(2, max_iter=1, random_state=0).set_output(
        transform="pandas"
    )
    display = LatentSpaceDisplay.from_estimator(model.fit(frame), frame, frame["a"])
    assert isinstance(display.codes, np.ndarray)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("dtype", [object, "category"])
def test_a_missing_class_is_a_group(vae, X, missing, dtype):
    """It is gray, comes first, and is no class."""
    y = pd.Series(np.resize(["b", "a", "c"], len(X)), dtype=object)
    y[[3, 10]] = missing
    display = LatentSpaceDisplay.from_estimator(vae, X, y.astype(dtype))
    assert [s.get_label() for s in display.scatters_] == ["missing", "a", "b", "c"]
    np.testing.assert_array_equal(points(display.scatters_[0]), display.codes[[3, 10]])
    assert sum(len(points(s)) for s in display.scatters_) == len(X)
    assert len(display.ax_.get_legend().get_texts()) == 4


@pytest.mark.parametrize("dtype", ["float64", "Int64"])
@pytest.mark.parametrize("n_values", [3, 120])
def test_missing_numbers_are_a_group(vae, X, dtype, n_values):
    y = pd.Series(np.resize(np.arange(n_values), len(X))).astype(dtype)
    y[[3, 10]] = np.nan
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    assert display.scatters_[0].get_label() == "missing"
    assert len(display.scatters_) == (4 if n_values == 3 else 2)
    np.testing.assert_array_equal(points(display.scatters_[0]), display.codes[[3, 10]])


def test_all_classes_are_missing(vae, X):
    display = LatentSpaceDisplay.from_estimator(vae, X, [None] * len(X))
    assert [s.get_label() for s in display.scatters_] == ["missing"]


def test_classes_of_several_types(vae, X):
    """They have no order of their own."""
    y = np.resize(np.array(["a", 1], dtype=object), len(X))
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    assert {s.get_label() for s in display.scatters_} == {"a", "1"}


def test_too_many_classes_for_a_legend(vae, X):
    with pytest.raises(ValueError, match="y has 120 classes that are no numbers"):
        LatentSpaceDisplay.from_estimator(vae, X, [f"name {i}" for i in range(120)])


@pytest.mark.parametrize(("name", "label"), [("age", "age"), (None, "y")])
def test_the_bar_of_colours_says_of_what(vae, X, name, label):
    y = pd.Series(X[:, 0], name=name)
    display = LatentSpaceDisplay.from_estimator(vae, X, y)
    bar = display.scatters_[0].colorbar
    assert bar.ax.get_ylabel() == label


@pytest.mark.filterwarnings("error")
def test_a_colour_map_is_for_known_numbers(vae, X):
    y = np.where(np.arange(len(X)) == 3, np.nan, X[:, 0])
    style = {"cmap": "magma", "vmin": 0.0, "vmax": 1.0}
    display = LatentSpaceDisplay.from_estimator(vae, X, y, scatter_kwargs=style)
    assert display.scatters_[1].get_cmap().name == "magma"
