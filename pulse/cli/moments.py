"""Times and durations on the command line: what a person types, and what a table shows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pulse.cli.output import shown_at
from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.timezone import known_zone
from pulse.settings import converters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Instant
    from pulse.store.steering import TaskState

_DAY_LENGTH = len("2026-11-28")
_EXPECTED = (
    "a time such as 2026-11-28T03:00, with or without an offset, or how long ago, such as 24h"
)


def moment_in(text: str, zone: str, *, now: Instant) -> Instant:
    """Return the instant of a time in a zone, or of a duration before *now*.

    Raises:
        BadValueError: *text* is neither.

    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None and len(text) >= _DAY_LENGTH:
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(zone))
        return instant_of(moment)
    try:
        return now - converters.duration(text)
    except BadValueError:
        raise BadValueError(_EXPECTED, text) from None


def shown_second(at: Instant | None, zone: str) -> str:
    """Return an instant in a zone, with its offset and without fractions; empty for None."""
    if at is None:
        return ""
    return shown_at(at - at % SECOND, zone).replace("T", " ", 1)


def zone_of_task(state: TaskState) -> str:
    """Return the name of the time zone of a task; UTC for one that this host does not know."""
    return known_zone(state.schedule.get("timezone", "UTC"))


def zones_of(states: Iterable[TaskState], *, utc: bool = False) -> dict[str, str]:
    """Return the name of the time zone of each task; with *utc* that is UTC."""
    return {state.name: "UTC" if utc else zone_of_task(state) for state in states}
