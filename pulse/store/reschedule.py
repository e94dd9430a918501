"""What another definition makes of a row: where its cursor then stands, and what it passes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import moment_of
from pulse.core.planner import Cursor, NotRun, kept_cursor, moved_cursor
from pulse.core.task import Task, build_definition
from pulse.errors import ConfigError
from pulse.schedule.once import Once
from pulse.store.rules import PAUSED

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.task import TaskDefinition
    from pulse.schedule.base import Schedule

CHANGED = "passed before the schedule was changed"
"""Why fire times were missed that only the old schedule had."""


class ScheduleChange(NamedTuple):
    """A cursor, and the fire times that nobody will run any more."""

    cursor: Cursor
    missed: NotRun | None = None


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule as a row keeps it: equal texts are equal schedules."""
    return msgspec.json.encode(sorted(schedule.to_text().items())).decode()


def change_cursor(
    definition: TaskDefinition, cursor: Cursor, *, before: str, paused: bool, now: Instant
) -> ScheduleChange:
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
        return ScheduleChange(kept_cursor(definition, cursor))
    moved = moved_cursor(definition, cursor, now)
    first = cursor.next_fire
    if first is None or not cursor.last_decided < first <= now:
        return ScheduleChange(moved)
    anchor, schedule = cursor.anchor, _schedule_of(before, first)
    due = schedule.due(first, now, anchor=anchor)
    oldest, count, kept = first, due.count, moved.next_fire
    if kept is None or kept > due.newest:
        moved = msgspec.structs.replace(moved, last_decided=due.newest)
    elif kept >= first and schedule.next_after(kept - 1, anchor=anchor) == kept:
        # A date that has passed, and that the new definition runs all the same.
        following = schedule.next_after(first, anchor=anchor) if kept == first else first
        oldest, count = following or first, count - 1
    missed = NotRun(oldest, count, PAUSED if paused else CHANGED) if count else None
    return ScheduleChange(moved, missed)


def _schedule_of(text: str, first: Instant) -> Schedule:
    """Return the schedule of a text; in words of another release no more is known than *first*."""
    try:
        return build_definition(
            "before", Task(action="/", **dict(msgspec.json.decode(text)))
        ).schedule
    except (ConfigError, TypeError):
        return Once(moment_of(first))
