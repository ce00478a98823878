"""Tests of `partial_fit`: quality, memory, statistics that drift, and mixing with `fit`."""

import copy
import gc
import json
import pickle
import tracemalloc
import warnings
import weakref

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning

import skae
from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._data import rows as rows_module
from skae._fitting import stream as block_training
from skae.likelihoods import MixtureLikelihood
from skae.networks import MLP
from tests.families import combinations_in_turns
from tests.helpers import (
    answers,
    assert_finite,
    assert_plain_state,
    assert_same_answers,
    every_estimator,
    ignore_floor,
    weights,
)

# Seconds count: small networks, few components.
SMALL = {"hidden_layer_sizes": (8,), "batch_size": 32, "random_state": 0}


def curved(n, d=20, seed=0):
    """Draw rows near a curved three-dimensional surface in d dimensions."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    A, B = fixed.normal(size=(6, d)), fixed.normal(size=(3, 6))
    z = rng.normal(size=(n, 3))
    h = np.tanh(1.5 * z @ B) + 0.3 * np.sin(2 * z @ B)
    return h @ A + 0.2 * rng.normal(size=(n, d))


def blocks_of(X, size):
    """Divide rows into blocks."""
    return [X[i : i + size] for i in range(0, len(X), size)]


def streamed(model, blocks):
    """Pass blocks to a model."""
    for block in blocks:
        model.partial_fit(block)
    return model


def state_of(model):
    """Return all that a stream keeps, as bytes."""
    return {name: pickle.dumps(value) for name, value in vars(model).items()}


DATA = {
    "curved": curved(6000),
    "digits": load_digits().data,
    "diabetes": 20 * load_diabetes().data,
}


@pytest.mark.parametrize(
    ("name", "size"),
    [("curved", 100), ("curved", 1000), ("digits", 1000), ("diabetes", 100)],
)
def test_one_pass_reaches_a_fit_of_as_many_steps(name, size):
    """One pass over blocks scores within 0.1 nats of a fit with as many steps."""
    gaps = []
    for seed in (0, 1):
        X = np.random.default_rng(seed).permutation(DATA[name])
        train, test = X[: len(X) * 3 // 4], X[len(X) * 3 // 4 :]
        parameters = {"batch_size": 32, "random_state": seed}
        model = VariationalAutoencoder(3, **parameters)
        streamed(model, blocks_of(train, size))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            whole = VariationalAutoencoder(3, max_iter=1, **parameters).fit(train)
        gaps.append(model.score(test) - whole.score(test))
    assert np.mean(gaps) > -0.1


def test_memory_does_not_grow():
    """The state after 500 blocks is as large as after 150; blocks are not kept."""
    rng = np.random.default_rng(0)
    model = GaussianAutoencoder(1, hidden_layer_sizes=(2,), random_state=0)
    sizes = {}
    for i in range(1, 501):
        block = rng.normal(size=(8, 3))
        model.partial_fit(block)
        if i in (150, 500):
            gc.collect()
            sizes[i] = len(pickle.dumps(model)), len(gc.get_objects())
    reference = weakref.ref(block)
    del block
    assert reference() is None
    assert sizes[500][0] <= sizes[150][0] + 200  # longer numbers in texts
    assert sizes[500][1] <= sizes[150][1] + 100
    assert model.n_iter_ == 500
    assert len(model.loss_curve_) == len(model.history_["objective"]) == 100


def test_memory_of_a_block_is_returned():
    """What a block takes is in proportion to its rows, and is free after the call."""
    X = curved(4000)
    model = GaussianAutoencoder(2, **SMALL).partial_fit(X)
    model.partial_fit(X)
    tracemalloc.start()
    model.partial_fit(X)
    traced = [tracemalloc.get_traced_memory()[0]]
    model.partial_fit(X)
    model.partial_fit(X)
    traced.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert traced[1] < traced[0] + X.nbytes / 20


def test_first_rows_are_kept_until_they_are_enough():
    """Up to 256 rows are copied, and then no more."""
    X = curved(600)
    model = VariationalAutoencoder(3, **SMALL)
    for block in blocks_of(X[:240], 40):
        model.partial_fit(block)
    assert model._stream["arrays"]["first/X"].shape == (240, 20)
    model.partial_fit(X[240:280])
    assert not any(name.startswith("first") for name in model._stream["arrays"])
    # The start is that of a single block of these rows, and so is the one pass.
    other = VariationalAutoencoder(3, **SMALL).partial_fit(X[:280])
    assert weights(model) == weights(other)


def test_rows_that_say_nothing_are_not_kept():
    """The first rows that are kept are those with a weight and an observed entry."""
    X, weight = curved(900, d=3), np.zeros(900)
    weight[:5] = 1.0
    X[2:] = np.nan
    model, twin = GaussianAutoencoder(1, **SMALL), GaussianAutoencoder(1, **SMALL)
    for _ in range(3):
        model.partial_fit(X, sample_weight=weight)
        twin.partial_fit(X[:2])
    assert model._stream["arrays"]["first/X"].shape == (6, 3)
    assert_same_answers(model, twin, X[:2])
    # Copies of little weight are few rows of an epoch, and many rows to keep.
    model = GaussianAutoencoder(1, **SMALL)
    model.partial_fit(np.repeat(X[:2], 200, axis=0), sample_weight=np.full(400, 1e-3))
    assert "first/X" not in model._stream["arrays"]


@pytest.mark.parametrize("first", [1, 20])
@every_estimator
def test_small_first_block_does_not_ruin_the_result(estimator, first):
    """A stream that begins with few rows ends as one that begins with many."""
    X, test = curved(3000), curved(500, seed=1)
    model = estimator(3, **SMALL)
    streamed(model, [X[:first], *blocks_of(X[first:], 500)])
    usual = streamed(estimator(3, **SMALL), blocks_of(X, 500))
    assert model.score(test) > usual.score(test) - 0.5


def test_statistics_follow_a_mean_that_moves():
    """The units are those of all rows, so the model follows; with frozen units it lags."""
    X, test = curved(6000), curved(500, seed=1)
    direction = 10 * X.std() * np.linspace(-1, 1, X.shape[1])
    moving = X + np.linspace(0, 1, len(X))[:, None] * direction
    model = streamed(VariationalAutoencoder(3, **SMALL), blocks_of(moving, 500))
    np.testing.assert_allclose(model._standardization.mean, moving.mean(axis=0))
    np.testing.assert_allclose(model._standardization.std, moving.std(axis=0))
    frozen = VariationalAutoencoder(3, **SMALL).partial_fit(moving[:500])
    assert model.score(test + direction) > frozen.score(test + direction) + 100


def test_sorted_stream_is_finite_and_better_than_its_start():
    """A stream that is sorted by a column loses, but stays a model of all rows."""
    X, test = curved(6000), curved(500, seed=1)
    model = VariationalAutoencoder(3, **SMALL)
    blocks = blocks_of(X[np.argsort(X[:, 0])], 500)
    start = copy.deepcopy(model.partial_fit(blocks[0]))
    streamed(model, blocks[1:])
    assert_finite(model, test)
    assert model.score(test) > start.score(test)


@ignore_floor
@pytest.mark.parametrize(("likelihood", "mode", "covariance_type"), combinations_in_turns())
def test_single_rows_in_every_mode(likelihood, mode, covariance_type):
    """A block may have one row, in each variance mode, and no scale drifts by 1 % a row."""
    X = curved(310, d=4)
    model = VariationalAutoencoder(
        2,
        likelihood=likelihood,
        variance_mode=mode,
        covariance_type=covariance_type,
        **SMALL,
    )
    model.partial_fit(X[:300])
    before, scale = model.score(X), getattr(model, "scale_", None)
    streamed(model, X[300:, None])
    assert_finite(model, X)
    # These rows move the scale by up to 7 %, and cost up to 0.5 nats.
    assert model.score(X) > before - 0.7
    assert (scale is None) == (mode == "predicted")
    if scale is not None:
        np.testing.assert_allclose(model.scale_, scale, rtol=0.1)
    assert model.n_iter_ == 11


def test_closed_form_scale_of_single_rows():
    """The scale of a stream of single rows is that of all of them under the model."""
    rng = np.random.default_rng(0)
    units = np.array([1.0, 2.0, 0.5, 3.0])
    X = (rng.normal(size=(600, 1)) + 0.3 * rng.normal(size=(600, 4))) * units
    model = GaussianAutoencoder(1, covariance_type="diag", **SMALL)
    streamed(model.partial_fit(X[:260]), X[260:, None])
    residual = X - model.reconstruct(X)
    expected = np.sqrt(np.mean(residual**2, axis=0))
    np.testing.assert_allclose(model.scale_, expected, rtol=0.15)


def test_rows_are_ordered_once(monkeypatch):
    """A block is sorted once, which takes a large part of a pass over it."""
    calls, original = [], rows_module.distinct_rows

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(rows_module, "distinct_rows", counted)
    streamed(GaussianAutoencoder(1, **SMALL), blocks_of(curved(900, d=3), 300))
    assert len(calls) == 3


def test_weights_beyond_float64():
    """The sum of weights may overflow: then blocks count alike, and a penalty nothing."""
    X, parameters = curved(900, d=3), {**SMALL, "batch_size": 10_000}
    model = GaussianAutoencoder(1, **parameters)
    for block in blocks_of(X, 300):
        model.partial_fit(block, sample_weight=np.full(300, 1e308))
    assert len(model.loss_curve_) == 3
    np.testing.assert_allclose(model._standardization.std, X.std(axis=0))
    model = GaussianAutoencoder(1, max_iter=1, **parameters)
    model.fit(X, sample_weight=np.full(900, 1e308)).partial_fit(X)
    assert len(model.loss_curve_) == 2


@every_estimator
def test_weights_are_repetitions(estimator):
    """Weights in blocks equal copies of the rows, to the bit; 0 equals none."""
    rng = np.random.default_rng(0)
    X, weight = curved(900, d=5), rng.integers(0, 4, size=900)
    model, twin = estimator(2, **SMALL), estimator(2, **SMALL)
    for part in (slice(0, 30), slice(30, 400), slice(400, 900)):
        model.partial_fit(X[part], sample_weight=weight[part])
        twin.partial_fit(rng.permutation(np.repeat(X[part], weight[part], axis=0)))
    assert_same_answers(model, twin, X)


def test_block_without_weight_or_entries_changes_nothing():
    """A later block whose weights are 0, or whose entries are missing, says nothing."""
    X = curved(400, d=5)
    model = VariationalAutoencoder(2, **SMALL).partial_fit(X[:300])
    before = state_of(model)
    model.partial_fit(X[300:], sample_weight=np.zeros(100))
    model.partial_fit(np.full((3, 5), np.nan))
    assert state_of(model) == before
    with pytest.raises(ValueError, match=r"(?i)weight.*zero"):
        VariationalAutoencoder(2).partial_fit(X, sample_weight=np.zeros(400))


@every_estimator
def test_holes_in_some_blocks(estimator):
    """Holes may come and go; the network sees them from the first block with holes on."""
    X = curved(2000, d=6)
    holed = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    model = estimator(2, **SMALL)
    model.partial_fit(X[:500])
    before = model.score(holed[1500:])
    model.partial_fit(holed[500:1000])
    model.partial_fit(X[1000:1400])
    # A block may lack a column.
    holed[1400:1500, 2] = np.nan
    model.partial_fit(holed[1400:1500])
    assert model.module_.spec.has_missing
    assert_finite(model, X)
    assert np.isfinite(model.score_samples(holed)).all()
    assert model.score(holed[1500:]) > before


def test_first_block_needs_a_value_of_each_column():
    """The error says what to do; later blocks may lack columns."""
    X = curved(20, d=3)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"column 1 .* Or let the first block"):
        GaussianAutoencoder(1).partial_fit(X)


def test_dtypes_may_differ():
    """Blocks of float32, float64 and integers are one stream."""
    X = np.round(10 * curved(900, d=5)).astype(np.float64)
    model = streamed(GaussianAutoencoder(2, **SMALL), blocks_of(X, 300))
    other = GaussianAutoencoder(2, **SMALL)
    for block, dtype in zip(blocks_of(X, 300), (int, np.float32, float), strict=True):
        other.partial_fit(block.astype(dtype))
    assert weights(model) == weights(other)


def test_columns_are_those_of_the_first_block():
    """Names and number of columns are checked as scikit-learn does."""
    frame = pd.DataFrame(curved(300, d=3), columns=["a", "b", "c"])
    model = GaussianAutoencoder(1, **SMALL).partial_fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame.rename(columns={"c": "d"}))
    assert model.partial_fit(frame).n_iter_ == 2
    model = GaussianAutoencoder(1, **SMALL).partial_fit(frame.to_numpy())
    with pytest.raises(ValueError, match="2 features, but"):
        model.partial_fit(frame.to_numpy()[:, :2])


def mixed_table(n, seed=0):
    """Draw a table with a number, a flag and a category."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return pd.DataFrame(
        {
            "number": z + 0.2 * rng.normal(size=n),
            "flag": rng.random(n) < 1 / (1 + np.exp(-2 * z)),
            "kind": np.where(z > 0.5, "large", np.where(z < -0.5, "small", "middle")),
        }
    )


