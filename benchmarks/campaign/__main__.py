"""Fit random estimators to hostile tables, and check the contract of each fit.

    python -m benchmarks.campaign                          # 2,000 fits and the page
    python -m benchmarks.campaign --fits 300 --no-page     # while you develop
    python -m benchmarks.campaign --seed 0 --only 1234     # one of the fits, in detail
    python -m benchmarks.campaign --faults 2000            # and 2,000 fits with a fault
    python -m benchmarks.campaign --only 1234 --faults 1   # one of those, in detail

A fit depends on the seed and on its index only. Violations of the contract are printed with
the index, and the exit status is 1 if there are any. The counts are written to
``benchmarks/results/campaign.json``. A fit takes about half a second on one core.
"""

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.campaign import faults
from benchmarks.campaign.checks import check, general
from benchmarks.campaign.models import draw_case, likelihood_of, shape_of
from benchmarks.campaign.tables import KINDS
from benchmarks.report import RESULTS, write_page

# Where the numbers of outcomes are written to.
COUNTS = Path(__file__).parents[1] / "results" / "campaign.json"
_TEXT = """
Random estimators, with each likelihood, are fitted to tables of {n_kinds} kinds, most of
them hostile. Tables are mapped to what the likelihood is for. The parameters are drawn from
everywhere in their ranges, and some of them contradict each other. So are sample weights
and validation data. After a fit, all methods are called, and the fit is repeated, pickled,
and continued on a table in other units. A *violation* is one of these:

* a fitted attribute, code, reconstruction, score or sample that is not finite;
* an exception other than ValueError and TypeError, or one after the start of the training;
* a table with NaN, infinities, strings and the like that is accepted;
* a warning that skae or scikit-learn does not issue on purpose, or that does not point at
  the call of the user;
* a changed random state or setting of the process, table or parameter;
* an earlier fit that a failed one changes;
* two fits with the same ``random_state`` whose answers differ, to the bit, although the
  second has the settings of another user (autocast, default dtype, ``errstate``, ...);
* a method that raises an error, or answers in another dtype or shape.

In this run of {n_fits} fits (seed {seed}), {n_fitted} were fitted and {n_refused} were
refused, with **{n_violations} violations**. Many tables cannot be fitted with the
parameters that were drawn. So a refusal is an answer too, and the last table counts its
messages. In the messages, ``#`` stands for a number.

Not counted are the ``OverflowError`` of numpy for a whole number beyond float64, the
warnings of the mixture that is passed as ``prior``, and a cosine of gradients, which is NaN
by definition if one of them is 0.
"""


def parse_arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fits", type=int, default=2000, help="number of fits")
    parser.add_argument("--faults", type=int, default=0, help="number of fits with faults")
    parser.add_argument("--first", type=int, default=0, help="index of the first fit")
    parser.add_argument("--only", type=int, help="index of the only fit")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    return parser.parse_args()


def case_of(seed, index):
    """Return a case of the campaign."""
    rng = np.random.default_rng([seed, index])
    return draw_case(KINDS[index % len(KINDS)], rng)


def describe(seed, index):
    """Print a case, what happened and all violations."""
    case = case_of(seed, index)
    np.set_printoptions(threshold=10)
    print(f"{case.kind}, {type(case.X).__name__} {shape_of(case.X)}")
    print(f"{case.estimator!r}\nwith {case.arguments}, then times {case.factor}")
    report = check(case)
    print(report.outcome, report.refusal, *report.warnings, sep="\n")
    for kind, text in report.violations:
        print(f"VIOLATION ({kind}): {text}")
    return len(report.violations)


def describe_fault(seed, index):
    """Print a fit with a fault, what happened and all violations."""
    found, report = faults.check(seed, index)
    print(found, report.outcome, report.refusal, sep="\n")
    for kind, text in report.violations:
        print(f"VIOLATION ({kind}): {text}")
    return len(report.violations)


