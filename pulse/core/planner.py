"""Decides which of the due fire times run, and which are recorded as missed or skipped.

Theory of operation
-------------------
The position of a task in its schedule is its `Cursor`: the `anchor` of its grid, `next_fire` (the
oldest fire time not yet decided) and `last_decided` (the newest fire time ever decided). A store
reads the cursor, asks `plan` what to do with everything that is due, and writes the answer back
only if no other process moved the cursor in between. The first process decides, and all processes
would decide alike: `plan` has no state, reads no clock and does no I/O.

What is due is the set of fire times in [next_fire, now]. `plan` names each of them exactly once,
as *opened* (a run begins), *missed* (nobody was there in time) or *skipped* (there was no room),
or it waits and names none of them yet. The rules, by `misfire`:

latest
    The newest fire time is opened; those before it are missed.
skip
    As latest, but a newest fire time that is later than `grace` is missed as well.
all
    One fire time a call, oldest first; those later than `grace`, where one is set, are missed.
    With no room the task waits: nothing is named until a run has ended.

There is room while fewer than `definition.room` runs of the task are open: one under
`overlap = skip`, two under `wait`, `max_running` under `allow`. With `latest` and `skip`, a fire
time that finds no room is skipped. One that finds room, but as many runs open as may go at once
(`definition.max_concurrent`), is opened all the same, as a run that *waits* for its turn: under
`wait` the second. With `all` the fire times themselves wait, at the cursor, and no run has to.

A fire time at or below the floor is never named again: the first fire time considered is always
later than the floor. That is what makes a clock that is set back, a restart and a row restored
from a backup harmless.

With `jitter` a fire time is due a little later than it says: by a hash of task and fire time, less
than the jitter and less than the time to the next fire time, so that ticks keep their order. What
is due is then what is due by its delay; grace and lateness of a catch-up count from there. The
cursor's `delay_us` is that of `next_fire`.

The cost does not grow with the number of fire times passed over, where the schedule can count
them without walking: ten years of seconds are one `missed` figure and one run.
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
"""A floor below every fire time."""

OLDER_THAN_NEWEST = "passed with nobody to run it in time"
TOO_LATE = "passed, later than the grace of the task"
RUN_UNFINISHED = "found an earlier run still going"
RUN_WAITING = "found an earlier run still going and another one waiting"
MAX_RUNNING_REACHED = "found as many runs going as may go at once"
"""Why fire times do not run, in words that follow their number."""

_NO_ROOM = {
    Overlap.SKIP: RUN_UNFINISHED,
    Overlap.WAIT: RUN_WAITING,
    Overlap.ALLOW: MAX_RUNNING_REACHED,
}

_ALL = Misfire.ALL
_CATCH_UP, _SCHEDULE = Trigger.CATCH_UP, Trigger.SCHEDULE


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A task's place in time; `next_fire` is None when its schedule has ended."""

    anchor: Instant
    next_fire: Instant | None
    last_decided: Instant = BEFORE_TIME
    delay_us: Span = 0


class NotRun(msgspec.Struct, frozen=True, gc=False):
    """Fire times that do not run: the oldest of them, how many, and why."""

    oldest: Instant
    count: int
    reason: str = OLDER_THAN_NEWEST


class NewRun(msgspec.Struct, frozen=True, gc=False):
    """A fire time whose run begins now, or *waits* until an earlier one has ended."""

    scheduled_for: Instant
    trigger: Trigger
    waits: bool = False


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What to do with a task that is due, and where its cursor then stands."""

    cursor: Cursor
    opened: NewRun | None = None
    missed: NotRun | None = None
    skipped: NotRun | None = None


def cursor_at(
    definition: TaskDefinition, anchor: Instant, next_fire: Instant | None, *, last_decided: Instant
) -> Cursor:
    """Return the cursor that stands before *next_fire*, with its delay."""
    if not definition.jitter_us or next_fire is None:
        return Cursor(anchor, next_fire, last_decided)
    return Cursor(anchor, next_fire, last_decided, jitter_of(definition, next_fire, anchor=anchor))


def due_at(cursor: Cursor) -> Instant | None:
    """Return when *next_fire* is due; None when the schedule has ended."""
    return None if cursor.next_fire is None else cursor.next_fire + cursor.delay_us


def first_cursor(
    definition: TaskDefinition, now: Instant, *, last_decided: Instant = BEFORE_TIME
) -> Cursor:
    """Return the cursor of a task that the store sees for the first time at *now*.

    A floor that the task has from an earlier life is kept.
    """
    return cursor_at(definition, now, definition.schedule.first(now), last_decided=last_decided)


def moved_cursor(definition: TaskDefinition, cursor: Cursor, now: Instant) -> Cursor:
    """Return the cursor of a task whose schedule was changed: it fires nothing by itself.

    But for a schedule that has nothing left, as a single date that has passed: what it would give
    a task that is seen for the first time is due, unless it was decided before.
    """
    schedule, last_decided = definition.schedule, cursor.last_decided
    following = schedule.next_after(max(now, last_decided), anchor=cursor.anchor)
    if following is None:
        first = schedule.first(now)
        following = first if first is not None and first > last_decided else None
    return cursor_at(definition, cursor.anchor, following, last_decided=last_decided)


def kept_cursor(definition: TaskDefinition, cursor: Cursor) -> Cursor:
    """Return the cursor of a task that was changed, but for its schedule."""
    return cursor_at(definition, cursor.anchor, cursor.next_fire, last_decided=cursor.last_decided)


def plan(definition: TaskDefinition, cursor: Cursor, unfinished: int, now: Instant) -> Plan | None:
    """Return what to do with the fire times due at *now*; None when there is nothing to do.

    Args:
        definition: the task.
        cursor: its place in time.
        unfinished: how many of its runs are open.
        now: the present, on the store's clock.

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
    """Return whether a run that waited begins later than the task's grace allows.

    The grace counts from the latest instant at which the jitter lets the fire time be due.
    """
    grace = definition.grace_us
    return grace is not None and now - fire_time > grace + definition.jitter_us


def due_by(
    definition: TaskDefinition, first: Instant, now: Instant, *, anchor: Instant
) -> DueTimes:
    """Return what of the fire times from *first* on is due by its delay; *first* is."""
    due = definition.schedule.due(first, now, anchor=anchor)
    if due.count > 1 and _lateness(definition, anchor, due.newest, now) < 0:
        return definition.schedule.due(first, due.newest - 1, anchor=anchor)
    return due


def _lateness(
    definition: TaskDefinition, anchor: Instant, fire_time: Instant, now: Instant
) -> Span:
    """Return how long ago a fire time became due; below zero when it is not due yet."""
    late = now - fire_time
    if not definition.jitter_us:
        return late
    return late - jitter_of(definition, fire_time, anchor=anchor)


def jitter_of(definition: TaskDefinition, fire_time: Instant, *, anchor: Instant) -> Span:
    """Return how much later than it says a fire time is due."""
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
