"""The position of a task in its schedule, and how it moves when the schedule or the clock changes.

`pulse.core.planner` explains the fields of a `Cursor` and decides what is due at one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.gaps import Gap, end_of_gap, with_gap
from pulse.schedule.bounded import BoundedSchedule

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.task import TaskDefinition
    from pulse.schedule.base import Schedule

BEFORE_TIME: Instant = -(2**62)
"""An instant before every fire time: the `last_decided` of a task without a decision."""


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A task's position in its schedule; `next_fire` is None after the end of the schedule.

    Attributes:
        anchor: the instant from which intervals are counted.
        next_fire: the oldest fire time that is not decided yet.
        last_decided: the newest fire time that was ever decided.
        delay_us: the delay of `next_fire`, by the jitter.
        gaps: spans in which no tick ran, the least recently used first.
        partition: the host or the process for which the task has this position; empty for the
            fleet. The jitter spreads partitions.

    """

    anchor: Instant
    next_fire: Instant | None
    last_decided: Instant = BEFORE_TIME
    delay_us: Span = 0
    gaps: tuple[Gap, ...] = ()
    partition: str = ""


class Rewound(NamedTuple):
    """The cursor after the clock was set back, and the first fire time that does not run again."""

    cursor: Cursor
    refused: Instant | None


def moved_to(
    definition: TaskDefinition,
    cursor: Cursor,
    next_fire: Instant | None,
    last_decided: Instant,
    gaps: tuple[Gap, ...],
) -> Cursor:
    """Return the cursor with another *next_fire*, and the delay of that one."""
    anchor, partition, delay = cursor.anchor, cursor.partition, 0
    if definition.jitter_us and next_fire is not None:
        delay = jitter_of(definition, next_fire, anchor=anchor, partition=partition)
    return Cursor(anchor, next_fire, last_decided, delay, gaps, partition)


def due_at(cursor: Cursor) -> Instant | None:
    """Return the instant from which `next_fire` is due; None after the end of the schedule."""
    return None if cursor.next_fire is None else cursor.next_fire + cursor.delay_us


def first_cursor(
    definition: TaskDefinition, now: Instant, *, partition: str = "", before: Cursor | None = None
) -> Cursor:
    """Return the cursor of a task that the store sees for the first time at *now*.

    *before* is the cursor of the task when it was archived; its fire times stay decided.
    """
    first = definition.schedule.first(now)
    if before is None:
        return _waiting_cursor(definition, Cursor(now, first, partition=partition), first)
    seen = msgspec.structs.replace(before, anchor=now, partition=partition)
    if first is not None and first <= before.last_decided:
        first = next_undecided(definition, seen, now)
    return _waiting_cursor(definition, seen, first)


def moved_cursor(definition: TaskDefinition, cursor: Cursor, now: Instant) -> Cursor:
    """Return the cursor of a task with a changed schedule; the change itself makes no tick due.

    The exception is a schedule without a later fire time, such as a single date in the past: the
    first fire time of a new task with the schedule is due, unless it was decided before.
    """
    following = next_undecided(definition, cursor, now)
    if following is None:
        first = definition.schedule.first(now)
        following = first if first is not None and first > cursor.last_decided else None
    return _waiting_cursor(definition, cursor, following)


def _waiting_cursor(
    definition: TaskDefinition, cursor: Cursor, next_fire: Instant | None
) -> Cursor:
    """Return the cursor with another *next_fire*, before which no tick has run."""
    gaps, after = cursor.gaps, cursor.last_decided
    if next_fire is not None and next_fire > after:
        gaps = with_gap(gaps, after if after == BEFORE_TIME else after + 1, next_fire)
    return moved_to(definition, cursor, next_fire, after, gaps)


def kept_cursor(definition: TaskDefinition, cursor: Cursor) -> Cursor:
    """Return the cursor of a task that was changed without a change of its schedule."""
    return moved_to(definition, cursor, cursor.next_fire, cursor.last_decided, cursor.gaps)


def rewind(definition: TaskDefinition, cursor: Cursor, now: Instant) -> Rewound:
    """Return the cursor after the clock was set back to *now*.

    An anchor in the future was read from a clock that was ahead: intervals are counted from *now*.
    """
    first = cursor.next_fire
    if first is not None and first <= now:
        return Rewound(cursor, None)
    if cursor.anchor > now:
        cursor = msgspec.structs.replace(cursor, anchor=now)
    following = next_undecided(definition, cursor, now)
    expected = definition.schedule.next_after(now, anchor=cursor.anchor)
    refused = None if expected == following else expected
    moved = moved_to(definition, cursor, following, cursor.last_decided, cursor.gaps)
    return Rewound(moved, refused)


def next_undecided(definition: TaskDefinition, cursor: Cursor, after: Instant) -> Instant | None:
    """Return the first fire time later than *after* that is in a gap or was never decided."""
    next_after, anchor = definition.schedule.next_after, cursor.anchor
    found = next_after(max(after, cursor.last_decided), anchor=anchor)
    if after >= cursor.last_decided:
        return found
    for start, end in cursor.gaps:
        if end - 1 <= after:
            continue
        first = next_after(max(after, start - 1), anchor=anchor)
        if first is not None and first < end and (found is None or first < found):
            found = first
    return found


def is_undecided(cursor: Cursor, fire_time: Instant) -> bool:
    """Return whether a fire time was never decided, or is in a gap."""
    return fire_time > cursor.last_decided or end_of_gap(cursor.gaps, fire_time) is not None


def jitter_of(
    definition: TaskDefinition, fire_time: Instant, *, anchor: Instant, partition: str = ""
) -> Span:
    """Return the delay after which a fire time is due.

    The delay ends before the next fire time, and not later than the end of the schedule.
    """
    longest = definition.jitter_us
    if not longest:
        return 0
    following = definition.schedule.next_after(fire_time, anchor=anchor)
    if following is None:
        following = _limit_of_last(definition.schedule, fire_time, anchor=anchor)
    below = longest if following is None else min(longest, following - fire_time)
    return delay_of(definition.name, fire_time, below=below, partition=partition)


def _limit_of_last(schedule: Schedule, fire_time: Instant, *, anchor: Instant) -> Instant | None:
    """Return the instant before which the last fire time before an end is due."""
    if not isinstance(schedule, BoundedSchedule) or schedule.end is None:
        return None
    unbounded = schedule.schedule.next_after(fire_time, anchor=anchor)
    return schedule.end + 1 if unbounded is None else min(unbounded, schedule.end + 1)


def delay_of(task: str, fire_time: Instant, *, below: Span, partition: str = "") -> Span:
    """Return the delay of a tick, from zero to less than *below*.

    The delay is a hash of task, fire time and partition. Delays are uniformly distributed over
    tasks, over the ticks of a task, and over the hosts or processes that run a tick each; and
    processes need no shared state for them.
    """
    if below <= 0:
        return 0
    tick = f"{task}\0{fire_time}\0{partition}" if partition else f"{task}\0{fire_time}"
    return int.from_bytes(blake2b(tick.encode(), digest_size=8).digest()) % below
