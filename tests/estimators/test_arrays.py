"""Arrays of other libraries: results where the data are, equal to those of numpy."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils._array_api import (
    NamespaceAndDevice,
    get_namespace_and_device,
    move_estimator_to,
    move_to,
)

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.impute import AutoencoderImputer
from skae.inspection import KLSpectrumDisplay
from skae.likelihoods import Mixed
from skae.model_selection import BatchedGridSearchCV
from skae.outlier import LikelihoodOutlierDetector
from tests.other_arrays import Array

pytestmark = pytest.mark.filterwarnings(
    "ignore:Training did not improve:sklearn.exceptions.ConvergenceWarning"
)

FAST = {"max_iter": 2, "random_state": 0}
MODELS = [
    GaussianAutoencoder(**FAST),
    LaplaceAutoencoder(covariance_type="diag", early_stopping=True, **FAST),
    VariationalAutoencoder(covariance_type="diag", prior="mixture", **FAST),
]
METHODS = ["transform", "reconstruct", "score_samples", "score_features", "impute"]
VARIATIONAL = ["posterior", "elbo", "log_marginal"]


def methods_of(model):
    """Return the names of the methods with a result for each row."""
    return METHODS + (VARIATIONAL if isinstance(model, VariationalAutoencoder) else [])


def with_holes(X):
    """Return a copy with missing entries."""
    X = X.copy()
    X[::3, 1] = X[1::4, 2] = np.nan
    return X


@pytest.fixture
def dispatch():
    """Let scikit-learn dispatch by the type of an array."""
    with config_context(array_api_dispatch=True):
        yield


def tensors_of(results):
    """Return results as a tuple of arrays of numpy; they must be tensors of a user."""
    results = results if isinstance(results, tuple) else (results,)
    for result in results:
        assert isinstance(result, torch.Tensor)
        # Such a tensor could be neither changed nor used with gradients.
        assert not result.is_inference()
    return tuple(result.numpy() for result in results)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_tensors_give_the_numbers_of_numpy(model, dtype, X):
    """Fit, codes, scores and filled tables of tensors are those of arrays of numpy."""
    X = with_holes(X).astype(dtype)
    expected = copy.copy(model).fit(X)
    T = torch.from_numpy(X)
    with config_context(array_api_dispatch=True):
        fitted = copy.copy(model).fit(T)
        assert fitted.score(T, sample_weight=T[:, 0].square()) == pytest.approx(
            expected.score(X, sample_weight=X[:, 0] ** 2), rel=1e-12
        )
        for name in methods_of(model):
            results = tensors_of(getattr(fitted, name)(T))
            of_numpy = getattr(expected, name)(X)
            of_numpy = of_numpy if isinstance(of_numpy, tuple) else (of_numpy,)
            for result, other in zip(results, of_numpy, strict=True):
                assert result.dtype == other.dtype
                # Deviations of posteriors, and the units of rows with holes, are rounded
                # otherwise.
                tolerance = {"posterior": 1e-6, "score_samples": 1e-14, "elbo": 1e-14}
                if dtype == np.float64:
                    tolerance["log_marginal"] = 1e-14
                np.testing.assert_allclose(
                    result, other, rtol=tolerance.get(name, 0), err_msg=name
                )
        codes = fitted.transform(T)
        decoded = tensors_of(fitted.inverse_transform(codes))[0]
        np.testing.assert_array_equal(decoded, expected.inverse_transform(codes.numpy()))
        if isinstance(model, VariationalAutoencoder):
            drawn = tensors_of(fitted.sample(4, random_state=0))[0]
            np.testing.assert_array_equal(drawn, expected.sample(4, random_state=0))
            given = T[1]
            drawn = tensors_of(fitted.sample(4, random_state=0, given=given))[0]
            of_numpy = expected.sample(4, random_state=0, given=X[1])
            np.testing.assert_array_equal(drawn, of_numpy)
    assert fitted.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(np.asarray(fitted.scale_), expected.scale_)


def test_diagnostics_and_several_tables_are_tensors(X, dispatch):
    """The tables of multiple imputation and the diagnostics of a bound are tensors."""
    model = VariationalAutoencoder(max_iter=20, random_state=0).fit(X)
    T = torch.from_numpy(with_holes(X))
    tables = model.impute(T, n_samples=3, random_state=0)
    assert tables.shape == (3, *X.shape)
    expected = model.impute(T.numpy(), n_samples=3, random_state=0)
    np.testing.assert_array_equal(tables.numpy(), expected)
    keywords = {"n_samples": 4, "tol": 0.005, "return_diagnostics": True}
    bound, diagnostics = model.log_marginal(T, **keywords)
    of_numpy, expected = model.log_marginal(T.numpy(), **keywords)
    np.testing.assert_array_equal(bound.numpy(), of_numpy)
    assert len(set(expected.n_samples)) > 1
    for name in ("gap", "n_samples"):
        np.testing.assert_array_equal(diagnostics[name].numpy(), expected[name])


class Moves:
    """Counts of the tensors of a size or more that go to the host, by the way they go."""

    def __init__(self, monkeypatch, size):
        self.found = []
        for name in ("cpu", "numpy", "__array__", "tolist", "__dlpack__"):
            self._count(monkeypatch, name, size)

    def _count(self, monkeypatch, name, size):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *args, **kwargs):
            if tensor.numel() >= size:
                self.found.append((name, tuple(tensor.shape)))
            return original(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)


@pytest.mark.parametrize("model", MODELS[:2], ids=lambda model: type(model).__name__)
def test_rows_on_the_device_of_the_model_do_not_leave_it(model, X, dispatch, monkeypatch):
    """No tensor with a number for each row goes to the host, nor is one made by numpy."""
    fitted = copy.copy(model).fit(X)
    moves = Moves(monkeypatch, len(X))
    made = []
    original = torch.from_numpy
    monkeypatch.setattr(
        torch, "from_numpy", lambda array: made.append(array.size) or original(array)
    )
    T = original(with_holes(X))
    codes = fitted.transform(T)
    for name in ("reconstruct", "score_samples", "score_features", "impute"):
        getattr(fitted, name)(T)
    fitted.inverse_transform(codes)
    assert moves.found == []
    assert max(made, default=0) < len(X)
    # The counts are not blind: the mean of scores is computed by numpy.
    fitted.score(T)
    assert moves.found == [("numpy", (len(X),))]


def test_the_bounds_of_a_posterior_do_not_leave_the_device(X, dispatch, monkeypatch):
    """A variational model with N(0, I) computes scores and bounds on the device."""
    fitted = VariationalAutoencoder(**FAST).fit(X)
    moves = Moves(monkeypatch, len(X))
    T = torch.from_numpy(X)
    for name in ("transform", "score_samples", *VARIATIONAL):
        getattr(fitted, name)(T)
    assert moves.found == []


def test_fit_takes_tensors_of_the_cpu_without_a_copy(X, dispatch, monkeypatch):
    """Training data, validation data and weights of the CPU are views of the tensors."""
    seen = {}
    original = VariationalAutoencoder._validate_fit

    def validate_fit(self, X, sample_weight, X_val, *rest):
        seen.update(X=X, sample_weight=sample_weight, X_val=X_val)
        return original(self, X, sample_weight, X_val, *rest)

    monkeypatch.setattr(VariationalAutoencoder, "_validate_fit", validate_fit)
    T = torch.from_numpy(X)
    weight = torch.arange(1.0, len(X) + 1)
    model = VariationalAutoencoder(**FAST, early_stopping=True)
    model.fit(T, sample_weight=weight, X_val=T[:30])
    for name, tensor in {"X": T, "sample_weight": weight, "X_val": T[:30]}.items():
        assert seen[name].__array_interface__["data"][0] == tensor.data_ptr()
    of_numpy = copy.copy(model).fit(X, sample_weight=weight.numpy(), X_val=X[:30])
    assert of_numpy.loss_curve_ == model.loss_curve_


@pytest.mark.filterwarnings("ignore:The scales? of .* floor")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("dtype_name", ["float64", "float32"])
def test_checks_of_values(model, dtype_name):
    """Scikit-learn's checks that are not generated: values, and data of two libraries."""
    name = type(model).__name__
    for check_sample_weight in (False, True):
        estimator_checks.check_array_api_input_and_values(
            name,
            model,
            "torch",
            "cpu",
            dtype_name,
            check_sample_weight=check_sample_weight,
        )
    # The generated ones need a library that may be absent.
    estimator_checks.check_array_api_mixed_inputs(
        name,
        model,
        NamespaceAndDevice("torch", "cpu"),
        NamespaceAndDevice("numpy", None),
        check_values=True,
    )
    estimator_checks.check_array_api_same_namespace(name, model, "torch", "cpu")


