"""What another definition makes of a row: where its cursor then stands, and what it passes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.errors import ConfigError
from pulse.planner import Cursor, Passed, kept_cursor, moved_cursor
from pulse.schedule.base import Due
from pulse.store.decide import PAUSED
from pulse.task import Task, define

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.schedule.base import Schedule
    from pulse.task import Definition

CHANGED = "passed before the schedule was changed"
"""Why fire times were missed that only the old schedule had."""


class Change(NamedTuple):
    """A cursor, and the fire times that nobody will run any more."""

    cursor: Cursor
    missed: Passed | None = None


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule as a row keeps it: equal texts are equal schedules."""
    return msgspec.json.encode(sorted(schedule.spell().items())).decode()


def change_cursor(
    definition: Definition, cursor: Cursor, *, before: str, paused: bool, now: Instant
) -> Change:
    """Return what a row's change to *definition* does to its place in time.

    A cursor moves only where the schedule is another. What was due of the old one fires no more:
    it is missed, and said to be.

    Args:
        definition: what the row says from now on.
        cursor: where it stands.
        before: the text of its schedule up to now.
        paused: whether it is paused.
        now: the store's clock.

    """
    if before == schedule_text(definition.schedule):
        return Change(kept_cursor(definition, cursor))
    moved = moved_cursor(definition, cursor, now)
    first = cursor.next_fire
    if first is None or not cursor.floor < first <= now or first == moved.next_fire:
        return Change(moved)
    due = _due(before, first, now, anchor=cursor.anchor)
    if moved.next_fire is None or moved.next_fire > due.newest:
        moved = msgspec.structs.replace(moved, floor=due.newest)
    return Change(moved, Passed(first, due.count, PAUSED if paused else CHANGED))


def _due(before: str, first: Instant, now: Instant, *, anchor: Instant) -> Due:
    try:
        schedule = define("before", Task(action="/", **dict(msgspec.json.decode(before)))).schedule
    # Another release wrote it: that one fire time was due is all that can be told.
    except (ConfigError, TypeError):
        return Due(first, 1)
    return schedule.due(first, now, anchor=anchor)
