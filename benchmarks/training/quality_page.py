"""Write the page of the time in which skae reaches the ELBO of other systems."""

import math
from statistics import median

from systems import PYTHAE, SKORCH, TEXTBOOK, System, failure, in_turns, middle, shown
from workloads import quality_sets, save

_PEERS = [TEXTBOOK, SKORCH, PYTHAE]
_OURS = System("skae", "ours_quality")
_SWEEP = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200]
_TEXT = """
The time in which skae reaches the held-out ELBO that other systems have after {epochs}
epochs. Times are the seconds of ``fit`` on a CPU with at most {threads} thread(s), in
float32, with the same widths and number of components. The ELBO is in nats per sample, in
the units of the standardised data. The others train with a Gaussian loss with a scale of 1
and Adam at 1e-3. They have their default batch size: 128 for skorch and the loop, 64 for
pythae. Their decoder has no scale, so their ELBO uses the optimal scale for their training
data, in closed form.

skae has its defaults, with max_iter from 1, 2, 3, 5, 7, 10, ...: the table has the first
value that reaches the ELBO. A user who does not know this value needs more time. The
learning rate falls over max_iter epochs, so such a fit is not the beginning of a longer
one. In the same process, a fit on a few rows precedes each timed fit.
"""
_NOTE = """
Medians (and ranges) over seeds: {repeats} on the bundled sets, 1 on the drawn one. The
figures of skae are those of the first fit of each seed that reaches the others' median.
"""


def page(folder, args):
    """Return title, text and table of the page."""
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
    """Return max_iter, seconds and ELBO of the first try that reaches a target."""
    return next((one for one in tries if one[2] >= target), None)


def _ours(reached, ours, seconds):
    """Return the cells of skae; ``seconds`` is the median time of the other system."""
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
