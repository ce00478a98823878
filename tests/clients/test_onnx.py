"""ONNX: the graphs of onnxruntime give the numbers of the estimators."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import get_tags
from torch import nn

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.likelihoods import LIKELIHOODS, CategoricalLikelihood, GaussianLikelihood, Mixed
from skae.networks import ACTIVATIONS, MLP, NETWORKS, Conv
from skae.onnx import register_converters, to_onnx
from skae.scales import legal_combinations
from tests.families import table
from tests.helpers import every_estimator

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

QUICK = {"max_iter": 3, "learning_rate_init": 0.01, "random_state": 0}
METHODS = ["transform", "inverse_transform", "reconstruct"]


def computed(model, X):
    """Return what onnxruntime computes of X by a model."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [value.name for value in session.get_inputs()] == ["X"]
    return session.run(None, {"X": X})[0]


def assert_close(found, expected, spread):
    """Compare arrays to 1e-5 of the spread of each column, or 1e-7 of a number.

    Numbers of float32 are up to 1.2e-7 of their size apart.
    """
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    error = np.abs(found - expected) / np.maximum(spread, np.abs(expected) * 1e-2)
    assert error.max() < 1e-5


def assert_same_methods(model, X):
    """All methods give the numbers of the model, for rows that it has not seen too."""
    X = X.astype(np.float32)
    Z = model.transform(X)
    spread = X.std(axis=0)
    assert_close(computed(to_onnx(model), X), Z, Z.std(axis=0))
    for rows in (slice(None), slice(1)):
        decoded = computed(to_onnx(model, "inverse_transform"), Z[rows])
        assert_close(decoded, np.float32(model.inverse_transform(Z[rows])), spread)
    both = computed(to_onnx(model, "reconstruct"), X)
    assert_close(both, np.float32(model.reconstruct(X)), spread)
    assert np.ptp(both, axis=0).max() > 0


@every_estimator
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_estimators_and_activations(estimator, activation, X):
    model = estimator(2, activation=activation, hidden_layer_sizes=(7, 5), **QUICK)
    # Far from 0, where float32 would lose the digits before the standardisation.
    assert_same_methods(model.fit(X + 1e4), X + 1e4)


def networks():
    """Return specifications of all built-in networks, by name."""
    found = {name: make((6, 5)) for name, make in NETWORKS.items()}
    options = {"residual": True, "layer_norm": True, "dropout": 0.2}
    return found | {
        "linear": MLP(()),
        "options": MLP((6, 6, 4), activation="tanh", **options),
        "conv": Conv((1, 5, 3), (3, 4), hidden_layer_sizes=(6,)),
        "conv of channels": Conv((3, 5, 1), 2, kernel_size=5, hidden_layer_sizes=()),
    }


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 3)) @ rng.normal(size=(3, 15)) + rng.normal(size=(50, 15))


@pytest.mark.parametrize("variance_mode", ["optimal", "predicted"])
@pytest.mark.parametrize("name", networks())
def test_built_in_networks(name, variance_mode, images):
    """Those with further outputs of the decoder too, for a row or for each pixel."""
    for covariance_type in ("spherical", "diag"):
        model = VariationalAutoencoder(
            2,
            network=networks()[name],
            variance_mode=variance_mode,
            covariance_type=covariance_type,
            **QUICK,
        )
        assert_same_methods(model.fit(images), images)


def combinations():
    """Return a shared scale of each likelihood, and its predicted ones."""
    return [
        (likelihood, variance_mode, covariance_type)
        for likelihood, variance_mode, covariance_type in legal_combinations()
        if variance_mode == "predicted"
        or (variance_mode in ("none", "learned") and covariance_type == "spherical")
    ]


