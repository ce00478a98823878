"""How long skae takes to what the others reach in 100 epochs."""

import math
from statistics import median

from systems import PYTHAE, SKORCH, TEXTBOOK, System, failure, in_turns, middle, shown
from workloads import quality_sets, save

_PEERS = [TEXTBOOK, SKORCH, PYTHAE]
_OURS = System("skae", "ours_quality")
_SWEEP = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200]
_TEXT = """
Seconds from the call of ``fit`` to the held-out ELBO, in nats per sample in the units of
the standardised data, that the others end with after {epochs} epochs; on a CPU with at most
{threads} thread(s), in float32, with the same widths and number of components. The others
train with a Gaussian loss with a scale of 1, Adam at 1e-3 and the batch size that is their
default (128 for skorch and the loop, 64 for pythae). Their decoder has no scale: they are
given the best one for their training data, in closed form.

skae has its defaults, and max_iter from 1, 2, 3, 5, 7, 10, ...: shown is the first that
reaches the ELBO. So a user who does not know it beforehand would take longer; and since
the learning rate falls over max_iter epochs, it is not a longer fit cut short. Every fit
comes after one on a few rows in the same process.
"""
_NOTE = """
Medians (and ranges) over seeds, {repeats} on the bundled sets and 1 on the drawn one. The
figures of skae are those of each seed's own first fit that reaches the others' median.
"""


def page(folder, args):
    """Text and table."""
    epochs = 5 if args.quick else 100
    rows = []
    for name, (train, test, hidden, k) in quality_sets(args.drawn_rows).items():
        repeats = 1 if name.startswith("drawn") else args.repeats
        request = {"hidden": hidden, "k": k, "epochs": epochs}
        request |= {"train": save(folder, name, train), "test": save(folder, name, test)}
        request["task"] = "quality"
        answers = in_turns(_PEERS, repeats, args.threads, request)
        targets = {
            system: middle(answers[system], "elbo")
            for system in _PEERS
            if not failure(answers[system])
        }
        highest = max(targets.values(), default=-math.inf)
        sweep = {**request, "sweep": _SWEEP, "target": highest}
        ours = in_turns([_OURS], repeats, args.threads, sweep)[_OURS]
        for system in _PEERS:
            row = [name, system.name]
            if reason := failure(answers[system]) or failure(ours):
                rows.append([*row, reason, *[""] * 5])
                continue
            seconds = [answer["seconds"] for answer in answers[system]]
            row += [shown([a["elbo"] for a in answers[system]], form=".2f"), shown(seconds)]
            reached = [_first(answer["tries"], targets[system]) for answer in ours]
            rows.append(row + _ours(reached, ours, median(seconds)))
    header = ["data", "system", "its ELBO", "its seconds"]
    header += ["max_iter of skae", "its ELBO", "its seconds", "times less"]
    table = ("Time to the same ELBO", _NOTE.format(repeats=args.repeats), header, rows)
    text = _TEXT.format(threads=args.threads, epochs=epochs)
    return "Seconds to the same quality", text, [table]


def _first(tries, target):
    """The first try that reaches a target: max_iter, seconds, ELBO."""
    return next((one for one in tries if one[2] >= target), None)


def _ours(reached, ours, seconds):
    if None in reached:
        best = max(one[2] for answer in ours for one in answer["tries"])
        return [f"not reached by {_SWEEP[-1]}", f"{best:.2f} at best", "", ""]
    max_iter, own, score = zip(*reached, strict=True)
    return [
        f"{median(max_iter):.0f}",
        shown(score, form=".2f"),
        shown(own),
        f"{seconds / median(own):.1f}",
    ]
