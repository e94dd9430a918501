"""The number of fire times of a task in each hour, counted without iterating over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import DAY, SECOND, Instant, Span
from pulse.core.cursor import first_cursor
from pulse.core.planner import plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.task import TaskDefinition

HOUR: Span = 3_600 * SECOND

HourSlot = tuple[Span, int, Span]
"""The ticks of an hour or a day: offset of the first fire time, count, offset of the newest."""


class HourlyTicks(msgspec.Struct, frozen=True, kw_only=True):
    """The ticks of a task in a window; *slots* has the hours since the epoch that have ticks."""

    task: TaskDefinition
    anchor: Instant
    until: Instant
    first: Instant | None
    last: Instant | None
    count: int
    took_us: Span
    slots: dict[int, HourSlot]

    def ticks(
        self, since: Instant | None = None, until: Instant | None = None
    ) -> Iterator[Instant]:
        """Yield the fire times from *since* to before *until*."""
        end = self.until if until is None else min(until, self.until)
        fire_time = self.first
        schedule, anchor = self.task.schedule, self.anchor
        if fire_time is not None and since is not None and since > fire_time:
            fire_time = schedule.next_after(since - 1, anchor=anchor)
        while fire_time is not None and fire_time < end:
            yield fire_time
            fire_time = schedule.next_after(fire_time, anchor=anchor)


def is_missed_at_first_sight(task: TaskDefinition, now: Instant) -> bool:
    """Return whether a store that first sees *task* at *now* records its past fire time as missed.

    Only a single date can be in the past then; the planner decides by misfire and grace.
    """
    decided = plan(task, first_cursor(task, now), 0, now)
    return decided is not None and decided.opened is None


def course_of(
    task: TaskDefinition, since: Instant, until: Instant, *, took_us: Span
) -> HourlyTicks:
    """Return the ticks of *task*, first seen at *since*, to before *until*."""
    first = task.schedule.first(since)
    if first is not None and first < since:  # a single date in the past
        first = None if is_missed_at_first_sight(task, since) else since
    last, count = None, 0
    if first is None or first >= until:
        first = None
    else:
        due = task.schedule.due(first, until - 1, anchor=since)
        last, count = due.newest, due.count
    course = HourlyTicks(
        task=task,
        anchor=since,
        until=until,
        first=first,
        last=last,
        count=count,
        took_us=max(took_us, 1),
        slots={},
    )
    _fill(course)
    return course


def _fill(course: HourlyTicks) -> None:
    """Count the ticks of each day and hour; days with equal slots share their hours."""
    known: dict[HourSlot, list[tuple[int, HourSlot]]] = {}
    for day, slot in _slots(course, course.first, course.until, DAY):
        hours = known.get(slot)
        if hours is None:
            start = day * DAY
            end = min(start + DAY, course.until)
            counted = _slots(course, start + slot[0], end, HOUR)
            hours = known[slot] = [(hour - day * 24, ticks) for hour, ticks in counted]
        course.slots.update((day * 24 + hour, ticks) for hour, ticks in hours)


def _slots(
    course: HourlyTicks, first: Instant | None, until: Instant, width: Span
) -> Iterator[tuple[int, HourSlot]]:
    """Yield the slot of each hour or day from the fire time *first* to before *until*."""
    schedule, anchor = course.task.schedule, course.anchor
    fire_time = first
    while fire_time is not None and fire_time < until:
        number = fire_time // width
        start = number * width
        due = schedule.due(fire_time, min(start + width, until) - 1, anchor=anchor)
        yield number, (fire_time - start, due.count, due.newest - start)
        fire_time = schedule.next_after(due.newest, anchor=anchor)
