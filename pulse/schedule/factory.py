"""Builds a schedule from settings and checks which settings can be combined."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pulse.clock import rfc3339
from pulse.errors import ConfigError
from pulse.schedule.converters import UTC, instant_in
from pulse.schedule.interval import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.clock import Instant
    from pulse.schedule.base import Schedule

GOES_WITH: Final = {
    "interval": frozenset({"start", "end", "timezone"}),
    "cron": frozenset({"start", "end", "timezone"}),
    "at": frozenset({"timezone"}),
    "every": frozenset({"start", "end", "timezone"}),
}
"""The four kinds of schedule, one setting each, with the settings that each kind accepts."""

KINDS: Final = GOES_WITH.keys()

_EXPECTED: Final = "a schedule such as interval = 300 or cron = 0 7 * * mon-fri"
_OPTIONS: Final = ("start", "end", "timezone")


def schedule_of(values: Mapping[str, Any], *, timezone: str = UTC, prefix: str = "") -> Schedule:
    """Return the schedule that converted values declare; other settings are ignored.

    Args:
        values: `interval` as a span; `cron`, `every` and `timezone` as returned by
            `pulse.schedule.converters`; `at`, `start` and `end` as instants, aware datetimes, or
            naive datetimes in `timezone`.
        timezone: the time zone if *values* contain none.
        prefix: the text before the name of a setting in an error.

    Raises:
        ConfigError: *values* do not contain exactly one kind of schedule, or settings conflict.

    """
    if problems := schedule_problems(values, prefix=prefix):
        raise ConfigError(problems)
    zone = values.get("timezone", timezone)
    schedule = _unbounded(values, zone)
    start = _instant(values, "start", zone) if "cron" in values else None
    end = _instant(values, "end", zone)
    if start is None and end is None:
        return schedule
    from pulse.schedule.bounded import BoundedSchedule

    return BoundedSchedule(schedule, start, end)


def schedule_problems(values: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """Return one sentence for each conflict between the settings of a schedule."""
    kinds = [name for name in GOES_WITH if name in values]
    match kinds:
        case []:
            return [f"{prefix}interval: expected {_EXPECTED}, got none"]
        case [kind]:
            return [*_unsupported_options(kind, values, prefix), *_reversed_bounds(values, prefix)]
    expected, got = ", ".join(GOES_WITH), " and ".join(kinds)
    return [f"{prefix}{kinds[-1]}: expected exactly one of {expected}, got {got}"]


def _unsupported_options(kind: str, values: Mapping[str, Any], prefix: str) -> Iterable[str]:
    for name in _OPTIONS:
        if name in values and name not in GOES_WITH[kind]:
            kinds = ", ".join(other for other, options in GOES_WITH.items() if name in options)
            yield f"{prefix}{name}: expected together with one of {kinds}, got {kind}"
    if kind == "interval" and "timezone" in values and {"start", "end"}.isdisjoint(values):
        yield (
            f"{prefix}timezone: expected together with start or end, got interval alone;"
            " remove it, or use cron or every, whose fire times follow the clocks of a zone"
        )


def _reversed_bounds(values: Mapping[str, Any], prefix: str) -> Iterable[str]:
    zone = values.get("timezone") or UTC
    start, end = _instant(values, "start", zone), _instant(values, "end", zone)
    if start is not None and end is not None and end < start:
        yield f"{prefix}end: expected start ({rfc3339(start)}) or later, got {rfc3339(end)}"


def _instant(values: Mapping[str, Any], name: str, zone: str) -> Instant | None:
    """Return the instant of a setting; None if the setting is absent or not converted."""
    value = values.get(name)
    return instant_in(zone, value) if isinstance(value, int | datetime) else None


def _unbounded(values: Mapping[str, Any], zone: str) -> Schedule:
    if "interval" in values:
        return Interval.of(values["interval"], _instant(values, "start", zone))
    if "cron" in values:
        from pulse.schedule.cron import Cron

        return Cron(values["cron"], timezone=zone)
    if "at" in values:
        from pulse.schedule.once import Once

        return Once.of(instant_in(zone, values["at"]))
    from pulse.schedule.calendar_interval import CalendarInterval

    return CalendarInterval.of(values["every"], values.get("start"), zone)
