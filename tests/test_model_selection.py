"""The batched searches beside those of scikit-learn, whose results they must have."""

import copy
import logging
import pickle
import re
import threading
import warnings
from itertools import chain
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from joblib import Parallel, delayed, parallel_config
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from torch import nn

from skae import GaussianAutoencoder, VariationalAutoencoder
from skae._fitting import trainer
from skae._fitting.step_cache import StepCache
from skae.likelihoods import GaussianLikelihood
from skae.likelihoods import Mixed as MixedLikelihood
from skae.model_selection import (
    BatchedGridSearchCV,
    BatchedRandomizedSearchCV,
    searches,
)
from skae.networks import MLP
from skae.scales import SCALES
from tests.callbacks import Callback
from tests.surroundings import nothing_global_changes, unusual_settings

ignore_floor = pytest.mark.filterwarnings(
    "ignore:The scales? of .* floor min_scale:sklearn.exceptions.ConvergenceWarning"
)
FOLDS = KFold(3, shuffle=True, random_state=0)  # 40 of 120 rows each


def vae(n_components=2, **parameters):
    return VariationalAutoencoder(
        n_components,
        **{"max_iter": 6, "precision": "float64", "random_state": 0} | parameters,
    )


def compare(estimator, grid, X, y=None, *, tol=1e-9, fit_params=None, **parameters):
    """Both searches, and whether their results are the same; the batched one."""
    parameters = {"cv": FOLDS} | parameters
    fit_params = fit_params or {}
    ours = BatchedGridSearchCV(clone(estimator), grid, **parameters)
    ours.fit(X, y, **fit_params)
    theirs = GridSearchCV(clone(estimator), grid, **parameters).fit(X, y, **fit_params)
    assert_same_results(ours, theirs, tol)
    return ours


def assert_same_results(ours, theirs, tol=1e-9):
    found, expected = ours.cv_results_, theirs.cv_results_
    assert list(found) == list(expected)
    for name, values in expected.items():
        if name == "params" or name.startswith("param_"):
            assert repr(found[name]) == repr(values)
        elif name.endswith("_time"):
            assert (found[name] >= 0).all()
        elif name.startswith("rank_"):
            np.testing.assert_array_equal(found[name], values)
        else:
            np.testing.assert_allclose(found[name], values, rtol=tol, atol=tol)
    for name in ("best_index_", "best_params_", "n_splits_", "multimetric_"):
        assert hasattr(ours, name) == hasattr(theirs, name)
        if hasattr(theirs, name):
            assert repr(getattr(ours, name)) == repr(getattr(theirs, name))
    assert hasattr(ours, "best_estimator_") == hasattr(theirs, "best_estimator_")
    assert hasattr(ours, "best_score_") == hasattr(theirs, "best_score_")
    assert repr(ours.scorer_) == repr(theirs.scorer_)


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.module_.parameters()])


# The same results


GRIDS = {
    "numbers": [
        {"beta": [0.3, 4], "learning_rate_init": [1e-3, 1e-2], "alpha": [0.0]},
        {"beta": [1], "alpha": [10.0]},
    ],
    "programs": {
        "variance_mode": sorted(set(SCALES) - {"none"}),
        "likelihood": ["gaussian", "laplace"],
    },
    "logistic": {"likelihood": ["logistic"], "variance_mode": ["learned", "predicted"]},
    "shapes": {"n_components": [1, 3], "hidden_layer_sizes": [(), (4,), (5, 3)]},
    "batches": [
        {"batch_size": ["auto", 7, 79, 80, 500]},
        {"batch_size": ["auto", 79], "shuffle": [False]},
    ],
    "schedules": {"max_iter": [1, 3, 7], "kl_schedule": ["linear", "constant"]},
    "draws": {"n_mc_samples": [1, 3], "covariance_type": ["diag"], "beta": [1, 2]},
    "starts": [
        {"n_init": [1, 3], "init": ["pca", "random"]},
        {"n_init": [3], "init": ["random"], "random_state": [1]},
    ],
    "lists": [{"beta": [0.5, 1]}, {"n_components": [1], "variance_mode": ["fixed"]}],
    "one candidate": {"beta": [1]},
}


@ignore_floor
@pytest.mark.parametrize("name", GRIDS)
def test_same_results(name, X):
    """Of every candidate and fold, to rounding."""
    compare(vae(), GRIDS[name], X)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_models_that_stop_at_different_epochs(early_stopping, X, counted):
    """Each stops when it would alone, and those that go on lose nothing by that."""
    estimator = vae(max_iter=60, n_iter_no_change=5, learning_rate_init=0.01, alpha=1)
    grid = {"tol": [10.0, 0.1, 0.03, 0.0], "early_stopping": [early_stopping]}
    compare(estimator, grid, X)
    assert counted[0] == 12
    epochs = [clone(estimator).set_params(tol=t).fit(X).n_iter_ for t in grid["tol"]]
    assert len(set(epochs)) >= 2 + (not early_stopping)


