"""Parses cron expressions with cronsim and reports complete error texts for invalid fields."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from pulse.clock import SECOND
from pulse.errors import BadValueError, did_you_mean, shown
from pulse.schedule.cron_days import DayFields, Days
from pulse.schedule.wall_times import DayTimes, TimesOfDay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cronsim import CronSim

NICKNAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EXPECTED = "a cron expression such as 0 7 * * mon-fri"
_THAT_MATCHES = f"{_EXPECTED} that matches some day"
_SHAPE = (
    "five fields (minute, hour, day of month, month, day of week), or six with seconds first,"
    " such as 0 7 * * mon-fri"
)
_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_MAX_LENGTH = 1_000
_SINGLE_VALUE_RANGE = re.compile(r"\b(\w+)-\1/0*[1-9]\d*\b", re.ASCII)
_LAST_BY_NAME = re.compile(rf"({'|'.join(_DAY_NAMES)})[a-z]*l")
"""The last of a named weekday in a month, such as `fril`, which other programs accept."""


class _Field(NamedTuple):
    """A field in an error text: its name, the values that it accepts, and their names."""

    name: str
    phrase: str
    names: Sequence[str] = ()


_FIELDS: Final = (
    _Field("second", "a second from 0 to 59"),
    _Field("minute", "a minute from 0 to 59"),
    _Field("hour", "an hour from 0 to 23"),
    _Field("day of month", "a day of month from 1 to 31, L or LW"),
    _Field("month", "a month from 1 to 12 or jan to dec", _MONTH_NAMES),
    _Field("day of week", "a day of week from 0 to 7, sun to sat, 5#2 or 5L", _DAY_NAMES),
)


class Expression(msgspec.Struct, frozen=True):
    """The meaning of a cron expression without its time zone.

    Attributes:
        wildcard: whether the minute or the hour field begins with `*`; otherwise the expression is
            fixed.

    """

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: DayFields
    wildcard: bool

    def wall_times(self) -> DayTimes:
        """Return the matching wall times."""
        moments = [(60 * m + s) * SECOND for m in self.minutes for s in self.seconds]
        return DayTimes(Days(self.days), TimesOfDay(self.hours, moments))


def normalize(text: object) -> str:
    """Return a cron expression with single spaces between its fields.

    Raises:
        BadValueError: the value is no text, uses the syntax of other programs, or has a wrong
            number of fields.

    """
    if not isinstance(text, str) or len(text) > _MAX_LENGTH:
        raise BadValueError(_EXPECTED, text)
    fields = text.split()
    _reject_foreign_syntax(text, fields)
    if fields[0].startswith("@"):
        return _nickname(text, fields)
    if len(fields) not in {5, 6}:
        raise BadValueError(_SHAPE, text)
    return " ".join(fields)


def _reject_foreign_syntax(text: str, fields: list[str]) -> None:
    first = fields[0].lower() if fields else ""
    if not first:
        raise BadValueError(_SHAPE, text)
    if first.startswith(("cron_tz=", "tz=")):
        raise BadValueError(f"{_EXPECTED} alone; set the time zone with `timezone`", text)
    if first == "@reboot":
        raise BadValueError(f"{_EXPECTED}; use `run_at_start = true` for a run at start", text)
    if first == "@every":
        raise BadValueError(f"{_EXPECTED}; use `interval` for a fixed interval", text)
    if "?" in fields:
        raise BadValueError(f"{_EXPECTED}; use `*` instead of `?`", text)


def _nickname(text: str, fields: list[str]) -> str:
    name = fields[0].lower()
    if len(fields) == 1 and name in NICKNAMES:
        return name
    expected = f"{_SHAPE}, or one of {', '.join(NICKNAMES)}"
    raise BadValueError(expected, text, hint=did_you_mean(name, NICKNAMES))


@lru_cache(maxsize=1_024)
def parse(expression: str) -> tuple[Expression, DayTimes]:
    """Return the meaning of a normalized *expression*, and the matching wall times.

    Raises:
        BadValueError: a field is invalid (the error names it), or the expression never matches.

    """
    meaning = _parse_fields(expression, fields_of(expression))
    if not meaning.days.can_match():
        raise BadValueError(_THAT_MATCHES, expression)
    return meaning, meaning.wall_times()


def fields_of(expression: str) -> list[str]:
    """Return the six fields of a normalized expression, in upper case."""
    fields = NICKNAMES.get(expression, expression).upper().split()
    return fields if len(fields) == len(_FIELDS) else ["0", *fields]


def _parse_fields(expression: str, fields: list[str]) -> Expression:
    from cronsim import CronSim, CronSimError

    try:
        parsed = _parse_with_cronsim(fields)
    except CronSimError as error:
        raise _field_error(expression, fields, str(error)) from None
    return Expression(
        seconds=frozenset(parsed.seconds),
        minutes=frozenset(parsed.minutes),
        hours=frozenset(parsed.hours),
        days=DayFields(
            months=frozenset(parsed.months),
            days=frozenset(day for day in parsed.days if day > 0),
            last=CronSim.LAST in parsed.days,
            last_working=CronSim.LAST_WEEKDAY in parsed.days,
            weekdays=frozenset(day % 7 for day in parsed.weekdays if isinstance(day, int)),
            nth_weekdays=frozenset(
                (pair[0] % 7, max(pair[1], -1))
                for pair in parsed.weekdays
                if isinstance(pair, tuple)
            ),
            both=parsed.day_and,
        ),
        wildcard=fields[1].startswith("*") or fields[2].startswith("*"),
    )


def _parse_with_cronsim(fields: list[str]) -> CronSim:
    """Parse six fields with cronsim; only its parser is used.

    cronsim would parse a range of one value with a step, `5-5/10`, as `5/10`.
    """
    from cronsim import CronSim

    text = _SINGLE_VALUE_RANGE.sub(r"\1", " ".join(fields))
    return CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001 - cronsim expects a naive datetime


def _field_error(expression: str, fields: list[str], reason: str) -> BadValueError:
    """Return the error for the field that cronsim names in *reason*."""
    name = reason.removeprefix("Bad ").replace("-", " ")
    index = [field.name for field in _FIELDS].index(name)
    text = fields[index].lower()
    if name == "day of month" and _is_valid_day(text):
        return BadValueError(_THAT_MATCHES, expression)
    field = _FIELDS[index]
    return BadValueError(f"{field.phrase} in {shown(expression)}", text, hint=_hint(text, field))


def _is_valid_day(day: str) -> bool:
    """Return whether a day of the month is valid; if so, only the given months are too short."""
    from cronsim import CronSimError

    try:
        _parse_with_cronsim(["0", "0", "0", day, "*", "*"])
    except CronSimError:
        return False
    return True


def _hint(text: str, field: _Field) -> str:
    if last := _LAST_BY_NAME.fullmatch(text):
        return f"; did you mean '{_DAY_NAMES.index(last[1])}L'?"
    unknown = [name for name in re.findall(r"[a-z]{2,}", text) if name not in field.names]
    hints = (did_you_mean(name, field.names) for name in unknown)
    return next(filter(None, hints), "")
