"""The pure heart: which of the fire times that are due run, and which are missed or skipped.

Theory of operation
-------------------
A task's place in time is its `Cursor`: the `anchor` of its grid, `next_fire` (the oldest fire
time not yet decided) and `floor` (the newest one ever decided). A store reads the cursor, asks
`plan` what to do with everything that is due, and writes the answer back only if nobody moved
the cursor in between. So whichever process is first decides, and all would decide alike: `plan`
has no state, asks no clock and does no I/O.

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
`overlap = skip`, `max_running` under `allow`. With `latest` and `skip`, a fire time that finds no
room is skipped.

A fire time at or below the floor is never named again: the first fire time considered is always
later than the floor. That is what makes a clock that is set back, a restart and a row restored
from a backup harmless.

The cost does not grow with the number of fire times passed over, where the schedule can count
them without walking: ten years of seconds are one `missed` figure and one run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.policy import Misfire
from pulse.run import Trigger
from pulse.task import LATE

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.task import Definition

BEFORE_TIME: Instant = -(2**62)
"""A floor below every fire time."""

_ALL = Misfire.ALL
_CATCH_UP, _SCHEDULE = Trigger.CATCH_UP, Trigger.SCHEDULE


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A task's place in time; `next_fire` is None when its schedule has ended."""

    anchor: Instant
    next_fire: Instant | None
    floor: Instant = BEFORE_TIME


class Passed(msgspec.Struct, frozen=True, gc=False):
    """Fire times that do not run: the oldest of them and how many."""

    oldest: Instant
    count: int


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A fire time whose run begins now."""

    slot: Instant
    trigger: Trigger


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What to do with a task that is due, and where its cursor then stands."""

    cursor: Cursor
    opened: Opened | None = None
    missed: Passed | None = None
    skipped: Passed | None = None


def first_cursor(definition: Definition, now: Instant) -> Cursor:
    """Return the cursor of a task that the store sees for the first time at *now*."""
    return Cursor(now, definition.schedule.first(now))


def moved_cursor(definition: Definition, cursor: Cursor, now: Instant) -> Cursor:
    """Return the cursor of a task whose schedule was changed: it fires nothing by itself."""
    after = max(now, cursor.floor)
    following = definition.schedule.next_after(after, anchor=cursor.anchor)
    return Cursor(cursor.anchor, following, cursor.floor)


def plan(definition: Definition, cursor: Cursor, running: int, now: Instant) -> Plan | None:
    """Return what to do with the fire times due at *now*; None when there is nothing to do.

    Args:
        definition: the task.
        cursor: its place in time.
        running: how many of its runs are open.
        now: the present, on the store's clock.

    """
    first = cursor.next_fire
    if first is None or first > now:
        return None
    if first <= cursor.floor:
        return _above_the_floor(definition, cursor)
    if definition.misfire is _ALL:
        return _oldest_first(definition, cursor, first, running, now)
    return _newest_only(definition, cursor, first, running, now)


def _above_the_floor(definition: Definition, cursor: Cursor) -> Plan:
    following = definition.schedule.next_after(cursor.floor, anchor=cursor.anchor)
    return Plan(Cursor(cursor.anchor, following, cursor.floor))


def _newest_only(
    definition: Definition, cursor: Cursor, first: Instant, running: int, now: Instant
) -> Plan:
    anchor = cursor.anchor
    following = definition.schedule.next_after(first, anchor=anchor)
    if following is None or following > now:
        newest, passed = first, 0
    else:
        due = definition.schedule.due(first, now, anchor=anchor)
        newest, passed = due.newest, due.count - 1
        following = definition.schedule.next_after(newest, anchor=anchor)
    moved = Cursor(anchor, following, newest)
    if _too_late(definition, newest, now):
        return Plan(moved, None, Passed(first, passed + 1))
    missed = Passed(first, passed) if passed else None
    if running >= definition.room:
        return Plan(moved, None, missed, Passed(newest, 1))
    return Plan(moved, Opened(newest, _trigger(newest, passed, now)), missed)


def _oldest_first(
    definition: Definition, cursor: Cursor, first: Instant, running: int, now: Instant
) -> Plan | None:
    anchor = cursor.anchor
    missed = None
    slot: Instant | None = first
    floor = cursor.floor
    if _too_late(definition, first, now):
        oldest_in_time = now - (definition.grace_us or 0)
        due = definition.schedule.due(first, oldest_in_time - 1, anchor=anchor)
        floor, missed = due.newest, Passed(first, due.count)
        slot = definition.schedule.next_after(floor, anchor=anchor)
    if slot is None or slot > now or running >= definition.room:
        return Plan(Cursor(anchor, slot, floor), None, missed) if missed else None
    following = definition.schedule.next_after(slot, anchor=anchor)
    passed = missed.count if missed else 0
    return Plan(Cursor(anchor, following, slot), Opened(slot, _trigger(slot, passed, now)), missed)


def _too_late(definition: Definition, fire_time: Instant, now: Instant) -> bool:
    return definition.grace_us is not None and now - fire_time > definition.grace_us


def _trigger(slot: Instant, passed: int, now: Instant) -> Trigger:
    return _CATCH_UP if passed or now - slot > LATE else _SCHEDULE
