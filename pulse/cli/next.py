"""`pulse next EXPRESSION` explains a schedule in words and lists its next fire times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from pulse.cli.output import Findings, shown_at, shown_change, shown_offset, zone_of
from pulse.errors import BadValueError, ConfigError
from pulse.schedule import converters
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.schedule.converters import UTC
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval
from pulse.settings.converters import spell_span
from pulse.simulation.clock_changes import ClockChange, clock_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Instant
    from pulse.schedule.base import Schedule


_EXPECTED = (
    "a cron expression such as '0 3 * * *', a duration such as 5m, or a period such as '1 month'"
)
_MOST_WORDS = 2
"""Of a duration or a period; a cron expression has more."""

_COUNTED = "counted from when the store first sees it"


class Line(NamedTuple):
    """A fire time, and the clock changes since the one before it."""

    fire_time: Instant
    changes: tuple[ClockChange, ...]


class Upcoming(NamedTuple):
    """What an expression means from an instant on."""

    expression: str
    zone: str
    told: str
    after: Instant
    lines: list[Line]


def find(expression: str, *, timezone: str | None, count: int, after: Instant) -> Upcoming:
    """Return the next *count* fire times of an expression, later than *after*.

    Raises:
        BadValueError: it is no cron expression, duration or period, or there is no such zone.
        ConfigError: a duration has a zone.

    """
    schedule = _schedule(expression, timezone)
    zone = zone_of(schedule)
    lines = list(_lines(schedule, zone, count=count, after=after))
    return Upcoming(expression, zone, _told(schedule), after, lines)


def _schedule(expression: str, timezone: str | None) -> Interval | Cron | CalendarInterval:
    zone = UTC if timezone is None else timezone
    if expression.strip().startswith("@") or len(expression.split()) > _MOST_WORDS:
        return Cron(expression, timezone=zone)
    try:
        interval = Interval(expression)
    except BadValueError:
        return _period(expression, converters.zone(zone))
    if timezone is not None:
        raise ConfigError(["--timezone: expected none beside a duration, which knows no zone"])
    return interval


def _period(expression: str, zone: str) -> CalendarInterval:
    try:
        return CalendarInterval(expression, timezone=zone)
    except BadValueError as error:
        raise BadValueError(_EXPECTED, expression, hint=error.hint) from None


def _told(schedule: Interval | Cron | CalendarInterval) -> str:
    match schedule:
        case Interval():
            return f"every {spell_span(schedule.every_us)}, {_COUNTED}"
        case CalendarInterval():
            return f"every {schedule.every.removeprefix('1 ')}, {_COUNTED}"
    return schedule.explain()


def _lines(schedule: Schedule, zone: str, *, count: int, after: Instant) -> Iterator[Line]:
    before, fire_time = after, schedule.next_after(after, anchor=after)
    for _ in range(count):
        if fire_time is None:
            return
        yield Line(fire_time, tuple(clock_changes(zone, before, fire_time)))
        before, fire_time = fire_time, schedule.next_after(fire_time, anchor=after)


def as_json(found: Upcoming) -> Findings:
    """Return one JSON object."""
    answer = {
        "expression": found.expression,
        "timezone": found.zone,
        "explained": found.told,
        "after": shown_at(found.after, found.zone),
        "fire_times": [
            {
                "at": shown_at(line.fire_time, found.zone),
                "clock_changes": [change_words(change) for change in line.changes],
            }
            for line in found.lines
        ],
    }
    return Findings([json.dumps(answer, indent=2)], [])


def change_words(change: ClockChange) -> dict[str, str]:
    """Return a clock change for programs."""
    return {
        "zone": change.zone,
        "at": shown_at(change.at, "UTC"),
        "before": shown_offset(change.before_us),
        "after": shown_offset(change.after_us),
    }


def as_table(found: Upcoming) -> Findings:
    """Return the explanation and a table."""
    from pulse.cli.output import Column, table

    rows = [
        (
            str(number),
            shown_at(line.fire_time, found.zone),
            spell_span(line.fire_time - found.after - (line.fire_time - found.after) % 1_000_000),
            "; ".join(shown_change(change) for change in line.changes),
        )
        for number, line in enumerate(found.lines, start=1)
    ]
    columns = (Column("#", right=True), Column("fire time"), Column("in"), Column("before it"))
    head = f"{found.expression} ({found.zone}): {found.told}"
    return Findings([head, *table(columns, rows)], [])