def test_mixed_table():
    """A mixed table streams; unknown categories are errors, or missing if asked for."""
    table, later = mixed_table(600), mixed_table(50, seed=1)
    later.loc[0, "kind"] = "huge"
    model = VariationalAutoencoder(1, likelihood="mixed", **SMALL)
    streamed(model, [table[:100], table[100:500], table[500:]])
    before = state_of(model)
    with pytest.raises(ValueError, match="huge"):
        model.partial_fit(later)
    assert state_of(model) == before
    likelihood = skae.likelihoods.Mixed(handle_unknown="ignore")
    model = VariationalAutoencoder(1, likelihood=likelihood, **SMALL)
    assert model.partial_fit(table).partial_fit(later).n_iter_ == 2


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial"])
def test_discrete_likelihoods(likelihood):
    """Flags and counts stream, with units of their own."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(size=(1500, 1)) + 0.5)
    X = rng.poisson(np.repeat(rate, 4, axis=1)).astype(float)
    X = X.clip(max=1) if likelihood == "bernoulli" else X
    model = VariationalAutoencoder(1, likelihood=likelihood, **SMALL)
    model.partial_fit(X[:300])
    before = model.score(X)
    streamed(model, blocks_of(X[300:], 300))
    assert model.score(X) > before - 0.05


@every_estimator
def test_pause_equals_no_pause(estimator, tmp_path):
    """Pickles and files between the calls change nothing, to the bit."""
    pytest.importorskip("skops")
    blocks = blocks_of(curved(1200, d=5), 200)
    model = streamed(estimator(2, **SMALL), blocks)
    assert_plain_state(model)
    paused = estimator(2, **SMALL)
    for i, block in enumerate(blocks):
        paused.partial_fit(block)
        if i % 2:
            paused = pickle.loads(pickle.dumps(paused))
        else:
            paused.save(tmp_path / "paused.skops")
            paused = skae.load(tmp_path / "paused.skops")
    assert_same_answers(model, paused, blocks[0])
    assert state_of(model)["_stream"] == state_of(paused)["_stream"]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_error_leaves_the_estimator_as_it_was(monkeypatch, is_first, error):
    """An interrupt or error in the middle of a block changes nothing."""
    X = curved(900, d=5)
    model = VariationalAutoencoder(2, **SMALL)
    if not is_first:
        model.partial_fit(X[:300])
    before, twin = state_of(model), copy.deepcopy(model)
    original = block_training.make_step

    def make_step(*arguments, **further):
        step, n = original(*arguments, **further), 0

        def broken(*batch):
            nonlocal n
            n += 1
            if n == 3:
                raise error
            return step(*batch)

        return broken

    monkeypatch.setattr(block_training, "make_step", make_step)
    with pytest.raises(error):
        model.partial_fit(X[300:600])
    assert state_of(model) == before
    monkeypatch.setattr(block_training, "make_step", original)
    assert weights(model.partial_fit(X[300:600])) == weights(twin.partial_fit(X[300:600]))


def test_divergence_leaves_the_block_out(monkeypatch):
    """A block with a loss that is not finite is left out, with half the rate after it."""
    X = curved(900, d=5)
    model = VariationalAutoencoder(2, **SMALL).partial_fit(X[:300])
    before = answers(model, X)
    original = block_training.make_step

    def make_step(*arguments, **further):
        step = original(*arguments, **further)
        return lambda *batch: step(*batch).fill_(torch.nan)

    monkeypatch.setattr(block_training, "make_step", make_step)
    with pytest.warns(ConvergenceWarning, match="diverged.*learning_rate_init=0.01"):
        model.partial_fit(X[300:600])
    for name, values in answers(model, X).items():
        np.testing.assert_array_equal(values, before[name])
    monkeypatch.setattr(block_training, "make_step", original)
    model.partial_fit(X[600:])
    assert_finite(model, X)
    assert model.n_iter_ == 3
    assert len(model.loss_curve_) == 2


def test_divergence_in_the_first_rows(monkeypatch):
    """The model is then the start from all first rows, and the rate stays halved."""
    X = curved(1000, d=5)
    parameters = {**SMALL, "hidden_layer_sizes": "auto"}
    model = VariationalAutoencoder(2, **parameters)
    original = block_training.make_step

    def make_step(*arguments, **options):
        step = original(*arguments, **options)
        return lambda *batch: step(*batch).fill_(torch.nan)

    for first, last, rate in ((0, 50, "0.01"), (50, 100, "0.005")):
        monkeypatch.setattr(block_training, "make_step", make_step)
        with pytest.warns(ConvergenceWarning, match=f"learning_rate_init={rate} "):
            model.partial_fit(X[first:last])
        assert set(model.history_) == {"objective", "log_likelihood"}
        assert isinstance(model.history_["objective"], np.ndarray)
    # So many rows that "auto" is a wider network.
    with pytest.warns(ConvergenceWarning, match="learning_rate_init=0.0025 "):
        model.partial_fit(X[100:900])
    np.testing.assert_allclose(model._standardization.mean, X[:900].mean(axis=0))
    monkeypatch.setattr(block_training, "make_step", original)
    model.partial_fit(X[900:])
    assert json.loads(model._stream["progress"])["n_divergences"] == 3
    assert_finite(model, X)


@every_estimator
def test_mixing_with_fit(estimator):
    """`fit` begins anew; `partial_fit` after it goes on with the model of the fit."""
    X = curved(900, d=5)
    fresh = estimator(2, max_iter=3, **SMALL).fit(X)
    model = estimator(2, max_iter=3, **SMALL).partial_fit(X[:300]).fit(X)
    assert weights(model) == weights(fresh)
    assert model.n_iter_ == 3
    score = model.score(X)
    model.partial_fit(X[:300])
    assert model.n_iter_ == 4
    assert model.loss_curve_[:3] == fresh.loss_curve_
    assert model.score(X) > score - 0.1
    # A warm start goes on with the model of the stream.
    model.set_params(warm_start=True, learning_rate_init=1e-12).fit(X)
    assert model.n_iter_ == 7
    codes = model.transform(X)
    np.testing.assert_allclose(model.fit(X).transform(X), codes, rtol=1e-4, atol=1e-4)


def test_a_column_that_was_constant_in_a_fit():
    """Its deviation in a stream after the fit is its own, not that of other columns."""
    X = curved(900, d=5)
    X[:, 2] = 7.0
    model = LaplaceAutoencoder(2, covariance_type="diag", max_iter=1, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    typical = model._standardization.std[2]
    assert model.partial_fit(X)._standardization.std[2] == pytest.approx(typical)
    varies = X.copy()
    varies[:, 2] += 1e-3 * np.random.default_rng(0).normal(size=900)
    model.partial_fit(varies)
    expected = np.concatenate([X, X, varies]).std(axis=0)
    np.testing.assert_allclose(model._standardization.std, expected)


def test_a_converged_fit_stays_good():
    """A block after a long fit does not throw its model away."""
    X, test = curved(3000), curved(500, seed=1)
    model = VariationalAutoencoder(3, max_iter=30, random_state=0).fit(X)
    score = model.score(test)
    for block in blocks_of(curved(2000, seed=2), 200):
        model.partial_fit(block)
        assert model.score(test) > score - 0.3
    assert model.score(test) > score - 0.2


@pytest.mark.parametrize("mode", ["optimal", "learned"])
def test_a_fit_that_kept_its_start_stays_good(mode):
    """A row after a fit whose best model is its start, PCA, counts as one among all."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(2000, 6))
    model = VariationalAutoencoder(2, variance_mode=mode, max_iter=2, **SMALL)
    with pytest.warns(ConvergenceWarning, match="did not improve on its start"):
        model.fit(X)
    score = model.score(X)
    assert model.partial_fit(X[:1]).score(X) > score - 0.005
    assert streamed(model, X[1:11, None]).score(X) > score - 0.05


