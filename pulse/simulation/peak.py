"""The peak of concurrent runs, if each run takes its expected duration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant
from pulse.simulation.hourly import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.simulation.hourly import HourlyTicks, HourSlot

MAX_TICKS = 100_000
"""The maximum number of ticks that the search examines."""

_Step = tuple[Instant, int]
_Pattern = tuple[object, ...]


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The maximum number of concurrent runs, with the concurrency limit of each task applied.

    Attributes:
        at_least: the largest number of concurrent runs that was found.
        at_most: the upper bound; equal to `at_least` if the search was complete.
        at: the first instant with `at_least` concurrent runs; None if nothing runs.
        tasks: the tasks that run at this instant.

    """

    at_least: int
    at_most: int
    at: Instant | None = None
    tasks: tuple[str, ...] = ()


def find_peak(courses: Sequence[HourlyTicks], *, max_ticks: int = MAX_TICKS) -> Peak:
    """Return the peak of concurrent runs; the search examines at most *max_ticks* fire times."""
    at = min((course.first for course in courses if course.first is not None), default=None)
    best, remaining = len(_running(courses, at)), max_ticks
    seen: set[_Pattern] = set()
    for hour, bound in sorted(_bounds(courses).items(), key=lambda item: (-item[1], item[0])):
        if bound <= best:
            break
        pattern = tuple(_slots_before(course, hour) for course in courses)
        if pattern in seen:
            continue
        seen.add(pattern)
        remaining -= sum(slot[1] for slots in pattern for slot in slots if slot is not None)
        if remaining < 0:
            return _peak(courses, best, bound, at)
        number, when = _peak_of_hour(courses, hour)
        if number > best:
            best, at = number, when
    return _peak(courses, best, best, at)


def _peak(courses: Iterable[HourlyTicks], least: int, most: int, at: Instant | None) -> Peak:
    return Peak(at_least=least, at_most=most, at=at, tasks=_running(courses, at))


def _running(courses: Iterable[HourlyTicks], at: Instant | None) -> tuple[str, ...]:
    """Return the names of the tasks that run at an instant."""
    if at is None:
        return ()
    ticks = ((course, course.ticks(at - course.took_us + 1, at + 1)) for course in courses)
    return tuple(
        course.task.name for course, fire_times in ticks if next(fire_times, None) is not None
    )


def _bounds(courses: Iterable[HourlyTicks]) -> dict[int, int]:
    """Return the upper bound of concurrent runs of each hour, from the limits of its tasks."""
    bounds: dict[int, int] = {}
    for course in courses:
        limit = course.task.max_concurrent
        for hour, ticks in _ticks_running(course).items():
            bounds[hour] = bounds.get(hour, 0) + min(limit, ticks)
    return bounds


def _ticks_running(course: HourlyTicks) -> dict[int, int]:
    """Return for each hour the number of ticks whose runs may be active in this hour."""
    took = course.took_us
    ticks = {hour: slot[1] for hour, slot in course.slots.items()}
    for hour, (_, count, newest) in course.slots.items():
        for later in range(hour + 1, hour + 1 + (newest + took - 1) // HOUR):
            ticks[later] = ticks.get(later, 0) + count
    return ticks


def _slots_before(course: HourlyTicks, hour: int) -> tuple[HourSlot | None, ...]:
    """Return the slots of an hour and of the earlier hours whose runs extend into this hour."""
    slots = course.slots
    hours = -(-course.took_us // HOUR)
    if hours == 1:
        before = slots.get(hour - 1)
        if before is None or before[2] + course.took_us <= HOUR:
            return (slots.get(hour),)
        return slots.get(hour), before
    return tuple(slots.get(hour - back) for back in range(hours + 1))


def _peak_of_hour(courses: Iterable[HourlyTicks], hour: int) -> tuple[int, Instant | None]:
    """Return the peak of concurrent runs in an hour, and the first instant of the peak."""
    steps = sorted(step for course in courses for step in _steps(course, hour))
    running, best, at = 0, 0, None
    for when, step in steps:  # at the same instant, an end sorts before a start
        running += step
        if running > best and when >= hour * HOUR:
            best, at = running, when
    return best, at


def _steps(course: HourlyTicks, hour: int) -> Iterator[_Step]:
    """Yield each change of the number of a task's runs, with the concurrency limit applied."""
    since, until = hour * HOUR - course.took_us, (hour + 1) * HOUR
    raw = []
    for fire_time in course.ticks(since, until):
        raw += [(fire_time, 1), (fire_time + course.took_us, -1)]
    running = 0
    for when, step in sorted(raw):
        before, running = min(running, course.task.max_concurrent), running + step
        after = min(running, course.task.max_concurrent)
        if after != before:
            yield when, after - before
