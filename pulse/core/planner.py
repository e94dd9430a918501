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

A fire time that is not later than `last_decided` is never opened again, unless it is in a *gap*:
`Cursor.gaps` are the spans before `last_decided` in which no tick ran, because a process came too
late or because the clock was ahead. So a clock that is set back, a restart and a row restored from
a backup repeat no tick; and after a clock was ahead, `rewind` moves the cursor back to the first
fire time in a gap. Fire times on the way that are in no gap are *refused*: `Plan.refused` and
`Rewound.refused` name the first of them, so that a refusal is never silent. The number of gaps is
limited; in a gap that is forgotten, fire times are refused. Skipped fire times are in no gap. A
fire time in a gap runs only in its time: once a newer tick that has run is in the past, it is
refused.

With `jitter` a fire time is due after a delay: a hash of task, fire time and partition, less than
the jitter and less than the time to the next fire time, so that ticks keep their order, and not
later than the end of the schedule. With `scope = fleet` all processes have the same delay; with
`host` and `process` each host or process has its own. A fire time is due when its delay has passed;
grace and lateness count from then. The cursor's `delay_us` is the delay of `next_fire`.

The cost does not grow with the number of missed fire times if the schedule can count them without
iteration: ten years of seconds are one `missed` count and one run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.cursor import (
    Cursor,
    is_undecided,
    jitter_of,
    moved_to,
    next_undecided,
)
from pulse.core.gaps import MAX_GAPS, end_of_gap, with_gap, without_tick
from pulse.core.policies import Misfire, Overlap
from pulse.core.run import Trigger
from pulse.core.task import LATE

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.task import TaskDefinition
    from pulse.schedule.base import DueTimes


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
    """The decision about the due fire times of a task, and the cursor after it.

    *refused* is the first fire time before the cursor's next one that was decided before and does
    not run.
    """

    cursor: Cursor
    opened: NewRun | None = None
    missed: NotRun | None = None
    skipped: NotRun | None = None
    refused: Instant | None = None


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
    if first <= cursor.last_decided and (
        now >= cursor.last_decided or not is_undecided(cursor, first)
    ):
        return _after_refusal(definition, cursor, first, unfinished, now)
    if definition.misfire is _ALL:
        return _oldest_first(definition, cursor, first, unfinished, now)
    return _newest_only(definition, cursor, first, unfinished, now)


def has_free_slot(definition: TaskDefinition, unfinished: int) -> bool:
    """Return whether `plan` decides a due fire time for the reason that a run may start.

    Without a free slot, it decides one as well, unless misfire = all keeps the fire time.
    """
    return unfinished < definition.max_concurrent


def _after_refusal(
    definition: TaskDefinition, cursor: Cursor, first: Instant, unfinished: int, now: Instant
) -> Plan:
    """Return the plan without the fire times that were decided, or are too old by now.

    Once the clock has passed the last decided fire time again, the time of all gaps is over: a
    newer tick has run.
    """
    passed = cursor.last_decided if now >= cursor.last_decided else first
    following = next_undecided(definition, cursor, passed)
    moved = moved_to(definition, cursor, following, cursor.last_decided, cursor.gaps)
    later = plan(definition, moved, unfinished, now) if passed != first else None
    if later is None:
        return Plan(moved, refused=first)
    return Plan(later.cursor, later.opened, later.missed, later.skipped, first)


def plan_missed(
    definition: TaskDefinition, cursor: Cursor, first: Instant, now: Instant, *, reason: str
) -> Plan:
    """Return the plan by which the fire times that are due at *now*, from *first* on, are missed.

    *first* is the cursor's next fire time, and due.
    """
    due = undecided_by(definition, cursor, first, now)
    return _decided(definition, cursor, due, missed=NotRun(first, due.total(), reason))


class DueSpan(NamedTuple):
    """Due fire times, none of which and none between which was decided before."""

    first: Instant
    newest: Instant
    number: int


class Undecided(NamedTuple):
    """The due fire times that are to be decided, and the first one after them.

    There is more than one span only after the clock was set back.
    """

    spans: list[DueSpan]
    following: Instant | None

    def total(self) -> int:
        """Return the number of due fire times."""
        return sum(span.number for span in self.spans)


