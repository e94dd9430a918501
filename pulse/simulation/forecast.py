"""The forecast: when each task fires in a window, where ticks pile up, how many runs go at once.

Theory of operation
-------------------
A window may hold tens of millions of ticks, so they are counted, not walked: `hours` asks each
schedule for the first and the newest fire time of a day and how many there are, and of each hour
only where a day is unlike those before it. What an hour holds of a task is a `Slot`.

The peak of concurrent runs lies in one of the hours. An hour cannot hold more runs than its bound,
the sum of what the tasks that run in it let go at once; so hours are looked at by falling bound,
and none once its bound is not above what was found. Hours whose slots are alike are looked at
once. Within an hour the ticks are walked. Where that would be too many, looking ends, and the
forecast says what was found and what the bound of the rest is: the peak is at least the one, at
most the other.
"""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.simulation.clock_changes import ClockChange, clock_changes
from pulse.simulation.hourly import HOUR, Course, course_of
from pulse.simulation.peak import Peak, find_peak

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.core.task import Definition

UPCOMING = 5
BUSIEST = 5
_GAPS = 50


class TaskForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What one task does in the window.

    Attributes:
        task: the task's name.
        schedule: the settings that declare its schedule.
        count: how many fire times there are.
        first: the first of them; None where there is none.
        last: the last of them.
        upcoming: the first few.
        took_us: how long a run is expected to take.
        overlaps: whether a run is expected to be going still when the next tick is due, as far as
            the first fifty fire times tell.

    """

    task: str
    schedule: Mapping[str, str]
    count: int
    first: Instant | None
    last: Instant | None
    upcoming: tuple[Instant, ...]
    took_us: Span
    overlaps: bool


class BusyHour(msgspec.Struct, frozen=True):
    """How many ticks an hour holds; it begins at *start*, in UTC."""

    start: Instant
    ticks: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule does from *since* to before *until*.

    Attributes:
        ticks: how many fire times there are, of all tasks together.
        busiest: the hours with the most ticks, the most first.
        changes: when the clocks of a task's zone are set forth or back.

    """

    since: Instant
    until: Instant
    ticks: int
    tasks: tuple[TaskForecast, ...]
    busiest: tuple[BusyHour, ...]
    peak: Peak
    changes: tuple[ClockChange, ...]


def simulate(
    tasks: Iterable[Definition], *, since: Instant, until: Instant, took: Mapping[str, Span]
) -> Forecast:
    """Return what *tasks* do from *since*, when the store first sees them, to before *until*.

    Args:
        tasks: the definitions.
        since: the beginning of the window.
        until: its end, later than *since*.
        took: how long a run of each task takes, by name.

    """
    courses = [course_of(task, since, until, took_us=took[task.name]) for task in tasks]
    totals = _totals(courses)
    return Forecast(
        since=since,
        until=until,
        ticks=sum(totals.values()),
        tasks=tuple(_forecast(course) for course in courses),
        busiest=_busiest(totals),
        peak=find_peak(courses),
        changes=_changes(courses, since, until),
    )


def _totals(courses: Iterable[Course]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for course in courses:
        for hour, slot in course.slots.items():
            totals[hour] = totals.get(hour, 0) + slot[1]
    return totals


def _busiest(totals: Mapping[int, int]) -> tuple[BusyHour, ...]:
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return tuple(BusyHour(hour * HOUR, ticks) for hour, ticks in ranked[:BUSIEST])


def _forecast(course: Course) -> TaskForecast:
    head = list(islice(course.ticks(), _GAPS))
    gaps = [later - earlier for earlier, later in pairwise(head)]
    return TaskForecast(
        task=course.task.name,
        schedule=course.task.schedule.spell(),
        count=course.count,
        first=course.first,
        last=course.last,
        upcoming=tuple(head[:UPCOMING]),
        took_us=course.took_us,
        overlaps=min(gaps, default=course.took_us) < course.took_us,
    )


def _changes(courses: Iterable[Course], since: Instant, until: Instant) -> tuple[ClockChange, ...]:
    zones = {course.task.schedule.spell().get("timezone", "UTC") for course in courses}
    found = [change for zone in sorted(zones) for change in clock_changes(zone, since, until)]
    return tuple(sorted(found, key=lambda change: change.at))
