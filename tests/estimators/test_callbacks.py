"""The behaviour of the three estimators that users and other libraries rely on."""

import copy
import inspect
import pickle
import random
import re
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from torch import nn

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from skae.networks import MLP
from skae.objectives import KL_SCHEDULES, CyclicalSchedule, LinearSchedule
from skae.scales import legal_combinations
from tests.callbacks import Callback
from tests.surroundings import nothing_global_changes, unusual_settings

ESTIMATORS = [GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_model = pytest.mark.parametrize(
    ("likelihood", "variance_mode", "covariance_type"), legal_combinations()
)
ignore_floor = pytest.mark.filterwarnings(
    "ignore:The scale of .* at its floor min_scale:sklearn.exceptions.ConvergenceWarning"
)
ignore_divergence = pytest.mark.filterwarnings(
    "ignore:Training diverged:sklearn.exceptions.ConvergenceWarning"
)


def weights(model):
    """All parameters and buffers of a fitted model, as bytes."""
    state = model.module_.state_dict()
    return {name: tensor.cpu().numpy().tobytes() for name, tensor in state.items()}


def answers(model, X):
    """Everything that a fitted model says of X, by method."""
    said = {
        "transform": model.transform(X),
        "reconstruct": model.reconstruct(X),
        "score_samples": model.score_samples(X),
    }
    said["inverse_transform"] = model.inverse_transform(said["transform"])
    if isinstance(model, VariationalAutoencoder):
        said["mean"], said["std"] = model.posterior(X)
        said["log_marginal"] = model.log_marginal(X, n_samples=8)
        said["sample"] = model.sample(20, random_state=0)
    return said


def assert_same_answers(one, other, X):
    """Two models that cannot be told apart."""
    mine, theirs = answers(one, X), answers(other, X)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def assert_finite(model, X):
    """No NaN and no infinity in a model, nor in what it says of X."""
    for name, tensor in model.module_.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    for name, value in answers(model, X).items():
        assert np.isfinite(value).all(), name
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.score(X))


def models_of(likelihood, **parameters):
    """The variational model with a likelihood, and the deterministic one if there is."""
    models = [VariationalAutoencoder(likelihood=likelihood, **parameters)]
    deterministic = {"gaussian": GaussianAutoencoder, "laplace": LaplaceAutoencoder}
    if likelihood in deterministic:
        models.append(deterministic[likelihood](**parameters))
    return models


class Recording:
    """A callback that keeps what it is told, and does something at chosen epochs.

    Parameters
    ----------
    stop_after : int, default=None
        Ask for a stop at the end of this epoch, counted from 1.
    raise_at_end, raise_at_begin : (int, Exception), default=None
        Raise this at the end, or the beginning, of this epoch.
    """

    def __init__(self, stop_after=None, raise_at_end=None, raise_at_begin=None):
        self.stop_after = stop_after
        self.raise_at_end = raise_at_end
        self.raise_at_begin = raise_at_begin
        self.begun, self.fitted, self.tasks, self.metadata = [], [], [], []
        self.n_setups = self.n_teardowns = 0

    def setup(self, estimator, context):
        self.n_setups += 1
        assert context.parent is None
        assert context.max_subtasks == estimator.max_iter

    def teardown(self, estimator, context):
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator, context, *, X=None):
        if context.parent is None:
            return
        self.begun.append(context.task_id)
        if self.raise_at_begin and len(self.begun) == self.raise_at_begin[0]:
            raise self.raise_at_begin[1]

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.tasks.append((context.task_name, context.task_id))
        self.fitted.append(fitted_estimator)
        self.metadata.append(metadata)
        if context.parent is None:
            return False
        if self.raise_at_end and context.task_id + 1 == self.raise_at_end[0]:
            raise self.raise_at_end[1]
        return context.task_id + 1 == self.stop_after


# What a fit leaves behind


@every_estimator
def test_fitted_attributes(estimator, X):
    """Names, types and lengths, with and without feature names."""
    model = estimator(3, max_iter=4, device="cpu", random_state=0)
    assert model.fit(X) is model
    assert (model.n_components_, model.n_features_in_, model.n_iter_) == (3, 6, 4)
    assert type(model.n_components_) is int
    assert not hasattr(model, "feature_names_in_")
    assert model.device_ == "cpu"
    assert isinstance(model.module_, torch.nn.Module)
    assert not model.module_.training
    assert not any(p.requires_grad for p in model.module_.parameters())
    assert isinstance(model.loss_curve_, list)
    np.testing.assert_array_equal(model.loss_curve_, model.history_["objective"])
    assert list(model.get_feature_names_out()) == [
        f"{estimator.__name__.lower()}{i}" for i in range(3)
    ]
    names = [f"column {i}" for i in range(6)]
    model.fit(pd.DataFrame(X, columns=names))
    assert model.feature_names_in_.tolist() == names
    model.fit(X)
    assert not hasattr(model, "feature_names_in_")


@every_model
def test_history(likelihood, variance_mode, covariance_type, X):
    """One finite number per epoch and name; the objective is beta KL less likelihood."""
    model = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        beta=3.0,
        max_iter=5,
        random_state=0,
    ).fit(X, X_val=X[:20])
    history = model.history_
    expected = {"objective", "log_likelihood", "kl", "beta", "active_units"}
    expected |= {"validation_score"}
    if variance_mode != "predicted":
        expected |= {"scale"}
        assert (history["scale"] > 0).all()
    assert history.keys() == expected
    for name, values in history.items():
        assert isinstance(values, np.ndarray), name
        assert values.shape == (5,), name
        assert np.isfinite(values).all(), name
    np.testing.assert_array_equal(history["beta"], 3.0)
    assert (history["kl"] > 0).all()
    assert set(history["active_units"]) <= {0, 1, 2}
    np.testing.assert_allclose(
        history["objective"],
        3.0 * history["kl"] - history["log_likelihood"],
        rtol=1e-5,
    )


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
def test_history_of_deterministic_autoencoders(estimator, X):
    """No KL, and so no beta either: the objective is minus the log-likelihood."""
    history = estimator(max_iter=3, random_state=0).fit(X).history_
    assert history.keys() == {"objective", "log_likelihood", "scale"}
    np.testing.assert_array_equal(history["objective"], -history["log_likelihood"])


def test_history_is_in_the_units_of_the_data(X):
    """Data 4 times as large: densities 4**-6 times, scales 4 times; the fit is the same."""
    small = VariationalAutoencoder(max_iter=3, random_state=0).fit(X, X_val=X)
    large = VariationalAutoencoder(max_iter=3, random_state=0).fit(4 * X, X_val=4 * X)
    shift = 6 * np.log(4)
    for name in ("log_likelihood", "validation_score"):
        np.testing.assert_allclose(
            large.history_[name], small.history_[name] - shift, rtol=1e-9
        )
    np.testing.assert_allclose(
        large.loss_curve_, np.add(small.loss_curve_, shift), rtol=1e-9
    )
    np.testing.assert_allclose(large.history_["scale"], 4 * small.history_["scale"])
    np.testing.assert_array_equal(large.history_["kl"], small.history_["kl"])


