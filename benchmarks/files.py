"""Load files that are broken, cut, longer or hostile, and count what happens.

    python benchmarks/files.py    # 10,000 models and 10,000 checkpoints, some minutes
    python benchmarks/files.py --n 200 --results /tmp/files.json    # does everything run?

A file that was changed loads with equal content, or is refused by InvalidFileError. A file
whose hash was made true again may also load with different content. Each file is loaded in
a process with limits of time and memory. What must never happen: "error" is another error,
"crash" the death of the process, "hang" more than --seconds, and "memory" more than
--megabytes beyond the process itself. Counts and versions are written to --results.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import sklearn
import skops
import torch
from hostile.changes import CHANGES
from hostile.subjects import KINDS, originals, outcome, read

import skae

OUTCOMES = ("refused", "equal", "different", "error", "crash", "hang", "memory")
_DEFAULT_RESULTS = Path(__file__).parent / "results" / "files.json"


def parse_arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--n", type=int, default=10_000, help="files of each kind")
    add("--first", type=int, default=0, help="number of the first file, its seed")
    add("--seconds", type=int, default=20, help="limit for one file")
    add("--megabytes", type=int, default=1024, help="limit of memory for one file")
    add("--results", type=Path, default=_DEFAULT_RESULTS, help="file of the counts")
    add("--worker", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def work(args):
    """Load files one after the other, and print what happens to each."""
    kind, change, first, stop = args.worker
    originals(kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for whole, _ in originals(kind):  # all modules are imported
            read(kind, whole, path)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + args.megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(int(first), int(stop)):
            # The default action of the signal ends the process, wherever it hangs.
            signal.alarm(args.seconds)
            start = time.process_time()
            try:
                word = outcome(kind, change, i, path)
            # Any error but the one of the contract is a finding, and is printed.
            except BaseException as error:
                word = "error"
                print(f"{kind}, {change}, {i}: {error!r}", file=sys.stderr)
            signal.alarm(0)
            seconds = time.process_time() - start
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(json.dumps([i, word, seconds, grown / 1024]), flush=True)


def run(args, kind, change, n):
    """Load n files in processes that may die; return counts, and the most they took.

    The time is that of the processor, since other processes may have it too.
    """
    counts, slowest, largest = Counter(), 0.0, 0.0
    i, stop = args.first, args.first + n
    while i < stop:
        limits = ["--seconds", str(args.seconds), "--megabytes", str(args.megabytes)]
        worker = ["--worker", kind, change, str(i), str(stop)]
        process = subprocess.run(
            [sys.executable, __file__, *limits, *worker], stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout.splitlines():
            i, word, seconds, megabytes = json.loads(line)
            i += 1
            counts[word] += 1
            slowest, largest = max(slowest, seconds), max(largest, megabytes)
        if i < stop:
            word = "hang" if process.returncode == -signal.SIGALRM else "crash"
            print(f"{kind}, {change}, {i}: {word}", file=sys.stderr)
            counts[word] += 1
            i += 1
    return counts, slowest, largest


def main():
    """Run the campaign, print a table, and write the counts."""
    args = parse_arguments()
    if args.worker:
        work(args)
        return
    rows = []
    print(f"{'':32}" + "".join(f"{word:>10}" for word in (*OUTCOMES, "s", "MB")))
    for kind in KINDS:
        for j, change in enumerate(CHANGES):
            n = args.n // len(CHANGES) + (j < args.n % len(CHANGES))
            counts, seconds, megabytes = run(args, kind, change, n)
            row = {word: counts[word] for word in OUTCOMES}
            rows.append(
                {"file": kind, "change": change, "n": n, **row}
                | {"slowest_cpu_s": round(seconds, 3), "largest_mb": round(megabytes, 1)}
            )
            shown = "".join(f"{row[word]:10}" for word in OUTCOMES)
            print(f"{kind + ', ' + change:32}{shown}{seconds:10.3f}{megabytes:10.1f}")
    environment = {
        "python": platform.python_version(),
        "skae": skae.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "torch": str(torch.__version__),
        "skops": skops.__version__,
        "first": args.first,
        "limit_s": args.seconds,
        "limit_mb": args.megabytes,
    }
    args.results.write_text(json.dumps({**environment, "rows": rows}, indent=1) + "\n")
    failures = sum(row[word] for row in rows for word in OUTCOMES[3:])
    sealed = [row for row in rows if not row["change"].startswith("resealed")]
    failures += sum(row["different"] for row in sealed)
    print(f"{sum(row['n'] for row in rows)} files, {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