@pytest.mark.parametrize("combination", combinations(), ids="-".join)
def test_likelihoods_and_scales(combination):
    likelihood, variance_mode, covariance_type = combination
    X = table(likelihood, n=60)
    model = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        **QUICK,
    )
    if likelihood == "continuous_bernoulli":
        # Series and closed form of the mean.
        X[:, 0] = 0.5 + 0.02 * (X[:, 0] - X[:, 0].mean())
    assert_same_methods(model.fit(X.astype(np.float32)), X)


@pytest.mark.parametrize(
    ("real", "variance_mode"),
    [("gaussian", "auto"), ("log_normal", "predicted"), ("mixture", "predicted")],
)
def test_mixed_tables_of_numbers(variance_mode, real):
    """Flags, categories and counts of numbers come back as they are, in their order."""
    X = table("mixed", n=80, d=6)
    X[:, 4:] = np.exp(X[:, 4:])
    X[:, 3] = 5 * (X[:, 3] > 0) - 7  # a flag of -7 and -2
    columns = [
        ([5, 4], real),
        ([3, 0], "bernoulli"),
        ([1], "categorical"),
        ([2], "poisson"),
    ]
    model = VariationalAutoencoder(
        2, likelihood=Mixed(columns), variance_mode=variance_mode, **QUICK
    ).fit(X)
    assert_same_methods(model, X)
    found = computed(to_onnx(model, "reconstruct"), X.astype(np.float32))
    for j in (0, 1, 3):
        assert set(found[:, j]) <= set(X[:, j])
    np.testing.assert_array_equal(found[:, 2], np.round(found[:, 2]))
    # A frame has the same graph.
    frame = pd.DataFrame(X, columns=list("abcdef")).astype({"a": bool, "c": int})
    named = [(list(frame.columns[indices]), family) for indices, family in columns]
    frame_model = VariationalAutoencoder(
        2, likelihood=Mixed(named), variance_mode=variance_mode, **QUICK
    ).fit(frame)
    Z = frame_model.transform(frame).astype(np.float32)
    assert_close(computed(to_onnx(frame_model), np.float32(X)), Z, Z.std(axis=0))
    decoded = frame_model.reconstruct(frame).to_numpy(np.float32)
    found = computed(to_onnx(frame_model, "reconstruct"), np.float32(X))
    assert_close(found, decoded, X.std(axis=0))
    # An unknown category has no code.
    X[0, 1] = 9
    codes = computed(to_onnx(model), X.astype(np.float32))
    assert np.isnan(codes[0]).all()
    assert np.isfinite(codes[1:]).all()


@pytest.mark.parametrize("n_categories", [2, 3, 4])
@pytest.mark.parametrize("is_first", [True, False])
def test_one_hot_columns(is_first, n_categories):
    """Each of several casts, and that of the result, has a name of its own."""
    rng = np.random.default_rng(0)
    one_hot = np.eye(n_categories)[rng.integers(n_categories, size=60)]
    real = table("gaussian", n=60, d=3)
    X = np.column_stack([one_hot, real] if is_first else [real, one_hot])
    of_real = np.arange(3) + (n_categories if is_first else 0)
    of_categories = np.setdiff1d(np.arange(n_categories + 3), of_real)
    mixed = Mixed(
        [
            (of_categories.tolist(), CategoricalLikelihood(one_hot=True)),
            (of_real.tolist(), "gaussian"),
        ]
    )
    model = VariationalAutoencoder(2, likelihood=mixed, **QUICK).fit(X)
    assert_same_methods(model, X)