def test_active_units_counts_the_components_in_use():
    """Data with 2 strong directions of 5, and 4 components: 2 are in use."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(300, 2)) * 5
    X = np.column_stack([Z, np.zeros((300, 3))]) + 0.1 * rng.normal(size=(300, 5))
    model = VariationalAutoencoder(
        4, hidden_layer_sizes=(), beta=2.0, max_iter=100, random_state=0
    ).fit(X)
    assert model.history_["active_units"][-1] == 2
    assert (model.posterior(X)[0].var(axis=0) > 0.1).sum() == 2


@every_model
def test_shape_of_the_scale(likelihood, variance_mode, covariance_type, X):
    """A number, one per feature, or None where it is a function of the code."""
    given = 0.7 if covariance_type == "spherical" else np.linspace(0.5, 1, 6)
    model = VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        scale=given,
        max_iter=2,
    ).fit(X)
    if variance_mode == "predicted":
        assert model.scale_ is None
    elif covariance_type == "spherical":
        assert isinstance(model.scale_, float)
        assert model.scale_ > 0
    else:
        assert model.scale_.shape == (6,)
        assert model.scale_.dtype == np.float64
        assert (model.scale_ > 0).all()
    if variance_mode == "fixed":
        np.testing.assert_allclose(model.scale_, given, rtol=1e-6)


def test_fixed_scale_is_one_number_or_one_per_feature(X):
    """`diag` takes a number for all; a list will do for an array."""
    parameters = {"variance_mode": "fixed", "covariance_type": "diag", "max_iter": 2}
    one = GaussianAutoencoder(scale=2, random_state=0, **parameters).fit(X)
    six = GaussianAutoencoder(scale=[2.0] * 6, random_state=0, **parameters).fit(X)
    np.testing.assert_allclose(one.scale_, np.full(6, 2.0), rtol=1e-6)
    assert_same_answers(one, six, X)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@pytest.mark.parametrize(
    ("estimator", "density", "closed_form"),
    [
        (GaussianAutoencoder, scipy.stats.norm, lambda r, a: np.sqrt((r**2).mean(axis=a))),
        (LaplaceAutoencoder, scipy.stats.laplace, lambda r, a: np.abs(r).mean(axis=a)),
    ],
)
def test_scale_and_score_of_residuals(estimator, density, closed_form, covariance_type, X):
    """The stored scale is the closed form over all residuals; the score is scipy's."""
    model = estimator(covariance_type=covariance_type, max_iter=20, random_state=0).fit(X)
    residual = X - model.inverse_transform(model.transform(X))
    axis = None if covariance_type == "spherical" else 0
    np.testing.assert_allclose(model.scale_, closed_form(residual, axis), rtol=1e-5)
    expected = density.logpdf(residual, scale=model.scale_).sum(axis=1)
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-6)


# Codes, reconstructions and scores


@every_estimator
def test_codes_and_reconstructions_agree(estimator, X):
    """`reconstruct` is there and back; `fit_transform` is `fit` and `transform`."""
    model = estimator(3, max_iter=10, random_state=0)
    Z = model.fit_transform(X)
    assert Z.shape == (120, 3)
    np.testing.assert_array_equal(Z, model.transform(X))
    X_hat = model.inverse_transform(Z)
    assert X_hat.shape == X.shape
    np.testing.assert_allclose(model.reconstruct(X), X_hat, rtol=1e-12)
    # And it does reconstruct: three components explain most of these data.
    assert ((X - X_hat) ** 2).mean() < 0.1 * X.var(axis=0).mean()
    # Codes are new data for the decoder, whoever made them.
    np.testing.assert_allclose(
        model.inverse_transform(np.zeros((1, 3)))[0],
        model.inverse_transform(np.zeros((5, 3)))[4],
    )


@every_estimator
def test_score_is_the_mean_of_score_samples(estimator, X):
    """And weighted where weights are given."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    scores = model.score_samples(X)
    assert scores.shape == (120,)
    assert model.score(X) == pytest.approx(np.mean(scores), rel=1e-12)
    assert model.score(X, np.ones(120)) == model.score(X)  # y is ignored
    weight = np.arange(120.0)
    expected = (weight * scores).sum() / weight.sum()
    assert model.score(X, sample_weight=weight) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="Negative values"):
        model.score(X, sample_weight=-weight)
    with pytest.raises(ValueError, match="Sample weights must contain"):
        model.score(X, sample_weight=np.zeros(120))


@every_estimator
def test_repeated_calls_say_the_same(estimator, X):
    """Scores are deterministic, those that average over a posterior too."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    assert_same_answers(model, model, X)
    assert model.score(X) == model.score(X)


def test_posterior_and_bounds(X):
    """The code is the posterior's mean; the bounds are ordered."""
    model = VariationalAutoencoder(3, max_iter=10, random_state=0).fit(X)
    mean, std = model.posterior(X)
    np.testing.assert_array_equal(mean, model.transform(X))
    assert mean.shape == std.shape == (120, 3)
    assert (std > 0).all()
    np.testing.assert_array_equal(model.elbo(X), model.score_samples(X))
    assert model.log_marginal(X).shape == (120,)
    bounds = np.array(
        [
            [model.log_marginal(X, n, random_state=seed).mean() for seed in range(20)]
            for n in (1, 4, 64)
        ]
    )
    # In expectation over the draws: the ELBO for one, and more for more.
    elbo = model.elbo(X).mean()
    assert bounds[0].mean() == pytest.approx(elbo, abs=4 * bounds[0].std() / np.sqrt(20))
    assert elbo < bounds[1].mean() < bounds[2].mean()
    assert len(set(bounds[2])) == 20


def test_sample(X):
    """Shapes, dtype, and where the randomness comes from."""
    model = VariationalAutoencoder(3, max_iter=10, random_state=0).fit(X)
    assert model.sample().shape == (1, 6)
    draws = model.sample(5, random_state=0)
    assert (draws.shape, draws.dtype) == ((5, 6), np.float64)
    np.testing.assert_array_equal(draws, model.sample(5, random_state=0))
    assert not np.array_equal(draws, model.sample(5, random_state=1))
    assert not np.array_equal(model.sample(5), model.sample(5))
    state = np.random.RandomState(0)
    first, second = model.sample(5, random_state=state), model.sample(5, random_state=state)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, model.sample(5, np.random.RandomState(0)))


@every_model
def test_noise_of_samples(likelihood, variance_mode, covariance_type, X):
    """Draws less their means: scipy's distribution with the model's scale."""
    model = VariationalAutoencoder(
        likelihood=likelihood,
        variance_mode=variance_mode,
        covariance_type=covariance_type,
        max_iter=5,
        random_state=0,
    ).fit(X)
    noise = model.sample(4000, 0) - model.sample(4000, 0, noise=False)
    assert noise.std() > 0
    if model.scale_ is None:
        return
    family = {"gaussian": "norm", "laplace": "laplace", "logistic": "logistic"}[likelihood]
    standard = noise / model.scale_
    for column in standard.T:
        assert scipy.stats.kstest(column, family).pvalue > 1e-4


@pytest.mark.parametrize("later", [0.0, 0.5, 100.0])
def test_score_knows_no_beta(later, X):
    """Beta belongs to training: set after it, it changes nothing that a model says."""
    model = VariationalAutoencoder(beta=2.0, max_iter=5, random_state=0).fit(X)
    before = answers(model, X), model.score(X)
    model.set_params(beta=later)
    after = answers(model, X), model.score(X)
    assert before[1] == after[1]
    for name, value in before[0].items():
        np.testing.assert_array_equal(value, after[0][name])
    # In training it does count.
    assert not np.array_equal(model.fit(X).transform(X), before[0]["transform"])


