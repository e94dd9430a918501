"""The text of instants, schedules and clock changes, and the output of commands without tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from pulse.clock import SECOND, moment_of, rfc3339
from pulse.settings.converters import duration_text, instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant, Span
    from pulse.schedule.base import Schedule
    from pulse.simulation.clock_changes import ClockChange

_MINUTE = 60 * SECOND
_MOMENTS = frozenset({"at", "start", "end"})


class CommandOutput(NamedTuple):
    """The lines to print on stdout, and one sentence for each problem."""

    lines: list[str]
    problems: list[str]


def zone_of(schedule: Schedule) -> str:
    """Return the name of the time zone of a schedule."""
    return schedule.to_text().get("timezone", "UTC")


def shown_at(instant: Instant, zone: str) -> str:
    """Return an instant as text in a time zone, with its offset."""
    if zone == "UTC":
        return rfc3339(instant)
    try:
        return moment_of(instant).astimezone(ZoneInfo(zone)).isoformat()
    except OverflowError:  # within the first or last hours that datetime can represent
        return rfc3339(instant)


def shown_schedule(settings: Mapping[str, str], zone: str) -> str:
    """Return the settings of a schedule as text, with dates in a time zone."""
    return ", ".join(
        f"{name} = {shown_at(instant(value), zone) if name in _MOMENTS else value}"
        for name, value in settings.items()
    )


def shown_offset(offset: Span) -> str:
    """Return an offset from UTC as text such as `+05:30`."""
    hours, minutes = divmod(abs(offset) // _MINUTE, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def shown_change(change: ClockChange) -> str:
    """Return a sentence about a clock change."""
    step = change.after_us - change.before_us
    direction = "forward" if step > 0 else "back"
    before, after = shown_offset(change.before_us), shown_offset(change.after_us)
    length = duration_text(abs(step))
    return f"the clocks of {change.zone} are set {direction} by {length}, from {before} to {after}"
