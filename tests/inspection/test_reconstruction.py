"""The display of samples and reconstructions."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import GaussianAutoencoder
from skae.inspection import ReconstructionDisplay


def test_data_are_samples_and_reconstructions(vae, X):
    display = ReconstructionDisplay.from_estimator(vae, X, n_samples=7)
    np.testing.assert_array_equal(display.X, X[:7])
    np.testing.assert_array_equal(display.X_hat, vae.reconstruct(X[:7]))


def test_pipeline_is_in_the_units_of_the_data(X):
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    display = ReconstructionDisplay.from_estimator(pipeline, X)
    expected = pipeline.inverse_transform(pipeline.transform(X[:10]))
    np.testing.assert_array_equal(display.X_hat, expected)


def test_images(vae, X):
    display = ReconstructionDisplay.from_estimator(vae, X, n_samples=4, image_shape=(2, 3))
    drawn = np.array([image.get_array() for image in display.images_]).reshape(3, 4, 6)
    np.testing.assert_array_equal(drawn[0], display.X)
    np.testing.assert_array_equal(drawn[1], display.X_hat)
    np.testing.assert_array_equal(drawn[2], display.X_hat - display.X)
    limits = {image.get_clim() for image in display.images_[:8]}
    assert limits == {(display.X.min(), display.X.max())}
    span = np.ptp(display.X)
    assert {image.get_clim() for image in display.images_[8:]} == {(-span, span)}


def test_images_do_not_overlap(vae, X):
    display = ReconstructionDisplay.from_estimator(vae, X, n_samples=4, image_shape=(2, 3))
    boxes = [image.get_extent() for image in display.images_]
    for row in range(3):
        lefts = [left for left, *_ in boxes[4 * row : 4 * row + 4]]
        rights = [right for _, right, *_ in boxes[4 * row : 4 * row + 4]]
        assert (np.array(rights[:-1]) < lefts[1:]).all()
    tops = [boxes[4 * row][3] for row in range(3)]
    bottoms = [boxes[4 * row][2] for row in range(3)]
    assert tops[0] < bottoms[0] < tops[1] < bottoms[1] < tops[2] < bottoms[2]
    assert display.ax_.get_ylim()[0] > display.ax_.get_ylim()[1]  # row 0 is at the top


def test_table_is_in_standard_deviations_of_all_data(vae, X):
    display = ReconstructionDisplay.from_estimator(vae, X, n_samples=5)
    original, reconstruction, difference = (i.get_array() for i in display.images_)
    standardise = StandardScaler().fit(X).transform
    np.testing.assert_allclose(original, standardise(X[:5]))
    np.testing.assert_allclose(reconstruction, standardise(vae.reconstruct(X[:5])))
    np.testing.assert_allclose(difference, reconstruction - original)


def test_table_names_its_columns(X):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    ae = GaussianAutoencoder(2, max_iter=1, random_state=0).fit(frame)
    display = ReconstructionDisplay.from_estimator(ae, frame)
    labels = [t.get_text() for t in display.ax_.get_xticklabels()]
    assert labels == list("abcdef") * 3


@pytest.mark.parametrize("size", [(6, 3), (3, 2), (1.2, 1.2)])
def test_rows_of_a_table_are_apart(X, size):
    """Each row of a table has one colour in its middle, and a white line below."""
    table = np.repeat([[3.0], [-3.0], [3.0], [-3.0]], 4, axis=1)
    figure, ax = plt.subplots(figsize=size, dpi=100)
    display = ReconstructionDisplay(
        X=table, X_hat=table, center=np.zeros(4), spread=np.ones(4)
    ).plot(ax)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)

    def colours(x, y, reach=0):
        """Return the colours of the pixels at most so far above or below a point."""
        x, y = ax.transData.transform((x, y))
        middle = len(pixels) - 1 - round(y)
        return pixels[middle - reach : middle + reach + 1, round(x)]

    image = display.images_[0]
    for i in range(4):
        expected = 255 * np.array(image.cmap(image.norm(table[i, 0])))[:3]
        for offset in (0.3, 0.5, 0.7):
            np.testing.assert_allclose(colours(2, i + offset)[0], expected, atol=2)
        if i:
            assert colours(2, i, reach=1).min(axis=1).max() > 200
    assert [t.get_text() for t in ax.get_yticklabels()] == list("0123")


@pytest.mark.parametrize("width", [4, 8])
def test_names_of_columns_do_not_overlap(X, width):
    figure, ax = plt.subplots(figsize=(width, 5), layout="constrained")
    names = [f"name {j}" for j in range(13)]
    data = np.tile(X, 3)[:10, :13]
    ReconstructionDisplay(X=data, X_hat=data, feature_names=names).plot(ax)
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.get_xticklabels()]
    assert all(a.x1 <= b.x0 for a, b in pairwise(boxes))


def test_constant_column(X):
    X = np.column_stack([X, np.full(len(X), 3.0)])
    display = ReconstructionDisplay(X=X, X_hat=X + 1).plot()
    assert all(np.isfinite(image.get_array()).all() for image in display.images_)


def test_wrong_image_shape(vae, X):
    with pytest.raises(ValueError, match=r"\(2, 4\) has 8 pixels, but X has 6"):
        ReconstructionDisplay.from_estimator(vae, X, image_shape=(2, 4))


def test_styles(vae, X):
    display = ReconstructionDisplay.from_estimator(
        vae,
        X,
        image_shape=(2, 3),
        image_kwargs={"cmap": "viridis"},
        difference_kwargs={"cmap": "PiYG"},
    )
    names = [image.get_cmap().name for image in display.images_]
    assert names == ["viridis"] * 20 + ["PiYG"] * 10


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (None, "20 columns"),
        ([f"c{j}" for j in range(20)], "20 columns in each block, from c0 to c19"),
    ],
)
def test_a_wide_table_says_which_columns_are_drawn(names, label):
    table = np.random.default_rng(0).normal(size=(5, 20))
    display = ReconstructionDisplay(X=table, X_hat=table, feature_names=names).plot()
    assert display.ax_.get_xlabel() == label


def test_a_frame_names_the_columns_of_a_model_of_an_array(ae, X):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    with pytest.warns(UserWarning, match="valid feature names|has feature names"):
        display = ReconstructionDisplay.from_estimator(ae, frame)
    labels = [t.get_text() for t in display.ax_.get_xticklabels()]
    assert labels == list("abcdef") * 3
