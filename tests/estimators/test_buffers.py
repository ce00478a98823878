"""Buffers of networks, such as running means, belong to the epoch that is kept."""

import os
import signal

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV
from tests.callbacks import Callback
from tests.helpers import ESTIMATORS, assert_finite, every_estimator, ignore_divergence


class Counting(nn.Module):
    """A layer whose buffers count its steps: in place, and by new tensors."""

    def __init__(self):
        super().__init__()
        self.register_buffer("in_place", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.register_buffer("absent", None)

    def forward(self, x):
        if self.training:
            self.in_place.add_(1)
            self.replaced = self.replaced + 1
        return x


class Normalised(BaseEstimator):
    """A specification of networks with batch normalisation and counters."""

    def encoder(self, n_features, n_outputs):
        first, last = nn.Linear(n_features, 6), nn.Linear(6, n_outputs)
        # In a step the decoder has draws of the codes as its rows.
        return nn.Sequential(first, nn.BatchNorm1d(6), nn.ReLU(), Counting(), last)

    decoder = encoder


class History(Callback):
    """A callback that keeps the buffers of each epoch, and may interrupt or stop."""

    def __init__(self, interrupt_at=None, stop_after=None):
        self.interrupt_at, self.stop_after = interrupt_at, stop_after
        self.buffers, self.scores = [], []

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.buffers.append(buffers(fitted_estimator))
            return context.task_id + 1 == self.stop_after
        return False


def buffers(model):
    """Return copies of the buffers of the networks of a model."""
    return {
        name: value.copy()
        for name, value in model.module_.get_arrays().items()
        if name.startswith(("encoder", "decoder")) and not name.endswith(("weight", "bias"))
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 5
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def noisy(estimator, **parameters):
    """Make a model that overfits: its score is best in the midst of its training."""
    settings = {"max_iter": 60, "random_state": 0, "learning_rate_init": 0.05}
    settings |= {"early_stopping": True, "n_iter_no_change": 99, "alpha": 0.0}
    return estimator(network=Normalised(), **settings | parameters)


@pytest.mark.parametrize(
    ("estimator", "n_init"),
    [*((estimator, 1) for estimator in ESTIMATORS), (VariationalAutoencoder, 2)],
)
def test_early_stopping_keeps_the_buffers_of_the_best_epoch(estimator, n_init, X):
    """They are those that a callback saw at the end of that epoch."""
    train, held_out = X[:25].astype(np.float32), X[25:].astype(np.float32)
    history = History()
    model = noisy(estimator, init="random", n_init=n_init).set_callbacks(history)
    model.fit(train, X_val=held_out)
    assert 0 < model.best_iter_ < model.n_iter_ == 60
    # Parameters and buffers belong together: the score is that of the history, but for the
    # number of draws.
    best = model.history_["validation_score"][model.best_iter_ - 1]
    assert model.score(held_out) == pytest.approx(best, abs=0.2)
    # Callbacks follow the first start only.
    expected = history.buffers[model.best_iter_ - 1]
    if n_init == 1:
        assert_equal(buffers(model), expected)
    assert model.module_.encoder[3].in_place == expected["encoder.3.in_place"]


def test_a_fit_that_stops_at_the_best_epoch_is_the_same(X):
    """A callback that stops there gives the buffers of early stopping."""
    model = noisy(VariationalAutoencoder, init="random").fit(X[:40])
    stopping = History(stop_after=model.best_iter_)
    stopped = noisy(VariationalAutoencoder, init="random").set_callbacks(stopping)
    stopped.fit(X[:40])
    assert stopped.n_iter_ == stopped.best_iter_ == model.best_iter_ < model.n_iter_
    assert_equal(buffers(model), buffers(stopped))


@pytest.mark.parametrize(
    ("estimator", "early_stopping"),
    [*((estimator, True) for estimator in ESTIMATORS), (VariationalAutoencoder, False)],
)
@ignore_divergence
def test_a_start_that_is_kept_has_its_own_buffers(estimator, early_stopping, X):
    """The buffers are those of the constructor."""
    model = noisy(estimator, early_stopping=early_stopping, learning_rate_init=100.0)
    with pytest.warns(ConvergenceWarning, match=r"start|diverged"):
        model.fit(X)
    assert model.best_iter_ == 0
    start = torch.nn.ModuleList([Normalised().encoder(6, 2), Normalised().decoder(2, 6)])
    expected = {k: v for k, v in start.named_buffers() if "num_batches" not in k}
    found = buffers(model)
    for name, value in expected.items():
        part = name.replace("0.", "encoder.", 1) if name[0] == "0" else name
        part = part.replace("1.", "decoder.", 1) if name[0] == "1" else part
        np.testing.assert_array_equal(found[part], value, err_msg=part)
    assert_finite(model, X)


class Exploding(Normalised):
    """The same, with steps that become infinite in the midst of an epoch."""

    def encoder(self, n_features, n_outputs):
        network = super().encoder(n_features, n_outputs)

        def explode(module, args, output):
            late = module.training and module[3].in_place > 13
            return output * float("inf") if late else output

        network.register_forward_hook(explode)
        return network

    decoder = encoder


@every_estimator
def test_divergence_restores_the_buffers_of_the_last_epoch(estimator, X):
    """Those of the epoch in which the training diverges are discarded."""
    history = History()
    model = estimator(
        network=Exploding(), max_iter=9, init="random", random_state=0, batch_size=30
    )
    with pytest.warns(ConvergenceWarning, match="diverged"):
        model.set_callbacks(history).fit(X)
    assert model.n_iter_ == model.best_iter_ == 3
    assert_equal(buffers(model), history.buffers[2])
    assert model.module_.encoder[3].in_place == 12


@every_estimator
def test_interrupts_restore_the_buffers_of_the_last_epoch(estimator, X):
    """An interrupt within an epoch goes back to the end of the epoch before."""
    history = History(interrupt_at=4)
    model = estimator(network=Normalised(), max_iter=9, init="random", random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(history).fit(X)
    assert model.n_iter_ == 4
    assert_equal(buffers(model), history.buffers[3])


def test_interrupts_in_the_midst_of_steps(X):
    """Steps of the epoch that is not whole have changed buffers, which are restored."""
    history = History()

    class Interrupting(Normalised):
        def encoder(self, n_features, n_outputs):
            network = super().encoder(n_features, n_outputs)

            def interrupt(module, args):
                if module.training and module[3].in_place == 10:
                    raise KeyboardInterrupt

            network.register_forward_pre_hook(interrupt)
            return network

        decoder = Normalised.encoder

    model = VariationalAutoencoder(
        network=Interrupting(), max_iter=9, init="random", random_state=0, batch_size=30
    )
    with pytest.raises(KeyboardInterrupt):
        model.set_callbacks(history).fit(X)
    assert model.n_iter_ == 2
    assert_equal(buffers(model), history.buffers[1])
    assert model.module_.encoder[3].in_place == 8


def test_searches_keep_the_buffers_of_the_best_epoch(X):
    """The model of a search has the buffers of a fit alone."""
    model = noisy(VariationalAutoencoder, init="random")
    search = BatchedGridSearchCV(model, {"beta": [0.5, 1.0]}, cv=2).fit(X)
    alone = noisy(VariationalAutoencoder, init="random").set_params(**search.best_params_)
    assert_equal(buffers(search.best_estimator_), buffers(alone.fit(X)))


def test_warm_starts_go_on_with_the_buffers(X):
    """The second fit begins with the buffers of the first one."""
    model = VariationalAutoencoder(
        network=Normalised(), max_iter=2, init="random", random_state=0, warm_start=True
    )
    first = model.fit(X).module_.encoder[3].in_place.item()
    assert model.fit(X).module_.encoder[3].in_place == 2 * first