def test_fits_with_and_without_early_stopping_go_together(X):
    """Their folds differ in length, and so do their batches."""
    grid = {"early_stopping": [False, True], "validation_fraction": [0.1, 0.3]}
    compare(vae(max_iter=30, n_iter_no_change=3, tol=0.01), grid, X)


@pytest.mark.parametrize(("batch_size", "dtype"), [("auto", np.float32), (20, np.float64)])
def test_float32(batch_size, dtype, X):
    """In the default precision the order of additions shows in the last digits.

    After six epochs the largest difference was 3e-7 nats; long trainings amplify it.
    """
    grid = {"beta": [0.5, 1, 2], "variance_mode": ["optimal", "learned", "predicted"]}
    estimator = vae(precision="auto", batch_size=batch_size)
    compare(estimator, grid, X.astype(dtype), tol=2e-6)


def test_deterministic_estimators(X):
    grid = {"variance_mode": ["optimal", "learned"], "alpha": [0.1, 1, 10]}
    estimator = GaussianAutoencoder(max_iter=6, precision="float64", random_state=0)
    compare(estimator, grid, X)


def test_alike_fits_are_trained_together(X, counted):
    """All candidates and folds whose shapes and programs agree: else nothing is won."""
    grid = {"beta": [0.5, 1, 2], "learning_rate_init": [1e-3, 1e-2], "alpha": [0, 1]}
    BatchedGridSearchCV(vae(batch_size=32), grid, cv=FOLDS).fit(X)
    assert counted == [36, 1]  # and the refit
    counted.clear()
    grid = {"beta": [0.5, 1, 2], "variance_mode": ["optimal", "learned"]}
    BatchedGridSearchCV(vae(), grid, cv=FOLDS, refit=False).fit(X)
    assert counted == [9, 9]


def test_folds_of_different_lengths(X, counted):
    """Those with as many batches go together; the last one of a batch is filled up."""
    folds = [(np.arange(n), np.arange(100, 120)) for n in (97, 98, 99, 60, 33)]
    grid = {"beta": [0.5, 1]}
    compare(vae(batch_size=20), grid, X, cv=folds)
    assert sorted(counted[:-13], reverse=True)[0] == 6


def test_random_search(X):
    """The same draws from the same distributions."""
    space = {"beta": loguniform(0.1, 10), "n_components": [1, 2]}
    parameters = {"n_iter": 7, "cv": FOLDS, "random_state": 3}
    ours = BatchedRandomizedSearchCV(vae(), space, **parameters).fit(X)
    theirs = RandomizedSearchCV(vae(), space, **parameters).fit(X)
    assert_same_results(ours, theirs)
    np.testing.assert_allclose(
        weights(ours.best_estimator_), weights(theirs.best_estimator_), atol=1e-9
    )


def test_data_frames_and_lists(X):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    ours = compare(vae(), {"beta": [0.5, 1]}, frame)
    assert ours.feature_names_in_.tolist() == list("abcdef")
    compare(vae(), {"beta": [0.5, 1]}, X.tolist())


def test_best_estimator_is_that_of_a_fit(X):
    search = BatchedGridSearchCV(vae(), {"beta": [0.5, 1, 50]}, cv=FOLDS).fit(X)
    best = search.best_estimator_
    alone = clone(vae().set_params(**search.best_params_)).fit(X)
    assert torch.equal(weights(best), weights(alone))
    assert search.score(X) == alone.score(X)
    np.testing.assert_array_equal(search.transform(X), alone.transform(X))
    again = pickle.loads(pickle.dumps(search))
    assert again.score(X) == search.score(X)
    assert repr(clone(search)) == repr(search)


# Parameters of a search


def second_moment(estimator, X, y=None):
    return -np.square(estimator.transform(X)).mean()


def two_scores(estimator, X, y=None):
    return {"elbo": estimator.score(X), "moment": second_moment(estimator, X)}


def worst(results):
    return int(np.argmin(results["mean_test_score"]))


def mean_elbo(estimator, X, y=None):
    return estimator.score(X)


METRICS = {"elbo": mean_elbo, "moment": second_moment}
SEARCHES = {
    "no refit": {"refit": False},
    "refit by a function": {"refit": worst},
    "one function, train scores": {"scoring": second_moment, "return_train_score": True},
    "two metrics": {"scoring": METRICS, "refit": "moment"},
    "two metrics, no refit": {"scoring": METRICS, "refit": False},
    "two metrics of a function": {
        "scoring": two_scores,
        "refit": "elbo",
        "return_train_score": True,
    },
    "number of folds": {"cv": 4},
}


@pytest.mark.parametrize("name", SEARCHES)
def test_parameters_of_a_search(name, X):
    grid = {"beta": [0.5, 2], "n_components": [1, 2]}
    compare(vae(), grid, X, **SEARCHES[name])


