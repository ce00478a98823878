"""Tests of scikit-learn's callbacks, of interrupts and of progress bars."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae import GaussianAutoencoder, VariationalAutoencoder
from tests.helpers import (
    Recording,
    answers,
    assert_finite,
    assert_same_answers,
    every_estimator,
    weights,
)


@every_estimator
def test_callback_is_called_at_each_epoch(estimator, X):
    """A callback is called at the begin and end of each epoch, with a usable model.

    The model that a fit returns may be the start instead of the last epoch.
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
    # Each snapshot is a separate model, and the last one equals the fitted model.
    codes = [snapshot.transform(X) for snapshot in seen.fitted[:4]]
    assert all(np.isfinite(snapshot.score(X)) for snapshot in seen.fitted)
    for one, other in pairwise(codes[:5]):
        assert not np.array_equal(one, other)
    assert_same_answers(seen.fitted[5], model, X)
    # Further training does not change the snapshots, and they can be pickled.
    expected = [answers(snapshot, X) for snapshot in seen.fitted[:5]]
    model.set_callbacks().set_params(warm_start=True).fit(X)
    for snapshot, before in zip(seen.fitted, expected, strict=False):
        for name, value in answers(snapshot, X).items():
            np.testing.assert_array_equal(value, before[name])
    snapshot = seen.fitted[1].set_callbacks()
    assert_same_answers(pickle.loads(pickle.dumps(snapshot)), snapshot, X)


def test_snapshot_equals_a_fit_stopped_at_its_epoch(X):
    """The snapshot of the second epoch equals a fit that stops after two epochs."""
    seen = Recording()
    parameters = {
        "max_iter": 5,
        "learning_rate_init": 0.01,
        "batch_size": 32,
        "random_state": 0,
    }
    GaussianAutoencoder(**parameters).set_callbacks(seen).fit(X)
    stopped = GaussianAutoencoder(**parameters)
    stopped.set_callbacks(Recording(stop_after=2)).fit(X)
    np.testing.assert_array_equal(seen.fitted[1].transform(X), stopped.transform(X))
    # The scale of a snapshot is a running mean, so the scores are only close.
    assert seen.fitted[1].score(X) == pytest.approx(stopped.score(X), abs=0.2)


@every_estimator
def test_callback_stops_the_training(estimator, X):
    """A callback can stop the training, and the history has the length of the training."""
    model = estimator(max_iter=50, random_state=0)
    model.set_callbacks(Recording(stop_after=3)).fit(X, X_val=X)
    assert model.n_iter_ == 3
    assert len(model.loss_curve_) == 3
    assert {len(values) for values in model.history_.values()} == {3}
    assert_finite(model, X)


@every_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupt_keeps_the_last_whole_epoch(estimator, early_stopping, X):
    """An interrupt within an epoch is raised, with the model of the last whole epoch."""
    parameters = {"max_iter": 9, "random_state": 0, "early_stopping": early_stopping}
    interrupt = Recording(raise_at_begin=(4, KeyboardInterrupt()))
    model = estimator(**parameters).set_callbacks(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    stopped = estimator(**parameters).set_callbacks(Recording(stop_after=3)).fit(X)
    assert weights(model) == weights(stopped)
    assert model.n_iter_ == 3
    assert_finite(model, X)
    assert interrupt.n_teardowns == 1


@every_estimator
@pytest.mark.parametrize("where", ["raise_at_begin", "raise_at_end"])
def test_interrupt_in_the_first_epoch(estimator, where, X):
    """An interrupt in the first epoch leaves the start, as good as scikit-learn's PCA."""
    model = estimator(max_iter=9, random_state=0, hidden_layer_sizes=())
    model.set_callbacks(Recording(**{where: (1, KeyboardInterrupt())}))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.n_iter_ == len(model.loss_curve_) == (where == "raise_at_end")
    assert {len(values) for values in model.history_.values()} == {model.n_iter_}
    assert_finite(model, X)
    if estimator is VariationalAutoencoder:
        assert model.score(X) > PCA(2).fit(X).score(X) - 0.05


def test_interrupt_before_the_first_step(monkeypatch, X):
    """The message says that there is no model, and an earlier one stays."""

    def train(problems):
        raise KeyboardInterrupt

    model = VariationalAutoencoder(max_iter=2, random_state=0)
    fitted = VariationalAutoencoder(max_iter=2, random_state=0).fit(X)
    monkeypatch.setattr("skae.estimators.base.train", train)
    for each in (model, fitted):
        with pytest.raises(KeyboardInterrupt, match="before there is a model of this fit"):
            each.fit(X)
    assert not hasattr(model, "n_iter_")
    assert fitted.n_iter_ == 2


def test_interrupted_continuation_keeps_its_history(X):
    """A warm start that is interrupted in its first epoch keeps the earlier history."""
    model = VariationalAutoencoder(max_iter=3, warm_start=True, random_state=0).fit(X)
    before = {name: values.copy() for name, values in model.history_.items()}
    model.set_callbacks(Recording(raise_at_begin=(1, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert model.history_.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(model.history_[name], values)


@every_estimator
def test_error_in_a_callback_is_raised(estimator, X):
    """An error of a callback ends `fit`, and an earlier fit stays usable."""
    broken = Recording(raise_at_end=(2, ZeroDivisionError("of the callback")))
    model = estimator(max_iter=5, random_state=0).set_callbacks(broken)
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        model.fit(X)
    assert broken.n_teardowns == 1
    assert not hasattr(model, "module_")
    model.set_callbacks().fit(X)
    expected = answers(model, X)
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        model.set_callbacks(broken).fit(X[:40])
    for name, value in answers(model, X).items():
        np.testing.assert_array_equal(value, expected[name])


def test_callbacks_see_the_scale_of_the_validation_score(X):
    """The snapshot of an epoch has the score that the history records."""
    seen = Recording()
    model = GaussianAutoencoder(max_iter=4, batch_size=16, random_state=0)
    model.set_callbacks(seen).fit(X[:80], X_val=X[80:])
    scores = [snapshot.score(X[80:]) for snapshot in seen.fitted[:4]]
    np.testing.assert_allclose(scores, model.history_["validation_score"], rtol=1e-6)