def run(seed, indices):
    """Check some cases; return a list of case and report."""
    done = []
    for index in indices:
        start = time.perf_counter()
        case = case_of(seed, index)
        report = check(case)
        done.append((case, report))
        seconds = time.perf_counter() - start
        if seconds > 20:
            print(f"index {index} took {seconds:.0f} s ({case.kind})", flush=True)
        for kind, text in report.violations:
            last = text.strip().splitlines()[-1]
            print(f"--seed {seed} --only {index}: {case.kind}: {kind}: {last}", flush=True)
    return done


def page(seed, done, path):
    """Write the page of a campaign."""
    kinds = defaultdict(Counter)
    messages = {"warned": Counter(), "refused": Counter()}
    for case, report in done:
        counts = kinds[case.kind]
        counts[report.outcome] += 1
        counts["violations"] += len(report.violations)
        counts["warned"] += report.outcome == "fitted" and bool(report.warnings)
        messages["warned"].update({general(message) for message in report.warnings})
        if report.refusal:
            messages["refused"][general(report.refusal)] += 1
    columns = ["fitted", "warned", "refused", "violations"]
    total = {name: sum(counts[name] for counts in kinds.values()) for name in columns}
    text = _TEXT.format(
        n_kinds=len(KINDS),
        n_fits=len(done),
        seed=seed,
        n_fitted=total["fitted"],
        n_refused=total["refused"],
        n_violations=total["violations"],
    )
    rows = [[name, *(c[column] for column in columns)] for name, c in kinds.items()]
    listed = {
        what: [[f"``{message}``", n] for message, n in counts.most_common()]
        for what, counts in messages.items()
    }
    tables = [
        (
            "Outcomes",
            "*Warned* counts the fitted models with a warning.",
            ["kind of table", *columns],
            [*rows, ["all", *total.values()]],
        ),
        ("Warnings", "", ["message", "fits"], listed["warned"]),
        ("Refusals", "", ["message", "fits"], listed["refused"]),
    ]
    command = f"python -m benchmarks.campaign --seed {seed} --fits {len(done)}"
    title = "A campaign of hostile tables"
    write_page(path, title, command, text, tables)


def run_faults(seed, indices):
    """Check some fits with faults; return a list of fault and report."""
    done = []
    for index in indices:
        found, report = faults.check(seed, index)
        done.append((found, report))
        for kind, text in report.violations:
            last = str(text).strip().splitlines()[-1]
            where = f"--seed {seed} --only {index} --faults 1"
            print(f"{where}: {found.name}: {kind}: {last}", flush=True)
    return done


def counts(pairs):
    """Count outcomes and violations of pairs of a name and a report."""
    counted = defaultdict(Counter)
    for name, report in pairs:
        counted[name][report.outcome] += 1
        counted[name]["violations"] += len(report.violations)
    return {name: dict(counted[name]) for name in sorted(counted)}


def write_counts(arguments, done, with_faults, path):
    """Write the numbers of outcomes, by kind of table, likelihood and fault."""
    reports = [report for _, report in [*done, *with_faults]]
    found = {
        "seed": arguments.seed,
        "fits": len(done),
        "fits with faults": len(with_faults),
        "violations": sum(len(report.violations) for report in reports),
        "tables": counts((case.kind, report) for case, report in done),
        "likelihoods": counts((likelihood_of(case.estimator), r) for case, r in done),
        "faults": counts((fault.name, report) for fault, report in with_faults),
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def main():
    """Run the campaign; return the exit status."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    threadpool_limits(1)
    if arguments.only is not None:
        tell = describe_fault if arguments.faults else describe
        return int(tell(arguments.seed, arguments.only) > 0)
    indices = range(arguments.first, arguments.first + arguments.fits)
    done = run(arguments.seed, indices)
    if not arguments.no_page:
        page(arguments.seed, done, RESULTS / "campaign.rst")
    with_faults = run_faults(arguments.seed, range(arguments.faults))
    write_counts(arguments, done, with_faults, COUNTS)
    n_violations = sum(len(report.violations) for _, report in [*done, *with_faults])
    print(f"{len(done)} + {len(with_faults)} fits, {n_violations} violations")
    return int(n_violations > 0)


if __name__ == "__main__":
    sys.exit(main())
