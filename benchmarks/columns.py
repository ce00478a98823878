"""Compare likelihoods of counts, and of tables with columns of several kinds.

    python benchmarks/columns.py --setup    # once: the tables, into .peers/columns
    python benchmarks/columns.py --quick    # a minute: does everything run?
    python benchmarks/columns.py    # everything, a quarter of an hour of one core
    python benchmarks/columns.py --page    # write docs/results/columns.rst

Each result is a line of JSON in the file --results. A combination of table, seed and system
that the file has is not run again, so a run can be stopped, continued and divided.
"""

import argparse
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import torch
from kinds import counts, mixed
from kinds.environment import PEERS
from kinds.page import write_columns_page
from kinds.tables import COUNTS, MIXED, Task, split
from records import Records
from report import RESULTS
from threadpoolctl import threadpool_limits

import skae

KEY = ("table", "seed", "system")
# Seed 0 served to write the benchmark.
SEEDS = (1, 2, 3)
_DEFAULT_RESULTS = Path(__file__).parent / "results" / "columns.jsonl"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    tables, systems = [*COUNTS, *MIXED], [*counts.SYSTEMS, *mixed.SYSTEMS]
    add("--setup", action="store_true", help="install the tables, and stop")
    add("--results", type=Path, default=_DEFAULT_RESULTS, help="file of JSON lines")
    add("--tables", nargs="+", choices=tables, default=tables)
    add("--systems", nargs="+", choices=systems, default=systems)
    add("--seeds", nargs="+", type=int, default=list(SEEDS))
    add("--quick", action="store_true", help="few rows, epochs and draws, not recorded")
    add("--page", action="store_true", help="write the page from the results, and stop")
    add("--out", type=Path, default=RESULTS, help="folder of the page")
    return parser.parse_args()


def run(args: argparse.Namespace, records: Records) -> None:
    """Run what the results lack."""
    for seed in (0,) if args.quick else args.seeds:
        for name in args.tables:
            table, systems = (
                (COUNTS[name], counts.SYSTEMS)
                if name in COUNTS
                else (MIXED[name], mixed.SYSTEMS)
            )
            task = Task(table, split(table.load(), seed, args.quick), seed, args.quick)
            for system in (s for s in systems if s in args.systems):
                key = {"table": name, "seed": seed, "system": system}
                if not records.has(**key):
                    result = systems[system].run(task)
                    records.append({**key, **result, **_facts(task)})


def _facts(task: Task) -> dict[str, Any]:
    """Return what a record has besides its results."""
    n_train, n_columns = task.parts.train.shape
    return {
        "n_train": n_train,
        "n_test": len(task.parts.test),
        "n_columns": n_columns,
        "date": date.today().isoformat(),
        "versions": f"skae {skae.__version__}, {PEERS.versions()}",
    }


def main() -> None:
    """Run the benchmark, or write its page."""
    args = parse_arguments()
    if args.setup:
        PEERS.set_up()
        return
    PEERS.activate()
    if args.page:
        write_columns_page(Records(args.results, KEY).read(), args.out, PEERS.versions())
        return
    warnings.simplefilter("ignore")  # of scales that end at their floor
    torch.set_num_threads(1)
    start = time.process_time()
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        if args.quick:
            args.results = Path(folder) / "quick.jsonl"
        records = Records(args.results, KEY)
        run(args, records)
        if args.quick:
            write_columns_page(records.read(), Path(folder), PEERS.versions())
    print(f"{time.process_time() - start:.0f} CPU seconds", file=sys.stderr)


if __name__ == "__main__":
    main()
