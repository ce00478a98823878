"""scikit-learn's progress bar of fits that end before their last epoch."""

import os
import re
import signal
from contextlib import suppress

import joblib
import pytest
from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV

from skae import VariationalAutoencoder
from tests.helpers import Recording, ignore_divergence

EARLY = {"early_stopping": True, "tol": 10.0, "n_iter_no_change": 2}
DIVERGING = {"learning_rate_init": 1e30, "variance_mode": "learned"}


class SignalAtEpoch(Recording):
    """A callback that sends the process an interrupt, once, as Ctrl-C does."""

    def setup(self, estimator, context):
        self.is_sent = False

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == 3 and not self.is_sent:
            self.is_sent = True
            os.kill(os.getpid(), signal.SIGINT)


def percentages(capsys):
    """Return the percentages at which the bars end."""
    return re.findall(r"\b\d+%", capsys.readouterr().out)


@ignore_divergence
@pytest.mark.parametrize(
    ("parameters", "callback"),
    [
        ({}, Recording(stop_after=3)),
        ({}, Recording(raise_at_begin=(1, KeyboardInterrupt()))),
        ({}, Recording(raise_at_begin=(4, KeyboardInterrupt()))),
        ({}, Recording(raise_at_end=(4, KeyboardInterrupt()))),
        ({}, SignalAtEpoch()),
        (EARLY, None),
        (DIVERGING, None),
    ],
)
def test_bar_ends_at_100_percent(parameters, callback, X, capsys, monkeypatch):
    """Whatever ends the training: a callback, an interrupt, a plateau or a divergence."""
    monkeypatch.setenv("COLUMNS", "200")
    model = VariationalAutoencoder(max_iter=60, random_state=0).set_params(**parameters)
    callbacks = [ProgressBar(), *([] if callback is None else [callback])]
    with suppress(KeyboardInterrupt):
        model.set_callbacks(*callbacks).fit(X)
    assert model.n_iter_ < 60
    assert percentages(capsys) == ["100%"]


def test_bars_of_an_interrupted_search_end(X, capsys, monkeypatch):
    """An interrupt while models train side by side ends the bars of search and fits."""
    monkeypatch.setenv("COLUMNS", "200")
    model = VariationalAutoencoder(max_iter=60, random_state=0)
    model.set_callbacks(SignalAtEpoch())
    search = GridSearchCV(model, {"beta": [1, 2]}, cv=2, refit=False)
    search.set_callbacks(ProgressBar(max_propagation_depth=None))
    with joblib.parallel_config("skae"), pytest.raises(KeyboardInterrupt):
        search.fit(X)
    found = percentages(capsys)
    # The fit that was interrupted is over, and those beside it are not.
    assert "100%" in found
    model.set_callbacks(ProgressBar()).set_params(max_iter=2).fit(X)
    assert percentages(capsys) == ["100%"]
