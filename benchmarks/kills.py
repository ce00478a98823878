"""Kill and interrupt fits at random moments, and look at what is left.

    python benchmarks/kills.py                              # 250 of each signal
    python benchmarks/kills.py --signals 20 --kinds fit     # while you develop

A fit with a checkpoint after each epoch runs in a process of its own, which gets a signal
after a random time: SIGKILL, which ends a process at once, SIGTERM, with which clusters
announce that, or SIGINT, which is Ctrl-C. Then the fit runs again, until it ends by itself.
Its weights, history and scores must then be those of a fit without a break, to the bit.

After SIGINT, the process must have raised KeyboardInterrupt, with the estimator as before
or fitted, no thread left, and no setting of the process changed. SIGTERM must end the
process.

The counts go to benchmarks/results/kills.json; the exit status is 1 after a failure.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skae import LaplaceAutoencoder, VariationalAutoencoder
from skae.model_selection import BatchedGridSearchCV

RESULT = Path(__file__).parent / "results" / "kills.json"
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
# Seconds after which a process that got a signal counts as hanging.
_LONGEST = 60


class Dropout(BaseEstimator):
    """A network of a user, which draws from the global generator of torch."""

    def encoder(self, n_features, n_outputs):
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(n_features, n_outputs))

    def decoder(self, n_components, n_outputs):
        return nn.Sequential(nn.Linear(n_components, n_outputs))


def make_table(name):
    """Make the table of a kind of fit."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3)) @ rng.normal(size=(3, 8)) + rng.normal(size=(150, 8))
    return np.where(rng.random(X.shape) < 0.2, np.nan, X) if name == "holes" else X


def make_model(name, path):
    """Make the estimator or the search of a kind of fit; with a checkpoint if wanted."""
    common = {"max_iter": 30, "random_state": 0}
    if path is not None:
        common |= {"checkpoint": path, "checkpoint_interval": 1}
    if name == "search":
        model = VariationalAutoencoder(**common | {"max_iter": 12})
        return BatchedGridSearchCV(
            model, {"beta": [0.5, 1, 2], "n_components": [1, 2]}, cv=2
        )
    if name == "one by one":
        model = LaplaceAutoencoder(**common | {"max_iter": 12})
        return GridSearchCV(model, {"alpha": [1, 10]}, cv=2)
    parameters = {
        "fit": {},
        "starts": {"n_init": 3},
        "early stopping": {"early_stopping": True, "n_iter_no_change": 4},
        "holes": {"covariance_type": "diag"},
        "network": {"network": Dropout()},
        "predicted": {"variance_mode": "predicted", "likelihood": "student_t"},
    }[name]
    return VariationalAutoencoder(**common | parameters)


KINDS = ("fit", "starts", "early stopping", "holes", "network", "predicted", "search",
         "one by one")  # fmt: skip


def describe(model, X):
    """Return a hash of all that a fit has found."""
    scores = getattr(model, "cv_results_", {}).get("mean_test_score", np.empty(0))
    model = getattr(model, "best_estimator_", model)
    found = hashlib.sha256(np.asarray(scores).tobytes())
    for name, tensor in sorted(model.module_.state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    found.update(np.asarray(model.loss_curve_).tobytes())
    found.update(model.score_samples(X).tobytes())
    found.update(f"{model.n_iter_} {model.best_iter_}".encode())
    return found.hexdigest()


def surroundings():
    """Return settings of the process that a fit must not change."""
    return (
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
        torch.get_rng_state().tolist(), random.getstate(), np.geterr(),
        signal.getsignal(signal.SIGTERM), list(warnings.filters),
        [t.name for t in threading.enumerate()],
    )  # fmt: skip


def run_child(name, path, out):
    """Fit in this process, and write what came out."""
    X, model = make_table(name), make_model(name, path)
    before = surroundings()
    try:
        model.fit(X)
        said = {"end": "fitted", "hash": describe(model, X)}
    except KeyboardInterrupt:
        said = {"end": "interrupted", "problems": look_at(model, X, before)}
    Path(f"{out}.part").write_text(json.dumps(said))
    os.replace(f"{out}.part", out)


def look_at(model, X, before):
    """Return what is wrong after an interrupt."""
    problems = []
    # Threads that were told to end may take a moment.
    for _ in range(50):
        if surroundings() == before:
            break
        time.sleep(0.02)
    else:
        now = surroundings()
        changed = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b]
        problems.append(f"changed settings: {changed}")
    if hasattr(model, "module_"):
        if not np.isfinite(model.score(X)) or not np.isfinite(model.loss_curve_).all():
            problems.append("a fitted model that is not finite")
        if model.n_features_in_ != X.shape[1] or model.n_iter_ != len(model.loss_curve_):
            problems.append("attributes that contradict each other")
    # A search of scikit-learn has some attributes from its begin.
    elif not hasattr(model, "estimator") and any(n.endswith("_") for n in vars(model)):
        problems.append(f"some attributes only: {sorted(vars(model))}")
    # The process goes on: the same estimator, without its checkpoint, fits again.
    fresh = clone(model)
    name = "estimator__checkpoint" if hasattr(model, "estimator") else "checkpoint"
    fresh.set_params(**{name: None}).fit(X)
    return problems


