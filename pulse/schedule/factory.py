"""From settings to a schedule: which of them go together, and what they make."""

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
"""The four kinds of schedule, one setting each, and the settings that may stand beside it."""

KINDS: Final = GOES_WITH.keys()

_SOME: Final = "a schedule such as interval = 300 or cron = 0 7 * * mon-fri"
_BESIDE: Final = ("start", "end", "timezone")


def schedule_of(values: Mapping[str, Any], *, timezone: str = UTC, prefix: str = "") -> Schedule:
    """Return the schedule that exact values declare; settings of other kinds are passed over.

    Args:
        values: `interval` as a span; `cron`, `every` and `timezone` as `pulse.schedule.converters`
            returns them; `at`, `start` and `end` as instants, aware datetimes, or naive ones,
            which are of `timezone`.
        timezone: the zone where *values* name none.
        prefix: what stands before a setting's name in an error.

    Raises:
        ConfigError: there is not exactly one kind of schedule, or settings do not go together.

    """
    if found := schedule_problems(values, prefix=prefix):
        raise ConfigError(found)
    zone = values.get("timezone", timezone)
    schedule = _unbounded(values, zone)
    start = _instant(values, "start", zone) if "cron" in values else None
    end = _instant(values, "end", zone)
    if start is None and end is None:
        return schedule
    from pulse.schedule.bounded import Window

    return Window(schedule, start, end)


def schedule_problems(values: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """Return one sentence for each way in which the settings of a schedule do not go together."""
    kinds = [name for name in GOES_WITH if name in values]
    match kinds:
        case []:
            return [f"{prefix}interval: expected {_SOME}, got none"]
        case [kind]:
            return [*_strangers(kind, values, prefix), *_turned_round(values, prefix)]
    one_of, got = ", ".join(GOES_WITH), " and ".join(kinds)
    return [f"{prefix}{kinds[-1]}: expected exactly one of {one_of}, got {got}"]


def _strangers(kind: str, values: Mapping[str, Any], prefix: str) -> Iterable[str]:
    for name in _BESIDE:
        if name in values and name not in GOES_WITH[kind]:
            hosts = ", ".join(host for host, guests in GOES_WITH.items() if name in guests)
            yield f"{prefix}{name}: expected one of {hosts} beside it, got {kind}"
    if kind == "interval" and "timezone" in values and {"start", "end"}.isdisjoint(values):
        yield f"{prefix}timezone: expected a start or an end beside it, got interval alone"


def _turned_round(values: Mapping[str, Any], prefix: str) -> Iterable[str]:
    zone = values.get("timezone") or UTC
    start, end = _instant(values, "start", zone), _instant(values, "end", zone)
    if start is not None and end is not None and end < start:
        yield f"{prefix}end: expected no earlier than start, {rfc3339(start)}, got {rfc3339(end)}"


def _instant(values: Mapping[str, Any], name: str, zone: str) -> Instant | None:
    """Return the instant of a setting; None where it is absent or not converted."""
    value = values.get(name)
    return instant_in(zone, value) if isinstance(value, int | datetime) else None


def _unbounded(values: Mapping[str, Any], zone: str) -> Schedule:
    start = _instant(values, "start", zone)
    if "interval" in values:
        return Interval.of(values["interval"], start)
    if "cron" in values:
        from pulse.schedule.cron import Cron

        return Cron(values["cron"], timezone=zone)
    if "at" in values:
        from pulse.schedule.once import Once

        return Once.of(instant_in(zone, values["at"]))
    from pulse.schedule.calendar_interval import CalendarInterval

    return CalendarInterval.of(values["every"], start, zone)
