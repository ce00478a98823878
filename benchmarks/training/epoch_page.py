"""Write the page of seconds per epoch, with the matrix products alone as the floor."""

import numpy as np
from systems import (
    AUTOENCODERS,
    FLOOR,
    OURS,
    VAES,
    Answer,
    System,
    failure,
    in_turns,
    middle,
    shown,
)
from workloads import WORKLOADS, make, save

_TEXT = """
Training on a CPU in float32, with at most {threads} thread(s): a Gaussian loss, Adam with a
learning rate of 1e-3, no validation. All systems have the same architecture, batches and
epochs. They take turns, {repeats} time(s), each in a new process; the tables have the
median, and the range in brackets.

The time of an epoch is the difference of a long and a short fit, divided by the difference
of their lengths. Both are the fastest of a few in one process, after a fit on two batches.
So the time of an epoch excludes imports and the start and end of a fit. The time of a whole
fit, in the same process, includes its start and end. skae standardises its data at the
start, chooses the number of threads by the times of its steps, and has a linear path beside
its networks.

The floor is the time of the matrix products of an epoch, forward and backward, by
``torch.mm`` into allocated buffers. It is taken with one thread or with all, whichever is
faster. Two more rows have the same products by oneDNN, and with the linear path of skae's
models as part of the first and last layer. skae uses oneDNN for large products on AMD's
processors from Zen 5 on, where torch's own products are half as fast. "No oneDNN" is skae
without it.

Hosts of one type differ. On the one of 2026-11-28, an operation of torch on 16 numbers
takes 3.5 microseconds, several times as long as elsewhere, so steps of many operations are
slow for all systems. With the version of 2026-11-23 and another host, the variational fits
of skae with a fixed scale took 2.6 (S), 2.1 (W) and 1.0 (M) times the floor, and the
textbook loop took 11.7, 5.5 and 1.8 times.
"""
_SAME = """
The number of parameters, the steps per epoch, and the loss per sample after the short and
the long fit. A hook on torch's optimizers counts the steps; skae does not use these
optimizers. The loss is half the squared error plus the KL, on up to 2000 training rows;
skae's "optimal" scale has another loss. A scale of 1 is far too large for S, so the KL
falls to 0 there. PyOD omits the last, incomplete batch. MLPRegressor's code is one more
hidden layer, so the code has an activation. skae starts at PCA, the others at random.
"""


def page(folder, args):
    """Return title, text and tables of the page."""
    tables, same = [], []
    for name in args.workloads:
        workload = WORKLOADS[name]
        X = make(workload, args.quick)
        few, many = workload.epochs_timed
        request = {
            **workload.request(),
            "task": "epoch",
            "train": save(folder, name, X),
            "epochs_timed": (few, many),
            "pairs": workload.pairs,
            "whole": workload.whole,
        }
        systems = [*VAES, *AUTOENCODERS, FLOOR]
        answers = in_turns(systems, args.repeats, args.threads, request)
        note = f"{workload.describe(X)}. Fits of {few} and {many} epochs, "
        note += f"{workload.pairs} times."
        tables.append((name, note, *_table(answers, workload.whole)))
        same += [
            [name, *_same(system, answers[system], few, many)] for system in systems[:-1]
        ]
    header = ["workload", "system", "version", "parameters", "steps", "loss"]
    tables.append(("The same training", _SAME, header, same))
    text = _TEXT.format(threads=args.threads, repeats=args.repeats)
    return "Seconds per epoch, side by side", text, tables


def _table(answers: dict[System, list[Answer]], whole: int):
    """Return header and rows of a workload; ``whole`` is the length of a whole fit."""
    unit, unit_name = (1e-3, "ms") if whole else (1.0, "s")
    header = ["system", f"{unit_name} per epoch", "over skae", "over the floor"]
    if whole:
        header.append(f"whole fit of {whole} epochs, s")
    rows = []
    floors = answers[FLOOR]
    for kind, label, systems in [
        ("vae", "variational", VAES),
        ("ae", "deterministic", AUTOENCODERS),
    ]:
        floor = np.nan if failure(floors) else middle(floors, kind)
        ours = answers[OURS[f"{kind} fixed"]]
        own = np.nan if failure(ours) else middle(ours)
        for system in systems:
            row = [f"{label}: {system.name}"]
            if reason := failure(answers[system]):
                row += [reason, *[""] * (len(header) - 2)]
            else:
                seconds = middle(answers[system])
                row.append(shown([a["seconds"] for a in answers[system]], unit))
                row += [f"{seconds / own:.2f}", f"{seconds / floor:.2f}"]
                if whole:
                    row.append(shown([a["whole"] for a in answers[system]]))
            rows.append(row)
        names = [kind, f"{kind}, linear path", f"{kind}, by oneDNN"]
        for floor_name in [n for n in names if not failure(floors) and n in floors[0]]:
            row = [f"{label}: {floor_name.replace(kind, FLOOR.name)}"]
            row.append(shown([a[floor_name] for a in floors], unit))
            seconds = middle(floors, floor_name)
            row += [f"{seconds / own:.2f}", f"{seconds / floor:.2f}"]
            rows.append(row + [""] * (len(header) - len(row)))
    return header, rows


def _same(system: System, answers: list[Answer], few: int, many: int) -> list[str]:
    """Return what shows that a system trains the same model: version, steps, loss."""
    name = f"{'deterministic' if system in AUTOENCODERS else 'variational'}: {system.name}"
    if reason := failure(answers):
        return [name, reason, "", "", ""]
    first, last = np.median([a["losses"] for a in answers], axis=0)
    losses = f"{first:.4g} after {few}, {last:.4g} after {many}"
    return [
        name,
        answers[0]["version"],
        f"{answers[0]['parameters']:,}",
        f"{answers[0]['steps']:.0f}" if answers[0]["steps"] else "not counted",
        losses if "optimal" not in system.variant else "another loss",
    ]
