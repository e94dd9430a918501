"""Parses one field of a cron expression into terms, and reports what is wrong with an invalid one.

A field is a list of terms, separated by commas. A term is `*`, a number or a range, each with or
without a step, or one of the special days `L`, `LW`, `5#2` and `5L`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pulse.errors import BadValueError, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
LAST: Final = -1
"""The ordinal of the last occurrence of a weekday in a month."""

_STEPPED = re.compile(r"(?P<first>[^-/#]+)(?:-(?P<last>[^-/#]+))?(?:/(?P<step>\d+))?", re.ASCII)
_NTH = re.compile(r"(?P<weekday>\w+)#0*(?P<nth>[1-5])", re.ASCII)
_LAST_WEEKDAY = re.compile(r"(?P<weekday>\d+)l", re.ASCII)
_LAST_BY_NAME = re.compile(rf"({'|'.join(_DAY_NAMES)})[a-z]*l")
"""The last of a named weekday in a month, such as `fril`, which other programs accept."""


class FieldKind(NamedTuple):
    """A field of an expression: the values that it accepts, and its parts of an error text."""

    name: str
    phrase: str
    low: int
    high: int
    names: Sequence[str] = ()


SECOND = FieldKind("second", "a second from 0 to 59", 0, 59)
MINUTE = FieldKind("minute", "a minute from 0 to 59", 0, 59)
HOUR = FieldKind("hour", "an hour from 0 to 23", 0, 23)
DAY = FieldKind("day of month", "a day of month from 1 to 31, L or LW", 1, 31)
MONTH = FieldKind("month", "a month from 1 to 12 or jan to dec", 1, 12, _MONTH_NAMES)
WEEKDAY = FieldKind(
    "day of week", "a day of week from 0 to 7, sun to sat, 5#2 or 5L", 0, 7, _DAY_NAMES
)
KINDS: Final = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)


class Special(NamedTuple):
    """A special day: `L`, `LW`, or the *nth* of a weekday in a month, where -1 is the last."""

    text: str
    weekday: int = 0
    nth: int = 0


class Term(NamedTuple):
    """The values from *low* to *high* at a distance of *step*."""

    low: int
    high: int
    step: int = 1

    @property
    def values(self) -> range:
        """The values in ascending order."""
        return range(self.low, self.high + 1, self.step)


class CronField(NamedTuple):
    """The terms of a field in the order in which they are written.

    Attributes:
        star: whether the field begins with `*`.

    """

    kind: FieldKind
    terms: tuple[Term | Special, ...]
    star: bool

    @property
    def values(self) -> frozenset[int]:
        """The values of all terms without special days; Sunday is 0."""
        plain = (term for term in self.terms if isinstance(term, Term))
        values = frozenset(value for term in plain for value in term.values)
        return frozenset(value % 7 for value in values) if self.kind is WEEKDAY else values

    @property
    def specials(self) -> tuple[Special, ...]:
        """The special days."""
        return tuple(term for term in self.terms if isinstance(term, Special))

    @property
    def is_full(self) -> bool:
        """Whether the field selects every value."""
        kind = self.kind
        size = 7 if kind is WEEKDAY else kind.high - kind.low + 1
        return len(self.values) == size


def parse_field(kind: FieldKind, text: str, *, expression: str) -> CronField:
    """Return the terms of a field, whose *text* is in lower case.

    Raises:
        BadValueError: the field is invalid; *expression* is quoted in the error.

    """
    terms = tuple(_parse_term(kind, term, text, expression) for term in text.split(","))
    return CronField(kind, terms, text.startswith("*"))


def _parse_term(kind: FieldKind, term: str, text: str, expression: str) -> Term | Special:
    special = _special(kind, term)
    if special is not None:
        return special
    match = _STEPPED.fullmatch(term)
    ends = None if match is None else _ends(kind, match["first"], match["last"], match["step"])
    if match is None or ends is None:
        expected = f"{kind.phrase} in {shown(expression)}"
        raise BadValueError(expected, text, hint=_hint(text, kind))
    low, high, step = *ends, int(match["step"] or 1)
    if step == 0:
        raise BadValueError(f"a step of at least 1 in {shown(expression)}", term)
    if high < low:
        hint = f"; write {_rising(kind, match, low, high)}"
        raise BadValueError(f"a range that rises in {shown(expression)}", term, hint=hint)
    return Term(low, high, step)


def _special(kind: FieldKind, term: str) -> Special | None:
    if kind is DAY and term in {"l", "lw"}:
        return Special(term)
    match = None
    if kind is WEEKDAY:
        match = _NTH.fullmatch(term) or _LAST_WEEKDAY.fullmatch(term)
    weekday = None if match is None else _value(kind, match["weekday"])
    if match is None or weekday is None:
        return None
    return Special(term, weekday % 7, int(match["nth"]) if match.re is _NTH else LAST)


def _ends(
    kind: FieldKind, first: str, last: str | None, step: str | None
) -> tuple[int, int] | None:
    """Return the lowest and the highest value of a term; None if one of its texts is invalid."""
    if first == "*":
        return (kind.low, kind.high) if last is None else None
    low, high = _value(kind, first), kind.high if step else _value(kind, first)
    if last is not None:
        high = _value(kind, last)
    return None if low is None or high is None else (low, high)


def _value(kind: FieldKind, text: str) -> int | None:
    if text in kind.names:
        return kind.names.index(text) + (kind is MONTH)
    if not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if kind.low <= value <= kind.high else None


def _rising(kind: FieldKind, match: re.Match[str], low: int, high: int) -> str:
    """Return the text that selects the values of a falling range."""
    first, last, top = match["first"], match["last"], kind.high
    if match["step"]:
        size = 7 if kind is WEEKDAY else kind.high - kind.low + 1
        values = range(low, high + size + 1, int(match["step"]))
        return ",".join(str((value - kind.low) % size + kind.low) for value in values)
    named = first in kind.names and last in kind.names
    end = _name(kind, top) if named and kind is MONTH else str(top)
    parts = [first if low == top else f"{first}-{end}"]
    bottom = 1 if kind is WEEKDAY else kind.low  # Sunday is the 7 of the first part
    if high >= bottom:
        start = _name(kind, bottom) if named else str(bottom)
        parts.append(last if high == bottom else f"{start}-{last}")
    return ",".join(parts)


def _name(kind: FieldKind, value: int) -> str:
    return kind.names[value - (kind is MONTH)]


def _hint(text: str, kind: FieldKind) -> str:
    if kind is WEEKDAY and (last := _LAST_BY_NAME.fullmatch(text)):
        return f"; did you mean '{_DAY_NAMES.index(last[1])}L'?"
    unknown = [name for name in re.findall(r"[a-z]{2,}", text) if name not in kind.names]
    hints = (did_you_mean(name, kind.names) for name in unknown)
    return next(filter(None, hints), "")
