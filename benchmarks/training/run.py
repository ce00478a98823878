"""Measure training times of skae and other systems in one run.

    python benchmarks/training/run.py --setup    # once: an environment for each peer
    python benchmarks/training/run.py --quick    # ten minutes: a test that all parts run
    python benchmarks/training/run.py            # everything; four to five hours on 2 cores
    python benchmarks/training/run.py --threads 1 --suffix _1_thread --parts epochs

The script needs an environment with skae. Each peer has its own environment in the
git-ignored folder .peers/, with the versions that requirements/ pins. A peer without an
environment is listed as not installed.

The machine must be idle otherwise. If two threads share a core, small steps take many times
as long, and the factor depends on the system. With one thread most systems are faster on
small steps, so compare both settings. Each part writes a page in docs/results/:

    epochs     training.rst          seconds per epoch, and the floor of matrix products
    quality    training_quality.rst  seconds to the held-out ELBO that the others reach
    costs      training_costs.rst    imports, first fit, transform, score, memory, growth

A system is a worker in workers/: a script that fits the system and answers requests in JSON
(see workers/worker.py).
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # data and report

import cost_page
import epoch_page
import quality_page
from report import RESULTS, write_page
from systems import set_up
from workloads import WORKLOADS

_PARTS = {
    "epochs": (epoch_page.page, "training"),
    "quality": (quality_page.page, "training_quality"),
    "costs": (cost_page.page, "training_costs"),
}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--setup", action="store_true", help="make the environments of the peers and stop")
    add("--quick", action="store_true", help="use small data, to test that all parts run")
    add("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    add("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=2, help="most threads that a system may use")
    add(
        "--drawn-rows",
        type=int,
        default=60_000,
        help="rows of the drawn set of quality; fewer are faster, and 0 leaves it out",
    )
    add("--out", type=Path, default=RESULTS, help="folder of the pages")
    add("--suffix", default="", help="suffix of the page names, to keep another run")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.drawn_rows = min(args.repeats, 2), min(args.drawn_rows, 2000)
    return args


def main() -> None:
    """Run the parts and write a page after each."""
    args = parse_arguments()
    if args.setup:
        set_up()
        return
    command = shlex.join(["python", "benchmarks/training/run.py", *sys.argv[1:]])
    for part in args.parts:
        make_page, name = _PARTS[part]
        with tempfile.TemporaryDirectory() as folder:
            title, text, tables = make_page(Path(folder), args)
        write_page(args.out / f"{name}{args.suffix}.rst", title, command, text, tables)


if __name__ == "__main__":
    main()
