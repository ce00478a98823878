"""Training time of skae beside other systems, in one run.

    python benchmarks/training/run.py --setup    # once: an environment for each peer
    python benchmarks/training/run.py --quick    # does everything run? ten minutes
    python benchmarks/training/run.py            # everything; two to three hours on 2 cores
    python benchmarks/training/run.py --threads 1 --suffix _1_thread --parts epochs

It needs an environment with skae. Each peer has its own, in the git-ignored folder .peers/,
with what requirements/ pins; one that is not there is shown as not installed. Nothing else
may run on the machine meanwhile: where two threads have to wait for a core, small steps
take many times as long, and not for all systems alike. With one thread most are faster on
small steps, so look at both. Parts, each with a page in docs/results/:

    epochs     training.rst          seconds per epoch, and the floor of matrix products
    quality    training_quality.rst  seconds to the held-out ELBO that the others reach
    costs      training_costs.rst    imports, first fit, transform, score, memory, growth

A system is a worker in workers/: a script with a function that fits it, which answers
requests in JSON (see workers/worker.py).
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
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--setup", action="store_true", help="make the peers' environments and stop")
    add("--quick", action="store_true", help="small data, to see that everything runs")
    add("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    add("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=2, help="most threads that a system may use")
    add("--drawn-rows", type=int, default=60_000, help="fewer make quality much faster")
    add("--out", type=Path, default=RESULTS, help="folder of the pages")
    add("--suffix", default="", help="of the pages' names, to keep those of another run")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.drawn_rows = min(args.repeats, 2), min(args.drawn_rows, 2000)
    return args


def main() -> None:
    """Run the parts, and write a page after each."""
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
