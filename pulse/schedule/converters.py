"""Converters for the settings of schedules; each converter accepts its own results."""

from __future__ import annotations

import re
from datetime import UTC as _UTC
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pulse.clock import instant_of
from pulse.errors import BadValueError, did_you_mean
from pulse.schedule import cron_parser
from pulse.schedule.timezone import LAST, zone_named

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.schedule.timezone import Wall

UTC: Final = "UTC"
UNITS: Final = ("day", "week", "month", "year")
_MAX_COUNT = {"day": 36_600, "week": 5_200, "month": 1_200, "year": 100}
_EARLIEST: Final = instant_of(datetime.min.replace(tzinfo=_UTC))
_EVERY = re.compile(r"(?P<count>\d{1,6})\s*(?P<unit>[a-z]+)", re.ASCII)
_PERIOD = "a count and a unit such as 1 month, 2 weeks or 1 day"
_SHORTER = ("second", "minute", "hour", "s", "sec", "m", "min", "h")
_MOMENT = (
    "a date and time such as 2027-01-01T00:00:00+01:00,"
    " or without offset for a time in the task's time zone"
)


def cron(value: object) -> str:
    """Return a valid cron expression, with single spaces between its fields."""
    expression = cron_parser.normalize(value)
    cron_parser.parse(expression)
    return expression


def zone(value: object) -> str:
    """Return the IANA name of a time zone that exists on this machine."""
    if not isinstance(value, str):
        raise BadValueError("a time zone such as Europe/Berlin or UTC", value)
    name = value.strip()
    if name != UTC:
        zone_named(name)
    return name


def every(value: object) -> str:
    """Return a calendar period in canonical form: `1 month`, `2 weeks`."""
    count, unit = period(value)
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def period(value: object) -> tuple[int, str]:
    """Return the count and the unit of a calendar period."""
    match = _EVERY.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        raise BadValueError(_PERIOD, value)
    count, unit = int(match["count"]), match["unit"].removesuffix("s") or match["unit"]
    if unit in _SHORTER:
        raise BadValueError(f"{_PERIOD}; use `interval` for hours, minutes and seconds", value)
    if unit not in UNITS:
        raise BadValueError(_PERIOD, value, hint=did_you_mean(unit, UNITS))
    if not 1 <= count <= _MAX_COUNT[unit]:
        raise BadValueError(f"from 1 to {_MAX_COUNT[unit]} {unit}s", value)
    return count, unit


def moment(value: object) -> datetime:
    """Return a datetime: aware if *value* has an offset, else naive, for the task's time zone."""
    if isinstance(value, str):
        value = _parse_moment(value)
    if not isinstance(value, datetime):
        raise BadValueError(_MOMENT, value)
    if value.tzinfo is None:
        return value
    try:
        return value.astimezone(_UTC)
    except OverflowError:  # within the first or last hours that datetime can represent
        raise BadValueError(_MOMENT, value) from None


def _parse_moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadValueError(_MOMENT, text) from None


def instant_in(name: str, value: datetime | Instant) -> Instant:
    """Return the instant of *value*; a naive datetime is a wall time in the zone *name*.

    A wall time that occurs twice is the first occurrence; a skipped wall time is the end of the
    gap.
    """
    if isinstance(value, int):
        return value
    if value.tzinfo is not None:
        return instant_of(value)
    wall = instant_of(value.replace(tzinfo=_UTC))
    reached = wall if name == UTC else zone_named(name).reach(wall)
    return min(max(reached, _EARLIEST), LAST)


def skipped_wall(name: str, value: datetime | Instant) -> Wall | None:
    """Return the wall time of a naive datetime if the clocks of the zone *name* skip it.

    The result is None for every other datetime and for an instant.
    """
    if name == UTC or isinstance(value, int) or value.tzinfo is not None:
        return None
    zone, wall = zone_named(name), instant_of(value.replace(tzinfo=_UTC))
    reached = zone.reach(wall)
    return wall if _EARLIEST <= reached <= LAST and zone.wall_at(reached) > wall else None
