"""Measure the epochs and seconds that skae needs for an ELBO, with default parameters."""

import time
import warnings

import numpy as np
from worker import answer, read_request

from skae import VariationalAutoencoder

warnings.simplefilter("ignore")
request, plan = read_request()
train, test = np.load(request["train"]), np.load(request["test"])


def fit(X: np.ndarray, max_iter: int) -> VariationalAutoencoder:
    """Fit an estimator with the widths of the plan."""
    return VariationalAutoencoder(
        plan.k, hidden_layer_sizes=plan.hidden, max_iter=max_iter, random_state=plan.seed
    ).fit(X)


fit(train[:200], 1)
tries = []  # max_iter, seconds, ELBO
for max_iter in request["sweep"]:
    start = time.perf_counter()
    model = fit(train, max_iter)
    tries.append((max_iter, time.perf_counter() - start, model.score(test)))
answer(tries=tries)