def undecided_by(
    definition: TaskDefinition, cursor: Cursor, first: Instant, now: Instant
) -> Undecided:
    """Return the undecided fire times from *first* on whose delay has passed; *first* is due."""
    schedule, anchor = definition.schedule, cursor.anchor
    if first > cursor.last_decided:
        following = schedule.next_after(first, anchor=anchor)
        return _new_ticks(definition, cursor, first, now, following=following)
    spans: list[DueSpan] = []
    start: Instant | None = first
    while start is not None and start <= now:
        due = schedule.due(start, _span_end(cursor, start, now), anchor=anchor)
        # Fire times become due in their order: only the newest of all may have a delay to go.
        if due.count > 1 and _lateness(definition, cursor, due.newest, now) < 0:
            due = schedule.due(start, due.newest - 1, anchor=anchor)
        spans.append(DueSpan(start, due.newest, due.count))
        start = next_undecided(definition, cursor, due.newest)
        if start is not None and _lateness(definition, cursor, start, now) < 0:
            break
    return Undecided(spans, next_undecided(definition, cursor, spans[-1].newest))


def _new_ticks(
    definition: TaskDefinition,
    cursor: Cursor,
    first: Instant,
    now: Instant,
    *,
    following: Instant | None,
) -> Undecided:
    """Return the due fire times from *first* on, all of which were never decided."""
    if following is None or following > now:
        return Undecided([DueSpan(first, first, 1)], following)
    due = due_by(definition, cursor, first, now)
    following = definition.schedule.next_after(due.newest, anchor=cursor.anchor)
    return Undecided([DueSpan(first, due.newest, due.count)], following)


def _span_end(cursor: Cursor, first: Instant, now: Instant) -> Instant:
    """Return the last instant up to *now* before which no decided fire time follows *first*."""
    end = end_of_gap(cursor.gaps, first) if first <= cursor.last_decided else None
    return now if end is None else min(now, end - 1)


def _decided(
    definition: TaskDefinition,
    cursor: Cursor,
    due: Undecided,
    *,
    opened: NewRun | None = None,
    missed: NotRun | None = None,
    skipped: NotRun | None = None,
) -> Plan:
    """Return the plan that decides the fire times of *due*; those that are missed become a gap."""
    newest, gaps, anchor = due.spans[-1].newest, cursor.gaps, cursor.anchor
    named = opened is not None or skipped is not None  # else the newest one is missed as well
    if missed is not None:
        for span in due.spans:
            end = span.newest if named and span.newest == newest else span.newest + 1
            gaps = with_gap(gaps, span.first, end)
    if named and gaps:
        gaps = without_tick(definition.schedule, gaps, newest, anchor=anchor)
    refused = None
    if newest < cursor.last_decided:
        expected = definition.schedule.next_after(newest, anchor=anchor)
        refused = None if expected == due.following else expected
    moved = moved_to(
        definition, cursor, due.following, max(newest, cursor.last_decided), gaps[-MAX_GAPS:]
    )
    return Plan(moved, opened, missed, skipped, refused)


def _newest_only(
    definition: TaskDefinition, cursor: Cursor, first: Instant, unfinished: int, now: Instant
) -> Plan:
    if first > cursor.last_decided:
        following = definition.schedule.next_after(first, anchor=cursor.anchor)
        alone = following is None or following > now
        # The usual case costs no list of spans: one tick that was never decided, in no gap.
        if alone and (not cursor.gaps or end_of_gap(cursor.gaps, first) is None):
            return _one_tick(definition, cursor, first, following, unfinished=unfinished, now=now)
        due = _new_ticks(definition, cursor, first, now, following=following)
    else:
        due = undecided_by(definition, cursor, first, now)
    newest, passed = due.spans[-1].newest, due.total() - 1
    if newest < cursor.last_decided:
        newer = definition.schedule.next_after(newest, anchor=cursor.anchor)
        if newer is not None and newer <= now and newer != due.following:
            return Plan(_decided(definition, cursor, due).cursor, refused=first)
    late = _lateness(definition, cursor, newest, now)
    if definition.grace_us is not None and late > definition.grace_us:
        return _decided(definition, cursor, due, missed=NotRun(first, passed + 1, TOO_LATE))
    missed = NotRun(first, passed) if passed else None
    if unfinished >= definition.max_unfinished:
        skipped = NotRun(newest, 1, _NO_ROOM[definition.overlap])
        return _decided(definition, cursor, due, missed=missed, skipped=skipped)
    waits = unfinished > 0 and unfinished >= definition.max_concurrent
    opened = NewRun(newest, _trigger(passed, late), waits)
    return _decided(definition, cursor, due, opened=opened, missed=missed)


