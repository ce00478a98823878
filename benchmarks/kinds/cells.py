"""Make the tables of the page of kinds of columns from its results."""

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import mean, stdev
from typing import Any

from kinds import counts, mixed
from kinds.tables import COUNTS, MIXED, TRAINING_SHARE, CountTable, MixedTable
from records import Record

Table = tuple[list[str], list[list[str]]]
Groups = dict[tuple[str, str], list[Record]]


def describe(
    tables: dict[str, CountTable] | dict[str, MixedTable], records: list[Record]
) -> Table:
    """Return the table of tables."""
    header = ["table", "content", "rows", "columns", "from", "licence"]
    rows = []
    for name, table in tables.items():
        record = next((r for r in records if r["table"] == name), None)
        if record is not None:
            n_rows = round(record["n_train"] / TRAINING_SHARE)
            columns = _kinds(table) if isinstance(table, MixedTable) else "counts"
            described = f"{record['n_columns']} {columns}".strip()
            rows.append(
                [name, table.content, n_rows, described, table.source, table.licence]
            )
    return header, rows


def _kinds(table: MixedTable) -> str:
    """Return how many columns of each kind a table has."""
    kinds = ("numbers", "counts", "flags", "categories")
    sizes = [(len(getattr(table, kind)), kind) for kind in kinds]
    return "(" + ", ".join(f"{n} {kind}" for n, kind in sizes if n) + ")"


def grid(
    by_cell: Groups, tables: Iterable[str], systems: Iterable[str], field: str
) -> Table:
    """Return a row for each system and a column for each table."""
    shown = [name for name in tables if any(t == name for t, _ in by_cell)]
    rows = [
        [system, *(_mean(by_cell[name, system], field) for name in shown)]
        for system in systems
    ]
    return ["system", *shown], rows


def log_masses(by_cell: Groups) -> Table:
    """Return the scores for counts, and the differences from the negative binomial."""
    header, rows = grid(by_cell, COUNTS, counts.SYSTEMS, "score")
    first, *others = counts.SYSTEMS
    for other in others:
        cells = []
        for name in header[1:]:
            scores = {r["seed"]: r["score"] for r in by_cell[name, other]}
            cells.append(
                _with_error(
                    [
                        record["score"] - scores[record["seed"]]
                        for record in by_cell[name, first]
                        if record["seed"] in scores
                    ]
                )
            )
        rows.append([f"{first} - {other}", *cells])
    return header, rows


def with_field(by_cell: Groups, systems: Iterable[str], field: str) -> list[str]:
    """Return the systems that have results of a field."""
    return [
        system
        for system in systems
        if any(
            record.get(field) is not None
            for (_, other), group in by_cell.items()
            for record in group
            if other == system
        )
    ]


def with_network() -> list[str]:
    """Return the systems with a network."""
    kinds = ("one-hot", "mixed", "auto", "auto, mixture")
    return [name for name, system in mixed.SYSTEMS.items() if system.kind in kinds]


def _mean(records: list[Record], field: str, n_digits: int = 2) -> str:
    """Return mean and standard error of a field."""
    return _with_error([record[field] for record in records], n_digits)