@pytest.mark.parametrize("kind", ["categorical", "bernoulli"])
def test_categories_that_are_fractions(kind):
    """An array of float32 has other numbers than the fit, and the same categories."""
    rng = np.random.default_rng(0)
    values = [0.1, 0.7] if kind == "bernoulli" else [0.1, 0.7, 1.3]
    X = np.column_stack([rng.choice(values, 60), table("gaussian", n=60, d=3)])
    mixed = Mixed([([0], kind), ([1, 2, 3], "gaussian")])
    model = VariationalAutoencoder(2, likelihood=mixed, **QUICK).fit(X)
    Z = model.transform(X).astype(np.float32)
    assert_close(computed(to_onnx(model), X.astype(np.float32)), Z, Z.std(axis=0))
    both = computed(to_onnx(model, "reconstruct"), X.astype(np.float32))
    np.testing.assert_array_equal(both[:, 0], np.float32(model.reconstruct(X)[:, 0]))
    register_converters()
    found = computed(skl2onnx.to_onnx(model, X[:1]), X)
    assert_close(found.astype(np.float32), Z, Z.std(axis=0))
    X[:, 0] = np.where(X[:, 0] < 0.5, 2.0**24, 2.0**24 + 1)
    model = VariationalAutoencoder(2, likelihood=mixed, **QUICK).fit(X)
    with pytest.raises(ValueError, match="column 0 has different values that are one"):
        to_onnx(model)


@every_estimator
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pipelines(estimator, dtype, X):
    """skl2onnx converts `transform` of pipelines, with steps before and after ours."""
    register_converters()
    register_converters()  # a second call does no harm
    X = X.astype(dtype)
    alone = estimator(2, **QUICK).fit(X)
    pipeline = make_pipeline(StandardScaler(), estimator(3, **QUICK), PCA(2)).fit(X)
    column = make_column_transformer(
        (make_pipeline(MinMaxScaler(), estimator(2, **QUICK)), [4, 0, 1]),
        (estimator(1, **QUICK), [2, 3]),
    ).fit(X)
    regression = make_pipeline(estimator(2, **QUICK), LinearRegression()).fit(X, X[:, 0])
    for model in (alone, pipeline, column, regression):
        method = "predict" if model is regression else "transform"
        expected = getattr(model, method)(X)
        found = computed(skl2onnx.to_onnx(model, X[:1]), X)
        assert found.dtype == dtype
        scale = expected.std(axis=0)
        np.testing.assert_allclose(
            found.reshape(expected.shape) / scale, expected / scale, atol=1e-5
        )


def test_integers_and_named_columns(X):
    """skl2onnx gives a graph of a frame one input for each column."""
    register_converters()
    counts = np.random.default_rng(0).poisson(4, size=(60, 3))
    model = VariationalAutoencoder(2, likelihood="poisson", **QUICK).fit(counts)
    found = computed(skl2onnx.to_onnx(model, counts[:1]), counts)
    np.testing.assert_allclose(found, model.transform(counts), atol=1e-5)
    frame = pd.DataFrame(X[:, :2].astype(np.float32), columns=["a", "b"])
    pipeline = make_pipeline(StandardScaler(), GaussianAutoencoder(1, **QUICK)).fit(frame)
    proto = skl2onnx.to_onnx(pipeline, frame)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    inputs = {name: frame[[name]].to_numpy() for name in frame}
    np.testing.assert_allclose(
        session.run(None, inputs)[0], pipeline.transform(frame), atol=1e-5
    )
    # Without a step before the model, too, and with columns of several dtypes.
    frame = frame.assign(c=np.arange(len(X)) % 7, d=X[:, 2])
    model = GaussianAutoencoder(2, **QUICK).fit(frame)
    proto = skl2onnx.to_onnx(model, frame)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    inputs = {name: frame[[name]].to_numpy() for name in frame}
    [found] = session.run(None, inputs)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, model.transform(frame), atol=1e-5)


class Own(MLP):
    """A network of a user, of layers that are known or not."""

    def __init__(self, layer=None):
        self.layer = layer

    def encoder(self, n_features, n_outputs):
        return nn.Sequential(nn.Linear(n_features, 4), self.layer, nn.Linear(4, n_outputs))

    def decoder(self, n_components, n_outputs):
        return self.encoder(n_components, n_outputs)


class OwnLikelihood(GaussianLikelihood):
    """A likelihood of a user."""