@every_estimator
def test_parameters_are_for_the_next_fit(estimator, X):
    """Whatever they are set to, a fitted model says what it said."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    expected, score = answers(model, X), model.score(X)
    for name in model.get_params(deep=False):
        other = copy.deepcopy(model).set_params(**{name: "nonsense"})
        assert other.score(X) == score, name
        for method, value in answers(other, X).items():
            np.testing.assert_array_equal(value, expected[method], err_msg=name)


# Randomness, and the rest of the process


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_same_random_state_same_fit(estimator, early_stopping, X):
    """To the bit, for an int and for instances in the same state."""

    def fit(random_state):
        return estimator(
            max_iter=5,
            batch_size=32,
            early_stopping=early_stopping,
            random_state=random_state,
        ).fit(X)

    fits = [fit(0), fit(0), fit(np.random.RandomState(0)), fit(np.random.RandomState(0))]
    for other in fits[1:]:
        assert weights(fits[0]) == weights(other)
        assert fits[0].loss_curve_ == other.loss_curve_
        assert_same_answers(fits[0], other, X)
    state = np.random.RandomState(0)
    for other in (fit(1), fit(None), (fit(state), fit(state))[1]):
        assert fits[0].loss_curve_ != other.loss_curve_
    again = fits[0]
    before = weights(again)
    assert weights(again.fit(X)) == before


@every_estimator
def test_order_of_rows(estimator, X):
    """With `shuffle=True` it does not matter at all; without, rows come as they stand."""
    order = np.random.default_rng(0).permutation(len(X))
    for shuffle in (True, False):
        model = estimator(max_iter=5, batch_size=16, shuffle=shuffle, random_state=0)
        same = weights(clone(model).fit(X)) == weights(clone(model).fit(X[order]))
        assert same == shuffle
        # Nor does the order in memory.
        assert weights(clone(model).fit(X)) == weights(
            clone(model).fit(np.asfortranarray(X))
        )


class Looking(Callback):
    """A callback that looks at the arithmetic of the process, and may end the fit."""

    def __init__(self, error=None):
        self.error, self.seen = error, []

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch":
            flushed = not (torch.tensor(1e-40, dtype=torch.float32) * 1).item()
            products = torch.backends.cuda.matmul.fp32_precision
            self.seen.append((torch.get_num_threads(), flushed, products))
            if self.error is not None:
                raise self.error


@every_estimator
@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize("flush_denormal", [False, True])
def test_nothing_global_is_touched(estimator, random_state, flush_denormal, X):
    """Neither by a fit, which wants other settings, nor by anything after it."""
    looking = Looking()
    model = estimator(
        max_iter=3, random_state=random_state, early_stopping=True, precision="tf32"
    ).set_callbacks(looking)
    with unusual_settings(flush_denormal):
        with nothing_global_changes():
            model.fit(X)
        assert looking.seen == 3 * [(1, True, "tf32")]
        with nothing_global_changes():
            answers(model, X)
            model.score(X)
            if estimator is VariationalAutoencoder:
                model.sample(3)
        with nothing_global_changes():
            copy.deepcopy(pickle.loads(pickle.dumps(model)))


@every_estimator
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_fit_that_fails_touches_nothing_global(estimator, error, X):
    """Whatever ends it, and wherever."""
    model = estimator(max_iter=3, random_state=0, precision="tf32")
    ended = pytest.raises(error)
    if error is KeyboardInterrupt:
        ended = pytest.warns(UserWarning, match="interrupted")
    looking = Looking(error)
    with unusual_settings():
        with nothing_global_changes(), ended:
            clone(model).set_callbacks(looking).fit(X)
        assert looking.seen == [(1, True, "tf32")]
        with nothing_global_changes(), pytest.raises(ValueError, match="NaN"):
            model.fit(np.where(X > 1, np.nan, X))
        with nothing_global_changes(), pytest.raises(RuntimeError, match="in a layer"):
            clone(model).set_params(network=Failing()).fit(X)


class Failing(MLP):
    """A network that cannot be used, when it is first called."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)

        def fail(module, inputs):
            raise RuntimeError("in a layer")

        network.register_forward_pre_hook(fail)
        return network


@every_estimator
def test_nothing_global_is_read(estimator, X):
    """Seeding the process does not seed a fit with `random_state=None`."""

    def fit():
        np.random.seed(0)  # noqa: NPY002  (what must not be read)
        torch.manual_seed(0)
        random.seed(0)
        return estimator(max_iter=3, random_state=None).fit(X)

    assert fit().loss_curve_ != fit().loss_curve_


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@every_estimator
@pytest.mark.parametrize(
    "setting",
    [torch.no_grad, torch.inference_mode, lambda: default_dtype(torch.float64)],
    ids=["no_grad", "inference_mode", "default dtype float64"],
)
def test_torch_settings_of_the_caller_do_not_matter(estimator, setting, X):
    """A fit is the same wherever in the user's torch code it stands."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    with setting():
        other = estimator(max_iter=3, random_state=0).fit(X)
        assert_same_answers(model, other, X)
    assert weights(model) == weights(other)
    assert_same_answers(model, other, X)


# Copies, files and displays


@pytest.fixture(params=[*ESTIMATORS, "network", "predicted", "likelihood"])
def fitted(request, X):
    """A fitted model of each class, and some with objects for parameters."""
    if request.param == "network":
        model = VariationalAutoencoder(network=MLP((5, 4), activation="tanh"))
    elif request.param == "predicted":
        model = GaussianAutoencoder(variance_mode="predicted", covariance_type="diag")
    elif request.param == "likelihood":
        model = VariationalAutoencoder(likelihood="logistic", variance_mode="learned")
    else:
        model = request.param()
    return model.set_params(max_iter=3, random_state=0).fit(X)


def through_joblib(model, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


def through_a_memory_map(model, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib", mmap_mode="r")


@pytest.mark.parametrize(
    "duplicate",
    [
        lambda model, _: pickle.loads(pickle.dumps(model)),
        lambda model, _: pickle.loads(pickle.dumps(model, protocol=2)),
        lambda model, _: copy.copy(model),
        lambda model, _: copy.deepcopy(model),
        through_joblib,
        through_a_memory_map,
    ],
    ids=["pickle", "pickle 2", "copy", "deepcopy", "joblib", "joblib mmap"],
)
def test_duplicates(fitted, duplicate, X, tmp_path):
    """They say the same, and go their own way when refitted."""
    expected = answers(fitted, X)
    other = duplicate(fitted, tmp_path)
    assert_same_answers(fitted, other, X)
    assert weights(fitted) == weights(other)
    assert other.get_params().keys() == fitted.get_params().keys()
    assert other.history_.keys() == fitted.history_.keys()
    assert other.n_iter_ == 3
    assert other.scale_ is fitted.scale_ or np.array_equal(other.scale_, fitted.scale_)
    assert not any(p.requires_grad for p in other.module_.parameters())
    other.set_params(random_state=1, warm_start=True).fit(X[:50])
    assert not np.array_equal(other.transform(X), expected["transform"])
    for name, value in answers(fitted, X).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def walk(value, path="state"):
    """All objects inside a state, with the way to each."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple, set)):
        for i, inner in enumerate(value):
            yield from walk(inner, f"{path}[{i}]")
    elif hasattr(value, "__getstate__") and not isinstance(value, (np.ndarray, type)):
        inner = value.__getstate__() if type(value).__module__.startswith("skae") else None
        if inner:
            yield from walk(inner, f"{path}.{type(value).__name__}")


def test_state_is_numpy(fitted):
    """No torch object in a pickle: nothing of a device, nor of torch's own format."""
    arrays = 0
    for path, value in walk(fitted.__getstate__()):
        assert not type(value).__module__.startswith("torch"), path
        arrays += isinstance(value, np.ndarray)
    # The walk went as far as the weights: as many arrays at least as the module has.
    assert arrays >= len(fitted.module_.state_dict())
    assert b"torch" not in pickle.dumps(fitted)


