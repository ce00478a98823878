"""Time fits, scores and a search beside other busy programs.

    python benchmarks/training/run.py --setup    # once: an environment for skorch
    python benchmarks/load.py --quick    # a minute: does everything run?
    python benchmarks/load.py    # ten minutes, on an otherwise idle machine
    python benchmarks/load.py --page    # write docs/results/load.rst

Each measurement is a process of its own, and so is each program beside it, which multiplies
numbers of Python for ever. "Torch" stands for a program that multiplies matrices with as
many threads as the machine has cores.

Each result is a line of JSON in the file --results. What the file has is not run again.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from records import Record, Records
from report import RESULTS, versions, write_page

sys.path.append(str(Path(__file__).parent / "training"))

from systems import SKORCH, TEXTBOOK, System, run
from workloads import WORKLOADS, draw, make, save

_KEY = ("load", "what", "workload", "system", "round")
_DEFAULT_RESULTS = Path(__file__).parent / "results" / "load.jsonl"
_LOADS = {
    "alone": [],
    "one busy process": ["spin"],
    "two busy processes": ["spin", "spin"],
    "a program with torch threads": ["torch"],
}
_N_THREADS = os.cpu_count() or 1
_OURS = System("skae", "load_ours", variant="vae optimal")
_FITS = {
    "skae": (_OURS, _N_THREADS),
    "skae, 1 thread": (_OURS, 1),
    "textbook PyTorch loop": (TEXTBOOK, _N_THREADS),
    "skorch": (SKORCH, _N_THREADS),
}
_BATCHED = System("skae", "search_ours", variant="batched None")
_SEARCHES = {
    "skae": (_BATCHED, _N_THREADS),
    "skae, 1 thread": (_BATCHED, 1),
    "skorch": (System("skorch", "search_skorch", "skorch", "1"), _N_THREADS),
}
# Rows of the workloads; S has those of its data.
_ROWS = {"W": 50_000, "M": 10_000, "S": 0}
_SEARCH = {
    "task": "search",
    "hidden": [64],
    "k": 8,
    "batch": 128,
    "epochs": 20,
    "folds": 2,
    "betas": [0.5, 1.0, 2.0],
    "rates": [1e-3, 5e-3],
}
_TEXT = """
A second thread makes a step faster if a core is free for it. If other programs use the
cores, two threads wait for each other at each operation. So a fit measures how long its
steps take with one thread and with more, and looks again from time to time. All numbers of
threads that it uses give the same bits. Chunks of rows of a score are computed by threads
that do not wait for each other, and so are the models of a search
(:doc:`../guide/performance`).