def test_models_of_numpy_take_tensors_and_those_of_tensors_nothing_else(X):
    """As scikit-learn has it, a model of tensors refuses other arrays, if it dispatches."""
    T = torch.from_numpy(X)
    with config_context(array_api_dispatch=True):
        fitted = VariationalAutoencoder(**FAST).fit(T)
        for data in (X, X.tolist()):
            with pytest.raises(ValueError, match="must use the same namespace"):
                fitted.score_samples(data)
        with pytest.raises(ValueError, match="must use the same namespace"):
            fitted.inverse_transform(fitted.transform(T).numpy())
        moved = move_estimator_to(fitted, np, "cpu")
        np.testing.assert_array_equal(moved.transform(X), fitted.transform(T).numpy())
        # A second fit is of its own data.
        assert isinstance(fitted.fit(X).transform(X), np.ndarray)
        assert isinstance(fitted.transform(T), torch.Tensor)
        fitted.fit(T)
    # Without dispatch, all arrays become those of numpy.
    assert isinstance(fitted.transform(X), np.ndarray)
    assert isinstance(fitted.transform(T), np.ndarray)
    assert isinstance(fitted.sample(2), np.ndarray)


def test_copies_and_files_are_of_numpy(X, dispatch):
    """The state of a model of tensors has arrays of numpy, and takes all arrays again."""
    T = torch.from_numpy(X)
    fitted = VariationalAutoencoder(covariance_type="diag", **FAST).fit(T)
    assert isinstance(fitted.scale_, torch.Tensor)
    state = fitted.__getstate__()
    assert not any(isinstance(value, torch.Tensor) for value in state.values())
    of_numpy = VariationalAutoencoder(covariance_type="diag", **FAST).fit(X)
    assert state.keys() == of_numpy.__getstate__().keys()
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.scale_, of_numpy.scale_)
        assert isinstance(again.transform(X), np.ndarray)
        assert isinstance(again.transform(T), torch.Tensor)
    assert isinstance(fitted.scale_, torch.Tensor)


