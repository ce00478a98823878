"""mlflow: logs of models, in the form of skops, and of pipelines while they are fitted."""

import os

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from skae.persistence import save
from tests.helpers import assert_same_answers

# Read at the import: no report is sent, and no identifier written into the user's home.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

mlflow = pytest.importorskip("mlflow")
skops_io = pytest.importorskip("skops.io")

# mlflow 3.17 uses what SQLAlchemy 2.1 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder for the store, whose database takes seconds to make."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(autouse=True)
def tracking(store, monkeypatch):
    """A store in a folder of its own."""
    monkeypatch.chdir(store)
    mlflow.set_tracking_uri(f"sqlite:///{store}/store.db")
    mlflow.set_experiment("tests")
    yield
    mlflow.sklearn.autolog(disable=True)
    mlflow.set_tracking_uri(None)


def vae():
    return VariationalAutoencoder(2, max_iter=3, random_state=0)


def test_a_model_in_the_form_of_skops(X):
    """What is loaded runs no code of the file, and has the results of the model."""
    model = make_pipeline(StandardScaler(), vae()).fit(X)
    trusted = skops_io.get_untrusted_types(data=skops_io.dumps(model))
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            skops_trusted_types=trusted,
            pip_requirements=["skae"],
        )
    loaded = mlflow.sklearn.load_model(info.model_uri)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    assert_same_answers(loaded[-1], model[-1], X)


def test_a_file_of_ours_as_an_artifact(X, tmp_path):
    """The file of `save` needs no list of types."""
    import skae

    model = vae().fit(X)
    save(model, tmp_path / "vae.skops")
    with mlflow.start_run() as run:
        mlflow.log_artifact(tmp_path / "vae.skops")
    found = mlflow.artifacts.download_artifacts(run_id=run.info.run_id)
    assert_same_answers(skae.load(f"{found}/vae.skops"), model, X)


def test_autologging_inside_a_pipeline(X):
    """The parameters of all steps are logged, and the fit is what it is without mlflow."""
    y = (X[:, 0] > 0).astype(int)
    model = make_pipeline(StandardScaler(), vae(), LogisticRegression())
    expected = clone(model).fit(X, y)
    mlflow.sklearn.autolog(log_models=False, log_datasets=False)
    with mlflow.start_run() as run:
        found = clone(model).fit(X, y)
    logged = mlflow.get_run(run.info.run_id).data
    assert logged.params["variationalautoencoder__n_components"] == "2"
    assert logged.params["variationalautoencoder__max_iter"] == "3"
    assert logged.metrics["training_score"] == pytest.approx(expected.score(X, y))
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))


def test_autologging_leaves_the_model_alone_out(X):
    """mlflow watches scikit-learn's own classes only, as the guide says."""
    mlflow.sklearn.autolog(log_models=False, log_datasets=False)
    with mlflow.start_run() as run:
        vae().fit(X)
    assert mlflow.get_run(run.info.run_id).data.params == {}
