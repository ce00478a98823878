"""Compare densities of tables by the log-likelihood of test rows that chose nothing.

    python benchmarks/density.py --setup    # once: flows and tables, into .peers/density
    python benchmarks/density.py --data FOLDER --quick    # a minute: does everything run?
    python benchmarks/density.py --data FOLDER    # everything, a day of one core
    python benchmarks/density.py --page    # write docs/results/density.rst

The folder holds two files:

    red_wine.hdf5           from the folder rnade of https://github.com/MarcCote/NADE
    parkinsons_updrs.data   from the UCI Machine Learning Repository, "Parkinsons
                            Telemonitoring", https://doi.org/10.24432/C5ZS3N

All other tables are in the packages that --setup installs. Each result is a line of JSON in
the file --results. A combination of table, fold and system that the file has is not run
again, so a run can be stopped and continued. Several processes may use one file:

    python benchmarks/density.py --data FOLDER --systems "neural spline flow" --folds 0
"""

import argparse
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import torch
from densities.environment import activate, peer_versions, set_up
from densities.page import write_density_page
from densities.systems import SYSTEMS
from densities.tables import TABLES
from records import Records
from report import RESULTS
from threadpoolctl import threadpool_limits

import skae

KEY = ("table", "fold", "system")
_DEFAULT_RESULTS = Path(__file__).parent / "results" / "density.jsonl"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--setup", action="store_true", help="install flows and tables, and stop")
    add("--data", type=Path, help="folder of the two files")
    add("--results", type=Path, default=_DEFAULT_RESULTS, help="file of JSON lines")
    add("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    add("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    add("--folds", nargs="+", type=int, help="by default 10 of published tables, else 1")
    add("--threads", type=int, default=1)
    add("--quick", action="store_true", help="few rows and candidates, not recorded")
    add("--page", action="store_true", help="write the page from the results, and stop")
    add("--out", type=Path, default=RESULTS, help="folder of the page")
    args = parser.parse_args()
    if not (args.data or args.setup or args.page):
        parser.error("--data FOLDER is required")
    return args


def run(args: argparse.Namespace, records: Records) -> None:
    """Run what the results lack; the first fold of all tables comes first."""
    folds = {
        name: args.folds or range(1 if args.quick else TABLES[name].n_default_folds)
        for name in args.tables
    }
    combinations = [
        (index, table)
        for index in sorted(set().union(*folds.values()))
        for table in args.tables
        if index in folds[table] and index < TABLES[table].n_folds
    ]
    for index, table in combinations:
        fold = None
        for system in args.systems:
            if records.has(table=table, fold=index, system=system):
                continue
            fold = fold or TABLES[table].fold(args.data, index, args.quick)
            result = SYSTEMS[system].run(fold, args.quick)
            records.append(
                {
                    "table": table,
                    "fold": index,
                    "system": system,
                    **result,
                    "n_rows": fold.n_rows,
                    "n_duplicates": fold.n_duplicates,
                    "n_features": fold.train.shape[1],
                    "n_train": len(fold.train),
                    "n_test": len(fold.test),
                    "threads": args.threads,
                    "date": date.today().isoformat(),
                    "versions": f"skae {skae.__version__}, {peer_versions()}",
                }
            )


def main() -> None:
    """Run the benchmark, or write its page."""
    args = parse_arguments()
    if args.setup:
        set_up()
        return
    activate()
    if args.page:
        write_density_page(Records(args.results, KEY).read(), args.out, peer_versions())
        return
    warnings.simplefilter("ignore")  # searches try candidates that do not converge
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    with threadpool_limits(args.threads), tempfile.TemporaryDirectory() as folder:
        if args.quick:
            args.results = Path(folder) / "quick.jsonl"
        records = Records(args.results, KEY)
        run(args, records)
        if args.quick:
            write_density_page(records.read(), Path(folder), peer_versions())
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