DOUBLE = {
    "int64": (lambda T: (4 * T).long(), torch.float64),
    "bool": (lambda T: T > 0, torch.float64),
    "float16": (lambda T: T.half(), torch.float64),
    "bfloat16": (lambda T: T.bfloat16(), torch.float64),
    "not contiguous": (lambda T: T.t().contiguous().t(), torch.float64),
    "every second": (lambda T: torch.repeat_interleave(T, 2, 1)[:, ::2], torch.float64),
    "expanded": (lambda T: T[:1].expand(len(T), -1) + 0 * T, torch.float64),
}


@pytest.mark.filterwarnings("ignore:The scales? of .* floor")
@pytest.mark.parametrize("kind", DOUBLE)
def test_other_tensors(kind, X, dispatch):
    """Short and whole numbers become float64, and layouts of the memory do not matter."""
    change, dtype = DOUBLE[kind]
    T = change(torch.from_numpy(X))
    dense = T.double().contiguous().numpy()
    fitted = VariationalAutoencoder(**FAST).fit(T)
    expected = VariationalAutoencoder(**FAST).fit(dense)
    codes = fitted.transform(T)
    assert codes.dtype == dtype
    same_layout = T.double().numpy()
    np.testing.assert_array_equal(codes.numpy(), expected.transform(same_layout))


BAD = {
    "sparse": (lambda T: T.to_sparse(), TypeError, r"sparse_coo.*to_dense\(\)"),
    "compressed": (lambda T: T.to_sparse_csr(), TypeError, r"sparse_csr.*to_dense\(\)"),
    "meta": (lambda T: T.to("meta"), TypeError, "meta"),
    "gradients": (lambda T: T.clone().requires_grad_(), ValueError, r"X\.detach\(\)"),
    "one row": (lambda T: T[0], ValueError, "Expected 2D array, got 1D array"),
    "three axes": (lambda T: T[None], ValueError, "dim 3"),
    "no rows": (lambda T: T[:0], ValueError, "0 sample"),
    "infinity": (lambda T: T / 0, ValueError, "infinity"),
    "complex": (lambda T: T.to(torch.complex128), ValueError, "Complex data"),
}
ignore_copies = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")


