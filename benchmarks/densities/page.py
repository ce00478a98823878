"""Write the page of the density benchmark from its results."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev

from densities.systems import N_CANDIDATES, N_DRAWS, SYSTEMS
from densities.tables import (
    FOLD_SEED,
    LARGEST_CORRELATION,
    NOISE_SEED,
    TABLES,
    VALIDATION_SHARE,
    Table,
)
from records import Record
from report import write_page

# Mean log-likelihoods of test rows (nats) that were published, with the same protocol.
PUBLISHED = {
    "RNADE, published": {"red": -9.36, "white": -10.23, "parkinsons": -0.90},
    "ensemble of deep RNADEs, published": {"red": -8.76, "white": -9.67},
}
_TEXT = f"""
Mean log-likelihood of the rows of a test fold, in nats per row, of features standardised by
the mean and standard deviation of the training fold. Larger is better. For a variational
autoencoder it is the importance-weighted lower bound with {N_DRAWS} draws; for all others
it is exact, up to a relative error of 1e-4 for KernelDensity. Behind ± is the standard
error: over folds where there are several, else over the rows of the test fold.

**No test row chooses anything.** Each system but skae has {N_CANDIDATES} candidates. They
are fitted to {1 - VALIDATION_SHARE:.0%} of the training fold and compared on the other
{VALIDATION_SHARE:.0%}. The best one is fitted again to the whole training fold. A flow is
not: it stops early by the validation part, so the best candidate is kept as it is. skae is
not tuned, it has one recipe for all tables. Its defaults are shown beside it.

**What had been seen.** An earlier setting of skae was chosen after folds 0 and 1 of six
tables had been seen, with other splits. The likelihood, the length and the width of the
recipe were then chosen on parts of training folds of these tables. All else was chosen on
the tables of :doc:`recipes`. Earlier versions of the recipe had been scored on the first
folds when the last change was made: 200 epochs for more than 10,000 rows, because parts of
the training folds of letter and casp gained 0.24 and 0.15. For texture and abalone, no part
was used to choose anything. They were chosen by name and size, then their rounding and
correlations were looked at.

**Folds.** Red has the ten folds of Uria, Murray and Larochelle, as the NADE repository
holds them. White and Parkinsons have ten shuffled folds (``KFold``, seed {FOLD_SEED}), as
theirs are not published, and so have the tables without duplicates. All others are split
into five, of which the first is the test fold. A cell with another number of folds says so.

**Features.** Of each pair of features with an absolute correlation above
{LARGEST_CORRELATION}, the first is dropped, as in Uria, Murray and Larochelle, who also
drop discrete features. So Parkinsons has their 15 features.

**Rounded values.** A density of rounded values is not bounded, as it may grow at the values
that occur. So uniform noise of one rounding unit is added once to the tables with a number
in the column "noise" (seed {NOISE_SEED}). The first three tables have none, as in the
published protocol. Their values are rounded, and a fifth of the wines are duplicates of
others, many of them in another fold. A model gains by repeating what it saw. The tables
"unique" are without duplicate rows, and show what is left of that gain.

The published figures are those of Uria, Murray and Larochelle, "RNADE: the real-valued
neural autoregressive density-estimator", NIPS 2013, and "A deep and tractable density
estimator", ICML 2014. Flows are those of zuko: three or five autoregressive transforms with
two hidden layers. The mixture of factor analysers is
``benchmarks/densities/factor_analysers.py``.
"""

Results = dict[tuple[str, str], list[Record]]


def write_density_page(records: list[Record], folder: Path, versions: str) -> None:
    """Write density.rst into a folder."""
    if not records:
        raise SystemExit("There are no results yet.")
    results: Results = defaultdict(list)
    for record in records:
        results[record["system"], record["table"]].append(record)
    shown = {record["table"] for record in records}
    published = [name for name, table in TABLES.items() if table.n_default_folds > 1]
    rest = [name for name in TABLES if name not in published]
    tables = [
        ("Tables", "*Noise* is the width of the uniform noise.", *_describe(results)),
        *(
            (heading, "", *_grid(results, [n for n in names if n in shown], _score))
            for heading, names in (
                ("Wines and Parkinsons", published),
                ("Other tables", rest),
            )
        ),
        (
            "Seconds",
            "CPU seconds of the last fit, and of the whole search in brackets; the median "
            "over folds. The scoring of the test rows is not in them.",
            *_grid(results, [n for n in TABLES if n in shown], _seconds),
        ),
        (
            "Chosen candidates",
            "The most frequent one over the folds.",
            *_grid(
                results,
                [n for n in TABLES if n in shown],
                _chosen,
                [name for name, system in SYSTEMS.items() if len(system.candidates) > 1],
            ),
        ),
    ]
    dates = [record["date"] for record in records]
    threads = " or ".join(map(str, sorted({record["threads"] for record in records})))
    text = (
        f"{_TEXT}\nFits from {min(dates)} to {max(dates)}, with {threads} thread(s), "
        f"{versions}.\n"
    )
    command = "python benchmarks/density.py --page"
    write_page(folder / "density.rst", "Densities of tables", command, text, tables)


def _describe(results: Results) -> tuple[list[str], list[list[object]]]:
    """Return the table of tables."""
    header = ["table", "from", "rows", "features", "duplicates", "noise", "folds", "notes"]
    rows = []
    for name, table in TABLES.items():
        record = next((r[0] for (_, t), r in results.items() if t == name), None)
        if record:
            counts = [record[key] for key in ("n_rows", "n_features", "n_duplicates")]
            rows.append(
                [name, table.source, *counts, _noise(table), table.n_folds, table.note]
            )
    return header, rows


def _noise(table: Table) -> str:
    """Return the widths of the noise."""
    if isinstance(table.noise, float):
        return f"{table.noise:g}" if table.noise else ""
    return ", ".join(f"{width:g}" for width in sorted(set(table.noise)))


def _grid(
    results: Results,
    tables: list[str],
    show: Callable[[list[Record], Table], str],
    systems: list[str] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Return a table with a row for each system and a column for each table."""
    rows = [
        [system, *(_cell(results[system, name], name, show) for name in tables)]
        for system in systems or SYSTEMS
    ]
    if show is _score:
        rows += [
            [name, *(f"{values[t]:.2f}" if t in values else "" for t in tables)]
            for name, values in PUBLISHED.items()
            if any(t in values for t in tables)
        ]
    return ["system", *tables], rows


def _cell(
    records: list[Record], name: str, show: Callable[[list[Record], Table], str]
) -> str:
    """Return a cell, which is empty without results."""
    return show(records, TABLES[name]) if records else ""


def _score(records: list[Record], table: Table) -> str:
    """Return mean and standard error, and the number of folds if it is not the usual."""
    scores = [record["score"] for record in records]
    error = (
        stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else records[0]["row_error"]
    )
    usual = len(scores) == table.n_default_folds
    folds = "" if usual else f" ({len(scores)} fold{'s' if len(scores) > 1 else ''})"
    return f"{mean(scores):.2f} ± {error:.2f}{folds}"


def _seconds(records: list[Record], table: Table) -> str:
    """Return the median seconds of a fit, and of a search in brackets."""
    fit = median(record["fit_seconds"] for record in records)
    search = median(record["search_seconds"] for record in records)
    return f"{fit:.2g} ({search:.2g})" if search else f"{fit:.2g}"


def _chosen(records: list[Record], table: Table) -> str:
    """Return the candidate that was chosen most often."""
    counts = Counter(tuple(record["chosen"].values()) for record in records)
    return ", ".join(map(str, counts.most_common(1)[0][0]))