@pytest.mark.parametrize(
    ("parameters", "way_out"),
    [
        ({"early_stopping": True}, "early_stopping=False"),
        ({"checkpoint": "file"}, "checkpoint=None"),
        ({"n_init": 2}, "n_init=1"),
        ({"gradient_balance": True}, "gradient_balance=False"),
        ({"prior": "mixture"}, "prior=None"),
        ({"kl_schedule": "linear"}, "kl_schedule='constant'"),
    ],
)
def test_parameters_that_make_no_sense(parameters, way_out):
    """They are refused with the way out, and `hasattr` says so, as for scikit-learn's."""
    model = VariationalAutoencoder(2, **parameters)
    with pytest.raises(ValueError, match=way_out):
        model.partial_fit(curved(100))
    assert not hasattr(model, "partial_fit")
    assert hasattr(VariationalAutoencoder(2), "partial_fit")


@pytest.mark.parametrize(
    "change",
    [
        {"n_components": 3},
        {"hidden_layer_sizes": (4,)},
        {"variance_mode": "learned"},
        {"covariance_type": "diag"},
        {"likelihood": "laplace"},
    ],
)
def test_another_model_is_refused(change):
    """Parameters that define the model must stay; others may change between the calls."""
    X = curved(300, d=5)
    model = VariationalAutoencoder(2, **SMALL).partial_fit(X)
    model.set_params(beta=2.0, alpha=1.0, learning_rate_init=1e-3, batch_size=64)
    model.partial_fit(X)
    with pytest.raises(ValueError, match="partial_fit goes on with the model, which had"):
        model.set_params(**change).partial_fit(X)