def test_state_of_a_gpu_loads_without_one(fitted, X, monkeypatch):
    """It comes to the CPU, and says the same."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state = fitted.__getstate__()
    state["device_"] = "cuda:0"
    state["device"] = "cuda"
    loaded = type(fitted).__new__(type(fitted))
    loaded.__setstate__(state)
    assert loaded.device_ == "cpu"
    assert {t.device.type for t in loaded.module_.state_dict().values()} == {"cpu"}
    assert_same_answers(fitted, loaded, X)


def test_clone_forgets_the_fit(fitted):
    """Parameters go along, by value; what was fitted does not."""
    fresh = clone(fitted)
    assert repr(fresh) == repr(fitted)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    assert not hasattr(fresh, "module_")
    if not isinstance(fitted.network, str):
        assert fresh.network is not fitted.network


def test_fit_leaves_the_network_parameter_alone(X):
    """The recipe that the user gives stays as it is; a fit works on a copy."""
    network = MLP((5,))
    model = VariationalAutoencoder(network=network, max_iter=2, random_state=0).fit(X)
    assert model.network is network
    assert vars(network) == {"hidden_layer_sizes": (5,), "activation": "relu"}
    before = answers(model, X)
    network.set_params(hidden_layer_sizes=(7,))
    pickle.loads(pickle.dumps(model))
    for name, value in answers(pickle.loads(pickle.dumps(model)), X).items():
        np.testing.assert_array_equal(value, before[name])


def test_displays(fitted, X):
    """As text and as HTML, before and after a fit, alone and in a Pipeline."""
    fresh = clone(fitted)
    assert repr(fresh).startswith(f"{type(fitted).__name__}(")
    assert "max_iter=3" in repr(fresh)
    assert "Not fitted" in fresh._repr_html_()
    html = fitted._repr_html_()
    assert type(fitted).__name__ in html
    assert "Not fitted" not in html
    assert type(fitted).__name__ in make_pipeline(StandardScaler(), fitted)._repr_html_()


@every_estimator
def test_tags(estimator):
    """Dense 2-D data without NaN; a transformer without a target."""
    tags = get_tags(estimator())
    assert tags.estimator_type is None
    assert not tags.target_tags.required
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]


@every_estimator
def test_documented_defaults_are_the_real_ones(estimator):
    """What the docstring calls the default of a parameter is its default."""
    section = estimator.__doc__.split("Attributes\n")[0]
    # A parameter's line may go on after a backslash.
    section = section.replace("\\\n", " ")
    documented = dict(
        re.findall(r"^    (\w+) : .*default=(.*?)\s*$", section, re.MULTILINE)
    )
    real = inspect.signature(estimator).parameters
    assert list(documented) == list(real)
    for name, parameter in real.items():
        value = eval(documented[name])
        assert value == parameter.default, name
        assert type(value) is type(parameter.default), name


@every_estimator
def test_documented_attributes_are_the_real_ones(estimator, X):
    """All of them are there after a fit on a frame, and there is no other."""
    section = re.split(r"\n +(?:See Also|References|Examples)\n", estimator.__doc__)[0]
    section = section.split("Attributes\n")[1]
    documented = set(re.findall(r"^    (\w+_) : ", section, re.MULTILINE))
    model = estimator(max_iter=1).fit(pd.DataFrame(X, columns=list("abcdef")))
    real = {n for n in vars(model) if n.endswith("_") and not n.startswith("_")}
    assert documented == real


@every_estimator
def test_data_frames_out(estimator, X):
    """`set_output` names the components and keeps the index."""
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(120) * 3)
    model = estimator(3, max_iter=2, random_state=0)
    plain = clone(model).fit(frame).transform(frame)
    names = [f"{estimator.__name__.lower()}{i}" for i in range(3)]
    out = model.set_output(transform="pandas").fit(frame).transform(frame)
    assert isinstance(out, pd.DataFrame)
    assert out.columns.tolist() == names
    assert out.index.equals(frame.index)
    np.testing.assert_array_equal(out.to_numpy(), plain)
    assert isinstance(model.inverse_transform(out.to_numpy()), np.ndarray)
    out = model.set_output(transform="polars").fit_transform(frame)
    assert isinstance(out, pl.DataFrame)
    assert out.columns == names
    np.testing.assert_array_equal(out.to_numpy(), plain)
    frame = pl.DataFrame(X, schema=list("abcdef"))
    np.testing.assert_array_equal(model.fit(frame).transform(frame).to_numpy(), plain)
    assert model.feature_names_in_.tolist() == list("abcdef")


def test_verbose_prints_each_epoch(X, capsys):
    """A line with the objective of each epoch, and nothing without it."""
    model = VariationalAutoencoder(max_iter=3, verbose=True, random_state=0).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, loss in zip(lines, model.loss_curve_, strict=True):
        assert float(line.split("loss = ")[1]) == pytest.approx(loss, abs=1e-6)
    model.set_params(verbose=False).fit(X)
    assert capsys.readouterr().out == ""


# Metadata routing


def test_weights_and_validation_data_through_a_pipeline(X):
    """Both arrive; the validation data scaled by the steps before."""
    weight = np.random.default_rng(0).integers(1, 4, 90)
    X_fit, X_val = X[:90], X[90:]
    vae = VariationalAutoencoder(max_iter=30, early_stopping=True, random_state=0)
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler().set_fit_request(sample_weight=False)),
                ("vae", clone(vae).set_fit_request(sample_weight=True, X_val=True)),
            ],
            transform_input=["X_val"],
        ).fit(X_fit, sample_weight=weight, X_val=X_val)
    scaler = StandardScaler().fit(X_fit)
    by_hand = clone(vae).fit(
        scaler.transform(X_fit), sample_weight=weight, X_val=scaler.transform(X_val)
    )
    assert weights(pipeline["vae"]) == weights(by_hand)
    np.testing.assert_array_equal(
        pipeline["vae"].history_["validation_score"], by_hand.history_["validation_score"]
    )
    unweighted = clone(vae).fit(scaler.transform(X_fit), X_val=scaler.transform(X_val))
    assert weights(unweighted) != weights(by_hand)
    np.testing.assert_allclose(
        pipeline.inverse_transform(pipeline.transform(X_val)),
        scaler.inverse_transform(by_hand.reconstruct(scaler.transform(X_val))),
    )


def test_weights_through_a_grid_search(X):
    """Each fold is fitted and scored with its own weights."""
    weight = np.random.default_rng(0).integers(1, 4, 120).astype(float)
    folds = KFold(2, shuffle=True, random_state=0)
    vae = VariationalAutoencoder(max_iter=3, random_state=0)
    with config_context(enable_metadata_routing=True):
        asking = clone(vae).set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        search = GridSearchCV(asking, {"beta": [1.0, 5.0]}, cv=folds)
        search.fit(X, sample_weight=weight)
    for i, beta in enumerate([1.0, 5.0]):
        for j, (fit, test) in enumerate(folds.split(X)):
            model = clone(vae).set_params(beta=beta)
            model.fit(X[fit], sample_weight=weight[fit])
            expected = np.average(model.score_samples(X[test]), weights=weight[test])
            found = search.cv_results_[f"split{j}_test_score"][i]
            assert found == pytest.approx(expected, rel=1e-12)


# Callbacks


@every_estimator
def test_callback_sees_every_epoch(estimator, X):
    """Begin and end of each, in order, with a model that scores and stays as it is.

    (The model that a fit returns need not be the last: it may be the start.)
    """
    seen = Recording()
    model = estimator(max_iter=5, learning_rate_init=0.01, random_state=0)
    weight = np.linspace(1, 2, 120)
    model.set_callbacks(seen).fit(X, sample_weight=weight)
    assert (seen.n_setups, seen.n_teardowns) == (1, 1)
    assert seen.begun == [0, 1, 2, 3, 4]
    assert seen.tasks == [("epoch", i) for i in range(5)] + [("fit", 0)]
    for metadata in seen.metadata:
        np.testing.assert_array_equal(metadata["sample_weight"], weight)
    # Each snapshot is its own model, and the last one is what the fit returns.
    codes = [snapshot.transform(X) for snapshot in seen.fitted]
    assert all(np.isfinite(snapshot.score(X)) for snapshot in seen.fitted)
    for one, other in pairwise(codes[:5]):
        assert not np.array_equal(one, other)
    assert_same_answers(seen.fitted[5], model, X)
    # More training leaves them alone, and they go into pickles like any model.
    before = [answers(snapshot, X) for snapshot in seen.fitted[:5]]
    model.set_callbacks().set_params(warm_start=True).fit(X)
    for snapshot, said in zip(seen.fitted, before, strict=False):
        for name, value in answers(snapshot, X).items():
            np.testing.assert_array_equal(value, said[name])
    snapshot = seen.fitted[1].set_callbacks()
    assert_same_answers(pickle.loads(pickle.dumps(snapshot)), snapshot, X)


def test_snapshot_is_that_of_a_fit_that_stopped_there(X):
    """Stopped after two epochs, a fit is what the callback saw after two epochs."""
    seen = Recording()
    parameters = {"max_iter": 5, "learning_rate_init": 0.01, "random_state": 0}
    GaussianAutoencoder(**parameters).set_callbacks(seen).fit(X)
    stopped = GaussianAutoencoder(**parameters)
    stopped.set_callbacks(Recording(stop_after=2)).fit(X)
    np.testing.assert_array_equal(seen.fitted[1].transform(X), stopped.transform(X))
    # Its scale is the running one, so that it scores nearly as the finished model does.
    assert seen.fitted[1].score(X) == pytest.approx(stopped.score(X), abs=0.2)


@every_estimator
def test_callback_stops(estimator, X):
    """After three epochs of many, with everything of that length."""
    model = estimator(max_iter=50, random_state=0)
    model.set_callbacks(Recording(stop_after=3)).fit(X, X_val=X)
    assert model.n_iter_ == 3
    assert len(model.loss_curve_) == 3
    assert {len(values) for values in model.history_.values()} == {3}
    assert_finite(model, X)


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupt_leaves_a_model(estimator, early_stopping, X):
    """Ctrl-C amid an epoch: a warning, and the model of the last whole epoch."""
    parameters = {"max_iter": 9, "random_state": 0, "early_stopping": early_stopping}
    interrupt = Recording(raise_at_begin=(4, KeyboardInterrupt()))
    model = estimator(**parameters).set_callbacks(interrupt)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X)
    stopped = estimator(**parameters).set_callbacks(Recording(stop_after=3)).fit(X)
    assert weights(model) == weights(stopped)
    assert model.n_iter_ == 3
    assert_finite(model, X)
    assert interrupt.n_teardowns == 1


@every_estimator
@pytest.mark.parametrize("where", ["raise_at_begin", "raise_at_end"])
def test_interrupt_in_the_first_epoch(estimator, where, X):
    """Even then there is a model: PCA, as good as scikit-learn's."""
    model = estimator(max_iter=9, random_state=0, hidden_layer_sizes=())
    model.set_callbacks(Recording(**{where: (1, KeyboardInterrupt())}))
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X)
    assert model.n_iter_ == len(model.loss_curve_) == (where == "raise_at_end")
    assert {len(values) for values in model.history_.values()} == {model.n_iter_}
    assert_finite(model, X)
    if estimator is VariationalAutoencoder:
        assert model.score(X) > PCA(2).fit(X).score(X) - 0.05


