"""Searches by successive halving, of scikit-learn."""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  (enables the next)
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold

from skae import VariationalAutoencoder

FOLDS = KFold(2, shuffle=True, random_state=0)


def test_halving_search_over_epochs():
    """Scarce epochs first: the better candidates get more of them."""
    X = load_iris().data
    grid = {"beta": [0.5, 1, 2, 50], "n_components": [1, 2]}
    search = HalvingGridSearchCV(
        VariationalAutoencoder(random_state=0),
        grid,
        resource="max_iter",
        min_resources=3,
        max_resources=27,
        cv=FOLDS,
        random_state=0,
    ).fit(X)
    assert search.n_resources_ == [3, 9]
    assert search.n_candidates_ == [8, 3]
    results = search.cv_results_
    assert [p["max_iter"] for p in results["params"]] == results["n_resources"].tolist()
    # What goes on is the best, and its score that of a search with as many epochs.
    first, last = results["iter"] == 0, results["iter"] == 1
    scores = results["mean_test_score"]
    several = GridSearchCV(
        VariationalAutoencoder(max_iter=3, random_state=0), grid, cv=FOLDS
    ).fit(X)
    assert sorted(scores[first]) == sorted(several.cv_results_["mean_test_score"])
    chosen = [
        {name: value for name, value in p.items() if name != "max_iter"}
        for p in np.array(results["params"])[last]
    ]
    order = np.argsort(scores[first])[::-1][:3]
    for i in order:
        assert {n: v for n, v in results["params"][i].items() if n != "max_iter"} in chosen
    assert search.best_estimator_.n_iter_ == search.best_params_["max_iter"] == 9