def _with_error(values: list[float | None], n_digits: int = 2) -> str:
    """Return the mean and the standard error of values, which is empty without values."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = f"{mean(known):.{n_digits}f}"
    if len(known) == 1:
        return f"{text} (1 seed)"
    return f"{text} ± {stdev(known) / len(known) ** 0.5:.{n_digits}f}"


def chosen_candidates(by_cell: Groups) -> Table:
    """Return the candidates that the validation part chose, with the number of seeds."""
    shown = [name for name in COUNTS if any(t == name for t, _ in by_cell)]
    systems = [name for name, s in counts.SYSTEMS.items() if len(s.candidates) > 1]

    def cell(group: list[Record]) -> str:
        found = Counter(
            ", ".join(f"{k}={v}" for k, v in record["chosen"].items()) for record in group
        )
        return "; ".join(f"{text} ({n})" for text, n in found.most_common())

    return ["system", *shown], [
        [system, *(cell(by_cell[name, system]) for name in shown)] for system in systems
    ]


def best(records: list[Record], kind: str) -> dict[tuple[str, int], Record]:
    """Return the system of a kind with the best validation score, by table and seed."""
    found: dict[tuple[str, int], Record] = {}
    for record in records:
        system = mixed.SYSTEMS.get(record["system"])
        if system is None or system.kind != kind:
            continue
        key = record["table"], record["seed"]
        score = record["validation"]
        if key not in found or (score is not None and score > found[key]["validation"]):
            found[key] = record
    return found


def _columns(records: list[Record], rows: dict[str, Callable[[str], str]]) -> Table:
    """Return a table with given rows and a column for each mixed table with results."""
    shown = [name for name in MIXED if any(r["table"] == name for r in records)]
    return ["measure", *shown], [[title, *map(cell, shown)] for title, cell in rows.items()]


def compare(records: list[Record]) -> Table:
    """Return the scores of the chosen models, and their differences."""
    kinds = ("one-hot", "mixed", "auto", "auto, mixture", "independent")
    chosen = {kind: best(records, kind) for kind in kinds}

    def score(kind: str) -> Callable[[str], str]:
        return lambda table: _with_error(
            [r["score"] for (t, _), r in chosen[kind].items() if t == table]
        )

    def difference(kind: str) -> Callable[[str], str]:
        return lambda table: _with_error(
            [
                r["score"] - chosen["one-hot"][key]["score"]
                for key, r in chosen[kind].items()
                if key[0] == table and key in chosen["one-hot"]
            ]
        )

    def likelihoods(kind: str) -> Callable[[str], str]:
        def cell(table: str) -> str:
            names = (r["system"] for (t, _), r in chosen[kind].items() if t == table)
            return "; ".join(f"{name} ({n})" for name, n in Counter(names).most_common())

        return cell

    return _columns(
        records,
        {
            "best one-hot": score("one-hot"),
            "best mixed": score("mixed"),
            'Mixed("auto")': score("auto"),
            'Mixed("auto", real="mixture")': score("auto, mixture"),
            "independent columns": score("independent"),
            "best mixed - best one-hot": difference("mixed"),
            'Mixed("auto", real="mixture") - best one-hot': difference("auto, mixture"),
            "chosen, one-hot": likelihoods("one-hot"),
            "chosen, mixed": likelihoods("mixed"),
        },
    )


def kinds_of_score(records: list[Record]) -> Table:
    """Return the three scores of the chosen one-hot model."""
    chosen = best(records, "one-hot")
    fields = {"largest column": "score", "noise": "dequantised", "as is": "as_is"}

    def cell(field: str) -> Callable[[str], str]:
        return lambda table: _with_error(
            [r[field] for (t, _), r in chosen.items() if t == table]
        )

    return _columns(records, {title: cell(field) for title, field in fields.items()})


def samples(records: list[Record]) -> Table:
    """Return the comparison of samples with test rows."""
    names = {
        "one-hot": "best one-hot",
        "mixed": "best mixed",
        "auto, mixture": 'Mixed("auto", real="mixture")',
        "independent": "independent columns",
        "reference": "training rows",
    }
    rows: dict[str, Callable[[str], str]] = {}
    for title, field in (("valid", "valid"), ("variation", "variation"), ("AUC", "auc")):
        for kind, name in names.items():
            chosen = best(records, kind)

            def cell(table: str, chosen: Any = chosen, field: str = field) -> str:
                group = [r for (t, _), r in chosen.items() if t == table]
                return _mean(group, field, 3)

            rows[f"{title}, {name}"] = cell
    return _columns(records, rows)


def seconds(by_cell: Groups) -> Table:
    """Return the mean seconds of one fit of each likelihood."""
    known = [name for name in (*COUNTS, *MIXED) if any(t == name for t, _ in by_cell)]
    systems = {**counts.SYSTEMS, **mixed.SYSTEMS}
    rows = []
    for system in systems:
        cells = []
        for name in known:
            # A one-hot system has two fits: as is, and with noise.
            seconds = [
                record["seconds"]
                / record.get("n_candidates", 2 if "one-hot" in system else 1)
                for record in by_cell[name, system]
            ]
            cells.append(f"{mean(seconds):.1f}" if seconds and any(seconds) else "")
        if any(cells):
            rows.append([system, *cells])
    return ["system", *known], rows