def test_numbers_of_a_likelihood_are_those_of_the_model():
    """A likelihood of the same class with another number is another model."""
    X = curved(300, d=3)
    parameters = {**SMALL, "variance_mode": "learned"}
    model = VariationalAutoencoder(1, likelihood=MixtureLikelihood(2), **parameters)
    model.partial_fit(X)
    model.set_params(likelihood=MixtureLikelihood(3))
    with pytest.raises(ValueError, match="had another likelihood"):
        model.partial_fit(X)
    # The first rows make a model of the present parameters.
    model = VariationalAutoencoder(1, likelihood=MixtureLikelihood(2), **parameters)
    model.partial_fit(X[:50]).set_params(likelihood=MixtureLikelihood(3), n_components=2)
    model.partial_fit(X[50:100])
    assert model.likelihood_.n_components == 3
    assert model.n_components_ == 2


@pytest.mark.parametrize("n_before", [100, 300])
def test_min_scale_out_of_proportion(n_before):
    """It is refused in each block, as a fit refuses it."""
    X = curved(600, d=3)
    model = GaussianAutoencoder(1, **SMALL).partial_fit(X[:n_before])
    with pytest.raises(ValueError, match="min_scale=1e\\+300 is out of proportion"):
        model.set_params(min_scale=1e300).partial_fit(X[n_before:])


