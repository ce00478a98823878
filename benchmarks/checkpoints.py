"""What a checkpoint costs: fits with and without one, in turn.

    python benchmarks/checkpoints.py            # all rows, and the page
    python benchmarks/checkpoints.py --page     # the page alone, from benchmarks/results

Each setting is fitted in turn with the others, several times. The page has the counts of
benchmarks/kills.py, benchmarks/files.py and benchmarks/campaign too, from their files.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
from report import RESULTS, write_page
from sklearn.datasets import load_digits

from skae import VariationalAutoencoder
from skae._fitting.checkpoint import Checkpoint
from skae._fitting.monitor import TrainingMonitor
from skae.estimators import resume

ROOT = Path(__file__).parent / "results"
COSTS = ROOT / "checkpoint_costs.json"
_TEXT = """
A fit with a checkpoint (``checkpoint="fit.npz"``) that is interrupted, killed or
terminated goes on from its file. Its result is that of a fit without a break, to the bit.
This page has the counts of the campaigns that show it, and what a checkpoint costs.
"""


def make_tables():
    """Make the tables of the fits, by name."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(50_000, 5)) @ rng.normal(size=(5, 32))
    return {
        "digits, 1,797 x 64, 64 hidden": (load_digits().data, {"n_components": 8}),
        "50,000 x 32, 128 and 64 hidden": (
            wide + rng.normal(size=wide.shape),
            {"n_components": 8, "hidden_layer_sizes": (128, 64), "max_iter": 10},
        ),
    }


SETTINGS = {
    "no checkpoint": None,
    "every 30 s (the default)": 30.0,
    "every second": 1.0,
    "each epoch": 1,
}


class Stopwatch:
    """The seconds that some functions take while the stopwatch is on."""

    def __init__(self):
        self.seconds = 0.0

    def watch(self, owner, name):
        """Add the seconds of a function, which is an attribute of a class or module."""
        original = getattr(owner, name)

        def timed(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin

        return mock.patch.object(owner, name, timed)


# All that a checkpoint does: it describes data and parameters, keeps the state of each
# epoch, and writes the file.
PARTS = [
    (resume, "_fingerprint"),
    (TrainingMonitor, "_capture"),
    (Checkpoint, "put"),
    (Checkpoint, "write"),
]


def measure(X, parameters, interval, folder):
    """Return the seconds of one fit, and those of its checkpoint."""
    model = VariationalAutoencoder(random_state=0, covariance_type="diag", **parameters)
    if interval is not None:
        path = os.path.join(folder, f"{time.monotonic_ns()}.npz")
        model.set_params(checkpoint=path, checkpoint_interval=interval)
    stopwatch = Stopwatch()
    with ExitStack() as stack:
        for owner, name in PARTS:
            stack.enter_context(stopwatch.watch(owner, name))
        begin = time.perf_counter()
        model.fit(X)
        return time.perf_counter() - begin, stopwatch.seconds


def measure_all(n_rounds):
    """Return the rows of the table: medians of several rounds, which take turns."""
    rows = []
    for name, (X, parameters) in make_tables().items():
        found = {setting: [] for setting in SETTINGS}
        with tempfile.TemporaryDirectory() as folder:
            measure(X, parameters, None, folder)
            for _ in range(n_rounds):
                for setting, interval in SETTINGS.items():
                    found[setting].append(measure(X, parameters, interval, folder))
        for setting, seconds in found.items():
            whole, own = np.median(seconds, axis=0)
            share = np.median([part / total for total, part in seconds])
            rows.append(
                [name, setting, f"{whole:.3f}", f"{1000 * own:.1f}", f"{share:.1%}"]
            )
            print(rows[-1], flush=True)
    return rows


def signal_rows():
    """Return the counts of benchmarks/kills.py."""
    found = json.loads((ROOT / "kills.json").read_text())
    rows = [[what, f"{count:,}"] for what, count in sorted(found["counts"].items())]
    return [*rows, ["**failures**", f"**{found['failures']:,}**"]]


def file_rows():
    """Return the counts of benchmarks/files.py."""
    found = json.loads((ROOT / "files.json").read_text())["rows"]
    failures = "error", "crash", "hang", "memory"
    return [
        [row["file"], row["change"]]
        + [f"{row[name]:,}" for name in ("n", "refused", "equal", "different")]
        + [f"**{sum(row[name] for name in failures):,}**"]
        for row in found
    ]


def fit_rows():
    """Return the counts of ``python -m benchmarks.campaign``."""
    found = json.loads((ROOT / "campaign.json").read_text())
    rows = [[name, f"{found[name]:,}"] for name in ("fits", "fits with faults")]
    return [*rows, ["**violations**", f"**{found['violations']:,}**"]]


def main():
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.page:
        warnings.simplefilter("ignore")
        COSTS.write_text(json.dumps(measure_all(arguments.rounds), indent=1) + "\n")
    write_page(
        RESULTS / "robustness.rst",
        "Interrupts, files and hostile input",
        "python benchmarks/checkpoints.py",
        _TEXT,
        [
            (
                "Signals",
                "``python benchmarks/kills.py``: fits of eight kinds (searches, several "
                "starts, early stopping, missing values, a network of a user) get a signal "
                "at a random moment, the writing of the file included, and then run again.",
                ["what", "count"],
                signal_rows(),
            ),
            (
                "Files",
                "``python benchmarks/files.py``: files of models and checkpoints are "
                "changed. A resealed file has a true hash again, so it may be another "
                "model. A failure is an error of another kind, a crash, a hang, or memory "
                "out of proportion. Hostile tables, parameters and parts of users have a "
                "page of their own: :doc:`campaign`.",
                ["file", "change", "files", "refused", "equal", "different", "failures"],
                file_rows(),
            ),
            (
                "Fits",
                "``python -m benchmarks.campaign --fits 900 --faults 2200``: hostile "
                "tables for all likelihoods, and fits in which callbacks, priors, "
                "networks, memory or parameters fail.",
                ["what", "count"],
                fit_rows(),
            ),
            (
                "The cost of a checkpoint",
                "Medians: the seconds of a fit, and the milliseconds in all functions of "
                "its checkpoint, which describe the data, keep the state of each epoch and "
                "write the file. The fit always writes its end.",
                ["fit", "checkpoint", "s", "ms of the checkpoint", "share"],
                json.loads(COSTS.read_text()),
            ),
        ],
    )


if __name__ == "__main__":
    main()
