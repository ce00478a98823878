"""What a checkpoint costs: fits with and without one, in turn.

    python benchmarks/checkpoints.py            # all rows, and the page
    python benchmarks/checkpoints.py --no-page

Each setting is fitted in turn with the others, several times, and the medians are compared.
The seconds are those of the process, which other processes disturb less, and those of the
clock. The page has the counts of benchmarks/kills.py and benchmarks/files.py too, from
their files in benchmarks/results.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from report import RESULTS, write_page
from sklearn.datasets import load_digits

from skae import VariationalAutoencoder

ROOT = Path(__file__).parent / "results"
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


def measure(X, parameters, interval, folder):
    """Return the seconds of one fit: of the clock, and of the process."""
    model = VariationalAutoencoder(random_state=0, covariance_type="diag", **parameters)
    if interval is not None:
        path = os.path.join(folder, f"{time.monotonic_ns()}.npz")
        model.set_params(checkpoint=path, checkpoint_interval=interval)
    clock, process = time.perf_counter(), time.process_time()
    model.fit(X)
    return time.perf_counter() - clock, time.process_time() - process


def measure_all(n_rounds):
    """Return the rows of the table: medians, and ratios to a fit without a checkpoint."""
    rows = []
    for name, (X, parameters) in make_tables().items():
        found = {setting: [] for setting in SETTINGS}
        with tempfile.TemporaryDirectory() as folder:
            measure(X, parameters, None, folder)
            for _ in range(n_rounds):
                for setting, interval in SETTINGS.items():
                    found[setting].append(measure(X, parameters, interval, folder))
        base = np.array(found["no checkpoint"])
        for setting, seconds in found.items():
            clock, process = np.median(seconds, axis=0)
            # Of the fits of one round, which ran under the same load.
            ratio = statistics.median((np.array(seconds)[:, 1] / base[:, 1]).tolist())
            rows.append(
                [name, setting, f"{clock:.3f}", f"{process:.3f}", f"{ratio - 1:+.1%}"]
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


def main():
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-page", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = measure_all(arguments.rounds)
    if arguments.no_page:
        return
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
                "The cost of a checkpoint",
                "Medians of seconds; the ratio is that of the process's seconds, in rounds "
                "that ran all settings in turn.",
                ["fit", "checkpoint", "s", "s of the process", "more"],
                rows,
            ),
        ],
    )


if __name__ == "__main__":
    main()