def test_interrupted_continuation_keeps_its_history(X):
    """A warm start that is interrupted at once adds nothing and loses nothing."""
    model = VariationalAutoencoder(max_iter=3, warm_start=True, random_state=0).fit(X)
    before = {name: values.copy() for name, values in model.history_.items()}
    model.set_callbacks(Recording(raise_at_begin=(1, KeyboardInterrupt())))
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X)
    assert model.history_.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(model.history_[name], values)


@every_estimator
def test_error_in_a_callback_gets_out(estimator, X):
    """A first fit leaves nothing, a second one leaves the first."""
    broken = Recording(raise_at_end=(2, ZeroDivisionError("of the callback")))
    model = estimator(max_iter=5, random_state=0).set_callbacks(broken)
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        model.fit(X)
    assert broken.n_teardowns == 1
    assert not hasattr(model, "module_")
    model.set_callbacks().fit(X)
    said = answers(model, X)
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        model.set_callbacks(broken).fit(X[:40])
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, said[name])


@every_estimator
def test_progress_bar(estimator, X, capsys, monkeypatch):
    """scikit-learn's own, alone, under a Pipeline and under a search; each bar is full."""
    monkeypatch.setenv("COLUMNS", "200")
    model = estimator(max_iter=4, random_state=0)
    plain = weights(clone(model).fit(X))

    def shown():
        out = capsys.readouterr().out
        assert "100%" in out
        assert not re.search(r"\b\d{1,2}%", out)
        return out

    bar = ProgressBar(max_propagation_depth=None)
    assert weights(clone(model).set_callbacks(bar).fit(X)) == plain
    assert f"{estimator.__name__} - fit" in shown()

    pipeline = make_pipeline(StandardScaler(), clone(model)).set_callbacks(bar).fit(X)
    assert re.search(rf"Pipeline .*\| {estimator.__name__} - fit", shown())
    assert pipeline[-1].n_iter_ == 4

    search = GridSearchCV(clone(model), {"n_components": [1, 2]}, cv=2)
    search.set_callbacks(bar).fit(X)
    assert len(re.findall(rf"\| {estimator.__name__} - fit", shown())) >= 5


# Validation, stopping and warm starts