@ignore_copies
@pytest.mark.parametrize("kind", BAD)
def test_bad_tensors(kind, X, dispatch):
    """What is no dense table of numbers is refused, before a training and by a model."""
    change, error, message = BAD[kind]
    T = torch.from_numpy(X)
    fitted = VariationalAutoencoder(**FAST).fit(X)
    for method in (VariationalAutoencoder(**FAST).fit, fitted.score_samples):
        with pytest.raises(error, match=message):
            method(change(T))
    with pytest.raises(ValueError, match="features"):
        fitted.transform(T[:, :3])
    with pytest.raises(ValueError, match="columns"):
        fitted.inverse_transform(T)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ("poisson", "Negative values in data"),
        ("bernoulli", "flags"),
        ("log_normal", "positive"),
    ],
)
def test_tensors_outside_of_the_support(likelihood, message, X, dispatch):
    """Values without a density are refused, and others have the scores of numpy."""
    data = np.exp(X / 9) if likelihood == "log_normal" else (X > 1).astype(float)
    model = VariationalAutoencoder(likelihood=likelihood, **FAST).fit(data)
    T = torch.from_numpy(with_holes(data))
    for name in ("score_samples", "score_features", "transform"):
        result = getattr(model, name)(T)
        expected = getattr(model, name)(T.numpy())
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=message):
        model.score_samples(T - 1.5)


def test_a_mixed_model_takes_tensors(X, dispatch):
    """A model of several kinds of columns computes on the host, and returns tensors."""
    data = np.column_stack([X, X[:, 0] > 0])
    likelihood = Mixed([([0, 1, 2, 3, 4, 5], "laplace"), ([6], "bernoulli")])
    model = VariationalAutoencoder(likelihood=likelihood, **FAST).fit(data)
    T = torch.from_numpy(with_holes(data))
    for name in ("transform", "score_samples", "score_features", "impute"):
        result = getattr(model, name)(T)
        assert isinstance(result, torch.Tensor)
        np.testing.assert_array_equal(result.numpy(), getattr(model, name)(T.numpy()))


def test_numbers_beyond_float32(X, dispatch):
    """Rows that overflow float32 are computed in double precision, as those of numpy."""
    model = VariationalAutoencoder(**FAST).fit(X)
    data = X.astype(np.float32)
    data[0] *= 1e37
    for name in ("transform", "reconstruct", "score_samples"):
        result, expected = (getattr(model, name)(D) for D in (torch.from_numpy(data), data))
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(result.numpy(), expected)
    distant = X.copy()
    distant[0] = 1e300
    result = model.transform(torch.from_numpy(distant))
    np.testing.assert_array_equal(result.numpy(), model.transform(distant))


@pytest.mark.parametrize("search", [GridSearchCV, BatchedGridSearchCV])
def test_searches_and_pipelines(search, X, dispatch):
    """A search over a pipeline of tensors has the scores of one over arrays of numpy."""
    grid = {"variationalautoencoder__beta": [0.5, 2.0]}
    pipeline = make_pipeline(StandardScaler(), VariationalAutoencoder(**FAST))
    found = search(pipeline, grid, cv=2).fit(torch.from_numpy(X))
    expected = search(pipeline, grid, cv=2).fit(X)
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_allclose(found.cv_results_[name], expected.cv_results_[name])
    assert isinstance(found.transform(torch.from_numpy(X)), torch.Tensor)


def test_a_warm_start_and_a_checkpoint_do_not_depend_on_the_library(X, tmp_path, dispatch):
    """A fit to a tensor goes on with what a fit to the same array of numpy has left."""
    T = torch.from_numpy(X)
    keywords = {"warm_start": True, "learning_rate": "constant", "random_state": 0}
    model = VariationalAutoencoder(max_iter=2, **keywords).fit(X).fit(T)
    whole = VariationalAutoencoder(max_iter=4, **keywords).fit(X)
    assert model.loss_curve_ == whole.loss_curve_
    path = tmp_path / "fit"
    one = VariationalAutoencoder(checkpoint=path, **FAST).fit(T)
    assert VariationalAutoencoder(checkpoint=path, **FAST).fit(X).score(X) == one.score(T)


