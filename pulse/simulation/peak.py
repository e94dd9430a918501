"""How many runs go on at once, when each takes the time that is expected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant
from pulse.simulation.hourly import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.simulation.hourly import Course, Slot

MOST_TICKS = 100_000
"""How many ticks are walked before looking ends."""

_Step = tuple[Instant, int]
_Look = tuple[object, ...]


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The most runs that go on at once; a task counts for at most what it lets go at once.

    Attributes:
        at_least: how many runs were found to go on at once.
        at_most: how many there can be; the same where every hour that matters was looked at.
        at: when it is so, first found; None where nothing runs.
        tasks: whose runs those are.

    """

    at_least: int
    at_most: int
    at: Instant | None = None
    tasks: tuple[str, ...] = ()


def find_peak(courses: Sequence[Course], *, most_ticks: int = MOST_TICKS) -> Peak:
    """Return the most runs at once; *most_ticks* bounds how many fire times are walked."""
    at = min((course.first for course in courses if course.first is not None), default=None)
    best, left = len(_running(courses, at)), most_ticks
    seen: set[_Look] = set()
    for hour, bound in sorted(_bounds(courses).items(), key=lambda item: (-item[1], item[0])):
        if bound <= best:
            break
        look = tuple(_slots_before(course, hour) for course in courses)
        if look in seen:
            continue
        seen.add(look)
        left -= sum(slot[1] for slots in look for slot in slots if slot is not None)
        if left < 0:
            return _peak(courses, best, bound, at)
        found, when = _look(courses, hour)
        if found > best:
            best, at = found, when
    return _peak(courses, best, best, at)


def _peak(courses: Iterable[Course], least: int, most: int, at: Instant | None) -> Peak:
    return Peak(at_least=least, at_most=most, at=at, tasks=_running(courses, at))


def _running(courses: Iterable[Course], at: Instant | None) -> tuple[str, ...]:
    """Return the tasks that run at an instant."""
    if at is None:
        return ()
    ticks = ((course, course.ticks(at - course.took_us + 1, at + 1)) for course in courses)
    return tuple(course.task.name for course, found in ticks if next(found, None) is not None)


def _bounds(courses: Iterable[Course]) -> dict[int, int]:
    """Return how many runs each hour can hold at once: what the tasks that run in it let go."""
    bounds: dict[int, int] = {}
    for course in courses:
        room = course.task.at_once
        for hour, ticks in _reached(course).items():
            bounds[hour] = bounds.get(hour, 0) + min(room, ticks)
    return bounds


def _reached(course: Course) -> dict[int, int]:
    """Return for each hour in which a task runs how many of its ticks may do so."""
    took = course.took_us
    reached = {hour: slot[1] for hour, slot in course.slots.items()}
    for hour, (_, count, newest) in course.slots.items():
        for later in range(hour + 1, hour + 1 + (newest + took - 1) // HOUR):
            reached[later] = reached.get(later, 0) + count
    return reached


def _slots_before(course: Course, hour: int) -> tuple[Slot | None, ...]:
    """Return what the task does in an hour, and in those before from which runs reach into it."""
    slots = course.slots
    reach = -(-course.took_us // HOUR)
    if reach == 1:
        before = slots.get(hour - 1)
        if before is None or before[2] + course.took_us <= HOUR:
            return (slots.get(hour),)
        return slots.get(hour), before
    return tuple(slots.get(hour - back) for back in range(reach + 1))


def _look(courses: Iterable[Course], hour: int) -> tuple[int, Instant | None]:
    """Return the most runs at once in an hour, and when it is so first."""
    steps = sorted(step for course in courses for step in _steps(course, hour))
    running, best, at = 0, 0, None
    for when, step in steps:  # an end sorts before a begin of the same instant
        running += step
        if running > best and when >= hour * HOUR:
            best, at = running, when
    return best, at


def _steps(course: Course, hour: int) -> Iterator[_Step]:
    """Give when the number of a task's runs rises or falls, as far as its policy lets it."""
    since, until = hour * HOUR - course.took_us, (hour + 1) * HOUR
    raw = []
    for fire_time in course.ticks(since, until):
        raw += [(fire_time, 1), (fire_time + course.took_us, -1)]
    running = 0
    for when, step in sorted(raw):
        before, running = min(running, course.task.at_once), running + step
        after = min(running, course.task.at_once)
        if after != before:
            yield when, after - before
