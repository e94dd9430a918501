"""Decides which of the due fire times run, and which are recorded as missed or skipped.

Theory of operation
-------------------
The position of a task in its schedule is its `Cursor`: `anchor` (the start of its grid),
`next_fire` (the oldest fire time that is not decided yet) and `last_decided` (the newest fire time
that was ever decided). A store reads the cursor, calls `plan` with everything that is due, and
writes the plan only if no other process has moved the cursor in the meantime. The first process
decides, and every process would decide the same: `plan` has no state, reads no clock and does no
I/O.

The due fire times are those in [next_fire, now]. `plan` names each of them exactly once: as
*opened* (a run is created), *missed* (no process ran it in time) or *skipped* (too many runs were
unfinished). Or it waits, and names none of them yet. The rules, by `misfire`:

latest
    The newest fire time is opened; the earlier ones are missed.
skip
    As latest, but a newest fire time that is later than `grace` is missed as well.
all
    One fire time per call, oldest first. With a `grace`, fire times that are later are missed.
    While the limit of unfinished runs is reached, the task waits: no fire time is named.

The limit is `definition.max_unfinished`: one run with `overlap = skip`, two with `wait`,
`max_running` with `allow`. With `latest` and `skip`, a fire time at the limit is skipped. Below the
limit, while `definition.max_concurrent` runs are unfinished, a fire time is opened as a run that
*waits*: the second run with `wait`. With `all` the fire times themselves wait, at the cursor, and
no run has to.

A fire time that is not later than `last_decided` is never named again: the first fire time that
`plan` considers is always later. So a clock that is set back, a restart and a row restored from a
backup repeat no tick.

With `jitter` a fire time is due after a delay: a hash of task and fire time, less than the jitter
and less than the time to the next fire time, so that ticks keep their order. A fire time is due
when its delay has passed; grace and lateness count from then. The cursor's `delay_us` is the delay
of `next_fire`.

The cost does not grow with the number of missed fire times if the schedule can count them without
iteration: ten years of seconds are one `missed` count and one run.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from pulse.core.policies import Misfire, Overlap
from pulse.core.run import Trigger
from pulse.core.task import LATE

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.task import TaskDefinition
    from pulse.schedule.base import DueTimes


BEFORE_TIME: Instant = -(2**62)
"""An instant before every fire time: the `last_decided` of a task without a decision."""

OLDER_THAN_NEWEST = "passed with nobody to run it in time"
TOO_LATE = "passed, later than the grace of the task"
RUN_UNFINISHED = "found an earlier run still going"
RUN_WAITING = "found an earlier run still going and another one waiting"
MAX_RUNNING_REACHED = "found as many runs going as may go at once"
"""Why fire times do not run; in log lines the reason follows the number of fire times.

Stores keep the reasons as messages of runs.
"""

_NO_ROOM = {
    Overlap.SKIP: RUN_UNFINISHED,
    Overlap.WAIT: RUN_WAITING,
    Overlap.ALLOW: MAX_RUNNING_REACHED,
}

_ALL = Misfire.ALL
_CATCH_UP, _SCHEDULE = Trigger.CATCH_UP, Trigger.SCHEDULE


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A task's position in its schedule; `next_fire` is None after the end of the schedule."""

    anchor: Instant
    next_fire: Instant | None
    last_decided: Instant = BEFORE_TIME
    delay_us: Span = 0


class NotRun(msgspec.Struct, frozen=True, gc=False):
    """Fire times that do not run: the oldest of them, their number, and the reason."""

    oldest: Instant
    count: int
    reason: str = OLDER_THAN_NEWEST