def test_sample_weight_is_routed(X):
    """Each fold gets its part of the weights, in the fit and in the score."""
    weight = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    grid = {"beta": [0.5, 2]}
    # Without routing: to the fit, and to scorers that take it.
    plain = compare(vae(), grid, X, fit_params={"sample_weight": weight})
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = vae().set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        both = compare(estimator, grid, X, fit_params={"sample_weight": weight})
        estimator.set_score_request(sample_weight=False)
        one = compare(estimator, grid, X, fit_params={"sample_weight": weight})
    name = "mean_test_score"
    np.testing.assert_allclose(plain.cv_results_[name], both.cv_results_[name])
    assert (one.cv_results_[name] != both.cv_results_[name]).all()


def test_verbose_prints_a_line_for_each_fit(X, capsys):
    BatchedGridSearchCV(vae(), {"beta": [0.5, 1]}, cv=FOLDS, verbose=3).fit(X)
    out = capsys.readouterr().out
    assert "Fitting 3 folds for each of 2 candidates, totalling 6 fits" in out
    assert len(re.findall(r"\[CV \d/3\] END ", out)) == 6


# Failures


class Failing(Callback):
    """A callback that raises in the fits with a given beta."""

    def __init__(self, beta, error, epoch=2):
        self.beta, self.error, self.epoch = beta, error, epoch

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and context.task_id + 1 == self.epoch:
            return self.act(estimator)
        return False

    def act(self, estimator):
        if estimator.beta == self.beta:
            raise self.error
        return False


class Stopping(Failing):
    """A callback that stops the fits with a given beta."""

    def act(self, estimator):
        return estimator.beta == self.beta


@pytest.fixture(name="no_thread_is_left", autouse=True)
def assert_no_thread_is_left():
    """Nor may a test change how many threads torch takes."""
    before, n_threads = set(threading.enumerate()), torch.get_num_threads()
    yield
    assert torch.get_num_threads() == n_threads
    assert not [t for t in set(threading.enumerate()) - before if "skae" in t.name]


@ignore_floor
@pytest.mark.filterwarnings("ignore:One or more of the (test|train) scores:UserWarning")
@pytest.mark.parametrize("error_score", [np.nan, -1000.0])
@pytest.mark.parametrize("where", ["parameter", "combination", "callback"])
def test_a_candidate_that_fails(where, error_score, X):
    """It gets its score and is told of; the others do not notice."""
    estimator, grid = vae(covariance_type="diag"), {"beta": [0.5, 1, 2]}
    message = "of the callback"
    if where == "parameter":
        grid["beta"][1], message = -1.0, "The 'beta' parameter"
    elif where == "combination":
        grid = {"variance_mode": ["optimal", "profile", "learned"]}
        message = "variance_mode='profile' does not go with"
    else:
        estimator.set_callbacks(Failing(1, ZeroDivisionError(message)))
    with pytest.warns(FitFailedWarning, match=message):
        search = compare(
            estimator, grid, X, error_score=error_score, return_train_score=True
        )
    assert search.best_index_ != 1
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_equal(scores[1], error_score)
    assert np.isfinite(scores[[0, 2]]).all()


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_an_error_that_is_to_be_raised(epoch, X):
    """It ends the search at once, and no thread stays behind."""
    failing = Failing(1, ZeroDivisionError("of the callback"), epoch)
    if epoch == 0:
        failing.on_fit_task_begin = failing.on_fit_task_end
        failing.epoch = 1
    search = BatchedGridSearchCV(
        vae().set_callbacks(failing), {"beta": [0.5, 1, 2]}, cv=FOLDS, error_score="raise"
    )
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        search.fit(X)
    assert not hasattr(search, "cv_results_")
    # And what can be used, can be used again.
    failing.beta = None
    assert np.isfinite(search.fit(X).best_score_)


def test_a_scorer_that_fails(X):
    def broken(estimator, X, y=None):
        if estimator.beta == 1:
            raise ZeroDivisionError("of the scorer")
        return estimator.score(X)

    arguments = (vae(), {"beta": [0.5, 1, 2]})
    search = BatchedGridSearchCV(*arguments, scoring=broken, cv=FOLDS, error_score="raise")
    with pytest.raises(ZeroDivisionError, match="of the scorer"):
        search.fit(X)
    search.error_score = 0.0
    with pytest.warns(UserWarning, match="Scoring failed"):
        search.fit(X)
    assert (search.cv_results_["mean_test_score"] == 0).tolist() == [False, True, False]