def test_what_cannot_be_converted(X):
    """The error says why, also inside a pipeline."""
    register_converters()

    def fitted(X, **parameters):
        return VariationalAutoencoder(2, **(QUICK | parameters)).fit(X)

    with_known_layers = fitted(X, network=Own(nn.Tanh()))
    assert_same_methods(with_known_layers, X)
    own = fitted(X, network=Own(nn.GELU()))
    with pytest.raises(TypeError, match=r"GELU\(.*\), which has no ONNX operator"):
        to_onnx(own, "inverse_transform")
    with pytest.raises(TypeError, match="GELU"):
        skl2onnx.to_onnx(make_pipeline(StandardScaler().fit(X), own), X[:1])
    hooked = fitted(X)
    hooked.module_.decoder[0].register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="has hooks or a forward of its own"):
        to_onnx(hooked, "reconstruct")
    reflecting = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
    for layer in (reflecting, nn.Flatten(0), nn.Unflatten(0, (2, 2))):
        model = fitted(X)
        model.module_.encoder = layer
        with pytest.raises(TypeError, match="cannot be converted"):
            to_onnx(model)
    with pytest.raises(TypeError, match=r"OwnLikelihood.* is not one of skae"):
        to_onnx(fitted(X, likelihood=OwnLikelihood()))

    holes = X.copy()
    holes[3, 2] = np.nan
    model = fitted(holes)
    with pytest.raises(ValueError, match="fitted to data with missing entries"):
        to_onnx(model)
    Z = model.transform(X).astype(np.float32)
    decoded = computed(to_onnx(model, "inverse_transform"), Z)
    np.testing.assert_allclose(decoded, model.inverse_transform(Z), rtol=1e-5, atol=1e-6)
    # A model of complete rows gives NaN for the rows with holes, and no number.
    found = computed(to_onnx(fitted(X)), holes.astype(np.float32))
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [3]

    words = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 1, "yes", "no")})
    for method in METHODS:
        with pytest.raises(ValueError, match="column 'b' has values that are no numbers"):
            to_onnx(fitted(words, likelihood="mixed"), method)


def test_bad_arguments(X, monkeypatch):
    register_converters()
    model = GaussianAutoencoder(2, **QUICK)
    with pytest.raises(NotFittedError):
        to_onnx(model)
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(model, X[:1])
    model.fit(X)
    with pytest.raises(ValueError, match=r"method must be one of .*'predict'"):
        to_onnx(model, "predict")
    with pytest.raises(TypeError, match="register_converters"):
        to_onnx(make_pipeline(StandardScaler(), model))
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 6"):
        skl2onnx.to_onnx(model, X[:1, :3].astype(np.float32))
    with pytest.raises(ValueError, match="target_opset of at least 13, got 12"):
        skl2onnx.to_onnx(model, X[:1], target_opset=12)
    skl2onnx.to_onnx(model, X[:1], target_opset=13)
    types = skl2onnx.common.data_types
    with pytest.raises(TypeError, match=r"dense array of .* got StringTensorType"):
        skl2onnx.to_onnx(model, initial_types=[("X", types.StringTensorType([None, 6]))])
    for name, function in {"onnx": to_onnx, "skl2onnx": register_converters}.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ImportError, match=r"pip install 'skae\[onnx\]'"):
                function(*([model] if name == "onnx" else []))


def test_every_likelihood_has_a_rule():
    """A registered likelihood that is new needs a rule, or a reason against it."""
    from skae.onnx.means import MEANS

    assert set(MEANS) == set(LIKELIHOODS.values())


def test_models_from_other_precisions(X):
    """A model that was trained in float64, and one that was saved, have the same graph."""
    model = LaplaceAutoencoder(2, precision="float64", **QUICK).fit(X)
    assert_same_methods(model, X)
    assert model.module_.dtype == torch.float64
    assert get_tags(model).input_tags.sparse  # which ONNX has no arrays for
