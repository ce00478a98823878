"""joblib: processes of loky, and of Ray. Those of Dask are in test_dask.py."""

import os
import tempfile

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.callbacks import FolderCallback

FOLDS = KFold(2)
GRID = {"beta": [0.5, 1, 2], "n_components": [1, 2]}


class Telling(FolderCallback):
    """A callback that makes a file for the process in which a fit begins."""

    def setup(self, estimator, context):
        (self.folder / str(os.getpid())).touch()


def vae():
    return VariationalAutoencoder(max_iter=3, precision="float64", random_state=0)


@pytest.fixture
def ray_backend(monkeypatch):
    """Ray with two processes, as a backend of joblib."""
    # It writes no token into the home of the user, and sends no reports.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    # Its sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        register_ray()
        yield
        ray.shutdown()


@pytest.mark.parametrize(
    ("kind", "backend"), [(GridSearchCV, "loky"), (BatchedGridSearchCV, "ray")]
)
def test_same_results_in_other_processes(kind, backend, X, tmp_path, request):
    if backend == "ray":
        request.getfixturevalue("ray_backend")
    expected = GridSearchCV(vae(), GRID, cv=FOLDS).fit(X)
    search = kind(vae().set_callbacks(Telling(tmp_path)), GRID, cv=FOLDS)
    with joblib.parallel_config(backend, n_jobs=2):
        search.fit(X)
    assert search.best_params_ == expected.best_params_
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"],
        expected.cv_results_["mean_test_score"],
        rtol=1e-9,
    )
    np.testing.assert_allclose(search.transform(X), expected.transform(X), rtol=1e-9)
    # This process fits the best candidate only.
    assert len({path.name for path in tmp_path.iterdir()} - {str(os.getpid())}) >= 1
