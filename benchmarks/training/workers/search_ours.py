"""skae's estimator in a search: one by one, batched, or under the joblib backend."""

import warnings
from contextlib import nullcontext

import joblib
import numpy as np
from search import n_jobs_of, serve_search
from sklearn.model_selection import GridSearchCV
from worker import Plan

from skae import VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV


def search(X: np.ndarray, plan: Plan, request: dict) -> list[float]:
    kind = BatchedGridSearchCV if plan.variant.startswith("batched") else GridSearchCV
    model = VariationalAutoencoder(
        plan.k,
        hidden_layer_sizes=plan.hidden,
        batch_size=plan.batch,
        max_iter=plan.epochs,
        tol=0.0,
        n_iter_no_change=plan.epochs,
        random_state=plan.seed,
    )
    grid = {"beta": request["betas"], "learning_rate_init": request["rates"]}
    is_backend = plan.variant.startswith("backend")
    with joblib.parallel_config("skae") if is_backend else nullcontext():
        found = kind(model, grid, cv=request["folds"], n_jobs=n_jobs_of(request)).fit(X)
    assert found.best_estimator_.n_iter_ == plan.epochs
    return found.cv_results_["mean_test_score"]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve_search(search, "skae", "torch")
