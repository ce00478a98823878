"""Seconds per epoch of each system, beside the matrix products alone."""

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
Training on a CPU in float32, with at most {threads} thread(s): a Gaussian loss with Adam at
a learning rate of 1e-3, without validation. The architecture, batches and epochs are the
same everywhere. All systems take turns, {repeats} time(s), each in a new process; shown is
the median, and the range in brackets. The time of an epoch is the difference of a long and
a short fit, the fastest of a few in a process, over the difference of their lengths, after
a fit on two batches: so it has nothing of imports, starts and ends. A whole fit, in the
same warm process, has starts and ends. skae standardises its data in each batch, takes one
thread where a step is small, and has a linear path beside its networks.

The floor is the time of the matrix products of an epoch, forwards and backwards, into
buffers that are there already, by ``torch.mm``, with one thread or with all, whichever is
faster. Two more rows have the same with the linear path of skae's models in the products of
the first and last layer, and by oneDNN, which skae leaves large products to where torch's
own are half as fast: on processors with AVX-512 that are not Intel's.
"""
_SAME = """
Number of parameters, steps per epoch (counted by a hook on torch's optimizers; skae does
not use them), and the loss of a sample (half the squared error, plus the KL) after the
short and after the long fit, on up to 2000 training rows; skae's "optimal" scale has a loss
of its own. A scale of 1 is far too large for S, and the KL falls to 0 there. PyOD leaves
out the last, incomplete batch. MLPRegressor's code is one hidden layer more, so it has an
activation. skae starts at PCA, the others at random.
"""


def page(folder, args):
    """Text and tables."""
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
