"""TensorBoard, by the callback that the guide shows."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from tests.helpers import Recording, every_estimator, weights

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CODE = Path(__file__).parents[2] / "docs" / "guide" / "clients" / "tensorboard_callback.py"


def load_callback():
    """Import the file of the guide, which is no package."""
    return runpy.run_path(str(CODE))["TensorBoard"]


@every_estimator
def test_the_curve_is_that_of_the_scores(estimator, X, tmp_path):
    model = estimator(2, max_iter=4, random_state=0)
    seen = Recording()
    watched = clone(model).set_callbacks(load_callback()(tmp_path), seen).fit(X)
    assert weights(watched) == weights(clone(model).fit(X))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["score"]
    found = events.Scalars("score")
    assert [event.step for event in found] == [0, 1, 2, 3]
    expected = [snapshot.score(X) for snapshot in seen.fitted[:4]]
    np.testing.assert_allclose([event.value for event in found], expected, rtol=1e-6)
