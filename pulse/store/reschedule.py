"""The cursor of a task row after its definition changed, and the fire times that are missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import moment_of
from pulse.core.cursor import Cursor, is_undecided, kept_cursor, moved_cursor
from pulse.core.planner import NotRun, undecided_by
from pulse.core.records import PAUSED_REASON
from pulse.core.run_transitions import miss_run
from pulse.core.schedule_text import parsed_schedule, schedule_text
from pulse.schedule.once import Once

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.schedule.base import Schedule

CHANGED = "passed before the schedule was changed"
"""The recorded reason of due fire times that only the old schedule had."""


class ScheduleChange(NamedTuple):
    """The new cursor, and the due fire times of the old schedule, which are missed."""

    cursor: Cursor
    missed: NotRun | None = None


def is_schedule(text: str, schedule: Schedule) -> bool:
    """Return whether a stored text means *schedule*, however it is spelled."""
    return text == schedule_text(schedule) or parsed_schedule(text) == schedule


def order_of_ticks(run: Run) -> tuple[Instant, str]:
    """Return the key by which ticks that are missed together are ordered."""
    return run.fire_time, run.id


def superseded_tick(run: Run, next_fire: Instant | None) -> Run:
    """Return a run of a task whose schedule was replaced: a tick that has not begun is missed.

    *next_fire* is the next fire time of the new schedule, to which later ticks belong.
    """
    waits = run.outcome is None and run.scheduled_for is not None and run.attempt == 0
    if not waits or run.holder or (next_fire is not None and run.fire_time >= next_fire):
        return run
    return miss_run(run, CHANGED)


def change_cursor(
    definition: TaskDefinition, cursor: Cursor, *, before: str, paused: bool, now: Instant
) -> ScheduleChange:
    """Return the cursor of a row that gets another definition, and what it misses.

    The cursor moves only when the schedule changes. Fire times of the old schedule that were due
    do not run any more; they are recorded as missed.

    Args:
        definition: the new definition of the row.
        cursor: the cursor of the row.
        before: the text of the old schedule.
        paused: whether the task is paused.
        now: the store's clock.

    """
    if is_schedule(before, definition.schedule):
        return ScheduleChange(kept_cursor(definition, cursor))
    moved = moved_cursor(definition, cursor, now)
    first = cursor.next_fire
    if first is None or first > now or not is_undecided(cursor, first):
        return ScheduleChange(moved)
    anchor, schedule = cursor.anchor, _schedule_of(before, first)
    old = msgspec.structs.replace(definition, schedule=schedule, jitter_us=0)
    due = undecided_by(old, cursor, first, now)
    newest = due.spans[-1].newest
    oldest, count, kept = first, due.total(), moved.next_fire
    if kept is None or kept > newest:
        moved = msgspec.structs.replace(moved, last_decided=max(newest, cursor.last_decided))
    elif kept >= first and schedule.next_after(kept - 1, anchor=anchor) == kept:
        # The moved cursor stays at a past fire time that both schedules have (a single date, for
        # example): the new definition still runs it, so it does not count as missed.
        following = schedule.next_after(first, anchor=anchor) if kept == first else first
        oldest, count = following or first, count - 1
    missed = NotRun(oldest, count, PAUSED_REASON if paused else CHANGED) if count else None
    return ScheduleChange(moved, missed)


def _schedule_of(text: str, first: Instant) -> Schedule:
    """Parse a stored schedule; if this release cannot, fall back to one fire time at *first*."""
    return parsed_schedule(text) or Once(moment_of(first))
