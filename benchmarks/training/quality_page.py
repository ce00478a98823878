"""Write the page of the time in which skae reaches the ELBO of other systems."""

import math
import os
from itertools import groupby
from statistics import median

from sklearn.decomposition import PCA
from systems import PYTHAE, SKORCH, TEXTBOOK, System, failure, in_turns, shown
from workers.worker import LEARNING_RATE, OPTIMAL_SCALE, UNIT_SCALE
from workloads import quality_sets, save

from skae import VariationalAutoencoder

_PEERS = [TEXTBOOK, SKORCH, PYTHAE]
_OURS = System("skae", "ours_quality")
# Learning rates of the other systems.
_RATES = [1e-3, 5e-3, 1e-2]
# Default max_iter of skae.
_DEFAULT = VariationalAutoencoder().max_iter
# Values of skae's max_iter.
_SWEEP = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, _DEFAULT, 150, 200, 300]
_SWEEP_OF_DRAWN = [*_SWEEP[:10], _DEFAULT]
_TEXT = """
The time in which skae reaches the held-out ELBO that other systems have at the end of their
training. Times are the seconds of ``fit`` on a CPU with at most {threads} thread(s), in
float32, with the same widths and number of components. The ELBO is in nats per sample, in
the units of the standardised data. The systems take turns. All fits of a system and seed
are timed one by one in a new process, after a fit on a few rows. The load average of the
machine was {load:.1f} at the start, on {cores} core(s); on an idle machine it is near 0.

The other systems train with Adam at a constant learning rate, in two ways:

- Scale "optimal": the objective of skae, a Gaussian with the optimal scale of each batch.
  For d features, the loss is d/2 log of the batch's mean squared error, plus the KL. pythae
  trains so by a subclass that replaces its loss. The learning rate is the best of these:
  {rates}. It is chosen by the ELBO of the same held-out rows, which
  favours these systems. Their seconds exclude the fits with the other rates.
- Scale "1": a Gaussian with a scale of 1, at {rate:g}. A comparison with these rows is not
  like for like; earlier versions of this page had no others.

They have their default batch size: 128 for skorch and the loop, 64 for pythae. Their
decoder has no scale, so the ELBO of both ways uses the optimal scale for their training
data, in closed form.

skae has its defaults, with max_iter from 1, 2, 3, 5, 7, 10, ... up to the epochs of the
others: the table has the first value that reaches the ELBO, which favours skae. A user who
does not know this value has the row "skae, all defaults", with max_iter={default}. The
learning rate falls over max_iter epochs, so a short fit is not the beginning of a longer
one.
"""
_NOTE = """
{n} x {d} training rows, hidden layers {hidden}, {k} components. Medians (and ranges) over
{repeats} seed(s). The figures of skae are those of the first fit of each seed that reaches
the median of the other system. PCA's figure is its log-likelihood.
"""
_FEW = """
To save time, only the loop is trained here, for {shortest} epochs and with the scale
"optimal", and skae not with 70 epochs.
"""


