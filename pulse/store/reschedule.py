"""What another definition makes of a row: where its cursor then stands, and what it passes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import moment_of
from pulse.core.planner import Cursor, Passed, kept_cursor, moved_cursor
from pulse.core.task import Task, define
from pulse.errors import ConfigError
from pulse.schedule.once import Once
from pulse.store.rules import PAUSED

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.task import Definition
    from pulse.schedule.base import Schedule

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
    if first is None or not cursor.floor < first <= now:
        return Change(moved)
    anchor, schedule = cursor.anchor, _schedule_of(before, first)
    due = schedule.due(first, now, anchor=anchor)
    oldest, count, kept = first, due.count, moved.next_fire
    if kept is None or kept > due.newest:
        moved = msgspec.structs.replace(moved, floor=due.newest)
    elif kept >= first and schedule.next_after(kept - 1, anchor=anchor) == kept:
        # A date that has passed, and that the new definition runs all the same.
        following = schedule.next_after(first, anchor=anchor) if kept == first else first
        oldest, count = following or first, count - 1
    missed = Passed(oldest, count, PAUSED if paused else CHANGED) if count else None
    return Change(moved, missed)


def _schedule_of(text: str, first: Instant) -> Schedule:
    """Return the schedule of a text; in words of another release no more is known than *first*."""
    try:
        return define("before", Task(action="/", **dict(msgspec.json.decode(text)))).schedule
    except (ConfigError, TypeError):
        return Once(moment_of(first))