def test_precision_that_a_device_lacks(monkeypatch):
    """Double precision is refused where a fit refuses it."""
    lacks = "skae.estimators.training_data.has_float64"
    monkeypatch.setattr(lacks, lambda device: False)
    with pytest.raises(ValueError, match="has no float64"):
        GaussianAutoencoder(1, precision="float64").partial_fit(curved(50, d=3))


def test_units_that_differ_are_warned_of_once():
    """A stream of small blocks warns of them when it has enough rows to see them."""
    X = curved(500, d=3) * [1.0, 1.0, 1e5]
    model = GaussianAutoencoder(1, **SMALL)
    with pytest.warns(ConvergenceWarning, match="differ more than a thousandfold") as found:
        streamed(model, [X[:1], *blocks_of(X[1:300], 20), X[300:]])
    assert len(found) == 1


def test_warnings_come_once():
    """A scale at its floor is warned of once in a stream, and not at each block."""
    X = curved(8000, d=5)
    model = GaussianAutoencoder(2, min_scale=2.0, **SMALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        streamed(model, blocks_of(X, 400))
    found = [str(w.message) for w in caught]
    assert len(found) == 1, found
    assert "min_scale=2.0 is above the scale that fits best" in found[0]


def test_warnings_of_small_blocks():
    """Blocks that are too small to tell causes are judged, too."""
    rng = np.random.default_rng(0)
    model = VariationalAutoencoder(2, beta=50.0, learning_rate_init=1e-2, **SMALL)
    model.partial_fit(rng.normal(size=(256, 3)))
    with pytest.warns(ConvergenceWarning, match="No component of the code was active"):
        streamed(model, rng.normal(size=(120, 1, 3)))


@every_estimator
def test_units_do_not_matter(estimator):
    """A stream of a X + c has the same codes, and scores that differ by d log a."""
    X = curved(900, d=5)
    model = streamed(estimator(2, **SMALL), blocks_of(X, 100))
    other = streamed(estimator(2, **SMALL), blocks_of(4096 * X - 5000, 100))
    moved = 4096 * X - 5000
    np.testing.assert_allclose(
        other.transform(moved), model.transform(X), rtol=0.01, atol=0.01
    )
    shift = 5 * np.log(4096)
    assert other.score(moved) == pytest.approx(model.score(X) - shift, abs=0.02)


def test_a_column_that_begins_to_vary():
    """A column that is constant in the first rows may vary later."""
    X = curved(3000, d=5)
    varies = X.copy()
    X[:500, 2] = 1.0
    model = VariationalAutoencoder(2, covariance_type="diag", **SMALL)
    streamed(model, blocks_of(X, 500))
    usual = streamed(
        VariationalAutoencoder(2, covariance_type="diag", **SMALL), blocks_of(varies, 500)
    )
    assert model.score(varies) > usual.score(varies) - 1
    assert model._standardization.std[2] == pytest.approx(X[:, 2].std())


def test_fixed_scale_is_in_the_units_of_the_data():
    """A constant scale stays what it is while the units of the stream change."""
    X = curved(900, d=4) * np.linspace(0.5, 3, 900)[:, None]
    for covariance_type, scale in (("spherical", 0.7), ("diag", [0.5, 0.7, 0.9, 1.1])):
        model = VariationalAutoencoder(
            2,
            variance_mode="fixed",
            covariance_type=covariance_type,
            scale=scale,
            **SMALL,
        )
        streamed(model, blocks_of(X, 300))
        np.testing.assert_allclose(model.scale_, scale, rtol=1e-6)


def test_metadata_request():
    """Sample weights can be requested for `partial_fit`."""
    with config_context(enable_metadata_routing=True):
        model = VariationalAutoencoder().set_partial_fit_request(sample_weight=True)
        assert model.get_metadata_routing().partial_fit.requests == {"sample_weight": True}


def test_verbose(capsys):
    """There is one line for each block."""
    model = GaussianAutoencoder(1, verbose=1, **SMALL)
    streamed(model, blocks_of(curved(600, d=4), 300))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", objective")[0] for line in lines] == [
        "GaussianAutoencoder, block 1: 300 samples",
        "GaussianAutoencoder, block 2: 300 samples",
    ]


