"""Fits by two processes for tests/test_spmd.py, which also fits them in one process.

``python -m tests.spmd_cases RANK STORE OUT`` fits all cases as one of the processes.
"""

import hashlib
import pickle
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.mixture import GaussianMixture

import skae
from skae import spmd
from skae.likelihoods import CategoricalLikelihood
from tests.callbacks import Callback

SIZE = 2
# Seconds after which a test that hangs fails.
TIMEOUT = 60

IRIS, WINE = load_iris().data, load_wine().data
DIGITS = load_digits().data[:400]
HOLES = IRIS.copy()
HOLES[::7, 1] = np.nan
HOLES[5] = np.nan
COUNTS = np.random.default_rng(0).poisson(3, (200, 4)).astype(float)
CURVE = np.random.default_rng(1).normal(size=(1500, 2))
CURVE = np.c_[CURVE, CURVE[:, 0] ** 2, np.sin(3 * CURVE[:, 1])]
CURVE += 0.1 * np.random.default_rng(2).normal(size=CURVE.shape)
LARGE = np.random.default_rng(3).normal(size=(11_000, 3)) @ np.diag([3.0, 2.0, 1.0])
LARGE[:, 2] += np.abs(LARGE[:, 0])

FULL = {"batch_size": 10**6, "precision": "float64", "max_iter": 12, "random_state": 0}


def interleaved(n):
    """Return the rank of each row: in turns."""
    return np.arange(n) % SIZE