@pytest.fixture
def noisy():
    """A few rows of many noisy columns, which a large network soon learns by heart."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(140, 2)) @ rng.normal(size=(2, 15)) + rng.normal(size=(140, 15))
    return X[:40], X[40:]


OVERFIT = {
    "n_components": 4,
    "hidden_layer_sizes": (128,),
    "learning_rate_init": 0.02,
    "max_iter": 60,
    "random_state": 0,
}


@every_estimator
def test_early_stopping_restores_the_best(estimator, noisy):
    """What is returned scores as the best epoch did, where the last did much worse."""
    X, X_val = noisy
    recorded = estimator(**OVERFIT).fit(X, X_val=X_val).history_["validation_score"]
    assert recorded[-1] < recorded.max() - 1  # else this test shows nothing
    model = estimator(early_stopping=True, n_iter_no_change=5, **OVERFIT)
    model.fit(X, X_val=X_val)
    validation = model.history_["validation_score"]
    assert model.n_iter_ < 60
    assert model.score(X_val) >= validation.max() - 0.5
    # It can be no worse than its own first epochs, which were the same.
    assert validation[0] == recorded[0]


@every_estimator
def test_early_stopping_sets_rows_aside(estimator, X):
    """`ceil(validation_fraction * n)` of them; they are not trained on."""
    model = estimator(early_stopping=True, max_iter=3, random_state=0).fit(X)
    assert model.history_["validation_score"].shape == (3,)
    everything = estimator(max_iter=3, random_state=0).fit(X)
    assert "validation_score" not in everything.history_
    assert weights(everything) != weights(model)
    # Which rows, the random state decides.
    other = estimator(early_stopping=True, max_iter=3, random_state=1).fit(X)
    first = model.history_["validation_score"][0]
    assert other.history_["validation_score"][0] != pytest.approx(first, rel=1e-3)


def test_rows_set_aside_are_not_seen_at_all(X):
    """The mean of a feature is that of the training rows alone."""
    X = X.copy()
    model = GaussianAutoencoder(
        early_stopping=True, validation_fraction=0.25, max_iter=1, random_state=0
    ).fit(X)
    location = model.inverse_transform(np.zeros((1, 2)))
    moved = []
    for i in range(0, 120, 6):
        other = X.copy()
        other[i] += 1e-3
        refit = clone(model).fit(other)
        moved.append(
            not np.array_equal(refit.inverse_transform(np.zeros((1, 2))), location)
        )
    # Of 20 rows, some were set aside and some were not.
    assert 0 < sum(moved) < 20


@every_estimator
def test_validation_data_without_early_stopping_are_recorded(estimator, X):
    """They are scored, and change nothing."""
    X_fit, X_val = X[:80], X[80:]
    model = estimator(max_iter=6, random_state=0).fit(X_fit, X_val=X_val)
    plain = estimator(max_iter=6, random_state=0).fit(X_fit)
    assert weights(model) == weights(plain)
    assert model.loss_curve_ == plain.loss_curve_
    assert model.history_["validation_score"].shape == (6,)
    assert "validation_score" not in plain.history_


@every_estimator
def test_recorded_validation_score_is_the_score(estimator, X):
    """The last one is that of the model that the fit returns."""
    X_fit, X_val = X[:80], X[80:]
    model = estimator(variance_mode="learned", max_iter=20, random_state=0)
    model.fit(X_fit, X_val=X_val)
    # That of the variational one averages over fewer draws.
    tolerance = 0.02 if estimator is VariationalAutoencoder else 1e-3
    recorded = model.history_["validation_score"]
    assert model.score(X_val) == pytest.approx(recorded[-1], abs=tolerance)
    assert abs(recorded[0] - recorded[-1]) > 5 * tolerance
    # A scale in closed form is a running mean until the fit ends.
    model.set_params(variance_mode="optimal").fit(X_fit, X_val=X_val)
    recorded = model.history_["validation_score"]
    assert model.score(X_val) == pytest.approx(recorded[-1], abs=0.5)


@every_estimator
def test_plateau_ends_training(estimator, X):
    """`n_iter_no_change` epochs without `tol`, then as many to cool down."""
    parameters = {"max_iter": 60, "random_state": 0, "n_iter_no_change": 4}
    # No epoch can be better than the first by a thousand nats.
    assert estimator(tol=1e3, **parameters).fit(X).n_iter_ == 1 + 4 + 4
    steady = estimator(tol=0.0, max_iter=60, n_iter_no_change=60, random_state=0).fit(X)
    assert steady.n_iter_ == 60


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, VariationalAutoencoder])
def test_noise_is_no_plateau(estimator):
    """The objective of an epoch is noisy; that alone must not end a training early."""
    X = load_breast_cancer().data[::2]
    lost = []
    for seed in range(3):
        model = estimator(max_iter=100, random_state=seed).fit(X)
        to_the_end = clone(model).set_params(n_iter_no_change=100).fit(X)
        assert to_the_end.n_iter_ == 100
        lost.append(to_the_end.score(X) - model.score(X))
    assert np.mean(lost) < 0.5


def test_cooling_down_ends_with_small_steps(X):
    """The rate falls to 0 in the epochs after a plateau, so the last moves little."""
    seen = Recording()
    model = VariationalAutoencoder(
        max_iter=100, n_iter_no_change=5, tol=1e3, learning_rate_init=0.01, random_state=0
    )
    model.set_callbacks(seen).fit(X)
    assert model.n_iter_ == 11
    codes = [snapshot.transform(X) for snapshot in seen.fitted[:-1]]
    steps = [np.abs(b - a).max() for a, b in pairwise(codes)]
    assert steps[-1] < 0.5 * np.mean(steps[:5])


@every_estimator
def test_warm_start_continues(estimator, X):
    """Training goes on from where it was, and the history with it."""
    model = estimator(max_iter=4, warm_start=True, random_state=0).fit(X)
    assert model.n_iter_ == 4  # without an earlier fit it is a fit like any other
    assert weights(model) == weights(estimator(max_iter=4, random_state=0).fit(X))
    first, codes = list(model.loss_curve_), model.transform(X)
    # With a step of next to nothing, only the start can be seen.
    model.set_params(max_iter=3, learning_rate_init=1e-12).fit(X)
    np.testing.assert_allclose(model.transform(X), codes, rtol=1e-5, atol=1e-6)
    assert model.n_iter_ == 7
    assert model.loss_curve_[:4] == first
    assert len(model.loss_curve_) == 7
    assert {len(values) for values in model.history_.values()} == {7}
    model.set_params(warm_start=False).fit(X)
    assert model.n_iter_ == 3


@every_estimator
def test_warm_start_gets_better(estimator, X):
    """Two rounds of training beat one."""
    model = estimator(max_iter=20, warm_start=True, random_state=0).fit(X)
    once = model.score(X)
    assert model.fit(X).score(X) > once + 0.01


@every_estimator
@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({"n_components": 3}, 6, "warm_start=True continues from the last fit"),
        ({"hidden_layer_sizes": (7,)}, 6, "warm_start=True continues from the last fit"),
        ({"variance_mode": "learned"}, 6, "warm_start=True continues from the last fit"),
        ({"covariance_type": "diag"}, 6, "warm_start=True continues from the last fit"),
        ({}, 5, "X has 5 features, but .* is expecting 6 features"),
    ],
    ids=["n_components", "network", "variance_mode", "covariance_type", "width of X"],
)
def test_warm_start_must_fit_the_last_fit(estimator, change, columns, message, X):
    """A mismatch says so, and the last fit stays usable."""
    model = estimator(max_iter=3, warm_start=True, random_state=0).fit(X)
    said = answers(model, X)
    with pytest.raises(ValueError, match=message):
        model.set_params(**change).fit(X[:, :columns])
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, said[name], err_msg=name)
    assert model.n_iter_ == 3
    model.set_params(warm_start=False).fit(X[:, :columns])
    assert model.n_features_in_ == columns


@every_estimator
@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({"n_components": -1}, np.ones((30, 6))),
        ({"early_stopping": True, "validation_fraction": 0.99}, np.ones((30, 8))),
        ({"variance_mode": "fixed", "scale": -np.ones(8)}, np.eye(8)),
        ({"hidden_layer_sizes": (0,)}, np.eye(8)),
        ({}, np.full((30, 8), np.nan)),
    ],
    ids=["parameter", "too few rows", "scale", "network", "data"],
)
def test_refused_refit_leaves_the_fit(estimator, change, data, X):
    """Nothing of a fit is touched before the next one has succeeded."""
    model = estimator(max_iter=3, random_state=0).fit(X)
    said = answers(model, X)
    with pytest.raises(ValueError):  # noqa: PT011  (the messages have a test of their own)
        model.set_params(**change).fit(data)
    assert (model.n_features_in_, model.n_components_) == (6, 2)
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, said[name], err_msg=name)


# Parameters of the training


@every_estimator
def test_batch_sizes(estimator, X):
    """Any int; larger than the data is all of the data; "auto" is what it says."""

    def fit(batch_size, n=120, max_iter=2):
        model = estimator(batch_size=batch_size, max_iter=max_iter, random_state=0)
        return model.fit(np.resize(X, (n, 6)) + np.arange(n)[:, None] * 0.01)

    for batch_size in (1, 7, 119, 120):
        model = fit(batch_size)
        assert model.n_iter_ == 2
        assert_finite(model, X)
    assert fit(120).loss_curve_ == fit(10_000).loss_curve_ != fit(60).loss_curve_
    # A sixteenth of the rows as a power of 2, but between 32 and 512.
    for n, automatic in ((120, 32), (2000, 128)):
        losses = fit(automatic, n, max_iter=1).loss_curve_
        assert fit("auto", n, max_iter=1).loss_curve_ == losses
        assert fit(2 * automatic, n, max_iter=1).loss_curve_ != losses


@every_estimator
@pytest.mark.parametrize("batch_size", [8, 40])
def test_rows_beyond_whole_batches(estimator, batch_size, X):
    """One row more than whole batches: it counts, and no batch is a lonely row."""
    for n in (batch_size * 2 + 1, batch_size + 1, batch_size):
        model = estimator(batch_size=batch_size, max_iter=3, random_state=0).fit(X[:n])
        assert_finite(model, X)
        less = clone(model).fit(X[: n - 1])
        assert less.loss_curve_ != model.loss_curve_


@every_estimator
def test_one_epoch(estimator, X):
    """`max_iter=1` is a fit, and no worse than where it began."""
    model = estimator(max_iter=1, random_state=0).fit(X)
    assert model.n_iter_ == 1
    assert_finite(model, X)


@every_estimator
def test_precision(estimator, X):
    """Trained in float64 where asked to, with the same result but for rounding."""
    single = estimator(max_iter=3, random_state=0).fit(X)
    double = estimator(max_iter=3, random_state=0, precision="float64").fit(X)
    dtypes = [{t.dtype for t in m.module_.state_dict().values()} for m in (single, double)]
    assert dtypes == [{torch.float32}, {torch.float64}]
    explicit = estimator(max_iter=3, random_state=0, precision="float32").fit(X)
    assert weights(explicit) == weights(single)
    if estimator is not VariationalAutoencoder:  # which draws its noise in that precision
        assert double.score(X) == pytest.approx(single.score(X), rel=1e-3)
    assert double.transform(X.astype(np.float32)).dtype == np.float32


@every_estimator
def test_lower_precision(estimator, X):
    """A training that is a little less exact, of parameters that are float32."""
    exact = estimator(max_iter=10, random_state=0, precision="float32").fit(X)
    with nothing_global_changes():
        low = estimator(max_iter=10, random_state=0, precision="bf16").fit(X)
        tf32 = estimator(max_iter=10, random_state=0, precision="tf32").fit(X)
    for model in (low, tf32):
        assert {t.dtype for t in model.module_.state_dict().values()} == {torch.float32}
        assert model.score(X) == pytest.approx(exact.score(X), abs=0.5)
    assert weights(low) != weights(exact)
    # On a CPU there is no TF32.
    if exact.device_ == "cpu":
        assert weights(tf32) == weights(exact)


def test_penalty_pulls_to_the_linear_model(X):
    """With a huge `alpha` the networks vanish, and PCA is left."""
    parameters = {"max_iter": 150, "n_iter_no_change": 150, "learning_rate_init": 0.01}
    parameters["random_state"] = 0
    free, light, heavy, linear = (
        GaussianAutoencoder(2, alpha=alpha, **parameters).fit(X)
        for alpha in (0, 1, 10, 1e7)
    )

    def size(model):
        networks = (model.module_.encoder, model.module_.decoder)
        matrices = [p for net in networks for p in net.parameters() if p.ndim > 1]
        return sum(float(matrix.square().sum()) for matrix in matrices)

    assert size(free) > 1.5 * size(light) > 1.5**2 * size(heavy)
    assert free.score(X) > light.score(X) > heavy.score(X) > linear.score(X)
    pca = PCA(2).fit(X)
    error = X - pca.inverse_transform(pca.transform(X))
    expected = -3 * (np.log(2 * np.pi * (error**2).mean()) + 1)
    assert linear.score(X) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_linear_schedule(beta, X):
    """From 0 to the whole beta over the first quarter of the steps."""
    model = VariationalAutoencoder(
        beta=beta, kl_schedule="linear", max_iter=12, random_state=0
    ).fit(X)
    expected = beta * np.minimum(np.arange(1, 13) / 3, 1)
    np.testing.assert_allclose(model.history_["beta"], expected, rtol=1e-12)
    short = VariationalAutoencoder(
        beta=beta, kl_schedule="linear", max_iter=1, random_state=0
    ).fit(X)
    assert short.history_["beta"][-1] == beta


def test_schedule_outlasts_no_plateau(X):
    """While beta grows, a rising objective is no reason to stop."""
    model = VariationalAutoencoder(
        kl_schedule="linear", max_iter=80, n_iter_no_change=3, tol=1e3, random_state=0
    ).fit(X)
    # 20 epochs of warm-up, whose last has the whole beta; then a plateau and its end.
    assert model.n_iter_ == 20 + 3 + 3
    assert model.history_["beta"][-1] == 1.0


@pytest.mark.parametrize(
    "schedule", [*KL_SCHEDULES, CyclicalSchedule(3, rise=0.9), lambda p: 0.5 + p / 2]
)
@pytest.mark.parametrize("max_iter", [1, 2, 13])
def test_schedules_end_at_beta(schedule, max_iter, X):
    model = VariationalAutoencoder(
        beta=2.5, kl_schedule=schedule, max_iter=max_iter, n_iter_no_change=99
    ).fit(X)
    assert model.n_iter_ == max_iter
    assert model.history_["beta"][-1] == 2.5


def test_a_schedule_by_name_and_by_object(X):
    common = {"max_iter": 8, "random_state": 0}
    names = {"cyclical": CyclicalSchedule(4, rise=0.5), "linear": LinearSchedule(0.25)}
    found = set()
    for name, schedule in names.items():
        by_name = VariationalAutoencoder(kl_schedule=name, **common).fit(X)
        by_object = VariationalAutoencoder(kl_schedule=schedule, **common).fit(X)
        assert weights(by_name) == weights(by_object)
        found.add(by_name.score(X))
    assert len(found) == 2


def test_no_plateau_between_cycles(X):
    """The weight is at its end in each cycle; only in the last one it stays there."""
    model = VariationalAutoencoder(
        kl_schedule="cyclical", max_iter=80, n_iter_no_change=3, tol=1e3, random_state=0
    ).fit(X)
    # Epoch 70 is the first that ends at the last top.
    assert model.n_iter_ == 70 + 3 + 3
    assert model.history_["beta"][-1] == 1.0


def test_score_does_not_depend_on_the_schedule(X):
    model = VariationalAutoencoder(max_iter=3, random_state=0).fit(X)
    score, bound = model.score(X), model.log_marginal(X)
    for schedule in (*KL_SCHEDULES, lambda p: 1 / 0):
        model.set_params(kl_schedule=schedule)
        assert model.score(X) == score
        np.testing.assert_array_equal(model.log_marginal(X), bound)


def test_schedules_can_be_searched(X):
    """Their parameters too, one by one and side by side; each trains with its own."""
    model = VariationalAutoencoder(
        kl_schedule=LinearSchedule(),
        init="random",
        max_iter=8,
        precision="float64",
        random_state=0,
    )
    grid = [
        {"kl_schedule__share": [0.25, 0.9]},
        {"kl_schedule": ["decreasing", CyclicalSchedule(2)]},
    ]
    single = GridSearchCV(model, grid, cv=2).fit(X)
    batched = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    scores = single.cv_results_["mean_test_score"]
    np.testing.assert_allclose(batched.cv_results_["mean_test_score"], scores, rtol=1e-6)
    assert len(set(scores)) == 4


@every_estimator
def test_random_start(estimator, X):
    """`init="random"` starts elsewhere; with some training both beat PCA's start."""
    pca, elsewhere = (
        estimator(init=init, max_iter=1, learning_rate_init=1e-9, random_state=0).fit(X)
        for init in ("pca", "random")
    )
    assert pca.score(X) > elsewhere.score(X) + 1
    trained = estimator(
        init="random", max_iter=300, learning_rate_init=0.01, random_state=0
    )
    assert trained.fit(X).score(X) > pca.score(X)