def page(folder, args):
    """Return title, text and a table for each data set."""
    lengths = [5, 10] if args.quick else [100, 300]
    text = _TEXT.format(
        threads=args.threads,
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
        rates=", ".join(f"{rate:g}" for rate in _RATES),
        rate=LEARNING_RATE,
        default=_DEFAULT,
    )
    tables = []
    for name, (train, test, hidden, k) in quality_sets(args.drawn_rows).items():
        is_drawn = name.startswith("drawn")
        repeats = 1 if is_drawn else args.repeats
        trials, sweep, peers = _trials(lengths), _SWEEP, _PEERS
        if is_drawn:
            trials, sweep, peers = trials[: len(_RATES)], _SWEEP_OF_DRAWN, [TEXTBOOK]
        longest = max(_DEFAULT, *(trial["epochs"] for trial in trials))
        request = {"task": "quality", "hidden": hidden, "k": k}
        request |= {"train": save(folder, name, train), "test": save(folder, name, test)}
        request |= {"trials": trials, "sweep": [n for n in sweep if n <= longest]}
        answers = in_turns([*peers, _OURS], repeats, args.threads, request)
        rows = [["scikit-learn's PCA", *[""] * 3, f"{PCA(k).fit(train).score(test):.2f}"]]
        rows.append(_defaults(answers[_OURS]))
        for peer in peers:
            rows += _rows(peer.name, trials, answers[peer], answers[_OURS])
        header = ["system", "scale", "learning rate", "epochs", "its ELBO", "its seconds"]
        header += ["max_iter of skae", "its ELBO", "its seconds", "times less"]
        rows = [[*row, *[""] * (len(header) - len(row))] for row in rows]
        note = _NOTE.format(
            n=f"{len(train):,}",
            d=train.shape[1],
            hidden=tuple(hidden),
            k=k,
            repeats=repeats,
        )
        if is_drawn:
            note += _FEW.format(shortest=lengths[0])
        tables.append((name, note, header, rows))
    return "Seconds to the same quality", text, tables


def _trials(lengths):
    """Return the changes of the plan that other systems are trained with."""
    trials = [
        {"objective": OPTIMAL_SCALE, "epochs": epochs, "learning_rate": rate}
        for epochs in lengths
        for rate in _RATES
    ]
    old = {"objective": UNIT_SCALE, "epochs": lengths[0], "learning_rate": LEARNING_RATE}
    return [*trials, old]


def _defaults(ours):
    """Return the row of skae with all defaults."""
    name = "skae, all defaults"
    if reason := failure(ours):
        return [name, reason]
    tries = [one for answer in ours for one in answer["tries"] if one[0] == _DEFAULT]
    _, seconds, elbos = zip(*tries, strict=True)
    rate = f"{VariationalAutoencoder().learning_rate_init:g}, falling"
    row = [name, OPTIMAL_SCALE, rate, _DEFAULT]
    return [*row, shown(elbos, form=".2f"), shown(seconds)]


def _rows(name, trials, answers, ours):
    """Return the rows of another system: the best learning rate of each kind of trial."""
    if reason := failure(answers) or failure(ours):
        return [[name, reason]]
    # Pairs of seconds and ELBO, a list over seeds for each trial.
    results = zip(*(answer["trials"] for answer in answers), strict=True)
    rows = []
    for _, group in groupby(zip(trials, results, strict=True), key=_kind):
        trial, result = max(group, key=lambda pair: _median_elbo(pair[1]))
        seconds, elbos = zip(*result, strict=True)
        row = [name, trial["objective"], f"{trial['learning_rate']:g}", trial["epochs"]]
        row += [shown(elbos, form=".2f"), shown(seconds)]
        rows.append(row + _ours(ours, _median_elbo(result), median(seconds)))
    return rows


def _kind(pair):
    """Return what the trials of one row have in common."""
    return pair[0]["objective"], pair[0]["epochs"]


def _median_elbo(result):
    """Return the median ELBO over seeds; minus infinity if a fit diverged."""
    elbos = [elbo for _, elbo in result]
    return -math.inf if any(map(math.isnan, elbos)) else median(elbos)


def _ours(ours, target, seconds):
    """Return the cells of skae; ``seconds`` is the median time of the other system."""
    reached = [_first(answer["tries"], target) for answer in ours]
    if None in reached:
        tries = [one for answer in ours for one in answer["tries"]]
        best = max(elbo for _, _, elbo in tries)
        return [f"not reached by {tries[-1][0]}", f"{best:.2f} at best"]
    max_iter, own, score = zip(*reached, strict=True)
    return [
        f"{median(max_iter):.0f}",
        shown(score, form=".2f"),
        shown(own),
        f"{seconds / median(own):.1f}",
    ]


def _first(tries, target):
    """Return max_iter, seconds and ELBO of the first try that reaches a target."""
    return next((one for one in tries if one[2] >= target), None)
