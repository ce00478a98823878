"""Search with skorch's NeuralNet in scikit-learn's GridSearchCV."""

import numpy as np
import torch
from search import n_jobs_of, serve_search
from sklearn.model_selection import GridSearchCV
from skorch_search_net import Net, score
from vae import VAE
from worker import Plan


def search(X: np.ndarray, plan: Plan, request: dict) -> list[float]:
    """Return the mean score of each candidate; fit the best one to all data."""
    torch.manual_seed(plan.seed)
    net = Net(
        VAE,
        criterion=torch.nn.MSELoss,  # required by skorch, not used
        module__n_features=X.shape[1],
        module__hidden=plan.hidden,
        module__k=plan.k,
        optimizer=torch.optim.Adam,
        batch_size=plan.batch,
        max_epochs=plan.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    grid = {"beta": request["betas"], "lr": request["rates"]}
    found = GridSearchCV(
        net, grid, scoring=score, cv=request["folds"], n_jobs=n_jobs_of(request)
    ).fit(X)
    assert found.best_estimator_.history[-1]["epoch"] == plan.epochs
    return found.cv_results_["mean_test_score"]


if __name__ == "__main__":
    serve_search(search, "skorch", "torch")