@every_estimator
def test_networks_by_name_and_by_object(estimator, X):
    """`network="mlp"` with its two parameters is the MLP with those."""
    by_name = estimator(
        hidden_layer_sizes=[9, 5], activation="tanh", max_iter=3, random_state=0
    ).fit(X)
    by_object = estimator(
        network=MLP((9, 5), activation="tanh"), max_iter=3, random_state=0
    ).fit(X)
    assert weights(by_name) == weights(by_object)
    an_int = estimator(hidden_layer_sizes=9, max_iter=3, random_state=0).fit(X)
    a_tuple = estimator(hidden_layer_sizes=(9,), max_iter=3, random_state=0).fit(X)
    assert weights(an_int) == weights(a_tuple) != weights(by_name)


# Trouble


@ignore_floor
@ignore_divergence
@every_model
@pytest.mark.parametrize("learning_rate_init", [1e10, 1e30, 1e37])
def test_no_nan_leaves_a_fit(
    likelihood, variance_mode, covariance_type, learning_rate_init, X
):
    """Whatever the learning rate, the model is finite, and no worse than its start."""
    parameters = {
        "variance_mode": variance_mode,
        "covariance_type": covariance_type,
        "random_state": 0,
    }
    for model in models_of(likelihood, **parameters):
        start = model.set_params(learning_rate_init=1e-12, max_iter=1).fit(X).score(X)
        model.set_params(learning_rate_init=learning_rate_init)
        for max_iter, batch_size in ((1, 120), (4, "auto")):
            model.set_params(max_iter=max_iter, batch_size=batch_size).fit(X)
            assert_finite(model, X)
            assert model.score(X) >= start - 1e-3 * abs(start)
        model.set_params(early_stopping=True).fit(X)
        assert_finite(model, X)


@ignore_floor
@ignore_divergence
@every_model
@pytest.mark.parametrize("size", [1e-14, 1e-3, 1e14])
def test_scales_of_any_size(likelihood, variance_mode, covariance_type, size, X):
    """One that is given, or the smallest one: also in the precision of float32."""
    for model in models_of(likelihood, max_iter=2, random_state=0, scale=size):
        model.set_params(variance_mode=variance_mode, covariance_type=covariance_type)
        model.set_params(min_scale=1e300 if variance_mode == "fixed" else size).fit(X)
        assert_finite(model, X)
        assert np.isfinite(model.score_samples(X.astype(np.float32))).all()
        if variance_mode == "fixed":
            np.testing.assert_allclose(model.scale_, size, rtol=1e-5)
        elif model.scale_ is not None:
            assert (np.asarray(model.scale_) >= size * (1 - 1e-5)).all()


