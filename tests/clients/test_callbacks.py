"""scikit-learn's callbacks: alone, in a pipeline, and in a search with two processes."""

import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import VariationalAutoencoder
from tests.helpers import Recording, every_estimator, weights

pytest.importorskip("rich")
FOLDS = KFold(2)


@every_estimator
def test_progress_bar(estimator, X, capsys, monkeypatch):
    """scikit-learn's bar ends at 100% for a fit, in a Pipeline and in a search."""
    monkeypatch.setenv("COLUMNS", "200")
    model = estimator(max_iter=4, random_state=0)
    plain = weights(clone(model).fit(X))

    def printed():
        out = capsys.readouterr().out
        assert "100%" in out
        assert not re.search(r"\b\d{1,2}%", out)
        return out

    bar = ProgressBar(max_propagation_depth=None)
    assert weights(clone(model).set_callbacks(bar).fit(X)) == plain
    assert f"{estimator.__name__} - fit" in printed()

    pipeline = make_pipeline(StandardScaler(), clone(model)).set_callbacks(bar).fit(X)
    assert re.search(rf"Pipeline .*\| {estimator.__name__} - fit", printed())
    assert pipeline[-1].n_iter_ == 4

    search = GridSearchCV(clone(model), {"n_components": [1, 2]}, cv=2)
    search.set_callbacks(bar).fit(X)
    assert len(re.findall(rf"\| {estimator.__name__} - fit", printed())) >= 5


def test_progress_bar_of_two_processes(X, capsys, monkeypatch):
    """The bars of fits in other processes are drawn in this one."""
    monkeypatch.setenv("COLUMNS", "200")
    model = VariationalAutoencoder(max_iter=3, random_state=0)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=FOLDS, n_jobs=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X)
    out = capsys.readouterr().out
    assert len(re.findall(r"\| VariationalAutoencoder - fit", out)) >= 5
    assert "100%" in out
    assert not re.search(r"\b\d{1,2}%", out)
    plain = GridSearchCV(model, {"n_components": [1, 2]}, cv=FOLDS).fit(X)
    assert weights(search.best_estimator_) == weights(plain.best_estimator_)


def score_by_elbo(model, X, y):
    """Return the score of a model by name, as a scorer does."""
    return {"elbo": model.score(X)}


def scores_of(monitor):
    """Return what a monitor has recorded of epochs, in the order of the tasks."""
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert {row["estimator_name"] for row in rows} == {"VariationalAutoencoder"}
    return [row["elbo"] for row in sorted(rows, key=lambda row: row["task_id_path"])]


def test_scoring_monitor(X):
    """It scores the model of each epoch, on the rows that it is trained with."""
    y = np.zeros(len(X))  # without targets, scikit-learn's monitor records no score
    model = VariationalAutoencoder(2, max_iter=4, random_state=0)

    def snapshots(X):
        seen = Recording()
        clone(model).set_callbacks(seen).fit(X)
        return [snapshot.score(X) for snapshot in seen.fitted[:4]]

    monitor = ScoringMonitor(scoring=score_by_elbo)
    clone(model).set_callbacks(monitor).fit(X, y)
    assert scores_of(monitor) == snapshots(X)

    monitor = ScoringMonitor(scoring=score_by_elbo)
    watched = clone(model).set_callbacks(monitor)
    make_pipeline(StandardScaler(), watched).fit(X, y)
    assert scores_of(monitor) == snapshots(StandardScaler().fit_transform(X))

    monitor = ScoringMonitor(scoring=score_by_elbo)
    watched = clone(model).set_callbacks(monitor)
    GridSearchCV(watched, {"n_components": [2]}, cv=FOLDS, n_jobs=2).fit(X, y)
    expected = [snapshots(X[fit]) for fit, _ in FOLDS.split(X)] + [snapshots(X)]
    found = np.reshape(scores_of(monitor), (3, 4))
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0))