def test_other_networks_and_precisions():
    """Networks that train by autograd, with dropout, and double precision stream."""
    X = curved(900, d=5)
    network = MLP((8,), layer_norm=True, dropout=0.1)
    parameters = {"batch_size": 32, "random_state": 0, "precision": "float64"}
    parameters["network"] = network
    model = streamed(LaplaceAutoencoder(2, **parameters), blocks_of(X, 300))
    other = streamed(LaplaceAutoencoder(2, **parameters), blocks_of(X, 300))
    assert weights(model) == weights(other)
    assert model.module_.dtype == torch.float64


def test_generators_of_the_process_are_not_moved():
    """A stream draws no number from the global generators."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    streamed(VariationalAutoencoder(2, **{**SMALL, "random_state": None}), [curved(300)])
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.get_state()[1]  # noqa: NPY002
    assert np.array_equal(after, before[1])


def sparse_frame(X):
    """Return a frame of pandas whose columns are sparse."""
    return pd.DataFrame.sparse.from_spmatrix(scipy.sparse.csr_matrix(X))


@pytest.mark.parametrize("of", [scipy.sparse.csr_array, sparse_frame, torch.from_numpy])
def test_blocks_of_other_kinds(of):
    """Sparse blocks and tensors are the same data as arrays of numpy.

    The first block has fewer rows than a start needs, so it is kept for the second.
    """
    X = np.where(curved(600, 5) > 0.3, curved(600, 5), 0.0)
    model = GaussianAutoencoder(random_state=0)
    expected = streamed(clone(model), blocks_of(X, 150))
    with config_context(array_api_dispatch=of is torch.from_numpy):
        found = streamed(model, map(of, blocks_of(X, 150)))
    assert_same_answers(found, expected, X)


def test_attributes_are_of_the_library_of_the_block():
    """As after a fit: an array that is no answer to one is of the library of the block."""
    X = torch.from_numpy(curved(600, 5))
    model = VariationalAutoencoder(2, covariance_type="diag", **SMALL)
    with config_context(array_api_dispatch=True):
        streamed(model, blocks_of(X, 300))
        assert isinstance(model.scale_, torch.Tensor)
        assert isinstance(model.sample(3, random_state=0), torch.Tensor)
        model.partial_fit(X.numpy())
        assert isinstance(model.scale_, np.ndarray)
        assert isinstance(model.sample(3, random_state=0), np.ndarray)


def far_warnings(stream, X):
    """Return the warnings of a block that is far from those before it."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        stream.partial_fit(X)
    return [str(w.message) for w in record if "standard deviations of the rows" in str(w)]


