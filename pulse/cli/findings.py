"""What a command has found, and the words in which commands tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from pulse.clock import SECOND, moment_of, rfc3339
from pulse.convert import instant, spell_span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant, Span
    from pulse.schedule.base import Schedule
    from pulse.simulation.changes import ClockChange

_MINUTE = 60 * SECOND
_MOMENTS = frozenset({"at", "start", "end"})


class Findings(NamedTuple):
    """Lines for a person or a program, and what is wrong."""

    lines: list[str]
    problems: list[str]


def zone_of(schedule: Schedule) -> str:
    """Return the name of the time zone that a schedule goes by."""
    return schedule.spell().get("timezone", "UTC")


def shown_at(instant: Instant, zone: str) -> str:
    """Return an instant as the clocks of a zone show it, with their offset."""
    if zone == "UTC":
        return rfc3339(instant)
    try:
        return moment_of(instant).astimezone(ZoneInfo(zone)).isoformat()
    except OverflowError:  # in the first or the last hours of the calendar
        return rfc3339(instant)


def shown_schedule(words: Mapping[str, str], zone: str) -> str:
    """Return the settings of a schedule, its dates as the clocks of a zone show them."""
    return ", ".join(
        f"{name} = {shown_at(instant(word), zone) if name in _MOMENTS else word}"
        for name, word in words.items()
    )


def shown_offset(offset: Span) -> str:
    """Return an offset from UTC as `+05:30`."""
    hours, minutes = divmod(abs(offset) // _MINUTE, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def shown_change(change: ClockChange) -> str:
    """Return a clock change in words."""
    step = change.after_us - change.before_us
    way = "forward" if step > 0 else "back"
    before, after = shown_offset(change.before_us), shown_offset(change.after_us)
    length = spell_span(abs(step))
    return f"the clocks of {change.zone} are set {way} by {length}, from {before} to {after}"