def uneven(n):
    """Return the rank of each row: a tenth is on the first."""
    return (np.arange(n) >= n // 10).astype(int)


def all_on_last(n):
    """Return the rank of each row: there is none on the first."""
    return np.full(n, SIZE - 1)


@dataclass
class Case:
    """A fit: an estimator, its parameters and data, and which rank has which rows."""

    name: str
    X: np.ndarray
    params: dict[str, Any] = field(default_factory=dict)
    cut: Any = uneven
    weight: np.ndarray | None = None
    X_val: np.ndarray | None = None

    def make(self, package):
        """Return the estimator of a package."""
        return getattr(package, self.name)(**{**FULL, **self.params})

    def fit(self):
        """Fit in one process."""
        return self.make(skae).fit(self.X, sample_weight=self.weight, X_val=self.X_val)

    def fit_rank(self, rank):
        """Fit in one of several processes."""
        own = self.cut(len(self.X)) == rank
        weight = None if self.weight is None else self.weight[own]
        X_val = self.X_val
        if X_val is not None:
            X_val = X_val[self.cut(len(X_val)) == rank]
        return self.make(spmd).fit(self.X[own], sample_weight=weight, X_val=X_val)


_AE, _LAPLACE, _VAE = (
    "GaussianAutoencoder", "LaplaceAutoencoder", "VariationalAutoencoder"
)  # fmt: skip
_FIXED = {"variance_mode": "fixed", "scale": 0.3}
_PREDICTED = {"variance_mode": "predicted", "covariance_type": "diag"}

# An epoch is one batch.
EQUAL = {
    "optimal": Case(_AE, CURVE, {"init": "random"}),
    "fixed": Case(_AE, CURVE, _FIXED | {"init": "random"}, interleaved),
    "profile": Case(_AE, CURVE, {"variance_mode": "profile", "init": "random"}),
    "principal components": Case(
        _AE, CURVE, {"n_components": 0.7, "learning_rate_init": 1e-12}
    ),
    "learned": Case(_LAPLACE, CURVE, {"variance_mode": "learned"}, all_on_last),
    "winsorized": Case(_LAPLACE, LARGE, {"covariance_type": "diag", "max_iter": 3}),
    "vae": Case(_VAE, IRIS, {"gradient_balance": True}, all_on_last),
    "vae, many rows": Case(_VAE, LARGE, {"max_iter": 3, "n_components": 1}),
    "vae, not shuffled": Case(_VAE, IRIS, {"shuffle": False}),
    "early stopping": Case(
        _LAPLACE,
        WINE,
        {"covariance_type": "diag", "early_stopping": True, "max_iter": 30},
    ),
    "plateau": Case(_VAE, IRIS, {"max_iter": 60, "n_iter_no_change": 2, "tol": 0.1}),
    "X_val": Case(_VAE, IRIS, {"early_stopping": True}, uneven, X_val=IRIS[::9] + 0.01),
    "X_val on one rank": Case(_VAE, IRIS, cut=all_on_last, X_val=IRIS[::9]),
    "holes": Case(_VAE, HOLES, {"likelihood": "laplace"}, interleaved),
    "holes, diagonal": Case(_VAE, HOLES, {"covariance_type": "diag"}),
    "weights": Case(
        _VAE, IRIS, _PREDICTED | {"n_mc_samples": 3}, weight=(np.arange(150) % 5) * 0.7
    ),
    "no weights on the first": Case(
        _VAE, IRIS, weight=np.where(uneven(150) == 0, 0.0, 2.5)
    ),
    "prior, two starts": Case(
        _VAE, IRIS, {"n_init": 2, "prior": GaussianMixture(2), "max_iter": 5}
    ),
    "counts": Case(_VAE, COUNTS, {"likelihood": "poisson"}, interleaved),
    "negative binomial": Case(_VAE, COUNTS, {"likelihood": "negative_binomial"}),
    "log-normal": Case(_VAE, IRIS, {"likelihood": "log_normal"}),
    "mixture": Case(_VAE, IRIS, {"likelihood": "mixture", **_PREDICTED}),
    "convolutions": Case(
        _VAE,
        DIGITS[:, :64] + np.random.default_rng(0).normal(size=DIGITS.shape),
        {"network": skae.networks.Conv((1, 8, 8), channels=(4,)), "max_iter": 3},
    ),
    "constant columns": Case(_AE, np.ones((7, 3)) * [1, 2, 3]),
    "fewer rows than ranks": Case(_VAE, np.ones((5, 2)), cut=all_on_last),
}
# Several batches, float32, or a start at the optimum, whose gradients are rounding errors.
SAME = {
    "minibatches": Case(_VAE, DIGITS, {"batch_size": 64, "precision": "auto"}, uneven),
    "minibatches, interleaved": Case(
        _VAE, DIGITS, {"batch_size": 64, "precision": "auto"}, interleaved
    ),
    "start at the optimum": Case(_AE, IRIS, {"max_iter": 20}),
    "batches of one row": Case(_AE, WINE[:21], {"batch_size": 1, "max_iter": 3}),
    "one row, many batches": Case(_VAE, IRIS[:3], {"batch_size": 1}, all_on_last),
    "early stopping in minibatches": Case(
        _VAE, WINE, {"early_stopping": True, "batch_size": 16, "precision": "auto"}
    ),
    "bf16": Case(_VAE, IRIS, {"precision": "bf16", "max_iter": 2}),
    "divergence": Case(_AE, CURVE, {"learning_rate_init": 1e30, "precision": "auto"}),
}
HELD_OUT = CURVE[1000:]
SEEDS = range(6)
SEEDED = {
    f"seed {seed}": Case(
        _VAE,
        CURVE[:1000],
        {"batch_size": 64, "precision": "auto", "max_iter": 15, "random_state": seed},
    )
    for seed in SEEDS
}


class Stopping(Callback):
    """A callback that ends the fit after two epochs."""

    n_epochs = 0

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        return self.n_epochs == 2


class Failing(Callback):
    """A callback that raises an error."""

    def on_fit_task_end(self, estimator, context):
        raise KeyError("of a callback")


class FailingAtBegin(Callback):
    """A callback that raises an error before an epoch."""

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch":
            raise KeyError("of a callback")


class FailingInFit(Callback):
    """A callback that raises an error at one of the places outside of the epochs."""

    def __init__(self, place):
        self.place = place

    def _fail(self, place):
        if place == self.place:
            raise KeyError("of a callback")

    def setup(self, estimator, context):
        self._fail("setup")

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "fit":
            self._fail("begin")

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "fit":
            self._fail("end")


class WithFunction(GaussianMixture):
    """A prior that cannot be pickled once it is fitted."""

    def fit(self, X, y=None):
        self.function_ = lambda: None
        return super().fit(X)


def iris(rank, **params):
    """Return an estimator for iris, and the rows of a rank."""
    model = spmd.VariationalAutoencoder(max_iter=4, random_state=0).set_params(**params)
    return model, IRIS[interleaved(150) == rank]


def without(model, X, **kwargs):
    """Fit, and return what is compared between the ranks."""
    return model.fit(X, **kwargs).n_iter_


def with_infinity(rank):
    model, X = iris(rank)
    if rank == 1:
        X = X.copy()
        X[3, 2] = np.inf
    return without(model, X)


def with_strings(rank):
    model, X = iris(rank)
    return without(model, X if rank == 0 else X.astype(str).astype(object) + "x")


def with_wrong_parameter(rank):
    return without(*iris(rank, n_components=2 if rank == 0 else -1))


def with_negative_weights(rank):
    model, X = iris(rank)
    return without(model, X, sample_weight=np.ones(len(X)) - 2 * (rank == 0))


def with_bad_validation(rank):
    model, X = iris(rank)
    return without(model, X, X_val=X if rank == 1 else X[:, :2])


def with_other_parameters(rank):
    return without(*iris(rank, n_components=2 + rank))


def with_other_class(rank):
    X = iris(rank)[1]
    kind = spmd.GaussianAutoencoder if rank else spmd.VariationalAutoencoder
    return without(kind(random_state=0), X)


def with_fewer_features(rank):
    model, X = iris(rank)
    return without(model, X[:, : 4 - rank])


def with_other_dtype(rank):
    model, X = iris(rank)
    return without(model, X.astype([np.float32, np.float64][rank]))


def with_other_names(rank):
    import pandas as pd  # which the other processes of the tests do not need

    model, X = iris(rank)
    return without(model, pd.DataFrame(X, columns=["a", "b", "c", f"d{rank}"]))


def with_validation_on_one(rank):
    model, X = iris(rank)
    return without(model, X, X_val=X if rank == 0 else None)


def without_validation(rank):
    model, X = iris(rank)
    return without(model, X, X_val=X[:0])


def without_rows(rank):
    model, X = iris(rank)
    return without(model, X[:0])


def without_weights(rank):
    model, X = iris(rank)
    return without(model, X, sample_weight=np.zeros(len(X)))


def with_empty_column(rank):
    model, X = iris(rank)
    X = X.copy()
    X[:, 2] = np.nan
    return without(model, X)


def with_failing_callback(rank):
    model, X = iris(rank)
    return without(model.set_callbacks(Failing()) if rank == 1 else model, X)


def with_failing_begin(rank):
    model, X = iris(rank)
    return without(model.set_callbacks(FailingAtBegin()) if rank == 0 else model, X)


def _with_failing(place, rank):
    model, X = iris(rank)
    model = model.set_callbacks(FailingInFit(place)) if rank == 1 else model
    return without(model, X)


def with_failing_setup(rank):
    return _with_failing("setup", rank)


def with_failing_begin_of_fit(rank):
    return _with_failing("begin", rank)


def with_failing_end_of_fit(rank):
    return _with_failing("end", rank)


def with_unpicklable_prior(rank):
    return without(*iris(rank, prior=WithFunction(2)))


def with_sparse_frame(rank):
    import pandas as pd  # which the other processes of the tests do not need

    model, X = iris(rank)
    if rank == 1:
        X = pd.DataFrame.sparse.from_spmatrix(csr_matrix(X))
    return without(model, X)


def with_sparse_validation(rank):
    model, X = iris(rank)
    return without(model, X, X_val=csr_matrix(X) if rank == 1 else X)


def with_warm_start(rank):
    return without(*iris(rank, warm_start=True))


def with_checkpoint(rank):
    return without(*iris(rank, checkpoint="model.npz"))


def with_network(rank):
    class Network:
        def encoder(self, n_in, n_out):
            return torch.nn.Linear(n_in, n_out)

        decoder = encoder

    return without(*iris(rank, network=Network()))


def with_categories(rank):
    return without(*iris(rank, likelihood=CategoricalLikelihood()))


def with_mixed(rank):
    return without(*iris(rank, likelihood="mixed"))


def side_by_side(rank):
    search = skae.model_selection.BatchedGridSearchCV(
        iris(rank)[0], {"beta": [0.5, 1.0]}, error_score="raise", cv=2
    )
    search.fit(iris(rank)[1])


# What each rank does, and a part of the error of each.
REFUSED = {
    with_infinity: "infinity",
    with_strings: "could not convert string",
    with_wrong_parameter: "The 'n_components' parameter",
    with_negative_weights: "Negative values",
    with_bad_validation: "X_val cannot be used",
    with_other_parameters: "must not differ in n_components: it is 2 on rank 0 and 3",
    with_other_class: "must not differ in class",
    with_fewer_features: "must not differ in number of features: it is 4",
    with_other_dtype: "must not differ in dtype of X: it is float32",
    with_other_names: "must not differ in column names",
    with_validation_on_one: "must not differ in X_val: it is given on rank 0",
    without_rows: "0 sample(s)",
    without_validation: "X_val cannot be used: it has 0 sample(s)",
    without_weights: "at least one non-zero",
    with_empty_column: "no observed value of column 2",
    with_sparse_frame: "does not support sparse data",
    with_sparse_validation: "does not support sparse data",
    with_warm_start: "does not support warm_start=True",
    with_checkpoint: "does not support checkpoint",
    with_network: "does not support a network of your own",
    with_categories: "does not support a likelihood",
    with_mixed: "does not support a likelihood",
    side_by_side: "does not support training side by side",
}
# The same for errors of parts of the user.
FAILED = {
    with_failing_setup: "of a callback",
    with_failing_begin_of_fit: "of a callback",
    with_failing_begin: "of a callback",
    with_failing_callback: "of a callback",
    with_failing_end_of_fit: "of a callback",
    with_unpicklable_prior: "pickle",
}


def with_callback_on_one(rank):
    """Return the number of epochs if a callback of the last rank ends the fit."""
    model, X = iris(rank)
    return without(model.set_callbacks(Stopping()) if rank == 1 else model, X)


def with_random_states(rank):
    """Return hashes of fits whose random states are not the same."""
    states = [None, np.random.RandomState(rank)]
    return [
        digest(model.fit(X)) for model, X in (iris(rank, random_state=s) for s in states)
    ]


def with_verbose(rank):
    """Fit with output on all ranks; what is printed is compared."""
    print(f"rank {rank} begins")
    return without(*iris(rank, verbose=1))


OTHER = [with_callback_on_one, with_random_states, with_verbose]


def result_of(model):
    """Return what is compared of a fitted model."""
    return {
        "arrays": model.module_.get_arrays(),
        "history": model.history_,
        "scores": {"of ones": model.score_samples(np.ones((2, model.n_features_in_)))},
        "n_iter": model.n_iter_,
        "best_iter": model.best_iter_,
        "standardization": {
            name: value
            for name, value in vars(model._standardization).items()
            if isinstance(value, np.ndarray)
        },
    }


def digest(model):
    """Return a hash of all that is compared."""
    found = hashlib.sha256()
    for part in result_of(model).values():
        items = part.items() if isinstance(part, dict) else [("", part)]
        for name, value in items:
            found.update(f"{name} {np.asarray(value).dtype}".encode())
            found.update(np.asarray(value).tobytes())
    return found.hexdigest()


def run(rank):
    """Return the results of all cases in one process."""
    found = {}
    for name, case in {**EQUAL, **SAME, **SEEDED}.items():
        model = case.fit_rank(rank)
        found[name] = {**result_of(model), "digest": digest(model)}
        if name in SEEDED:
            found[name]["score"] = model.score(HELD_OUT)
    for function in [*REFUSED, *FAILED, *OTHER]:
        try:
            found[function.__name__] = function(rank)
        except Exception as error:
            found[function.__name__] = type(error).__name__, str(error)
    return found


def main():
    """Fit as one of the processes."""
    rank, store, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=SIZE,
        timeout=timedelta(seconds=TIMEOUT),
    )
    try:
        out.write_bytes(pickle.dumps(run(rank)))
    except BaseException:
        traceback.print_exc()
        raise
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