class NewRun(msgspec.Struct, frozen=True, gc=False):
    """A fire time whose run can start now, or *waits* until an earlier run has finished."""

    scheduled_for: Instant
    trigger: Trigger
    waits: bool = False


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The decision about the due fire times of a task, and the cursor after it."""

    cursor: Cursor
    opened: NewRun | None = None
    missed: NotRun | None = None
    skipped: NotRun | None = None


def cursor_at(
    definition: TaskDefinition, anchor: Instant, next_fire: Instant | None, *, last_decided: Instant
) -> Cursor:
    """Return the cursor with *next_fire* and its delay."""
    if not definition.jitter_us or next_fire is None:
        return Cursor(anchor, next_fire, last_decided)
    return Cursor(anchor, next_fire, last_decided, jitter_of(definition, next_fire, anchor=anchor))


def due_at(cursor: Cursor) -> Instant | None:
    """Return the instant from which `next_fire` is due; None after the end of the schedule."""
    return None if cursor.next_fire is None else cursor.next_fire + cursor.delay_us


def first_cursor(
    definition: TaskDefinition, now: Instant, *, last_decided: Instant = BEFORE_TIME
) -> Cursor:
    """Return the cursor of a task that the store sees for the first time at *now*.

    *last_decided* is later than the default if the task was archived before.
    """
    return cursor_at(definition, now, definition.schedule.first(now), last_decided=last_decided)


def moved_cursor(definition: TaskDefinition, cursor: Cursor, now: Instant) -> Cursor:
    """Return the cursor of a task with a changed schedule; the change itself makes no tick due.

    The exception is a schedule without a later fire time, such as a single date in the past: the
    first fire time of a new task with the schedule is due, unless it was decided before.
    """
    schedule, last_decided = definition.schedule, cursor.last_decided
    following = schedule.next_after(max(now, last_decided), anchor=cursor.anchor)
    if following is None:
        first = schedule.first(now)
        following = first if first is not None and first > last_decided else None
    return cursor_at(definition, cursor.anchor, following, last_decided=last_decided)


def kept_cursor(definition: TaskDefinition, cursor: Cursor) -> Cursor:
    """Return the cursor of a task that was changed without a change of its schedule."""
    return cursor_at(definition, cursor.anchor, cursor.next_fire, last_decided=cursor.last_decided)


def plan(definition: TaskDefinition, cursor: Cursor, unfinished: int, now: Instant) -> Plan | None:
    """Return the decision about the fire times that are due at *now*; None if there is none.

    Args:
        definition: the task.
        cursor: the position of the task in its schedule.
        unfinished: the number of unfinished runs of the task.
        now: the current instant on the store's clock.

    """
    first = cursor.next_fire
    if first is None or first + cursor.delay_us > now:
        return None
    if first <= cursor.last_decided:
        return _after_last_decided(definition, cursor)
    if definition.misfire is _ALL:
        return _oldest_first(definition, cursor, first, unfinished, now)
    return _newest_only(definition, cursor, first, unfinished, now)


def _after_last_decided(definition: TaskDefinition, cursor: Cursor) -> Plan:
    following = definition.schedule.next_after(cursor.last_decided, anchor=cursor.anchor)
    return Plan(cursor_at(definition, cursor.anchor, following, last_decided=cursor.last_decided))


def _newest_only(
    definition: TaskDefinition, cursor: Cursor, first: Instant, unfinished: int, now: Instant
) -> Plan:
    anchor = cursor.anchor
    following = definition.schedule.next_after(first, anchor=anchor)
    if following is None or following > now:
        newest, passed = first, 0
    else:
        due = due_by(definition, first, now, anchor=anchor)
        newest, passed = due.newest, due.count - 1
        following = definition.schedule.next_after(newest, anchor=anchor)
    moved = cursor_at(definition, anchor, following, last_decided=newest)
    late = _lateness(definition, anchor, newest, now)
    if definition.grace_us is not None and late > definition.grace_us:
        return Plan(moved, None, NotRun(first, passed + 1, TOO_LATE))
    missed = NotRun(first, passed) if passed else None
    if unfinished >= definition.max_unfinished:
        return Plan(moved, None, missed, NotRun(newest, 1, _NO_ROOM[definition.overlap]))
    waits = unfinished > 0 and unfinished >= definition.max_concurrent
    return Plan(moved, NewRun(newest, _trigger(passed, late), waits), missed)


def _oldest_first(
    definition: TaskDefinition, cursor: Cursor, first: Instant, unfinished: int, now: Instant
) -> Plan | None:
    anchor = cursor.anchor
    missed = None
    slot: Instant | None = first
    last_decided = cursor.last_decided
    grace = definition.grace_us
    if grace is not None and now - first - cursor.delay_us > grace:
        due = due_by(definition, first, now - grace - 1, anchor=anchor)
        last_decided, missed = due.newest, NotRun(first, due.count, TOO_LATE)
        slot = definition.schedule.next_after(last_decided, anchor=anchor)
    waiting = cursor_at(definition, anchor, slot, last_decided=last_decided)
    if slot is None or slot + waiting.delay_us > now or unfinished >= definition.max_concurrent:
        return Plan(waiting, None, missed) if missed else None
    following = definition.schedule.next_after(slot, anchor=anchor)
    passed = missed.count if missed else 0
    opened = NewRun(slot, _trigger(passed, now - slot - waiting.delay_us))
    return Plan(cursor_at(definition, anchor, following, last_decided=slot), opened, missed)


def is_too_late(definition: TaskDefinition, fire_time: Instant, now: Instant) -> bool:
    """Return whether a run that waited would start later than the grace of its task allows.

    The grace counts from the latest instant at which the jitter lets the fire time be due.
    """
    grace = definition.grace_us
    return grace is not None and now - fire_time > grace + definition.jitter_us


def due_by(
    definition: TaskDefinition, first: Instant, now: Instant, *, anchor: Instant
) -> DueTimes:
    """Return the fire times from *first* on whose delay has passed; that of *first* has."""
    due = definition.schedule.due(first, now, anchor=anchor)
    if due.count > 1 and _lateness(definition, anchor, due.newest, now) < 0:
        return definition.schedule.due(first, due.newest - 1, anchor=anchor)
    return due


def _lateness(
    definition: TaskDefinition, anchor: Instant, fire_time: Instant, now: Instant
) -> Span:
    """Return how long ago a fire time became due; negative if it is not due yet."""
    late = now - fire_time
    if not definition.jitter_us:
        return late
    return late - jitter_of(definition, fire_time, anchor=anchor)


def jitter_of(definition: TaskDefinition, fire_time: Instant, *, anchor: Instant) -> Span:
    """Return the delay after which a fire time is due."""
    following = definition.schedule.next_after(fire_time, anchor=anchor)
    longest = definition.jitter_us
    gap = longest if following is None else following - fire_time
    return delay_of(definition.name, fire_time, below=min(longest, gap))


def delay_of(task: str, fire_time: Instant, *, below: Span) -> Span:
    """Return the delay of a tick, from zero to less than *below*.

    The delay is a hash of task and fire time. Delays are uniformly distributed over tasks and over
    the ticks of a task, and processes need no shared state for them.
    """
    if below <= 0:
        return 0
    tick = f"{task}\0{fire_time}".encode()
    return int.from_bytes(blake2b(tick, digest_size=8).digest()) % below


def _trigger(passed: int, late: Span) -> Trigger:
    return _CATCH_UP if passed or late > LATE else _SCHEDULE
