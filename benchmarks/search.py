"""Time of a grid search: side by side, one by one, with skorch, with pythae in a loop.

    python benchmarks/training/run.py --setup    # once: an environment for each peer
    python benchmarks/search.py --quick --out /tmp/pages    # does everything run?
    python benchmarks/search.py    # about an hour on 2 cores

Each search is one process, timed from the call to the fitted best model, after the imports.
Nothing else may run on the machine meanwhile. Writes docs/results/search.rst.
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
from data import load
from report import RESULTS, write_page

sys.path.append(str(Path(__file__).parent / "training"))

from systems import Answer, System, failure, middle, run, shown

OURS = "skae, BatchedGridSearchCV"
ONE_BY_ONE = System("skae, GridSearchCV(n_jobs=1)", "search_ours", variant="one by one 1")
UNDER = 'skae, GridSearchCV under parallel_config("skae")'
SYSTEMS = [
    System(OURS, "search_ours", variant="batched None"),
    System(f"{OURS}(n_jobs=2)", "search_ours", variant="batched 2"),
    System(UNDER, "search_ours", variant="backend None"),
    ONE_BY_ONE,
    System("skae, GridSearchCV(n_jobs=2)", "search_ours", variant="one by one 2"),
    System("skorch, GridSearchCV(n_jobs=1)", "search_skorch", "skorch", "1"),
    System("skorch, GridSearchCV(n_jobs=2)", "search_skorch", "skorch", "2"),
    System("pythae, a loop", "search_pythae", "pythae"),
]
TEXT = """
A grid search over {betas} values of beta and {rates} learning rates, {folds} folds, on
digits ({rows} x {columns}, standardised, float32): a variational autoencoder with hidden
layers (64,) and 8 components, {epochs} epochs in batches of 128, then a fit of the best to
all data. Seconds from the call to the fitted best model, in a new process after its
imports; the workers of ``n_jobs=2`` start and import within that time. The systems take
turns, {repeats} time(s); shown is the median, and the range in brackets. A process has 2
threads, or 1 for each of 2 workers.

skae's scale is the optimal one, that of the others is 1. The differences are those of the
mean scores of all candidates from those of ``GridSearchCV(n_jobs=1)``, in nats per sample.
"""


def main() -> None:
    """Run all searches in turns, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small search")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the page")
    args = parser.parse_args()
    plan = {"hidden": [64], "k": 8, "batch": 128, "epochs": 30, "folds": 5}
    plan |= {"betas": [0.25, 0.5, 1.0, 2.0, 4.0], "rates": [1e-3, 2e-3, 5e-3, 1e-2]}
    if args.quick:
        plan |= {"epochs": 3, "folds": 2, "betas": [1.0, 2.0], "rates": [1e-3, 5e-3]}
    X = np.concatenate(load("digits, 47 columns")).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/digits.npy"
        np.save(path, X)
        answers = _in_turns({"task": "search", "train": path, **plan}, args.repeats)
    text = TEXT.format(
        betas=len(plan["betas"]),
        rates=len(plan["rates"]),
        folds=plan["folds"],
        rows=len(X),
        columns=X.shape[1],
        epochs=plan["epochs"],
        repeats=args.repeats,
    )
    table = ("Seconds of a search", "A ratio is one of medians.", *_table(answers))
    command = shlex.join(["python", "benchmarks/search.py", *sys.argv[1:]])
    write_page(args.out / "search.rst", "A grid search", command, text, [table])


def _in_turns(request: dict[str, object], repeats: int) -> dict[System, list[Answer]]:
    answers: dict[System, list[Answer]] = {system: [] for system in SYSTEMS}
    for seed in range(repeats):
        for system in SYSTEMS:
            if not failure(answers[system]):
                threads = 1 if system.variant.endswith("2") else 2
                answers[system].append(run(system, threads, {**request, "seed": seed}))
    return answers


def _table(answers: dict[System, list[Answer]]) -> tuple[list[str], list[list[str]]]:
    header = ["search", "version", "seconds", "over the fastest", "largest difference"]
    works = [a for a in answers.values() if not failure(a)]
    fastest = min(middle(a) for a in works)
    reference = answers[ONE_BY_ONE]
    rows = []
    for system, found in answers.items():
        if reason := failure(found):
            rows.append([system.name, "", reason, "", ""])
            continue
        gap = ""
        if system.worker == "search_ours" and not failure(reference):
            gaps = [
                np.abs(np.subtract(a["scores"], b["scores"])).max()
                for a, b in zip(found, reference, strict=True)
            ]
            gap = f"{max(gaps):.1e}"
        seconds = shown([a["seconds"] for a in found])
        ratio = f"{middle(found) / fastest:.2f}"
        rows.append([system.name, found[0]["version"], seconds, ratio, gap])
    return header, rows


if __name__ == "__main__":
    main()