@pytest.mark.filterwarnings(
    "ignore:Training diverged:sklearn.exceptions.ConvergenceWarning"
)
def test_models_that_diverge_leave_the_others_alone(X):
    grid = {"learning_rate_init": [1e-3, 1e37, 1e-2], "beta": [0.5, 1]}
    search = compare(vae(variance_mode="learned"), grid, X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_warning_that_is_an_error_is_its_models_alone(X):
    """Whether it comes while training, or of what came out."""
    flat = np.column_stack([X, np.zeros(len(X))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ConvergenceWarning)
        grid = {"learning_rate_init": [1e-3, 1e37, 2e-3]}
        diverging = compare(vae(variance_mode="learned"), grid, X)
        grid = {"covariance_type": ["spherical", "diag"]}
        at_floor = compare(vae(learning_rate_init=2e-3), grid, flat)
    for search in (diverging, at_floor):
        failed = np.isnan(search.cv_results_["mean_test_score"])
        assert np.flatnonzero(failed).tolist() == [1]


def test_a_callback_that_stops_a_model(X):
    """The others go on to their last epoch."""
    compare(vae().set_callbacks(Stopping(1, None)), {"beta": [0.5, 1, 2]}, X)


def test_a_group_that_cannot_be_trained_is_told_alone(X, monkeypatch):
    """As when the memory of a device is used up."""
    original = trainer.train_side_by_side

    def train_side_by_side(jobs, interrupted):
        if jobs[0].module.spec.n_components == 2:
            raise RuntimeError("out of memory")
        return original(jobs, interrupted)

    monkeypatch.setattr(trainer, "train_side_by_side", train_side_by_side)
    search = BatchedGridSearchCV(vae(), {"n_components": [1, 2, 3]}, cv=FOLDS)
    with (
        pytest.warns(FitFailedWarning, match="out of memory"),
        pytest.warns(UserWarning, match="One or more of the test scores"),
    ):
        search.fit(X)
    finite = np.isfinite(search.cv_results_["mean_test_score"])
    assert finite.tolist() == [True, False, True]


def test_interrupted_training(X):
    """An interrupt ends the search at once."""
    interrupting = Failing(1, KeyboardInterrupt(), epoch=4)
    search = BatchedGridSearchCV(
        vae(max_iter=20).set_callbacks(interrupting), {"beta": [0.5, 1, 2]}, cv=FOLDS,
        refit=False,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "cv_results_")


# Callbacks


def test_progress_bar(X, capsys, monkeypatch):
    """scikit-learn's own: each bar is full, one for each fit, and the scores the same."""
    monkeypatch.setenv("COLUMNS", "200")
    grid = {"beta": [0.5, 1]}
    bar = pytest.importorskip("sklearn.callback").ProgressBar(max_propagation_depth=None)
    search = BatchedGridSearchCV(vae(), grid, cv=FOLDS)
    search.set_callbacks(bar).fit(X)
    out = capsys.readouterr().out
    assert len(re.findall(r"\| VariationalAutoencoder - fit", out)) >= 7
    assert "100%" in out
    assert not re.search(r"\b\d{1,2}%", out)
    assert_same_results(search, GridSearchCV(vae(), grid, cv=FOLDS).fit(X))


def test_scoring_monitor(X):
    """It scores every model after every epoch; so it sees what it sees alone."""
    callback = pytest.importorskip("sklearn.callback")
    logs = []
    for kind in (BatchedGridSearchCV, GridSearchCV):
        monitor = callback.ScoringMonitor(scoring=two_scores)
        model = vae(max_iter=3).set_callbacks(monitor)
        kind(model, {"beta": [0.5, 2]}, cv=2).fit(X, np.zeros(len(X)))
        log = monitor.get_logs().data
        logs.append(sorted(log, key=lambda row: row["task_id_path"]))
    ours, theirs = logs
    assert len(ours) == len(theirs) >= 3 * 5
    for one, other in zip(ours, theirs, strict=True):
        assert one["task_id_path"] == other["task_id_path"]
        assert one["elbo"] == pytest.approx(other["elbo"], abs=1e-9)


# What is not batched


class Refused(GaussianLikelihood):
    """A likelihood of a user's own, which has no derivative written by hand."""

    has_analytic_gradient = False


class OtherNetwork(BaseEstimator):
    """A network of a user's own."""

    def __init__(self, width=5):
        self.width = width

    def encoder(self, n_features, n_outputs):
        return torch.nn.Sequential(
            torch.nn.Linear(n_features, self.width), torch.nn.SiLU(),
            torch.nn.Linear(self.width, n_outputs),
        )  # fmt: skip

    decoder = encoder


@pytest.mark.parametrize(
    "parameters",
    [{"network": OtherNetwork()}, {"likelihood": Refused()}],
    ids=["network", "likelihood"],
)
def test_parts_of_a_users_own(parameters, X, counted):
    """They are trained one by one, with autograd."""
    estimator, grid = vae(**parameters), {"beta": [0.5, 1]}
    compare(estimator, grid, X)
    assert counted == [1] * len(counted)


def test_own_and_built_in_parts_in_one_search(X):
    compare(vae(), {"network": ["mlp", MLP((4,)), OtherNetwork()], "beta": [1, 2]}, X)


def test_other_estimators():
    X, y = load_iris(return_X_y=True)
    compare(PCA(random_state=0), {"n_components": [1, 2, 3]}, X)
    compare(LogisticRegression(max_iter=500), {"C": [0.1, 1]}, X, y, scoring="accuracy")


def test_random_forest_with_workers_of_its_own():
    """A search runs within a joblib.Parallel, and may run others."""
    from sklearn.ensemble import RandomForestClassifier

    X, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(5, n_jobs=2, random_state=0)
    for n_jobs in (None, 2):
        compare(forest, {"max_depth": [1, 2]}, X, y, n_jobs=n_jobs)


# Pipelines


class Counting(StandardScaler):
    """A scaler that counts its fits."""

    n_fits = 0

    def fit(self, X, y=None, sample_weight=None):
        Counting.n_fits += 1
        return super().fit(X, y, sample_weight)


@pytest.mark.filterwarnings("ignore:Candidates differ in 'counting__with_mean'")
def test_steps_before_the_last_are_fitted_once_for_each_fold(X):
    pipeline = make_pipeline(Counting(), vae())
    grid = {"variationalautoencoder__beta": [0.5, 1, 2, 4]}
    Counting.n_fits = 0
    search = BatchedGridSearchCV(pipeline, grid, cv=FOLDS).fit(X)
    assert Counting.n_fits == 3 + 1  # and the refit
    assert_same_results(search, GridSearchCV(pipeline, grid, cv=FOLDS).fit(X))
    # Nothing of how this is done remains.
    assert search.estimator is pipeline
    assert pipeline.memory is search.best_estimator_.memory is None
    assert search.scorer_._estimator.memory is None
    # Distinct settings of a step are distinct fits.
    grid = {"counting__with_mean": [True, False], **grid}
    Counting.n_fits = 0
    BatchedGridSearchCV(pipeline, grid, cv=FOLDS, refit=False).fit(X)
    assert Counting.n_fits == 2 * 3


def test_pipeline_with_a_memory_of_its_own(X, tmp_path):
    pipeline = make_pipeline(StandardScaler(), vae(), memory=str(tmp_path))
    search = compare(pipeline, {"variationalautoencoder__beta": [0.5, 1]}, X)
    assert search.best_estimator_.memory == str(tmp_path)
    assert any(tmp_path.iterdir())


class LoudPipeline(Pipeline):
    """A subclass, as other packages have."""

    def score(self, X, y=None, sample_weight=None, **params):
        return 1000 + super().score(X, y, **params)


def test_pipeline_of_another_class_and_its_settings(X, capsys):
    """A subclass stays one; set_output and callbacks stay too."""
    steps = [("scaler", StandardScaler()), ("vae", vae())]
    pipeline = LoudPipeline(steps).set_output(transform="pandas")
    pipeline.set_callbacks(Stopping(1, None))
    search = compare(pipeline, {"vae__beta": [0.5, 1]}, X)
    assert search.best_score_ > 500
    assert isinstance(search.best_estimator_, LoudPipeline)
    assert isinstance(search.transform(X), pd.DataFrame)
    assert "_skl_callbacks" in vars(search.best_estimator_)


def test_search_over_steps(X):
    pipeline = Pipeline([("scaler", StandardScaler()), ("model", PCA(2))])
    grid = {"scaler": ["passthrough", StandardScaler()], "model": [PCA(1), vae()]}
    compare(pipeline, grid, X)


def test_autoencoder_before_the_last_step(counted):
    """It is a step like others: trained once for each fold, all folds together."""
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), vae(), LogisticRegression())
    grid = {"logisticregression__C": [0.01, 1, 100], "variationalautoencoder__beta": [1, 2]}
    search = BatchedGridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert counted == [6, 1]
    assert_same_results(search, GridSearchCV(pipeline, grid, cv=3).fit(X, y))


