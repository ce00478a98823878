"""Optuna: its search, and a study that prunes trials by their scores in training."""

import runpy
from pathlib import Path

import joblib
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import KFold, cross_val_score

from skae import VariationalAutoencoder
from skae.scales import SCALES

optuna = pytest.importorskip("optuna")
optuna_integration = pytest.importorskip("optuna_integration")

CODE = Path(__file__).parents[2] / "docs" / "guide" / "clients" / "optuna_callback.py"
FOLDS = KFold(2, shuffle=True, random_state=0)
# Those of likelihoods with a scale.
MODES = sorted(set(SCALES) - {"none"})


@pytest.mark.filterwarnings("ignore:OptunaSearchCV is experimental")
@pytest.mark.filterwarnings("ignore:`optuna.terminator` module has been deprecated")
def test_optuna_search(counted):
    """It draws from distributions, and what it says of a trial is its score."""
    X = load_iris().data
    space = {
        "beta": optuna.distributions.FloatDistribution(0.1, 100, log=True),
        "variance_mode": optuna.distributions.CategoricalDistribution(MODES),
    }
    model = VariationalAutoencoder(max_iter=8, random_state=0)
    options = {"n_trials": 6, "cv": FOLDS, "random_state": 0}
    search = optuna_integration.OptunaSearchCV(model, space, **options).fit(X)
    assert len(search.trials_) == 6
    values = [trial.value for trial in search.trials_]
    assert search.best_score_ == max(values)
    for trial in search.trials_[:2]:
        alone = clone(model).set_params(**trial.params)
        assert trial.value == pytest.approx(cross_val_score(alone, X, cv=FOLDS).mean())
    assert search.best_estimator_.beta == search.best_params_["beta"]
    assert search.transform(X).shape == (150, 2)
    # The folds of a trial are trained side by side.
    counted.clear()
    with joblib.parallel_config("skae"):
        again = optuna_integration.OptunaSearchCV(model, space, **options).fit(X)
    assert counted == [*6 * [2], 1]
    assert [trial.value for trial in again.trials_] == pytest.approx(values, abs=1e-5)


def load_callback():
    """Import the file of the guide, which is no package."""
    return runpy.run_path(str(CODE))["Prune"]


def test_a_study_with_pruning(X):
    """A callback ends the fit of a trial; the others are as without a study."""
    epochs, prune = 4, load_callback()
    model = VariationalAutoencoder(2, max_iter=epochs, random_state=0)

    def objective(trial):
        trained = clone(model).set_params(beta=trial.suggest_float("beta", 0.5, 1000))
        trained.set_callbacks(prune(trial, X[80:])).fit(X[:80])
        return trained.score(X[80:])

    study = optuna.create_study(
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1),
    )
    for beta in (1, 500, 1):
        study.enqueue_trial({"beta": beta})
    study.optimize(objective, n_trials=3)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert list(study.trials[1].intermediate_values) == [0, 1]
    for trial in (study.trials[0], study.trials[2]):
        assert list(trial.intermediate_values) == list(range(epochs))
        alone = clone(model).set_params(**trial.params).fit(X[:80])
        assert trial.value == alone.score(X[80:])