def start(name, path, out):
    """Fork a process that fits; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        run_child(name, path, out)
        code = 0
    # The parent sees the exit status, and the user the error.
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child, seconds):
    """Wait for a process; return its exit status, or None if it still runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def run_until_done(name, kind, folder, expected, seconds, generator, counts, most):
    """Fit again and again, with a signal each time, until a fit ends; return problems."""
    path = str(folder / "fits") + "/" if name in {"search", "one by one"} else None
    path = path or str(folder / "fit.npz")
    out, problems = folder / "said.json", []
    while True:
        out.unlink(missing_ok=True)
        is_last = counts[kind] >= most
        child = start(name, path, out)
        # Also at moments after the fit, and more often than not in its middle.
        pause = _LONGEST if is_last else generator.uniform(0, 1.1 * seconds)
        code = wait(child, pause)
        if code is None:
            os.kill(child, SIGNALS[kind])
            counts[kind] += 1
            code = wait(child, _LONGEST)
            if code is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return [f"{name}: hangs after {kind}"]
        said = json.loads(out.read_text()) if out.exists() else None
        if said is None:
            # SIGINT before or after the fit ends the process with its default action.
            ends = {"SIGKILL": -signal.SIGKILL, "SIGTERM": -signal.SIGTERM, "SIGINT": 1}
            if code != ends[kind]:
                problems.append(f"{name}: exit status {code} after {kind}")
                return problems
            counts["processes without a result"] += 1
        elif said["end"] == "interrupted":
            counts["interrupts in a fit"] += 1
            problems += [f"{name}: {problem}" for problem in said["problems"]]
        else:
            counts["fits that were compared"] += 1
            if said["hash"] != expected:
                problems.append(f"{name}: another result after {kind}")
            return problems


def run_campaign(n_signals, kinds, seed, signals=tuple(SIGNALS)):
    """Send n signals of each kind; return counts and problems."""
    torch.set_num_threads(1)
    generator, counts, problems = random.Random(seed), Counter(), []
    with tempfile.TemporaryDirectory() as place:
        expected, seconds = {}, {}
        for name in kinds:
            out = Path(place) / "said.json"
            for path in (None, f"{place}/first/{name}/"):
                begin = time.monotonic()
                if wait(start(name, path, out), 10 * _LONGEST) != 0:
                    raise RuntimeError(f"{name}: the fit without a signal failed")
                seconds[name] = time.monotonic() - begin
                expected.setdefault(name, json.loads(out.read_text())["hash"])
        for kind in signals:
            turn = 0
            while counts[kind] < n_signals:
                name = kinds[turn % len(kinds)]
                turn += 1
                folder = Path(place) / "run"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                problems += run_until_done(
                    name, kind, folder, expected[name], seconds[name], generator, counts,
                    n_signals,
                )  # fmt: skip
    return dict(counts), problems


def main():
    """Run the campaign of the command line, and write its counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signals", type=int, default=250, help="number of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    # A shell lets processes in the background ignore this signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    counts, problems = run_campaign(arguments.signals, arguments.kinds, arguments.seed)
    found = {"seed": arguments.seed, "counts": counts, "failures": len(problems)}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    print(*problems, sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