# Workers, searches in searches, memory


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers(backend, X):
    """Each trains its share together; the results stand in their places."""
    grid = {"beta": [0.3, 0.5, 1, 2, 4], "n_components": [1, 2]}
    with parallel_config(backend):
        search = compare(vae(), grid, X, n_jobs=2)
    assert_same_results(search, GridSearchCV(vae(), grid, cv=FOLDS).fit(X))
    with parallel_config(backend, n_jobs=2):
        pipeline = make_pipeline(StandardScaler(), vae())
        compare(pipeline, {"variationalautoencoder__beta": [0.5, 1]}, X)


def test_shares_of_workers_are_alike():
    """In number, and in the shapes of the models, which follow each other in a grid."""

    names = [f"{letter}{i}" for letter in "abcd" for i in range(5)]
    shares = [[names[i] for i in share] for share in searches._deal(20, 3)]
    assert sorted(chain.from_iterable(shares)) == names
    assert sorted(map(len, shares)) == [6, 7, 7]
    for share in shares:
        counts = [sum(name[0] == letter for name in share) for letter in "abcd"]
        assert set(counts) <= {1, 2}


def test_what_is_remembered_stays_in_its_process():
    """And is computed once there, for the same arguments."""
    memo = StepCache()
    numbers = []

    def square(number, verbose):
        numbers.append(number)
        return [number**2]

    cached = memo.cache(square, ignore=["verbose"])
    assert [cached(2, True), cached(2, False), cached(3, verbose=True)] == [[4], [4], [9]]
    assert numbers == [2, 3]
    other = pickle.loads(pickle.dumps(memo))
    assert (other.results, other.under_way) == ({}, {})
    assert copy.deepcopy(memo) is memo
    memo.clear()
    assert cached(2, True) == [4]
    assert numbers == [2, 3, 2]