@every_estimator
def test_divergence_is_told(estimator, X):
    """A warning that names the cure; what came before is kept."""
    model = estimator(learning_rate_init=1e30, max_iter=5, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*Lower learning_rate_init"):
        model.fit(X)
    assert model.n_iter_ < 5
    assert model.n_iter_ == len(model.loss_curve_)
    assert_finite(model, X)
    # A score is that of PCA, from which the fit began.
    if estimator is VariationalAutoencoder:
        assert model.score(X) > PCA(2).fit(X).score(X) - 0.05


class Normalised(MLP):
    """A network that normalises over the batch, and remembers what it saw."""

    def encoder(self, n_features, n_outputs):
        halves = super().encoder(n_features, n_outputs)
        return nn.Sequential(nn.BatchNorm1d(n_features), halves)


@ignore_divergence
@every_estimator
def test_the_start_is_kept_with_its_buffers(estimator, X):
    """What a network remembers of batches does not outlive the training that was worse."""
    model = estimator(network=Normalised(), learning_rate_init=1e3, random_state=0)
    model.set_params(max_iter=2).fit(X)
    normalised = model.module_.encoder[0]
    assert normalised.num_batches_tracked == 0
    assert torch.equal(normalised.running_mean, torch.zeros(X.shape[1]))
    start = model.set_params(learning_rate_init=1e-12).fit(X)
    assert start.module_.encoder[0].num_batches_tracked > 0
    assert_finite(model, X)


@every_estimator
def test_early_stopping_never_returns_less_than_the_start(estimator, X):
    """The start is a candidate too: with steps far too long it is the best there is."""
    model = estimator(
        learning_rate_init=1e3, max_iter=5, early_stopping=True, random_state=0
    ).fit(X[:90], X_val=X[90:])
    start = estimator(learning_rate_init=1e-12, max_iter=1, random_state=0).fit(X[:90])
    assert model.score(X[90:]) >= start.score(X[90:]) - 0.1


# Small and degenerate data


def one_sample(X):
    return X[:1]


def two_samples(X):
    return X[:2]


def one_feature(X):
    return X[:, :1]


def fewer_samples_than_features(X):
    return X[:5]


def constant_columns(X):
    return np.column_stack([X[:, :4], np.full(len(X), 3.0), np.zeros(len(X))])


def all_columns_constant(X):
    return np.tile(X[0], (len(X), 1))


def equal_rows(X):
    return np.repeat(X[:3], 40, axis=0)


def equal_columns(X):
    return np.column_stack([X[:, 0]] * 6)


def whole_numbers(X):
    return np.round(X)


def huge_offset(X):
    return X + 1e9


def many_zeros(X):
    return np.where(np.abs(X) < 4, 0.0, X)


DEGENERATE = [
    one_sample,
    two_samples,
    one_feature,
    fewer_samples_than_features,
    constant_columns,
    all_columns_constant,
    equal_rows,
    equal_columns,
    whole_numbers,
    huge_offset,
    many_zeros,
]


@ignore_floor
@every_model
@pytest.mark.parametrize("data", DEGENERATE, ids=lambda data: data.__name__)
def test_degenerate_data_give_finite_scores(
    data, likelihood, variance_mode, covariance_type, X
):
    """Finite on the data themselves, and on rows that vary where training did not."""
    parameters = {
        "variance_mode": variance_mode,
        "covariance_type": covariance_type,
        "max_iter": 3,
        "random_state": 0,
    }
    train = data(X)
    varied = X[:, : train.shape[1]] + train[:1]
    for model in models_of(likelihood, **parameters):
        for n_components in (2, 8):
            model.set_params(n_components=n_components).fit(train)
            assert_finite(model, train)
            assert_finite(model, varied)
            single = varied.astype(np.float32)
            assert np.isfinite(model.score_samples(single)).all()


FLOOR = "floor min_scale.*Set min_scale to the precision"


@every_estimator
@pytest.mark.parametrize(
    "data", [one_sample, all_columns_constant, two_samples], ids=lambda data: data.__name__
)
def test_floor_warns(estimator, data, X):
    """Where nothing is left over but the floor, a warning says what it is."""
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model = estimator(2, max_iter=3, random_state=0).fit(data(X))
    assert_finite(model, X)


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
@pytest.mark.parametrize("n_components", [6, 9])
def test_floor_warns_of_too_many_components(estimator, n_components, X):
    """A deterministic code as wide as the data leaves no residual."""
    with pytest.warns(ConvergenceWarning, match=r"lower n_components"):
        model = estimator(n_components, max_iter=3, random_state=0).fit(X)
    assert_finite(model, X)


@pytest.mark.parametrize("variance_mode", ["optimal", "learned", "predicted"])
@every_estimator
def test_floor_warning_names_constant_columns(estimator, variance_mode, X):
    """With a scale for each feature, those at the floor and no others."""
    model = estimator(
        variance_mode=variance_mode, covariance_type="diag", max_iter=3, random_state=0
    )
    X = constant_columns(X)
    with pytest.warns(ConvergenceWarning, match=r"2 of 6 features \(columns 4, 5\)"):
        model.fit(X)
    assert_finite(model, X)
    # One scale for all has no such trouble: the other columns keep it up.
    model.set_params(covariance_type="spherical").fit(X)
    assert_finite(model, X)


@pytest.mark.parametrize("variance_mode", ["optimal", "profile", "learned"])
@every_estimator
def test_min_scale_is_the_smallest_scale(estimator, variance_mode, X):
    """In the units of X; reached, it warns."""
    model = estimator(variance_mode=variance_mode, max_iter=3, random_state=0)
    free = clone(model).fit(X).scale_
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model.set_params(min_scale=5 * free).fit(X)
    assert model.scale_ == pytest.approx(5 * free, rel=0.05)
    model.set_params(min_scale=0.1 * free).fit(X)
    assert 0.1 * free < model.scale_ < 1.2 * free


def test_auto_min_scale_is_the_resolution(X):
    """Data rounded to 0.5 and reproduced exactly: a uniform error, 0.5 / sqrt(12)."""
    with pytest.warns(ConvergenceWarning, match=FLOOR):
        model = GaussianAutoencoder(6, max_iter=3, random_state=0).fit(np.round(2 * X) / 2)
    assert model.scale_ == pytest.approx(0.5 / np.sqrt(12), rel=1e-5)


@pytest.mark.parametrize("covariance_type", ["spherical", "diag"])
@every_estimator
def test_far_away_rows_score_finite(estimator, covariance_type, X):
    """A row a million deviations off is unlikely, not impossible; the farther, the less."""
    model = estimator(covariance_type=covariance_type, max_iter=5, random_state=0).fit(X)
    offset = np.linspace(-1, 1, 6) * X.std(axis=0)
    scores = [model.score(X + far * offset) for far in (0, 1e2, 1e4, 1e6)]
    assert np.isfinite(scores).all()
    assert (np.diff(scores) < 0).all()
    assert np.isfinite(model.score_samples((X + 1e4 * offset).astype(np.float32))).all()


def test_a_warning_points_at_the_line_that_called_fit(X):
    with pytest.warns(ConvergenceWarning) as caught:
        GaussianAutoencoder(n_components=X.shape[1], max_iter=2, random_state=0).fit(X)
    assert {w.filename for w in caught} == {__file__}


def test_torchs_new_setting_of_precision_does_not_disturb_a_fit():
    code = (
        "import torch, numpy as np\n"
        "torch.backends.fp32_precision = 'tf32'\n"
        "from skae import GaussianAutoencoder\n"
        "GaussianAutoencoder(max_iter=2).fit(np.random.RandomState(0).randn(40, 3))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
