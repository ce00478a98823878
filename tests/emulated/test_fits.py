"""Fits on an emulated accelerator have the results of the CPU, to rounding."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.mixture import GaussianMixture

import skae
from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._data import batches
from skae._engine import graphed_step
from skae._evaluation import validation
from skae._fitting import trainer
from skae._utils import device as devices
from skae.impute import AutoencoderImputer
from skae.model_selection import BatchedGridSearchCV
from skae.networks import MLP, Conv
from tests.data import test_shards
from tests.emulated.accelerator import CUDAGraph, accelerator
from tests.families import table
from tests.helpers import ESTIMATORS, answers, assert_plain_state, weights

KIND, DEVICE = "emu", "emu:0"

pytestmark = [
    pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale"),
    # A graph is the only user of these names, which torch has for its own devices.
    pytest.mark.filterwarnings("ignore:The standard deviations of the features differ"),
]


def data(n=150, d=5):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, 2))
    curved = np.column_stack([Z, np.sin(2 * Z[:, 0])])
    return curved @ rng.normal(size=(3, d)) + 0.2 * rng.normal(size=(n, d))


def with_holes(X):
    mask = np.random.default_rng(1).random(X.shape) < 0.2
    return np.where(mask, np.nan, X)


def small(model, **parameters):
    """Return a model that trains for a few epochs, in double precision."""
    few = {"max_iter": 3, "random_state": 0, "precision": "float64"}
    return clone(model).set_params(**few, **parameters)


def fit_on_both(model, X, **kwargs):
    """Fit on the CPU and on the device."""
    model = small(model)
    return tuple(
        clone(model).set_params(device=device).fit(X, **kwargs) for device in ("cpu", KIND)
    )


def assert_same(one, other, X, rtol=1e-6):
    """Assert that two models have the same training and the same answers, to rounding.

    The answers of the device are on the CPU.
    """
    assert one.history_.keys() == other.history_.keys()
    for name, values in one.history_.items():
        np.testing.assert_allclose(other.history_[name], values, rtol=rtol, err_msg=name)
    mine, theirs = answers(one, X), answers(other, X)
    for name, values in mine.items():
        assert type(theirs[name]) is np.ndarray
        scale = rtol * np.abs(values).max()
        np.testing.assert_allclose(theirs[name], values, rtol, scale, err_msg=name)


MODELS = [
    *(estimator(2) for estimator in ESTIMATORS),
    *(
        VariationalAutoencoder(2, variance_mode=mode, covariance_type=shape)
        for mode, shape in (
            ("fixed", "spherical"),
            ("optimal", "diag"),
            ("profile", "spherical"),
            ("learned", "diag"),
            ("predicted", "diag"),
        )
    ),
    LaplaceAutoencoder(2, variance_mode="learned"),
    GaussianAutoencoder(2, variance_mode="predicted", covariance_type="diag"),
    VariationalAutoencoder(2, n_mc_samples=3, kl_schedule="cyclical", beta=0.5),
    VariationalAutoencoder(2, learning_rate="constant", alpha=1.0, batch_size=40),
    VariationalAutoencoder(2, gradient_balance=True),
    VariationalAutoencoder(2, init="random", shuffle=False),
    VariationalAutoencoder(2, network=MLP((8, 4), activation="relu")),
    VariationalAutoencoder(2, hidden_layer_sizes=()),
    VariationalAutoencoder(2, n_init=2),
    VariationalAutoencoder(2, early_stopping=True),
    VariationalAutoencoder(2, prior=GaussianMixture(2, random_state=0)),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_models(model):
    X = data()
    one, other = fit_on_both(model, X)
    assert other.device_ == DEVICE
    assert {t.device.type for t in other.module_.state_dict().values()} == {KIND}
    assert_same(one, other, X)


@pytest.mark.parametrize(
    "likelihood",
    ["student_t", "mixture", "log_normal", "bernoulli", "categorical", "poisson", "mixed"],
)
def test_likelihoods(likelihood):
    X = table(likelihood, n=120)
    one, other = fit_on_both(VariationalAutoencoder(2, likelihood=likelihood), X)
    assert_same(one, other, X)


def test_images():
    X = data(60, 36)
    network = Conv((1, 6, 6), channels=(4,))
    one, other = fit_on_both(GaussianAutoencoder(2, network=network), X)
    assert_same(one, other, X)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_holes(estimator):
    X = data()
    holes = with_holes(X)
    one, other = fit_on_both(estimator(2), holes)
    assert_same(one, other, holes)
    np.testing.assert_allclose(other.impute(holes), one.impute(holes), rtol=1e-5)
    imputers = [AutoencoderImputer(small(estimator(2), device=d)) for d in ("cpu", KIND)]
    filled = [imputer.fit_transform(holes) for imputer in imputers]
    np.testing.assert_allclose(*filled, rtol=1e-5)


@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_validation_data(estimator, has_holes):
    X, X_val = data(), data()[:40]
    if has_holes:
        X, X_val = with_holes(X), with_holes(X_val)
    one, other = fit_on_both(estimator(2, early_stopping=True), X, X_val=X_val)
    assert_same(one, other, X)
    assert one.best_iter_ == other.best_iter_


def test_streamed_data(monkeypatch):
    """Data that do not fit on the device go there in blocks, through pinned memory."""
    X = data()
    one, resident = fit_on_both(VariationalAutoencoder(2, batch_size=32), X)
    monkeypatch.setattr(accelerator, "free", 0)
    monkeypatch.setattr(batches, "BLOCK_NUMBERS", 300)
    accelerator.reset()
    _, streamed = fit_on_both(VariationalAutoencoder(2, batch_size=32), X)
    # Three blocks in each of three epochs, and the weights of the rows once.
    assert accelerator.counts["h2d pinned"] >= 10
    assert_same(one, streamed, X)
    assert weights(streamed) == weights(resident)


def test_noise_of_several_processes(monkeypatch):
    monkeypatch.setattr(test_shards, "DEVICE", torch.device(KIND, 0))
    test_shards.test_several_batches_have_own_noise_and_all_weight()
    test_shards.test_one_batch_has_the_noise_of_one_process(2)


def test_search():
    """A search trains side by side, and each model is the same as one trained alone."""
    X = data()
    grid = {"beta": [0.5, 2.0], "early_stopping": [False, True]}
    model = small(VariationalAutoencoder(2))
    one, other = (
        BatchedGridSearchCV(clone(model).set_params(device=device), grid, cv=2).fit(X)
        for device in ("cpu", KIND)
    )
    for name in ("split0_test_score", "mean_test_score"):
        np.testing.assert_allclose(other.cv_results_[name], one.cv_results_[name], 1e-6)
    alone = clone(model).set_params(**other.best_params_, device=KIND).fit(X)
    assert weights(other.best_estimator_) == weights(alone)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_models_side_by_side_are_those_alone(early_stopping, monkeypatch):
    X = data(151)
    # The noise of an epoch is drawn in two parts, whatever is trained beside a model, and
    # two models are scored at once.
    monkeypatch.setattr(batches, "_NOISE_NUMBERS_OFF_CPU", 140)
    monkeypatch.setattr(validation.Validated, "numbers", lambda own: 2**25)
    # Two candidates draw the same numbers.
    grid = [{"beta": [0.5, 2.0]}, {"random_state": [1]}]
    model = small(VariationalAutoencoder(2, device=KIND, precision="float32"))
    model.set_params(early_stopping=early_stopping, max_iter=2)
    models = []

    def keep(fitted, X, y=None):
        models.append(fitted)
        return fitted.score(X)

    search = BatchedGridSearchCV(model, grid, cv=2, refit=False, scoring=keep)
    # Folds of two sizes.
    search.fit(X)
    folds = X[76:], X[:76]
    for i, fitted in enumerate(models):
        own = {"beta": fitted.beta, "random_state": fitted.random_state}
        alone = clone(model).set_params(**own).fit(folds[i % 2])
        assert weights(fitted) == weights(alone)
        for name, values in alone.history_.items():
            np.testing.assert_array_equal(fitted.history_[name], values, err_msg=name)
    assert len(models) == 6


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_copies_and_pickles(estimator):
    """A copy stays on the device; a pickle is for any machine."""
    X = data()
    model = small(estimator(2), device=torch.device(KIND, 0)).fit(X)
    before = answers(model, X)
    for duplicate in (copy.copy, copy.deepcopy):
        other = duplicate(model)
        assert other.device_ == DEVICE
        assert other.module_.device == model.module_.device
        assert weights(other) == weights(model)
        own, its = (
            {t.data_ptr() for t in m.module_.state_dict().values()} for m in (model, other)
        )
        assert not own & its
        np.testing.assert_array_equal(answers(other, X)["transform"], before["transform"])
    assert_plain_state(model)
    loaded = pickle.loads(pickle.dumps(model))
    assert (loaded.device, loaded.device_) == (DEVICE, "cpu")
    for name, values in answers(loaded, X).items():
        np.testing.assert_allclose(values, before[name], rtol=1e-9, err_msg=name)
    fresh = clone(model)
    assert fresh.device == torch.device(KIND, 0)
    assert weights(fresh.fit(X)) == weights(model)


def test_file(tmp_path):
    pytest.importorskip("skops")
    X = data()
    model = small(VariationalAutoencoder(2), device=KIND).fit(X)
    model.save(tmp_path / "model.skae")
    loaded = skae.load(tmp_path / "model.skae")
    assert loaded.device_ == "cpu"
    np.testing.assert_allclose(loaded.score_samples(X), model.score_samples(X))


@pytest.mark.parametrize("n_init", [1, 2])
def test_checkpoint(n_init, tmp_path, monkeypatch):
    """A fit that is interrupted on the device goes on there as if it was not."""
    X, path = data(), tmp_path / "state"
    model = small(
        VariationalAutoencoder(2, n_init=n_init, early_stopping=True), device=KIND
    )
    whole = clone(model).fit(X)
    stopped = clone(model).set_params(checkpoint=str(path), checkpoint_interval=1)
    minimize, n_epochs = trainer.minimize, []

    def interrupted(step, batches, *args):
        epoch = batches.epoch

        def counted():
            n_epochs.append(1)
            if len(n_epochs) == 3:
                raise KeyboardInterrupt
            return epoch()

        batches.epoch = counted
        return minimize(step, batches, *args)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "minimize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(X)
    resumed = clone(stopped).set_params(device=torch.device(KIND)).fit(X)
    assert weights(resumed) == weights(whole)
    with pytest.raises(ValueError, match="device"):
        clone(stopped).set_params(device="cpu").fit(X)


def test_warm_start():
    X = data()
    one, other = fit_on_both(VariationalAutoencoder(2, warm_start=True), X)
    assert_same(one.fit(X), other.fit(X), X)


def test_auto_is_the_accelerator():
    model = small(VariationalAutoencoder(2)).fit(data())
    assert model.device_ == DEVICE
    message = f"device='no' cannot be used here.*'auto', 'cpu', '{KIND}'"
    with pytest.raises(ValueError, match=message):
        clone(model).set_params(device="no").fit(data())


def test_memory_of_the_device(monkeypatch):
    monkeypatch.setattr(accelerator, "mem_get_info", lambda device: (0, 1000))
    with pytest.raises(MemoryError, match="GiB"):
        VariationalAutoencoder(2, device=KIND).fit(data())


# Graphs


def fail(*args, **kwargs):
    accelerator.local.graph = None
    raise RuntimeError("operation would make the legacy stream depend on a capture.\nMore")


def run_and_wait(self, *inputs, run=graphed_step.AnalyticStep.run):
    """Do what a graph cannot hold in a step."""
    result = run(self, *inputs)
    result.sum().item()
    return result


FAILURES = {
    "begin": (CUDAGraph, "capture_begin", fail, "depend on a capture. Its"),
    "end": (CUDAGraph, "capture_end", fail, "depend on a capture. Its"),
    # The end of the capture fails, too, but with another message.
    "an operation": (graphed_step.AnalyticStep, "run", run_and_wait, "_local_scalar_dense"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_capture_that_fails(name, monkeypatch):
    """The step itself has the same results; a fit says once why it has no graph."""
    X, (owner, method, function, cause) = data(60), FAILURES[name]
    model = small(VariationalAutoencoder(2, n_init=4), device=KIND)
    # Models that end early, so that a further step is made for the others.
    model.set_params(max_iter=12, n_iter_no_change=1, learning_rate="constant", tol=1e-2)
    n_captures = accelerator.counts["capture"]
    graphed = clone(model).fit(X)
    assert accelerator.counts["capture"] > n_captures + 1
    monkeypatch.setattr(owner, method, function)
    n_captures = accelerator.counts["capture"]
    with pytest.warns(RuntimeWarning, match=f"not be captured .*{cause}") as record:
        plain = clone(model).fit(X)
    assert sum("captured" in str(w.message) for w in record) == 1
    # It is not tried again.
    assert accelerator.counts["capture"] <= n_captures + 1
    assert weights(plain) == weights(graphed)


def test_a_stream_says_once_that_it_has_no_graph(monkeypatch):
    X = data()
    graphed, plain = (small(VariationalAutoencoder(2), device=KIND) for _ in range(2))
    for _ in range(3):
        graphed.partial_fit(X)
    monkeypatch.setattr(CUDAGraph, "capture_end", fail)
    with pytest.warns(RuntimeWarning, match="depend on a capture"):
        plain.partial_fit(X)
    for _ in range(2):
        plain.partial_fit(X)
    assert weights(plain) == weights(graphed)


def test_an_interrupt_in_a_capture_is_not_lost(monkeypatch):
    """A capture that an interrupt ends, and that cannot be ended, is interrupted."""
    run = graphed_step.AnalyticStep.run

    def interrupted(self, *inputs):
        if accelerator.graph is not None:
            raise KeyboardInterrupt
        return run(self, *inputs)

    monkeypatch.setattr(graphed_step.AnalyticStep, "run", interrupted)
    monkeypatch.setattr(CUDAGraph, "capture_end", fail)
    with pytest.raises(KeyboardInterrupt):
        small(VariationalAutoencoder(2), device=KIND).fit(data())


# A device without double precision


@pytest.fixture
def single_precision(monkeypatch):
    devices._has_float64.cache_clear()
    monkeypatch.setattr(accelerator, "has_float64", False)
    yield
    devices._has_float64.cache_clear()


SINGLE = [
    *(estimator(2) for estimator in ESTIMATORS),
    VariationalAutoencoder(2, variance_mode="predicted", covariance_type="diag"),
    VariationalAutoencoder(2, variance_mode="learned", early_stopping=True),
    VariationalAutoencoder(2, gradient_balance=True),
    VariationalAutoencoder(2, likelihood="student_t", n_init=2),
    VariationalAutoencoder(2, prior=GaussianMixture(2, random_state=0)),
]


# Holes for every second model.
@pytest.mark.parametrize(
    ("model", "has_holes"), [(m, i % 2 == 1) for i, m in enumerate(SINGLE)], ids=str
)
def test_float32_only(model, has_holes, single_precision):
    """The device trains, and the CPU has the fitted model."""
    X = with_holes(data()) if has_holes else data()
    model = clone(model).set_params(max_iter=3, random_state=0)
    one = clone(model).set_params(device="cpu").fit(X)
    accelerator.reset()
    other = clone(model).set_params(device=KIND).fit(X)
    assert accelerator.counts["launch"] > 100
    assert other.device_ == "cpu"
    assert_same(one, other, X, rtol=2e-2)
    assert_same(one, other, X.astype(np.float32), rtol=2e-2)


def test_search_in_float32_only(single_precision):
    X = data()
    model = VariationalAutoencoder(2, device=KIND, max_iter=3, random_state=0)
    search = BatchedGridSearchCV(model, {"beta": [0.5, 1.0]}, cv=2).fit(X)
    assert search.best_estimator_.device_ == "cpu"
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_float64_is_refused_where_it_is_not(single_precision):
    model = VariationalAutoencoder(2, device=KIND, precision="float64")
    with pytest.raises(ValueError, match=f"device='{KIND}:0' has no float64"):
        model.fit(data())


def test_checkpoint_in_float32_only(single_precision, tmp_path):
    X = data()
    model = VariationalAutoencoder(2, device=KIND, max_iter=3, random_state=0)
    model.set_params(checkpoint=str(tmp_path / "state"), checkpoint_interval=1)
    assert weights(clone(model).fit(X)) == weights(clone(model).fit(X))