def test_an_error_in_a_worker(X):
    search = BatchedGridSearchCV(vae(), {"beta": [1, -1]}, n_jobs=2, error_score="raise")
    with pytest.raises(ValueError, match="The 'beta' parameter"):
        search.fit(X)


def test_nested_searches(X, counted):
    """A search over searches; their inner fits go together as well."""
    inner = GridSearchCV(vae(), {"beta": [0.5, 1]}, cv=2)
    compare(inner, {"estimator__n_components": [1, 2]}, X)
    assert counted[:2] == [3, 3]  # the first inner fit of each outer one
    batched = BatchedGridSearchCV(vae(), {"beta": [0.5, 1]}, cv=2)
    compare(batched, {"estimator__n_components": [1, 2]}, X)


def test_waves(X, monkeypatch, counted):
    """What must not be under way together is cut into parts, of like sizes."""
    grid = {"beta": [0.5, 1, 2, 4]}
    monkeypatch.setattr(searches, "_MOST_FITS", 5)
    compare(vae(), grid, X)
    assert counted[:4] == [4, 4, 4, 1]
    counted.clear()
    # Memory for the data of three fits, and the same for a frame.
    monkeypatch.setattr(searches, "_MOST_FITS", 128)
    monkeypatch.setattr(searches, "_MOST_BYTES", 7 * X.nbytes)
    for data in (X, pd.DataFrame(X), X.tolist()):
        BatchedGridSearchCV(vae(), grid, cv=FOLDS, refit=False).fit(data)
        assert counted == [3, 3, 3, 3]
        counted.clear()
    monkeypatch.setattr(searches, "_MOST_BYTES", 1)
    BatchedGridSearchCV(vae(), grid, cv=FOLDS, refit=False).fit(X)
    assert counted == [1] * 12


def test_large_models_are_trained_in_parts(X, monkeypatch, counted):
    grid = {"beta": [0.5, 1, 2, 4]}
    n_weights = vae().fit(X).module_.n_weights
    counted.clear()
    monkeypatch.setattr(trainer, "_MOST_BYTES", 5 * trainer._COPIES * 8 * n_weights)
    compare(vae(), grid, X)
    assert counted[:4] == [4, 4, 4, 1]


# The world around


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
@pytest.mark.parametrize("error_score", [np.nan, "raise"])
def test_nothing_global_is_touched(error_score, X):
    """Neither by a search that ends well nor by one that ends with an error."""
    grid = {"beta": [0.5, 1], "n_init": [1, 2], "precision": ["float32", "tf32"]}
    search = BatchedGridSearchCV(vae(), grid, error_score=error_score)
    handlers = list(logging.root.handlers)
    with unusual_settings():
        with nothing_global_changes():
            search.fit(X)
        search.estimator.set_callbacks(Failing(1, ZeroDivisionError()))
        ended = pytest.raises(ZeroDivisionError)
        if error_score != "raise":
            ended = pytest.warns(FitFailedWarning)
        with nothing_global_changes(), ended:
            search.fit(X)
    assert logging.root.handlers == handlers


class Silenced(UserWarning):
    """A warning that some fits ignore."""


class AlsoSilenced(UserWarning):
    """A warning that other fits ignore."""


class Surrounded(VariationalAutoencoder):
    """Looks, in fits and scores, at what belongs to a thread, a context or the process."""

    seen: ClassVar[list] = []

    def look(self):
        Surrounded.seen.append(
            (
                sklearn.get_config()["transform_output"],
                np.geterr()["divide"],
                any(f[0] == "ignore" and f[2] is self.ignored() for f in warnings.filters),
            )
        )

    def ignored(self):
        return {0.5: Silenced, 1: AlsoSilenced}[self.beta]

    def fit(self, X, y=None, **params):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.ignored())
            self.look()
            super().fit(X, y, **params)
            self.look()
        return self

    def score(self, X, y=None, *, sample_weight=None):
        self.look()
        return super().score(X, y, sample_weight=sample_weight)


def test_surroundings_of_a_fit(X):
    """scikit-learn's and numpy's settings go along; filters are each fit's own."""
    Surrounded.seen = []
    model = Surrounded(max_iter=2, random_state=0)
    with sklearn.config_context(transform_output="pandas"), np.errstate(divide="raise"):
        BatchedGridSearchCV(model, {"beta": [0.5, 1]}, cv=2, refit=False).fit(X)
    before = [("pandas", "raise", True)] * 4
    rest = [("pandas", "raise", True), ("pandas", "raise", False)] * 4
    assert Surrounded.seen == before + rest