def _one_tick(
    definition: TaskDefinition,
    cursor: Cursor,
    first: Instant,
    following: Instant | None,
    *,
    unfinished: int,
    now: Instant,
) -> Plan:
    late, gaps = now - first - cursor.delay_us, cursor.gaps
    opened, missed, skipped = None, None, None
    if definition.grace_us is not None and late > definition.grace_us:
        missed, gaps = NotRun(first, 1, TOO_LATE), with_gap(gaps, first, first + 1)
    elif unfinished >= definition.max_unfinished:
        skipped = NotRun(first, 1, _NO_ROOM[definition.overlap])
    else:
        waits = unfinished > 0 and unfinished >= definition.max_concurrent
        opened = NewRun(first, _trigger(0, late), waits)
    moved = moved_to(definition, cursor, following, first, gaps)
    return Plan(moved, opened, missed, skipped)


def _oldest_first(
    definition: TaskDefinition, cursor: Cursor, first: Instant, unfinished: int, now: Instant
) -> Plan | None:
    missed, refused = None, None
    grace = definition.grace_us
    if grace is not None and now - first - cursor.delay_us > grace:
        late = _too_late(definition, cursor, first, now - grace - 1)
        missed = NotRun(first, late.total(), TOO_LATE)
        passed = _decided(definition, cursor, late, missed=missed)
        cursor, refused = passed.cursor, passed.refused
    slot, gaps = cursor.next_fire, cursor.gaps
    if slot is None or slot + cursor.delay_us > now or unfinished >= definition.max_concurrent:
        return Plan(cursor, None, missed, refused=refused) if missed else None
    count = missed.count if missed else 0
    opened = NewRun(slot, _trigger(count, now - slot - cursor.delay_us))
    if (
        missed is None
        and slot > cursor.last_decided
        and (not gaps or end_of_gap(gaps, slot) is None)
    ):
        # The usual case costs no list of spans: see `_newest_only`.
        following = definition.schedule.next_after(slot, anchor=cursor.anchor)
        moved = moved_to(definition, cursor, following, slot, gaps)
        return Plan(moved, opened)
    due = Undecided([DueSpan(slot, slot, 1)], next_undecided(definition, cursor, slot))
    decided = _decided(definition, cursor, due, opened=opened)
    if missed is None:
        return decided
    return Plan(decided.cursor, opened, missed, refused=refused or decided.refused)


def _too_late(
    definition: TaskDefinition, cursor: Cursor, first: Instant, until: Instant
) -> Undecided:
    """Return the fire times from *first* on that are too late, up to the first decided one."""
    until = _span_end(cursor, first, until)
    due = due_by(definition, cursor, first, until)
    following = next_undecided(definition, cursor, due.newest)
    return Undecided([DueSpan(first, due.newest, due.count)], following)


def is_too_late(
    definition: TaskDefinition, fire_time: Instant, now: Instant, *, partition: str = ""
) -> bool:
    """Return whether a run that waited would start later than the grace of its task allows.

    The grace counts from the instant at which the jitter lets the fire time be due.
    """
    grace = definition.grace_us
    if grace is None:
        return False
    delay = jitter_of(definition, fire_time, anchor=fire_time, partition=partition)
    return now - fire_time - delay > grace


def due_by(definition: TaskDefinition, cursor: Cursor, first: Instant, now: Instant) -> DueTimes:
    """Return the fire times from *first* on whose delay has passed; that of *first* has."""
    anchor = cursor.anchor
    due = definition.schedule.due(first, now, anchor=anchor)
    if due.count > 1 and _lateness(definition, cursor, due.newest, now) < 0:
        return definition.schedule.due(first, due.newest - 1, anchor=anchor)
    return due


def _lateness(definition: TaskDefinition, cursor: Cursor, fire_time: Instant, now: Instant) -> Span:
    """Return how long ago a fire time became due; negative if it is not due yet."""
    late = now - fire_time
    if not definition.jitter_us:
        return late
    delay = jitter_of(definition, fire_time, anchor=cursor.anchor, partition=cursor.partition)
    return late - delay


def _trigger(passed: int, late: Span) -> Trigger:
    return _CATCH_UP if passed or late > LATE else _SCHEDULE
