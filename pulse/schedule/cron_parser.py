"""Parses cron expressions: nicknames, the fields, and the meaning of all fields together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import SECOND
from pulse.errors import BadValueError, did_you_mean
from pulse.schedule.cron_days import DayFields, Days
from pulse.schedule.cron_fields import KINDS, parse_field
from pulse.schedule.wall_times import DayTimes, TimesOfDay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.schedule.cron_fields import CronField

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
_MAX_LENGTH = 1_000


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
    meaning = _meaning_of(fields_of(expression))
    if not meaning.days.can_match():
        raise BadValueError(_THAT_MATCHES, expression)
    return meaning, meaning.wall_times()


def fields_of(expression: str) -> list[CronField]:
    """Return the six fields of a normalized expression.

    Raises:
        BadValueError: a field is invalid.

    """
    texts = NICKNAMES.get(expression, expression).lower().split()
    if len(texts) < len(KINDS):
        texts = ["0", *texts]
    return [
        parse_field(kind, text, expression=expression)
        for kind, text in zip(KINDS, texts, strict=True)
    ]


def _meaning_of(fields: list[CronField]) -> Expression:
    second, minute, hour, day, month, weekday = fields
    special = {special.text for special in day.specials}
    return Expression(
        seconds=second.values,
        minutes=minute.values,
        hours=hour.values,
        days=DayFields(
            months=month.values,
            days=day.values,
            last="l" in special,
            last_working="lw" in special,
            weekdays=weekday.values,
            nth_weekdays=frozenset((day.weekday, day.nth) for day in weekday.specials),
            both=day.star or weekday.star,
        ),
        wildcard=minute.star or hour.star,
    )