def test_without_gradients(X):
    """A search in a block of no gradients trains like any other."""
    expected = BatchedGridSearchCV(vae(), {"beta": [0.5, 1]}, cv=2).fit(X).best_score_
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            search = BatchedGridSearchCV(vae(), {"beta": [0.5, 1]}, cv=2).fit(X)
        assert search.best_score_ == expected


def test_convergence_warnings_reach_the_user(X):
    with pytest.warns(ConvergenceWarning, match="Training diverged"):
        BatchedGridSearchCV(
            vae(variance_mode="learned"), {"learning_rate_init": [1e37, 1e-3]}, cv=2
        ).fit(X)


def test_a_step_that_writes_over_its_input_sees_the_same_each_time(X):
    """What candidates share of a pipeline is handed out as copies."""
    steps = [StandardScaler(), MaxAbsScaler(copy=False), GaussianAutoencoder(max_iter=2)]
    grid = {"gaussianautoencoder__random_state": [0, 0, 0]}
    search = BatchedGridSearchCV(make_pipeline(*steps), grid, cv=2).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == scores[1] == scores[2]


def test_one_error_of_a_group_is_told_once(X, monkeypatch):
    """The same words for each of its fits, however many they are."""

    def train_side_by_side(jobs, interrupted):
        raise MemoryError("too many models")

    monkeypatch.setattr(trainer, "train_side_by_side", train_side_by_side)
    search = BatchedGridSearchCV(
        VariationalAutoencoder(1, max_iter=1, random_state=0),
        {"beta": [1.0, 2.0, 3.0]},
        cv=2,
        refit=False,
    )
    with pytest.raises(ValueError, match="All the 6 fits failed") as caught:
        search.fit(X)
    assert str(caught.value).count("MemoryError: too many models") == 1
    assert "6 fits failed with the following error" in str(caught.value)


def test_users_find_no_memory_that_they_did_not_give(X):
    pipe = Pipeline([("scale", StandardScaler()), ("vae", VariationalAutoencoder(1))])
    with pytest.raises(ValueError, match=r"estimator Pipeline\(steps="):
        BatchedGridSearchCV(pipe, {"vea__beta": [1.0, 2.0]}).fit(X)


class Mixed(MLP):
    """Activations in an order of their own, each a single object."""

    def __init__(self, hidden_layer_sizes=(8, 8, 8), *, order="rtr"):
        super().__init__(hidden_layer_sizes)
        self.order = order

    def _layers(self, *args):
        layers = super()._layers(*args)
        kinds = {"r": nn.ReLU(), "t": nn.Tanh()}
        for i, kind in enumerate(self.order):
            layers[2 * i + 1] = kinds[kind]
        return layers


def test_networks_of_the_same_parts_in_another_order_are_different(X):
    bent = np.hstack([X, np.sin(2 * X)])  # so that there is something to learn
    vae = VariationalAutoencoder(2, network=Mixed(), max_iter=30, random_state=0)
    vae.set_params(alpha=1.0, learning_rate_init=5e-3)
    grid = {"network__order": ["rtr", "rtt"], "precision": ["float64"]}
    ordinary = GridSearchCV(vae, grid, cv=2).fit(bent).cv_results_
    assert np.ptp(ordinary["mean_test_score"]) > 1e-6
    batched = BatchedGridSearchCV(vae, grid, cv=2).fit(bent).cv_results_
    np.testing.assert_allclose(
        batched["mean_test_score"], ordinary["mean_test_score"], rtol=1e-9
    )


def test_warnings_of_fits_are_summed_up(X):
    """One of each kind, with candidate and fold, although nine fits have it."""
    model = vae(max_iter=3)
    grid = {"beta": [1e4, 1.0, 2e4], "max_iter": [2]}
    search = BatchedGridSearchCV(model, grid, cv=FOLDS, refit=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X)
    inactive = [w for w in caught if "No component of the code" in str(w.message)]
    (one,) = inactive
    assert one.filename == __file__
    assert issubclass(one.category, ConvergenceWarning)
    assert str(one.message).endswith(
        "(This is the fit of beta=10000.0, max_iter=2, fold 1 of 3. 6 of 9 fits have such "
        "a warning: beta=10000.0, max_iter=2 in all folds; beta=20000.0, max_iter=2 in all "
        "folds.)"
    )


def test_filters_of_a_fit_hold_for_collected_warnings(X):
    """What is ignored is not summed up."""
    search = BatchedGridSearchCV(vae(), {"beta": [1e4, 2e4]}, cv=FOLDS, refit=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "No component of the code is active")
        search.fit(X)
    assert not any("No component" in str(w.message) for w in caught)


