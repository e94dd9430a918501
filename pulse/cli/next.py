"""`pulse next EXPRESSION` explains a schedule and lists its next fire times."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.cli.answers import Answer, Listing
from pulse.cli.output import shown_at, shown_change, shown_offset, zone_of
from pulse.clock import SECOND
from pulse.errors import BadValueError, ConfigError
from pulse.schedule import converters
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.schedule.converters import UTC
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval
from pulse.settings.converters import duration_text
from pulse.simulation.clock_changes import ClockChange, clock_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Instant
    from pulse.schedule.base import Schedule


_EXPECTED = (
    "a cron expression such as '0 3 * * *', a duration such as 5m, or a period such as '1 month'"
)
_MAX_PERIOD_PARTS = 2
"""The maximum number of parts of a duration or a period; a cron expression has more parts."""

_COUNTED = "counted from when the store first sees it"


class Line(NamedTuple):
    """A fire time, and the clock changes since the previous fire time."""

    fire_time: Instant
    changes: tuple[ClockChange, ...]


class Upcoming(NamedTuple):
    """The meaning of an expression and its next fire times."""

    expression: str
    zone: str
    explanation: str
    after: Instant
    lines: list[Line]


def find_fire_times(
    expression: str, *, timezone: str | None, count: int, after: Instant
) -> Upcoming:
    """Return the next *count* fire times of an expression, later than *after*.

    Raises:
        BadValueError: *expression* or *timezone* is invalid.
        ConfigError: *expression* is a duration and *timezone* is given.

    """
    schedule = _schedule(expression, timezone)
    zone = zone_of(schedule)
    lines = list(_lines(schedule, zone, count=count, after=after))
    return Upcoming(expression, zone, _explanation(schedule), after, lines)


def _schedule(expression: str, timezone: str | None) -> Interval | Cron | CalendarInterval:
    zone = UTC if timezone is None else timezone
    if expression.strip().startswith("@") or len(expression.split()) > _MAX_PERIOD_PARTS:
        return Cron(expression, timezone=zone)
    try:
        interval = Interval(expression)
    except BadValueError:
        return _period(expression, converters.zone(zone))
    if timezone is not None:
        raise ConfigError(["--timezone: expected no time zone for a duration"])
    return interval


def _period(expression: str, zone: str) -> CalendarInterval:
    try:
        return CalendarInterval(expression, timezone=zone)
    except BadValueError as error:
        raise BadValueError(_EXPECTED, expression, hint=error.hint) from None


def _explanation(schedule: Interval | Cron | CalendarInterval) -> str:
    match schedule:
        case Interval():
            return f"every {duration_text(schedule.every_us)}, {_COUNTED}"
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


def answer(result: Upcoming) -> Answer:
    """Return the explanation, and a table of the fire times."""
    document = {
        "expression": result.expression,
        "timezone": result.zone,
        "explained": result.explanation,
        "after": shown_at(result.after, result.zone),
        "fire_times": [
            {
                "at": shown_at(line.fire_time, result.zone),
                "clock_changes": [change_as_dict(change) for change in line.changes],
            }
            for line in result.lines
        ],
    }
    rows = [_row(number, line, result) for number, line in enumerate(result.lines, start=1)]
    head = f"{result.expression} ({result.zone}): {result.explanation}"
    return Answer(document, [Listing(("#", "fire time", "in", "before it"), rows)], opening=[head])


def _row(number: int, line: Line, result: Upcoming) -> tuple[str, ...]:
    left = line.fire_time - result.after
    return (
        str(number),
        shown_at(line.fire_time, result.zone),
        duration_text(left - left % SECOND),
        "; ".join(shown_change(change) for change in line.changes),
    )


def change_as_dict(change: ClockChange) -> dict[str, str]:
    """Return a clock change as a JSON object."""
    return {
        "zone": change.zone,
        "at": shown_at(change.at, "UTC"),
        "before": shown_offset(change.before_us),
        "after": shown_offset(change.after_us),
    }