def test_detector_and_imputer(X, dispatch):
    """Detector and imputer compute on the host, and return tensors."""
    T = torch.from_numpy(with_holes(X))
    estimator = VariationalAutoencoder(**FAST)
    detector = LikelihoodOutlierDetector(estimator, support_fraction=1.0)
    expected = copy.copy(detector).fit(T.numpy())
    detector.fit(T)
    for name in ("score_samples", "decision_function", "predict"):
        result = getattr(detector, name)(T)
        np.testing.assert_array_equal(result.numpy(), getattr(expected, name)(T.numpy()))
    imputer = AutoencoderImputer(estimator, add_indicator=True).fit(T)
    filled = imputer.transform(T)
    np.testing.assert_array_equal(filled.numpy(), imputer.transform(T.numpy()))
    back = imputer.inverse_transform(filled)
    np.testing.assert_array_equal(back.numpy(), T.numpy())


def test_estimators_of_scikit_learn_compute_by_numpy(X, dispatch):
    """A detector takes an estimator that refuses to work with dispatch."""
    detector = LikelihoodOutlierDetector(GaussianMixture(2, random_state=0))
    scores = detector.fit(torch.from_numpy(X)).score_samples(torch.from_numpy(X))
    with config_context(array_api_dispatch=False):
        expected = copy.copy(detector).fit(X).score_samples(X)
    np.testing.assert_array_equal(scores.numpy(), expected)


def test_results_are_where_the_data_are(X, dispatch):
    """Library and device of the results are those of the data."""
    T = torch.from_numpy(X)
    found = get_namespace_and_device(VariationalAutoencoder(**FAST).fit(T).transform(T))
    assert found == get_namespace_and_device(T)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_another_library(model, dtype, X, dispatch):
    """Arrays of a library that is neither NumPy nor torch come out as they went in."""
    X = with_holes(X).astype(dtype)
    fitted, expected = copy.copy(model).fit(Array(X)), copy.copy(model).fit(X)
    assert fitted.loss_curve_ == expected.loss_curve_
    for name in methods_of(model):
        results, of_numpy = getattr(fitted, name)(Array(X)), getattr(expected, name)(X)
        if not isinstance(results, tuple):
            results, of_numpy = (results,), (of_numpy,)
        for result, other in zip(results, of_numpy, strict=True):
            assert isinstance(result, Array)
            assert result.dtype == other.dtype
            result = move_to(result, xp=np, device="cpu")
            np.testing.assert_allclose(result, other, rtol=1e-6, err_msg=name)
    weight = Array(np.arange(1.0, len(X) + 1))
    score = fitted.score(Array(X), sample_weight=weight)
    assert score == pytest.approx(expected.score(X, sample_weight=np.arange(len(X)) + 1.0))
    if isinstance(model, VariationalAutoencoder):
        assert isinstance(fitted.sample(2), Array)
    with pytest.raises(ValueError, match="must use the same namespace"):
        fitted.transform(torch.from_numpy(X))
    assert isinstance(expected.transform(Array(X)), Array)


def test_displays_say_that_they_need_numpy(X, dispatch):
    """A display of tensors raises an error that says what to do, which is enough."""
    T = torch.from_numpy(X)
    model = VariationalAutoencoder(**FAST).fit(T)
    with pytest.raises(TypeError, match="outside of config_context"):
        KLSpectrumDisplay.from_estimator(model, T)
    with config_context(array_api_dispatch=False):
        KLSpectrumDisplay.from_estimator(model, T.cpu().numpy())


def test_frames_as_output(X, dispatch):
    """`set_output` makes a frame of tensors on the CPU."""
    model = VariationalAutoencoder(**FAST).fit(torch.from_numpy(X))
    frame = model.set_output(transform="pandas").transform(torch.from_numpy(X))
    np.testing.assert_array_equal(
        frame.to_numpy(),
        model.set_output(transform="default").transform(torch.from_numpy(X)),
    )
