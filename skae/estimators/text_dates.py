"""Dates in a column of strings, with or without a time of the day."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from skae._data.columns import name_of, package_of

# Different strings up to which they are errors among dates.
_MOST_STRINGS = 5
# A date with the year first or last and one separator, a time and an offset from UTC.
_DATE = re.compile(
    r"(?:(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/.])(\d{1,2})\6(\d{4}))"
    r"(?:([T ])\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)? ?(Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class TextDates:
    """How the strings of a column are dates.

    Attributes
    ----------
    example : str
        One of the strings.
    strays : tuple of str
        The strings that are no dates.
    formats : tuple of str
        The formats, as those of `datetime.strptime`, of which each date has one.
    year : int
        The first year.
    swapped : tuple of str
        The formats with day and month swapped, if nothing shows which is first.
    """

    example: str
    strays: tuple[str, ...]
    formats: tuple[str, ...]
    year: int
    swapped: tuple[str, ...]

    def message(self, X: Any, i: int) -> str:
        """Return what to say of column i of a table, with code that converts it."""
        kind = "dates as strings"
        convert = "Convert them to days since a reference date"
        if self.strays:
            kind = f"dates but for {', '.join(map(repr, self.strays))}"
            convert += "; these become missing"
        text = (
            f"Column {name_of(X, i)!r} has {kind}, such as {self.example!r}. {convert}: "
            f"{self._code(X, i, self.formats)}."
        )
        if self.swapped:
            text += f" If the day is before the month: {self._code(X, i, self.swapped)}."
        return (
            f"{text} Give whole days the likelihood 'gaussian', because \"auto\" may take "
            "them as counts."
        )

    def _code(self, X: Any, i: int, formats: tuple[str, ...]) -> str:
        """Return code that converts column i of a table by formats."""
        package, name = package_of(X), name_of(X, i)
        has_offset = any("%z" in own for own in formats)
        if package == "polars":
            zone = ", time_zone='UTC'" if has_offset else ""
            reference = f"pl.datetime({self.year}, 1, 1{zone})"
            strict = ", strict=False" if self.strays or len(formats) > 1 else ""
            reads = [
                f"pl.col({name!r}).str.to_datetime("
                f"{own.replace('.%f', '%.f').replace('%z', '%#z')!r}{strict})"
                for own in formats
            ]
            dates = reads[0] if len(reads) == 1 else f"pl.coalesce({', '.join(reads)})"
            days = f"({dates} - {reference}).dt.total_microseconds() / 86_400_000_000"
            return f"X = X.with_columns({days})"
        column = f"X[:, {name}]" if package is None else f"X[{name!r}]"
        how = f"format={formats[0]!r}"
        if len(formats) > 1:
            how = "format='ISO8601'"
            if not formats[0].startswith("%Y-"):
                how = f"format='mixed', dayfirst={formats[0].startswith('%d')}"
        how += ", utc=True" if has_offset else ""
        how += ", errors='coerce'" if self.strays else ""
        zone = ", tz='UTC'" if has_offset else ""
        code = (
            f"{column} = (pd.to_datetime({column}, {how}) - "
            f"pd.Timestamp('{self.year}-01-01'{zone})) / pd.Timedelta(days=1)"
        )
        # An array of strings would take the numbers as strings again.
        is_text = package is None and getattr(X, "dtype", np.dtype(object)).kind in "US"
        return f"X = X.astype(object); {code}" if is_text else code


def dates_in_text(values: np.ndarray) -> TextDates | None:
    """Return how objects ``(n,)`` are dates, None if they are not; a few may be none."""
    different = {value for value in values.tolist() if value is not None}
    found: dict[str, re.Match[str]] = {}
    for n_read, value in enumerate(different):
        # Most columns of words end here.
        if n_read - len(found) > _MOST_STRINGS:
            return None
        if isinstance(value, str) and (match := _DATE.fullmatch(value)):
            found[value] = match
    if not found:
        return None
    # Whether the year is first, and the separator.
    kinds = Counter((bool(m[1]), m[2] or m[6]) for m in found.values())
    (is_first, mark), _ = kinds.most_common(1)[0]
    own = {v: m for v, m in found.items() if (bool(m[1]), m[2] or m[6]) == (is_first, mark)}
    orders = ("ymd",) if is_first else (("dmy", "mdy") if mark == "." else ("mdy", "dmy"))
    dates = {order: _dates(own, order) for order in orders}
    # Of equal ones, the first is more usual.
    order = max(orders, key=lambda order: len(dates[order]))
    valid = dates[order]
    strays = sorted(str(value) for value in different if value not in valid)
    if len(strays) > min(_MOST_STRINGS, len(valid) - 1):
        return None
    formats = {o: tuple(sorted({_format(own[v], o, mark) for v in valid})) for o in orders}
    has_doubt = mark != "." and len(set(map(len, dates.values()))) == 1
    return TextDates(
        example=str(min(valid)),
        strays=tuple(strays),
        formats=formats[order],
        year=min(date.year for date in valid.values()),
        swapped=formats[orders[-1]] if has_doubt and len(orders) > 1 else (),
    )


def _dates(matches: dict[str, re.Match[str]], order: str) -> dict[str, datetime.date]:
    """Return the dates of strings of which the year, month and day have an order."""
    dates = {}
    for value, match in matches.items():
        numbers = match.group(1, 3, 4) if match[1] else match.group(5, 7, 8)
        parts = dict(zip(order, map(int, numbers), strict=True))
        try:
            dates[value] = datetime.date(parts["y"], parts["m"], parts["d"])
        except ValueError:
            continue
    return dates


def _format(match: re.Match[str], order: str, mark: str) -> str:
    """Return the format of one date and its time."""
    text = mark.join({"y": "%Y", "m": "%m", "d": "%d"}[part] for part in order)
    if match[9]:
        text += f"{match[9]}%H:%M"
        text += ":%S" if match[10] else ""
        text += ".%f" if match[11] else ""
        if match[12]:
            text += " %z" if match.string[match.start(12) - 1] == " " else "%z"
    return text