def test_filters_of_other_modules_hide_no_warning_of_a_fit(X):
    """Those of the module in which the search is called do."""
    search = BatchedGridSearchCV(vae(), {"beta": [1e4]}, cv=FOLDS)
    for module, n_warnings in [("some_package", 1), (re.escape(__name__), 0)]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", category=UserWarning, module=module)
            search.fit(X)
        inactive = [w for w in caught if "No component of the code" in str(w.message)]
        assert len(inactive) == n_warnings


def test_a_search_in_a_search_warns_of_its_own_fits(X):
    """Its refit, and scores of it, are part of a fit of the search around it."""
    inner = BatchedGridSearchCV(vae(), {"beta": [1e4]}, cv=2)
    outer = BatchedGridSearchCV(inner, {"refit": [True]}, cv=5, refit=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outer.fit(X)
    assert np.isfinite(outer.cv_results_["mean_test_score"]).all()
    texts = [str(w.message) for w in caught if "No component" in str(w.message)]
    assert len(texts) == 1
    assert "fold 1 of 5. 5 of 5 fits" in texts[0]


def inactive(caught):
    """Return the warnings of codes without an active component."""
    return [str(w.message) for w in caught if "No component" in str(w.message)]


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("Search", [BatchedGridSearchCV, GridSearchCV])
def test_every_way_of_a_search_names_the_candidates(X, Search, n_jobs):
    """That of scikit-learn under the backend, and the workers of each."""
    grid = {"beta": [1.0, 1e4, 2e4]}
    search = Search(vae(), grid, cv=FOLDS, refit=False, n_jobs=n_jobs)
    with warnings.catch_warnings(record=True) as caught, parallel_config("skae"):
        warnings.simplefilter("always")
        search.fit(X)
    (text,) = inactive(caught)
    assert text.endswith(
        "(This is the fit of beta=10000.0, fold 1 of 3. 6 of 9 fits have such a warning: "
        "beta=10000.0 in all folds; beta=20000.0 in all folds.)"
    )


def test_a_warning_of_fits_and_refit_comes_once(X):
    search = BatchedGridSearchCV(vae(), {"beta": [1e4]}, cv=FOLDS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X)
    (text,) = inactive(caught)
    assert text.endswith(
        "(This is the refit. 3 of 3 fits have such a warning: beta=10000.0 in all folds.)"
    )


def test_warnings_of_the_refit_only_come_as_they_are(X):
    """Two columns of one kind in the refit are two warnings."""
    rng = np.random.default_rng(0)
    texts = [[*map(str, rng.integers(10, 50, 120)), "?"] for _ in range(2)]
    frame = pd.DataFrame({"a": texts[0], "b": texts[1], "c": rng.normal(size=121)})
    halves = [(np.arange(0, 80), np.arange(80, 120))]
    model = vae(1, likelihood=MixedLikelihood(handle_unknown="ignore"), max_iter=2)
    search = BatchedGridSearchCV(model, {"beta": [1.0]}, cv=halves)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(frame)
    found = [str(w.message) for w in caught if "numbers and 1 string" in str(w.message)]
    assert [text[:10] for text in found] == ["Column 'a'", "Column 'b'"]
    assert not any("This is" in text for text in found)


def test_other_calls_under_the_backend_are_no_fits_of_a_search(X):
    """Each of their warnings comes as it is, also from workers."""
    for n_jobs in (None, 2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with parallel_config("skae"):
                Parallel(n_jobs)(delayed(vae(beta=beta).fit)(X) for beta in (1e4, 2e4))
        assert len(inactive(caught)) == 2
        assert not any("This is" in text for text in inactive(caught))


def test_a_category_that_a_fold_lacks():
    """The last warning of the search says what to do, and where the category is missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"city": ["Oslo"] + ["Lima", "Rome"] * 30, "age": rng.normal(40, 10, 61)}
    )
    model = vae(1, likelihood="mixed", max_iter=2)
    search = BatchedGridSearchCV(model, {"beta": [1.0, 2.0]}, cv=3, refit=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(frame)
    assert np.isnan(search.cv_results_["mean_test_score"]).all()
    last = str([w for w in caught if issubclass(w.category, UserWarning)][-1].message)
    assert last.startswith("Found unknown values in column 'city'")
    assert "pass likelihood=Mixed(handle_unknown='ignore')" in last
    assert "fold 1 of 3. 2 of 6 fits" in last


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_that_fails_warns_too(n_jobs, X, capfd):
    """What its fits warned of may be the reason, and the error of a worker has it."""

    def fail(model, X, y=None):
        raise ZeroDivisionError

    search = BatchedGridSearchCV(
        vae(), {"beta": [1e4]}, n_jobs=n_jobs, cv=FOLDS, scoring=fail, error_score="raise"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ZeroDivisionError) as error:
            search.fit(X)
    assert vars(error.value) == {}
    assert "Warning" not in capfd.readouterr().err
    (text,) = [str(w.message) for w in caught if "No component" in str(w.message)]
    assert re.search(r"\(This is fit [12] of a search that did not end\.", text)
    assert n_jobs or "fit 1" in text
