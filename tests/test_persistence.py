"""Tests of files of models: equal after loading, refused before they can do harm."""

import json
import os
import pickle
import sys
import warnings
import zipfile

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import skae
from benchmarks.hostile.changes import with_parts
from benchmarks.hostile.subjects import content_of
from skae import GaussianAutoencoder, VariationalAutoencoder
from skae.impute import AutoencoderImputer
from skae.likelihoods import (
    LIKELIHOODS,
    CategoricalLikelihood,
    GaussianLikelihood,
    Mixed,
    MixtureLikelihood,
    StudentTLikelihood,
)
from skae.networks import MLP, Conv
from skae.objectives import KL_SCHEDULES, schedules
from skae.outlier import LikelihoodOutlierDetector
from skae.persistence import InvalidFileError, _state_classes, load, save
from skae.scales import legal_combinations
from tests.families import table
from tests.helpers import (
    ESTIMATORS,
    answers,
    assert_plain_state,
    assert_same_answers,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SHORT = {"max_iter": 1, "random_state": 0, "hidden_layer_sizes": (4,)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skops"


def vae(**parameters):
    widths = {"hidden_layer_sizes": "auto"} if "network" in parameters else {}
    return VariationalAutoencoder(2, **SHORT | widths | parameters)


def assert_round_trip(model, path, X=None):
    """Assert that a file holds a model with all its content, and return what is loaded."""
    assert_plain_state(model)
    model.save(path)
    loaded = skae.load(path)
    assert type(loaded) is type(model)
    assert content_of(loaded) == content_of(model)
    if X is not None:
        assert_same_answers(model, loaded, X)
        assert weights(model) == weights(loaded)
    return loaded


@pytest.mark.parametrize("combination", legal_combinations(), ids="-".join)
def test_every_combination(combination, path):
    name, mode, covariance_type = combination
    X = table(name, n=60)
    model = vae(likelihood=name, variance_mode=mode, covariance_type=covariance_type)
    assert_round_trip(model.fit(X), path, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator(estimator, dtype, X, path):
    X = X.astype(dtype)
    assert_round_trip(estimator(2, **SHORT).fit(X), path, X)
    X[::3, 1] = np.nan
    loaded = assert_round_trip(estimator(2, **SHORT, n_init=2).fit(X), path, X)
    assert loaded.impute(X).dtype == dtype


def test_unfitted(path):
    """Parameters come back as they are, also arrays and nested ones."""
    model = vae(network=MLP([3, 4]), scale=np.ones(6), beta=np.float32(2))
    loaded = assert_round_trip(model, path)
    assert not hasattr(loaded, "module_")
    assert loaded.beta.dtype == np.float32
    assert loaded.get_params()["network__hidden_layer_sizes"] == [3, 4]


PARAMETERS = {
    "residual": {"network": MLP((4, 4, 3), residual=True, layer_norm=True, dropout=0.1)},
    "conv": {"network": Conv((1, 2, 3), channels=(2,), hidden_layer_sizes=(3,))},
    "linear": {"hidden_layer_sizes": ()},
    "student": {"likelihood": StudentTLikelihood("learned"), "variance_mode": "learned"},
    "mixture": {"likelihood": MixtureLikelihood(2), "variance_mode": "learned"},
    "one likelihood twice": {
        "likelihood": Mixed(
            [([0, 1], StudentTLikelihood("learned")), (slice(2, 6), "auto")]
        ),
        "variance_mode": "auto",
    },
    "array of widths": {"hidden_layer_sizes": np.array([3, 2])},
    "random state": {"random_state": np.random.RandomState(3)},
    "linear schedule": {"kl_schedule": schedules.LinearSchedule(0.5)},
    "cyclical schedule": {"kl_schedule": schedules.CyclicalSchedule()},
    "warm start": {"warm_start": True},
    "prior": {"prior": "mixture"},
    "prior of scikit-learn": {"prior": GaussianMixture(2)},
    "prior with a random state": {
        "prior": GaussianMixture(2, random_state=np.random.RandomState(0))
    },
    "bayesian prior": {"prior": BayesianGaussianMixture(n_components=2)},
    "kernel density": {"prior": KernelDensity(bandwidth="scott", leaf_size=9)},
    "ball tree": {"prior": KernelDensity(algorithm="ball_tree")},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_kind_of_parameter(name, X, path):
    rows = X[:6] if "density" in name or "tree" in name else X
    assert_round_trip(vae(**PARAMETERS[name]).fit(X), path, rows)


def frame(n=60):
    """Return a table with columns of all kinds, some of them missing."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"height": rng.normal(size=n), "smokes": rng.random(n) < 0.4})
    X["visits"] = rng.poisson(3, n)
    X["town"] = rng.choice(["Ulm", "Köln", "Bern"], n)
    X["size"] = pd.Categorical(rng.choice(["S", "M"], n), ["S", "M", "L"], ordered=True)
    X.loc[::7, "height"] = np.nan
    return X


@pytest.mark.parametrize("package", ["pandas", "polars", "array"])
def test_tables(package, path):
    """Strings, categories and names of columns come back, and the frames of results."""
    X = frame()
    if package == "array":
        X = X.to_numpy()
    if package == "polars":
        X = pl.DataFrame({name: X[name].tolist() for name in X}, nan_to_null=True)
    model = vae(likelihood="mixed").fit(X)
    loaded = assert_round_trip(model, path)
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    filled, expected = loaded.impute(X), model.impute(X)
    assert type(filled) is type(expected)
    assert np.array_equal(np.asarray(filled), np.asarray(expected))
    if package != "array":
        assert list(filled.dtypes) == list(expected.dtypes)
        assert loaded.feature_names_in_.tolist() == list(X.columns)
    assert content_of(loaded.sample(3, random_state=0)) == content_of(
        model.sample(3, random_state=0)
    )


def test_one_hot_columns(path):
    X = np.eye(3)[np.arange(60) % 3]
    model = vae(likelihood=CategoricalLikelihood(one_hot=True), variance_mode="auto")
    assert_round_trip(model.fit(X), path, X)


@pytest.mark.parametrize("as_frame", [False, "pandas", "polars"])
def test_imputer(as_frame, X, path):
    X[::4, 2] = np.nan
    if as_frame:
        X = pd.DataFrame(X, columns=list("abcdef"))
        X = pl.DataFrame(dict(X)) if as_frame == "polars" else X
    model = AutoencoderImputer(vae(), add_indicator=True).fit(X)
    loaded = assert_round_trip(model, path)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    assert list(loaded.get_feature_names_out()) == list(model.get_feature_names_out())


def test_outlier_detector(X, path):
    model = LikelihoodOutlierDetector(GaussianAutoencoder(2, **SHORT)).fit(X)
    loaded = assert_round_trip(model, path)
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_pipelines(path):
    """Estimators of scikit-learn that hold one of skae."""
    X = frame().dropna()
    y = X.pop("smokes")
    columns = make_column_transformer(
        (OneHotEncoder(), ["town", "size"]),
        (make_pipeline(FunctionTransformer(np.exp), StandardScaler()), ["height"]),
        remainder="drop",
    )
    model = make_pipeline(columns, vae(), LogisticRegression(class_weight={0: 1, 1: 2}))
    save(model.fit(X, y), path)
    loaded = load(path)
    assert content_of(loaded[1:]) == content_of(model[1:])
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert skops.io.get_untrusted_types(file=path)  # and so skops itself can read it


def test_a_search(X, path):
    """scikit-learn's own objects in a search are not trusted; its best model is saved."""
    search = GridSearchCV(vae(), {"beta": [1, 2]}, cv=2).fit(X)
    with pytest.raises(TypeError, match=r"_split\.KFold\. Save best_estimator_"):
        save(search, path)
    save(search.best_estimator_, path)
    assert_same_answers(search.best_estimator_, load(path), X)


def test_shared_objects_are_shared_after_loading(X, path):
    likelihood = StudentTLikelihood("learned")
    model = vae(likelihood=likelihood, variance_mode="learned").fit(X)
    loaded = assert_round_trip(model, path)
    assert loaded.likelihood_ is loaded.module_.spec.likelihood


def test_a_file_has_no_address_of_memory(X, tmp_path):
    """Files of one model are alike but for the names of the arrays."""
    model = vae().fit(X)
    schemas = []
    for name in "ab":
        save(model, tmp_path / name)
        with zipfile.ZipFile(tmp_path / name) as archive:
            schema = json.loads(archive.read("schema.json"))
        text = str(_without_files(schema))
        assert str(id(model)) not in text
        schemas.append(text)
    assert schemas[0] == schemas[1]


def _without_files(value):
    """Return JSON without the names of parts."""
    if isinstance(value, dict):
        return {k: _without_files(v) for k, v in value.items() if k != "file"}
    return [_without_files(v) for v in value] if isinstance(value, list) else value


def test_a_model_of_a_gpu_is_on_the_cpu(X, path):
    model = vae().fit(X)
    expected = answers(model, X)
    model.device, model.device_ = "cuda", "cuda:0"
    model.save(path)
    loaded = load(path)
    assert loaded.device_ == "cpu"
    assert loaded.device == "cuda"
    for name, value in answers(loaded, X).items():
        np.testing.assert_array_equal(value, expected[name])


def test_a_refit_of_a_loaded_model(X, path):
    """What is loaded can be fitted again, also from where it is."""
    model = vae(warm_start=True).fit(X)
    loaded = assert_round_trip(model, path)
    assert_same_answers(model.fit(X), loaded.fit(X), X)


def test_the_types_that_are_trusted():
    """All parts of models that skae has, and nothing that takes memory by its sizes."""
    trusted = _state_classes()
    parts = [*LIKELIHOODS.values(), *ESTIMATORS, *KL_SCHEDULES.values(), MLP, Conv]
    assert trusted.keys() >= {f"{p.__module__}.{p.__name__}" for p in parts}
    for name, kind in trusted.items():
        assert name == f"{kind.__module__}.{kind.__qualname__}"
        assert name.startswith("skae.")
        assert not issubclass(kind, torch.nn.Module)


# Objects of a user, which a file cannot hold.
class OwnNetwork(MLP):
    """A network."""


class OwnLikelihood(GaussianLikelihood):
    """A likelihood."""


class OwnSchedule(schedules.LinearSchedule):
    """A schedule."""


class OwnPrior(GaussianMixture):
    """A prior."""


class OwnEstimator(VariationalAutoencoder):
    """An estimator."""


class WithoutState(BaseEstimator):
    """An object that cannot be saved at all."""

    def __getstate__(self):
        raise RuntimeError("not today")


def own_schedule(progress):
    return 1.0


OWN = {
    "network": (vae(network=OwnNetwork()), "OwnNetwork"),
    "likelihood": (vae(likelihood=OwnLikelihood()), "OwnLikelihood"),
    "part of a likelihood": (vae(likelihood=Mixed([([0], OwnLikelihood())])), "OwnLikel"),
    "schedule": (vae(kl_schedule=OwnSchedule()), "OwnSchedule"),
    "function": (vae(kl_schedule=own_schedule), "own_schedule"),
    "lambda": (vae(kl_schedule=lambda progress: 1.0), "lambda"),
    "prior": (vae(prior=OwnPrior()), "OwnPrior"),
    "estimator": (OwnEstimator(), "OwnEstimator"),
    "step": (make_pipeline(OwnPrior(), vae()), "OwnPrior"),
    "state": (AutoencoderImputer(WithoutState()), "not today"),
    "class": (AutoencoderImputer(OwnNetwork), "OwnNetwork"),
    "set": (vae(network={1}), "builtins.set"),
    "method": (vae(kl_schedule=schedules.LinearSchedule().__call__), "LinearSchedule"),
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_file_cannot_hold(name, path):
    """The error names the type and the way out, and comes before anything is written."""
    model, expected = OWN[name]
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match=rf"(?s){expected}.*joblib\.dump or pickle.*trust"):
        save(model, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_errors_of_paths(path, tmp_path):
    model = vae()
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "none" / "model")


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_is_no_file(end, tmp_path):
    """The error names the folder, and no temporary file; nothing is left beside it."""
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match="needs a name, and this is a folder") as e:
        vae().save(f"{folder}{end}")
    assert ".tmp" not in str(e.value)
    assert os.listdir(tmp_path) == ["models"]


def test_what_is_no_path_or_no_estimator(path):
    vae().save(path)
    for wrong in (path.read_bytes(), None, 3):
        with pytest.raises(TypeError, match="path must be a string or a path"):
            load(wrong)
        with pytest.raises(TypeError, match="path must be a string or a path"):
            vae().save(wrong)
    with pytest.raises(TypeError, match="must be an estimator, but is of the type int"):
        save(3, path)


def test_without_skops(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for call in (lambda: vae().save(path), lambda: load(path)):
        with pytest.raises(ImportError, match=r"pip install 'skae\[files\]'"):
            call()


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"x" * 10_000, b"a,b\n1,2\n" * 99, pickle.dumps(vae())]
)
def test_what_is_no_file_of_a_model(content, path):
    path.write_bytes(content)
    match = r"model\.skops' cannot be loaded\. The file is not a file of skae: it (is|does)"
    with pytest.raises(InvalidFileError, match=match):
        load(path)


def test_a_file_of_skops_alone(path):
    """A file without the seal may be cut, so it is refused."""
    skops.io.dump(vae(), path)
    with pytest.raises(InvalidFileError, match="is not a file of skae"):
        load(path)


# The versions of a state.


def test_versions_in_a_pickle(X, monkeypatch):
    """Another version warns as scikit-learn does, at the line of the user."""
    for model in (vae().fit(X), AutoencoderImputer(vae()), LikelihoodOutlierDetector()):
        pickled = pickle.dumps(model)
        assert not any("version" in name for name in vars(pickle.loads(pickled)))
        with monkeypatch.context() as patch:
            patch.setattr(skae, "__version__", "99.1")
            with pytest.warns(InconsistentVersionWarning, match=r"skae 99\.1") as caught:
                pickle.loads(pickled)
            assert {w.filename for w in caught} == {__file__}
            assert caught[0].message.estimator_name == (
                type(model).__name__ if len(caught) == 1 else "VariationalAutoencoder"
            )
            own = type(model).__name__
            assert own in {w.message.estimator_name for w in caught}


def test_a_state_without_version_warns():
    state = vae().__getstate__()
    assert state.pop("_skae_version") == skae.__version__
    model = VariationalAutoencoder.__new__(VariationalAutoencoder)
    with pytest.warns(InconsistentVersionWarning, match="skae unknown"):
        model.__setstate__(state)
    assert state["max_iter"] == 1
    assert "_sklearn_version" in state  # the state of the caller stays as it is


def test_versions_in_a_file(path, monkeypatch):
    vae().save(path)
    with monkeypatch.context() as patch:
        patch.setattr(skae, "__version__", "99.1")
        with pytest.warns(InconsistentVersionWarning) as caught:
            load(path)
        assert [w.filename for w in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InconsistentVersionWarning):
                load(path)


def test_the_error_names_the_versions(path):
    """A user sees that a newer version wrote a file, whose attributes this one lacks."""

    def change(parts):
        versions = json.loads(parts["versions.json"]) | {"skae": "99.1"}
        parts["versions.json"] = json.dumps(versions).encode()
        parts["schema.json"] = parts["schema.json"].replace(
            b"skae.estimators.variational", b"skae.estimators.newer"
        )

    vae().save(path)
    path.write_bytes(with_parts(path.read_bytes(), change))
    with pytest.raises(
        InvalidFileError, match=r"written by 'skae 99\.1, scikit-learn.*torch"
    ):
        load(path)


# Other ways that users try.


def test_the_package_has_no_save():
    """Its error names the method and the function; other names have Python's message."""
    message = (
        r"^module 'skae' has no attribute 'save': use model\.save\(path\), or "
        r"skae\.persistence\.save\(pipeline, path\)"
    )
    with pytest.raises(AttributeError, match=message):
        _ = skae.save
    assert "save" not in dir(skae)
    with pytest.raises(AttributeError, match=r"has no attribute 'store'$"):
        _ = skae.store


def test_a_folder_that_does_not_exist(tmp_path):
    """The error names the folder."""
    model, folder = GaussianAutoencoder(), tmp_path / "none"
    with pytest.raises(FileNotFoundError, match="No such folder") as caught:
        model.save(folder / "model.skops")
    assert caught.value.filename == os.path.realpath(folder)


@pytest.mark.parametrize("compress", [0, 1, 3, 9, "gzip", "bz2", "xz", "lzma", "pickle"])
def test_a_pickle_is_known(compress, path):
    """The error says how to load it; that of another file does not."""
    model = GaussianAutoencoder()
    if compress == "pickle":
        path.write_bytes(pickle.dumps(model))
    else:
        joblib.dump(model, path, compress=compress)
    with pytest.raises(
        InvalidFileError, match=r"looks like a pickle: use joblib\.load, which"
    ):
        skae.load(path)
    assert repr(joblib.load(path)) == repr(model)


@pytest.mark.parametrize("content", [b"", b"x", b"{}", b"PK\3\4" + bytes(100)])
def test_other_files_are_no_pickles(content, path):
    """They have no such advice, nor has a file of a model that was changed."""
    path.write_bytes(content)
    with pytest.raises(InvalidFileError) as caught:
        skae.load(path)
    assert "joblib" not in str(caught.value)
