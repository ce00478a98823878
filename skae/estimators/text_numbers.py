"""Numbers in a column of strings: with units, separators and marks of missing values."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skae._data.columns import name_of, package_of

# Different values above which a column of numbers is no category for "auto".
FEW_CATEGORIES = 10
# Different values above which whole numbers without a unit are rather no codes, such as
# hours, days, weeks and minutes.
_MANY_NUMBERS = 60
# Different strings up to which they are errors among numbers, and no part of a code.
_MOST_STRINGS = 5
# Digits from which on whole numbers of one length, such as postal codes, are codes.
_CODE_LENGTH = 3
# Currencies that are often written before a number. Other letters there are rather codes.
_CURRENCIES = re.compile(
    "AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HKD|HUF|INR|JPY|KRW|MXN|NOK|NZD|PLN|SEK|SGD|TRY"
    "|USD"
)
# The sign of a negative number in typography, which `float` does not take.
_MINUS = "\u2212"
_SIGNS = f"+{_MINUS}-"
# A sign, digits with separators and an exponent, between a currency and a unit. The sign
# may be before the currency.
_NUMBER = re.compile(
    rf"(?:([{_SIGNS}]\s*)(?=[^\s\d.,{_SIGNS}]))?"
    rf"([A-Z]{{3}}(?=\s)|[^\w\s.,{_SIGNS}])?\s*([{_SIGNS}]?[.,]?\d+"
    r"(?:[.,'\u2019\s]\d+)*\.?(?:[eE][+-]?\d+)?)"
    r"\s*([^\W\d_].*|[^\w\s.,'\u2019+-].*)?",
    re.DOTALL,
)
# Marks other than letters and currencies with which a unit begins.
_MARKS = '%‰°"'
# A negative number in accounts, with a currency before, in or behind the brackets.
_ACCOUNTING = re.compile(r"([^\d()]*)\(([^()]*\d[^()]*)\)([^\d()]*)")
# Currencies that have two names.
_CODES_OF = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR"}
# Letters behind a number that multiply it, and the exponents in their place.
_FACTORS = {"k": "e3", "K": "e3", "M": "e6"}
# Separators of groups of digits as a pattern, and of decimals. Of equal ones the first is.
_CONVENTIONS = [
    (group, decimal)
    for decimal in (r"\.", ",")
    for group in ("", ",", r"\s", "'", "\u2019", r"\.")
    if group != decimal
]
# Of a mark, the convention in which it is the decimal point, and that of thousands.
_READINGS = {".": (("", r"\."), (r"\.", ",")), ",": (("", ","), (",", r"\."))}


@dataclass(frozen=True)
class TextNumbers:
    """How the strings of a column are numbers.

    Attributes
    ----------
    example : str
        One of the strings.
    strays : dict
        How often each string is that is no number.
    is_certain : bool
        Whether they are no codes, since they have a unit, decimals or groups of digits.
    changes : tuple of pairs of str
        What to replace in a string, and by what, before `float` takes it.
    has_others : bool
        Whether there are values that are no strings.
    units : tuple of str
        Currencies, if there are several; else there is none.
    mark : str
        A dot or a comma that may be the decimal point or separate thousands, else "".
    other_changes : tuple of pairs of str
        As changes, if that mark separates thousands; changes take it as decimal point.
    """

    example: str
    strays: dict[str, int]
    is_certain: bool
    changes: tuple[tuple[str, str], ...]
    has_others: bool
    units: tuple[str, ...] = ()
    mark: str = ""
    other_changes: tuple[tuple[str, str], ...] = ()

    def conversion(self, X: Any, i: int) -> str:
        """Return code that converts column i of a table; the strays become missing.

        It is a text with two codes if the strings may be read in two ways, and without code
        if they have several units.
        """
        if self.units:
            listed = ", ".join(map(repr, self.units))
            return (
                f"they are of {len(self.units)} units ({listed}), so make them numbers of "
                "one unit by a rate of exchange, or move the unit to a column of its own"
            )
        code = self._code(X, i, self.changes)
        if not self.mark:
            return code
        other = self._code(X, i, self.other_changes)
        return (
            "the numbers are ambiguous, because three digits follow each "
            f"{self.mark!r}. If it is the decimal point: {code}. If it separates "
            f"thousands: {other}"
        )

    def _code(self, X: Any, i: int, changes: tuple[tuple[str, str], ...]) -> str:
        """Return code that makes changes in column i of a table, and converts it."""
        package = package_of(X)
        name = name_of(X, i)
        if package == "polars":
            column = f"pl.col({name!r})"
            for old, new in changes:
                column += f".str.replace_all({old!r}, {new!r}, literal=True)"
            column += ".str.strip_chars()" if changes else ""
            return f"X = X.with_columns({column}.cast(pl.Float64, strict=False))"
        target = column = f"X[:, {name}]" if package is None else f"X[{name!r}]"
        if changes:
            column = f"pd.Series({column})" if package is None else column
            column += ".astype(str)" if self.has_others else ""
            for old, new in changes:
                column += f".str.replace({old!r}, {new!r}, regex=False)"
        code = f"{target} = pd.to_numeric({column}, errors='coerce')"
        # An array of strings would take the numbers as strings again.
        is_text = package is None and getattr(X, "dtype", np.dtype(object)).kind in "US"
        return f"X = X.astype(object); {code}" if is_text else code


def numbers_in_text(values: np.ndarray) -> TextNumbers | None:
    """Return how objects ``(n,)`` are numbers, None if they are not, or rather codes.

    A few strings may be none. Numbers with leading zeros, whole numbers of one length and
    few different whole numbers are codes.
    """
    counts = Counter(values.tolist())
    del counts[None]
    parts: dict[Any, tuple[tuple[str, str], str]] = {}
    units: Counter[tuple[str, str]] = Counter()
    for n_read, (value, n) in enumerate(counts.items()):
        # Most columns of words end here.
        if n_read - len(parts) > _MOST_STRINGS:
            return None
        if (part := _split(str(value))) is not None:
            parts[value] = part
            units[part[0]] += n
    if not units:
        return None
    unit = units.most_common(1)[0][0]
    own_units, factors = {unit}, _factors_of(units, unit)
    currencies: list[str] = []
    if factors:
        unit = unit[0], ""
        own_units = {(unit[0], factor) for factor in ("", *factors)}
    elif currencies := _currencies_of([own for own, _ in parts.values()]):
        own_units = {own for own in units if _currency_of(own)}
    bodies = {
        value: body + (_FACTORS[own[1]] if own[1] in factors else "")
        for value, (own, body) in parts.items()
        if own in own_units
    }
    if len(counts) - len(bodies) > _MOST_STRINGS:
        return None
    group, decimal, numbers = _best_convention(bodies)
    strays = {str(value): n for value, n in counts.items() if value not in numbers}
    n_numbers = sum(counts[value] for value in numbers)
    if (
        len(strays) > _MOST_STRINGS
        or n_numbers <= sum(strays.values())
        or len(set(numbers.values())) <= FEW_CATEGORIES
    ):
        return None
    used = [bodies[value] for value in numbers]
    if any(re.match(r"[+-]?0\d", body) for body in used):
        return None
    mark, is_ambiguous = _mark_before_three(used)
    if any(isinstance(value, float) and not value.is_integer() for value in numbers):
        mark, is_ambiguous = "", False
    elif mark:
        group, decimal = _READINGS[mark][0 if is_ambiguous else 1]
    joined = "".join(used)
    lengths = {sum(map(str.isdigit, body)) for body in used}
    has_groups = bool(group) and bool(re.search(group, joined))
    has_decimals = bool(re.search(f"{decimal}|[eE]", joined))
    is_varied = len(lengths) > 1 or max(lengths) < _CODE_LENGTH
    is_certain = bool(any(unit)) or has_decimals or (has_groups and is_varied)
    if not (is_certain or strays or (is_varied and len(numbers) > _MANY_NUMBERS)):
        return None
    in_brackets = [bool(_ACCOUNTING.fullmatch(str(value).strip())) for value in numbers]
    if all(in_brackets):
        return None
    if currencies:
        return TextNumbers(
            example=next(map(str, numbers)),
            strays={},
            is_certain=True,
            changes=(),
            has_others=False,
            units=tuple(currencies),
        )
    example = min(numbers, key=lambda value: not isinstance(value, str))
    texts = list(map(str, numbers))
    others = _READINGS[mark][1] if is_ambiguous else None
    return TextNumbers(
        example=str(example),
        strays=strays,
        is_certain=is_certain,
        changes=_changes(texts, joined, unit, group, decimal, factors),
        has_others=not all(isinstance(value, str) for value in counts),
        mark=mark if is_ambiguous else "",
        other_changes=_changes(texts, joined, unit, *others) if others else (),
    )


def _changes(
    texts: list[str],
    joined: str,
    unit: tuple[str, str],
    group: str,
    decimal: str,
    factors: Sequence[str] = (),
) -> tuple[tuple[str, str], ...]:
    """Return what to replace in texts ``(n,)`` of numbers, and by what, for `float`.

    ``joined`` is their numbers without units, in one string.
    """
    has_groups = bool(group) and bool(re.search(group, joined))
    blanks = {c for text in texts for c in text.strip() if c.isspace()}
    # Ordinary blanks at the ends are no obstacle, but one behind a sign is, or before a
    # letter that becomes an exponent.
    apart = rf"\s*[{_SIGNS}][^\d.,]*\s|.*\([^\d.,]*\s|.*\d\s+[kKM]\s*$"
    is_apart = any(re.match(apart, text) for text in texts)
    keeps_blanks = not is_apart and not (has_groups and group == r"\s")
    removed = blanks - {" "} if keeps_blanks else blanks
    groups = {group.lstrip("\\")} if has_groups and group != r"\s" else set()
    changes = [(text, "") for text in (*unit, *sorted(removed | groups)) if text]
    if decimal == "," and "," in joined:
        changes.append((decimal, "."))
    changes += [(factor, _FACTORS[factor]) for factor in factors]
    if any(_ACCOUNTING.fullmatch(text.strip()) for text in texts):
        changes += [("(", "-"), (")", "")]
    if any(_MINUS in text for text in texts):
        changes.append((_MINUS, "-"))
    return tuple(changes)


def _mark_before_three(bodies: list[str]) -> tuple[str, bool]:
    """Return the dot or comma that three digits follow in all numbers that have one.

    It is "" if there is no such one, or if a number shows that it is a decimal point. The
    second result is whether the mark may be one: it separates thousands if it is in all
    numbers of more than three digits, and in no others.
    """
    for mark in _READINGS:
        form = re.compile(rf"[+-]?(?:[1-9]\d{{0,2}}{re.escape(mark)}\d{{3}}|\d+)")
        plain = [body.lstrip("+-") for body in bodies if mark not in body]
        if len(plain) < len(bodies) and all(map(form.fullmatch, bodies)):
            has_thousands = all(len(body) <= 3 for body in plain)
            return mark, not (has_thousands and any(map(int, plain)))
    return "", False


def _factors_of(units: Iterable[tuple[str, str]], unit: tuple[str, str]) -> list[str]:
    """Return the letters that multiply some numbers, [] if they may be a unit."""
    found = {behind for before, behind in units if before == unit[0]} & {"", *_FACTORS}
    factors = sorted(found - {""})
    is_varied = len(factors) > 1 or (len(found) > 1 and "M" not in found)
    return factors if is_varied and unit[1] in found else []


def _currency_of(unit: tuple[str, str]) -> str:
    """Return the currency that a unit is, "" if it is none."""
    text = unit[0] or unit[1]
    is_sign = len(text) == 1 and unicodedata.category(text) == "Sc"
    return text if is_sign or _CURRENCIES.fullmatch(text) else ""


def _currencies_of(units: list[tuple[str, str]]) -> list[str]:
    """Return the currencies of units ``(n,)`` if there are several, each of many."""
    counts = Counter(filter(None, map(_currency_of, units)))
    often = sorted(text for text, n in counts.items() if n > _MOST_STRINGS)
    return often if len({_CODES_OF.get(text, text) for text in often}) > 1 else []


def _split(text: str) -> tuple[tuple[str, str], str] | None:
    """Return the unit before and behind a number and its text, None if there is none."""
    # Blanks at the start would take quadratic time.
    text = text.strip()
    is_negative = _ACCOUNTING.fullmatch(text)
    if is_negative is not None:
        text = "".join(is_negative.groups()).strip()
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    before, behind = match[2] or "", (match[4] or "").strip()
    sign, number = (match[1] or "").strip(), match[3]
    if [is_negative is not None, bool(sign), number[0] in _SIGNS].count(True) > 1:
        return None
    sign = "-" if is_negative else sign
    if len(before) == 1 and unicodedata.category(before) != "Sc":
        return None
    if len(before) > 1 and not _CURRENCIES.fullmatch(before):
        return None
    is_unit = not behind or behind[0].isalpha() or behind[0] in _MARKS
    if not is_unit and unicodedata.category(behind[0]) != "Sc":
        return None
    return (before, behind), (sign + number).replace(_MINUS, "-")


def _best_convention(bodies: dict[Any, str]) -> tuple[str, str, dict[Any, float]]:
    """Return the separators with which most texts are numbers, and these numbers."""
    best: tuple[str, str, dict[Any, float]] = ("", r"\.", {})
    for group, decimal in _CONVENTIONS:
        # Behind a 0 alone are decimals: 0,512 is not 512.
        digits = rf"(?:(?!0)\d{{1,3}}(?:{group}\d{{3}})+|\d+)" if group else r"\d+"
        form = re.compile(
            rf"[+-]?(?:{digits}(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
        )
        numbers = {}
        for value, body in bodies.items():
            if form.fullmatch(body):
                plain = re.sub(group, "", body) if group else body
                numbers[value] = float(re.sub(decimal, ".", plain))
        if len(numbers) > len(best[2]):
            best = group, decimal, numbers
        if len(numbers) == len(bodies):
            break
    return best