Seconds, and in brackets how many times as long as alone. A busy process multiplies numbers
of Python without a pause; the program with torch threads multiplies matrices of 1500 rows
with {threads} threads. Each measurement is a process of its own that may use {threads}
threads, or 1 where that is said. Training is in float32. An epoch is the median of a fit of
a few seconds without its first quarter; where fewer than four epochs are left, it is the
mean of the steps of that time, times their number in an epoch. Of skae, a callback notes
the time after each epoch; of the others, a hook of torch's optimizers after each step.
"""
_NOTES = {
    "epoch": "Seconds of an epoch.",
    "score": "Seconds of ``score_samples`` of all rows, the median of several calls.",
    "search": (
        "Seconds of a grid search over 3 values of beta and 2 learning rates with 2 folds "
        "and 20 epochs, on the data of S, with a fit of the best to all rows."
    ),
}


def spin(kind: str) -> None:
    """Compute until the process is killed."""
    torch.set_num_threads(_N_THREADS)
    a, x = torch.rand(1500, 1500), 1.0
    print("ready", flush=True)
    while True:
        if kind == "torch":
            a @ a
        else:
            x = x * 1.0000001 % 7


@contextmanager
def busy(kinds: list[str]):
    """Run programs beside the block."""
    command = [sys.executable, __file__, "--spin"]
    programs = [
        subprocess.Popen([*command, kind], stdout=subprocess.PIPE, text=True)
        for kind in kinds
    ]
    try:
        for program in programs:
            assert program.stdout is not None
            program.stdout.readline()
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(args: argparse.Namespace, records: Records, folder: Path) -> None:
    """Run what the results lack."""
    facts = {"date": date.today().isoformat(), "versions": versions()}
    requests: dict[tuple[str, str], dict[str, Any]] = {}
    for name in ("W", "S") if args.quick else _ROWS:
        workload, n_rows = WORKLOADS[name], _ROWS[name] // (10 if args.quick else 1)
        X = draw(n_rows, workload.n_columns) if n_rows else make(workload, args.quick)
        limit = 0.3 if args.quick else args.seconds
        requests["fit", name] = {
            **workload.request(),
            "task": "epochs",
            "train": save(folder, name, X),
            "limit": limit,
        }
    train = requests["fit", "S"]["train"]
    requests["search", "S"] = {**_SEARCH, "train": train}
    for i in range(args.rounds):
        for load in ("alone", "one busy process") if args.quick else _LOADS:
            with busy(_LOADS[load]):
                for (task, workload), request in requests.items():
                    systems = _FITS if task == "fit" else _SEARCHES
                    for name, (system, n_threads) in systems.items():
                        if name not in args.systems:
                            continue
                        what = "epoch" if task == "fit" else "search"
                        key = {"load": load, "what": what, "workload": workload}
                        key |= {"system": name, "round": i}
                        if records.has(**key):
                            continue
                        found = run(system, n_threads, request)
                        score = found.pop("score", None)
                        found.pop("scores", None)
                        records.append({**key, **found, **facts})
                        if score is not None:
                            key["what"] = "score"
                            records.append({**key, "seconds": score, **facts})


def write_load_page(records: list[Record], folder: Path) -> None:
    """Write load.rst into a folder."""
    if not records:
        raise SystemExit("There are no results yet.")
    tables = []
    for what in _NOTES:
        for name in _ROWS:
            own = [r for r in records if (r["what"], r["workload"]) == (what, name)]
            if own:
                header = ["system", *_LOADS]
                heading = f"{name}: {what}"
                tables.append((heading, _note(what, name), header, _rows(own)))
    dates = sorted({record["date"] for record in records})
    used = "; ".join(sorted({record["versions"] for record in records}))
    text = f"{_TEXT.format(threads=_N_THREADS)}\nMeasured from {dates[0]} to {dates[-1]}: "
    text += f"{used}.\n"
    command = "python benchmarks/load.py --page"
    write_page(folder / "load.rst", "Beside other programs", command, text, tables)


def _note(what: str, name: str) -> str:
    """Return what the numbers of a table are."""
    if what == "search":
        return _NOTES[what]
    workload = WORKLOADS[name]
    shape = f"{_ROWS[name]:,} x {workload.n_columns}" if _ROWS[name] else "1,797 x 64"
    return (
        f"{_NOTES[what]} The data have the shape {shape}, the hidden layers "
        f"{tuple(workload.hidden)}, the code {workload.k} components and the batches "
        f"{workload.batch} rows."
    )


def _rows(records: list[Record]) -> list[list[str]]:
    """Return a row of seconds for each system."""
    rows = []
    for system in dict.fromkeys(record["system"] for record in records):
        row, alone = [system], None
        for load in _LOADS:
            own = [r for r in records if (r["system"], r["load"]) == (system, load)]
            seconds = [record["seconds"] for record in own if "seconds" in record]
            if not seconds:
                row.append(own[0]["error"] if own else "")
                continue
            middle = median(seconds)
            alone = alone or middle
            row.append(f"{middle:.3g} ({middle / alone:.2f})")
        rows.append(row)
    return rows


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="few rows and two loads, not recorded")
    add("--systems", nargs="+", choices=_FITS, default=list(_FITS))
    add("--rounds", type=int, default=1, help="times that everything is measured")
    add("--seconds", type=float, default=2.0, help="seconds of a fit, at least")
    add("--results", type=Path, default=_DEFAULT_RESULTS, help="file of JSON lines")
    add("--page", action="store_true", help="write the page from the results, and stop")
    add("--out", type=Path, default=RESULTS, help="folder of the page")
    add("--spin", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.spin:
        spin(args.spin)
    if args.page:
        write_load_page(Records(args.results, _KEY).read(), args.out)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.quick:
            args.results = folder / "quick.jsonl"
        data = folder / "data"
        data.mkdir()
        records = Records(args.results, _KEY)
        measure(args, records, data)
        if args.quick:
            write_load_page(records.read(), folder)


if __name__ == "__main__":
    main()
