"""Measure costs of skae's methods: input dtypes, throughput, memory and growth."""

import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gemm import layers, on_best_threads, seconds_per_call
from ours import make
from worker import Plan, answer, read_request, timed

warnings.simplefilter("ignore")
# Rows of a block of the encoder's products; the fastest block size is the floor.
_ROWS = [256, 1024, 4096]


def dtypes(X: np.ndarray, plan: Plan, _: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of a fit on float32 and on float64."""
    _warm_up(X, plan)
    return {
        dtype: timed(lambda X, plan: make(plan).fit(X), X.astype(dtype), plan)[0]
        for dtype in ("float32", "float64")
    }


def throughput(X: np.ndarray, plan: Plan, request: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of `transform`, of `score` and of the encoder's products."""
    model = make(plan).fit(X[: 4 * plan.batch])
    return {
        "transform": seconds_per_call(lambda: model.transform(X)),
        "score": seconds_per_call(lambda: model.score(X)),
        "floor": min(
            _encoder_products(torch.from_numpy(X), plan, rows, request["threads"])
            for rows in _ROWS
        ),
    }


def memory(X: np.ndarray, plan: Plan, request: dict[str, Any]) -> dict[str, float]:
    """Return the peak of private memory of each method in bytes; X is a memmap."""
    _warm_up(np.array(X[: 4 * plan.batch]), plan)
    X = np.load(request["train"], mmap_mode="r")
    model = make(plan)
    return {
        "X": X.nbytes,
        "fit": _peak_memory(lambda: model.fit(X)),
        "transform": _peak_memory(lambda: model.transform(X)),
        "score": _peak_memory(lambda: model.score(X)),
    }


def growth(X: np.ndarray, plan: Plan, request: dict[str, Any]) -> dict[str, list[float]]:
    """Return the seconds of a fit as one quantity is doubled twice."""
    n, d = len(X) // 4, X.shape[1] // 4
    _warm_up(X[:, :d], plan)
    seconds: dict[str, list[float]] = {}
    for name in ("n", "d", "k", "epochs"):
        seconds[name] = []
        for times in (1, 2, 4):
            rows = n * times if name == "n" else n
            columns = d * times if name == "d" else d
            now = plan
            if name in ("k", "epochs"):
                now = replace(plan, **{name: getattr(plan, name) * times})
            part = np.ascontiguousarray(X[:rows, :columns])
            seconds[name].append(timed(lambda X, plan: make(plan).fit(X), part, now)[0])
    return seconds


def _warm_up(X: np.ndarray, plan: Plan) -> None:
    """Load all code that stays loaded in a process."""
    model = make(replace(plan, epochs=1)).fit(X[: 2 * plan.batch])
    model.transform(X[: plan.batch])
    model.score(X[: plan.batch])


def _encoder_products(X: torch.Tensor, plan: Plan, rows: int, n_threads: int) -> float:
    """Return the seconds of the encoder's products up to the mean, over all of X."""
    rows = min(rows, len(X))
    weights = [torch.randn(a, b) for a, b in layers([X.shape[1], *plan.hidden, plan.k])]
    outs = [torch.empty(rows, w.shape[1]) for w in weights]

    def run() -> None:
        for begin in range(0, len(X) - rows + 1, rows):
            x = X[begin : begin + rows]
            for w, out in zip(weights, outs, strict=True):
                x = torch.mm(x, w, out=out)

    whole_blocks = len(X) // rows * rows
    return on_best_threads(run, n_threads) * len(X) / whole_blocks


def _private_memory() -> int:
    """Return the private memory of the process in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def _peak_memory(run: Callable[[], object]) -> float:
    """Return the peak of private memory during a call, minus that before, in bytes.

    The memory is sampled each millisecond.
    """
    before = peak = _private_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _private_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return max(peak, _private_memory()) - before


if __name__ == "__main__":
    request, plan = read_request()
    task = {f.__name__: f for f in (dtypes, throughput, memory, growth)}[request["task"]]
    mode = "r" if task is memory else None
    if task is memory and not sys.platform.startswith("linux"):
        sys.exit("RssAnon exists on Linux only")
    answer(**task(np.load(request["train"], mmap_mode=mode), plan, request))