@pytest.mark.parametrize("n_before", [40, 500])
@pytest.mark.parametrize("change", ["unit", "offset", "one value"])
def test_a_block_far_from_those_before_is_warned_of_once(n_before, change):
    rng = np.random.default_rng(0)
    stream = VariationalAutoencoder(1, random_state=0)
    first, block, last = (
        pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
        for n in (n_before, 50, 20)
    )
    assert far_warnings(stream.partial_fit(first), first) == []
    if change == "unit":
        block["b"] *= 100
    elif change == "offset":
        block["b"] += 40
    else:
        block.loc[3, "b"] = 1e8
    [message] = far_warnings(stream, block)
    assert "of 'b' that are up to" in message
    last["b"] *= 1e6
    last.loc[0, "b"] = 1e15
    assert far_warnings(pickle.loads(pickle.dumps(stream)), last) == []
    last["a"] *= 1e6
    [message] = far_warnings(stream, last)
    assert "of 'a' that are up to" in message


def test_a_block_far_from_a_fit_may_be_an_error():
    """The model is then as it was."""
    X = np.random.default_rng(0).normal(size=(300, 3))
    model = VariationalAutoencoder(1, max_iter=2, random_state=0).fit(X)
    before = model.score_samples(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="columns 0, 1, 2 that are up to"):
            model.partial_fit(1000 * X)
    np.testing.assert_array_equal(model.score_samples(X), before)
    assert far_warnings(model, 1000 * X) != []


@pytest.mark.filterwarnings("ignore:Training did not improve")
def test_blocks_of_usual_columns_are_not_far():
    """Heavy tails, rare flags, constant columns, holes and drift by some deviations."""
    rng = np.random.default_rng(0)
    stream = VariationalAutoencoder(1, covariance_type="diag", random_state=0)
    for i in range(30):
        X = np.column_stack(
            [
                rng.lognormal(0, 2, 300),
                rng.random(300) < 0.002,
                np.full(300, float(i > 20)),
                np.where(rng.random(300) < 0.9, np.nan, rng.normal(size=300)),
                rng.normal(size=300) + 0.5 * i,
                rng.standard_t(2.5, 300),
            ]
        )
        X[0, 3] = 0
        assert far_warnings(stream, X) == []
