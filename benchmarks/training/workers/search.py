"""Serve requests of benchmarks/search.py; shared by its workers (see worker.py)."""

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from worker import Plan, answer, read_request

# A function that runs a search on X and returns the mean score of each candidate.
Search = Callable[[np.ndarray, Plan, dict[str, Any]], list[float]]


def n_jobs_of(request: dict[str, Any]) -> int | None:
    """Return the number of workers at the end of the variant's name, or None."""
    number = request["variant"].rpartition(" ")[2]
    return int(number) if number.isdigit() else None


def serve_search(search: Search, *packages: str) -> None:
    """Answer the request with the time of the one search of this process."""
    request, plan = read_request()
    X = np.load(request["train"])
    start = time.perf_counter()
    scores = search(X, plan, request)
    seconds = time.perf_counter() - start
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    answer(seconds=seconds, scores=[float(score) for score in scores], version=versions)
