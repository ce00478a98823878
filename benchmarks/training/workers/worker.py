"""Read a request, time fits and answer in JSON; shared by all workers.

A worker is a script with a function ``fit(X, plan)`` that trains one system and returns a
`Coder`. It is run as ``python worker.py REQUEST``. The request is a JSON object with the
task, the data (a .npy file) and the fields of a `Plan`. The last line of the output is a
JSON object. This module needs numpy only, so that any environment can run it.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

LEARNING_RATE = 1e-3
UNIT_SCALE, OPTIMAL_SCALE = "1", "optimal"
# Rows on which a loss is computed; a few thousand show that it falls.
_LOSS_ROWS = 2000
# Rows that are coded in one call, to bound the memory.
_CHUNK_ROWS = 1000
# Epochs of a fit that is ended by its time, and steps that it has at least.
_MANY_EPOCHS, _FEWEST_STEPS = 100_000, 20


@dataclass(frozen=True)
class Plan:
    """The model and the training of a request, the same for every system."""

    hidden: list[int]
    k: int
    batch: int
    epochs: int = 1
    seed: int = 0
    # Name of the model, for workers with more than one.
    variant: str = ""
    learning_rate: float = LEARNING_RATE
    # Scale of the Gaussian in training, for the workers textbook, skorch and pythae: 1, or
    # the optimal scale of each batch. The other workers have their own.
    objective: str = UNIT_SCALE


class Coder(NamedTuple):
    """A trained model, as functions from arrays to arrays."""

    encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
    """Function to mean and log-variance of the code (None for a deterministic code)."""
    decode: Callable[[np.ndarray], np.ndarray]
    n_parameters: int | None = None
    n_steps: int | None = None


Fit = Callable[[np.ndarray, Plan], Coder]
Values = dict[str, Any]


def read_request() -> tuple[Values, Plan]:
    """Return the request on the command line, and its plan."""
    request = json.loads(sys.argv[1])
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(request["threads"])
    known = {f.name: request[f.name] for f in fields(Plan) if f.name in request}
    return request, Plan(**known)


def answer(**values: Any) -> None:
    """Print the answer."""
    print("\n" + json.dumps(values))


def serve(fit: Fit, *packages: str) -> None:
    """Answer the request, with the versions of the packages."""
    request, plan = read_request()
    values = _TASKS[request["task"]](fit, np.load(request["train"]), plan, request)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    answer(**values, version=versions)


def warm_up(fit: Fit, X: np.ndarray, plan: Plan) -> None:
    """Fit two batches, so that later fits exclude the one-time work of a process."""
    fit(X[: 2 * plan.batch], replace(plan, epochs=1))


def timed(fit: Fit, X: np.ndarray, plan: Plan) -> tuple[float, Coder]:
    """Return the seconds of a fit, and its trained model."""
    start = time.perf_counter()
    coder = fit(X, plan)
    return time.perf_counter() - start, coder


def _epoch(fit: Fit, X: np.ndarray, plan: Plan, request: Values) -> Values:
    """Return the seconds per epoch, from the fastest long and the fastest short fit."""
    warm_up(fit, X, plan)
    few, many = request["epochs_timed"]
    count = _count_steps()
    short, first = timed(fit, X, replace(plan, epochs=few))
    n_steps = first.n_steps or count[0]
    long, last = timed(fit, X, replace(plan, epochs=many))
    for _ in range(request["pairs"] - 1):
        short = min(short, timed(fit, X, replace(plan, epochs=few))[0])
        long = min(long, timed(fit, X, replace(plan, epochs=many))[0])
    values: Values = {
        "seconds": (long - short) / (many - few),
        "steps": n_steps / few,
        "parameters": last.n_parameters,
        "losses": [_loss(first, X[:_LOSS_ROWS]), _loss(last, X[:_LOSS_ROWS])],
    }
    if request["whole"]:
        values["whole"] = timed(fit, X, replace(plan, epochs=request["whole"]))[0]
    return values


class _TimeIsOverError(Exception):
    """Ends a fit that is measured."""


def _epochs(fit: Fit, X: np.ndarray, plan: Plan, request: Values) -> Values:
    """Return the seconds of an epoch in a fit that ends after ``limit`` seconds."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    warm_up(fit, X, plan)
    times: list[float] = []
    n_steps = -(-len(X) // plan.batch)

    def step(*_: Any) -> None:
        times.append(time.perf_counter())
        is_over = times[-1] - times[0] > request["limit"]
        if is_over and len(times) > min(4 * n_steps, _FEWEST_STEPS):
            raise _TimeIsOverError

    register_optimizer_step_post_hook(step)
    # The fit has no other end, and what it has not done is not needed.
    with suppress(_TimeIsOverError):
        fit(X, replace(plan, epochs=_MANY_EPOCHS))
    return {"seconds": seconds_per_epoch(times, n_steps), "n_epochs": len(times) / n_steps}


def seconds_per_epoch(times: list[float], n_steps: int) -> float:
    """Return the seconds of n steps, from the times after each step of a fit.

    The first quarter does not count. The result is the median of epochs, or the mean of
    steps if there are fewer than four epochs.
    """
    times = times[len(times) // 4 :]
    ends = times[::n_steps]
    if len(ends) > 4:
        return float(np.median(np.diff(ends)))
    return (times[-1] - times[0]) / (len(times) - 1) * n_steps


def _first(fit: Fit, X: np.ndarray, plan: Plan, _: Values) -> Values:
    """Return the seconds of the first fit of a process, after the imports."""
    return {"seconds": timed(fit, X, plan)[0]}


def _quality(fit: Fit, X: np.ndarray, plan: Plan, request: Values) -> Values:
    """Return the seconds and the held-out ELBO (nats) of each trial.

    A trial is a dictionary of the plan's fields that it changes.
    """
    warm_up(fit, X, plan)
    test, results = np.load(request["test"]), []
    for trial in request["trials"]:
        seconds, coder = timed(fit, X, replace(plan, **trial))
        results.append((seconds, elbo(coder, X, test)))
    return {"trials": results}


_TASKS = {"epoch": _epoch, "epochs": _epochs, "first": _first, "quality": _quality}


def _count_steps() -> list[int]:
    """Return a list with one counter of the steps of torch's optimizers."""
    count = [0]
    if "torch" in sys.modules:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        def step(*_: Any) -> None:
            count[0] += 1

        register_optimizer_step_post_hook(step)
    return count


def _loss(coder: Coder, X: np.ndarray) -> float:
    """Return the loss of all systems per sample: half the squared error plus the KL."""
    errors, kl = _errors(coder, X, n_draws=1)
    return float(np.mean(errors / 2 + kl))


def elbo(coder: Coder, train: np.ndarray, test: np.ndarray, n_draws: int = 16) -> float:
    """Return the mean ELBO (nats) of test rows, with the optimal scale of training rows."""
    d = train.shape[1]
    variance = np.mean(_errors(coder, train, n_draws=4)[0]) / d
    errors, kl = _errors(coder, test, n_draws)
    log_likelihood = -(d * np.log(2 * np.pi * variance) + errors / variance) / 2
    return float(np.mean(log_likelihood - kl))


def _errors(coder: Coder, X: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected squared error and the KL of each row."""
    rng = np.random.default_rng(0)
    errors, kls = [], []
    for begin in range(0, len(X), _CHUNK_ROWS):
        x = X[begin : begin + _CHUNK_ROWS]
        mean, log_var = coder.encode(x)
        if log_var is None:
            errors.append(np.square(x - coder.decode(mean)).sum(axis=1))
            kls.append(np.zeros(len(x)))
            continue
        std = np.exp(log_var / 2)
        draws = (mean + std * rng.standard_normal(mean.shape) for _ in range(n_draws))
        squares = [
            np.square(x - coder.decode(z.astype(x.dtype))).sum(axis=1) for z in draws
        ]
        errors.append(np.mean(squares, axis=0))
        kls.append(0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(axis=1))
    return np.concatenate(errors), np.concatenate(kls)
