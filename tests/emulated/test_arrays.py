"""Tensors that are on the device: results are there, and rows do not leave it."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from tests.emulated.accelerator import DEVICE, accelerator
from tests.emulated.test_fits import data, with_holes

N = 400
FAST = {"max_iter": 2, "random_state": 0}
MODELS = [
    GaussianAutoencoder(2, **FAST),
    LaplaceAutoencoder(2, covariance_type="diag", early_stopping=True, **FAST),
    VariationalAutoencoder(2, **FAST),
]
METHODS = ["transform", "reconstruct", "score_samples", "score_features", "impute"]
VARIATIONAL = ["posterior", "elbo", "log_marginal"]


@pytest.fixture(name="X", params=[False, True], ids=["complete", "holes"])
def rows(request):
    """An array of numpy, larger than statistics and draws."""
    X = data(N).astype(np.float32)
    return with_holes(X).astype(np.float32) if request.param else X


@pytest.fixture
def dispatch():
    """Let scikit-learn dispatch by the type of an array."""
    with config_context(array_api_dispatch=True):
        yield


def copies_like(X):
    """Return the kinds of the copies that are as large as an array."""
    return [kind for kind, n_bytes in accelerator.copies if n_bytes >= X.nbytes]


def n_copies():
    """Return how many copies there were to the host, and to the device."""
    counts = accelerator.counts
    to_device = sum(n for kind, n in counts.items() if kind.startswith("h2d"))
    return counts["d2h"], to_device


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.usefixtures("dispatch")
def test_rows_stay_on_the_device(model, X):
    """Codes, scores and tables of a tensor are tensors there, with the numbers of numpy."""
    T = torch.from_numpy(X).to(DEVICE)
    fitted = clone(model).fit(T)
    assert fitted.device_ == str(DEVICE)
    of_numpy = clone(model).set_params(device=DEVICE).fit(X)
    names = METHODS + (VARIATIONAL if isinstance(model, VariationalAutoencoder) else [])
    codes = fitted.transform(T)
    for name in (*names, "inverse_transform"):
        given = codes if name == "inverse_transform" else T
        method, like = getattr(fitted, name), getattr(of_numpy, name)
        accelerator.reset()
        results = method(given)
        to_host, to_device = n_copies()
        # Statistics and draws, which do not grow with the rows.
        assert (to_host, copies_like(X)) == (0, [])
        assert to_device <= 10
        expected = like(codes.cpu().numpy() if name == "inverse_transform" else X)
        if not isinstance(results, tuple):
            results, expected = (results,), (expected,)
        for result, other in zip(results, expected, strict=True):
            assert (result.device, result.is_inference()) == (DEVICE, False)
            found = result.cpu().numpy()
            assert found.dtype == other.dtype
            scale = 1e-5 * np.abs(other).max()
            np.testing.assert_allclose(found, other, 1e-5, scale, err_msg=name)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.usefixtures("dispatch")
def test_score_reads_the_scores_only(model, X):
    T = torch.from_numpy(X).to(DEVICE)
    fitted = clone(model).fit(T)
    weight = torch.linspace(0.5, 1.5, N, device=DEVICE)
    accelerator.reset()
    score = fitted.score(T)
    assert (n_copies()[0], copies_like(X)) == (1, [])
    of_numpy = clone(model).set_params(device=DEVICE).fit(X)
    assert score == pytest.approx(of_numpy.score(X), rel=1e-5)
    weighted = fitted.score(T, sample_weight=weight)
    expected = of_numpy.score(X, sample_weight=weight.cpu().numpy())
    assert weighted == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("has_weight", [False, True])
@pytest.mark.usefixtures("dispatch")
def test_fit_reads_the_tensor_once(has_weight, X):
    """Statistics, order and start are computed on the CPU, from one copy of the tensor."""
    T = torch.from_numpy(X).to(DEVICE)
    weight = np.linspace(0.5, 1.5, N) if has_weight else None
    on_device = None if weight is None else torch.from_numpy(weight).to(DEVICE)
    model = VariationalAutoencoder(2, **FAST)
    accelerator.reset()
    fitted = clone(model).fit(T, sample_weight=on_device)
    assert copies_like(X).count("d2h") == 1
    of_numpy = clone(model).set_params(device=DEVICE).fit(X, sample_weight=weight)
    assert fitted.loss_curve_ == of_numpy.loss_curve_
    assert isinstance(fitted.scale_, float)
