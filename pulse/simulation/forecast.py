"""The forecast of a window: fire times of each task, busiest hours, peak of concurrent runs.

Theory of operation
-------------------
A window may contain tens of millions of ticks, so the forecast counts them and does not iterate
over them. `hourly` queries each schedule for the first and the newest fire time of a day and the
number of fire times. `hourly` queries the hours of a day only if the day differs from all earlier
days. The ticks of a task in one hour are an `HourSlot`.

The peak of concurrent runs lies in one of the hours. The number of concurrent runs in an hour has
an upper bound: the sum of the concurrency limits of the tasks that run in this hour. Hours are
examined by descending bound, and the search ends when the next bound does not exceed the best peak
so far. Hours with equal slots are examined once. Within an hour, the search iterates over the
ticks. If there are too many ticks, the search ends early, and the forecast reports both limits: the
peak is at least the best number found and at most the bound of the remaining hours.
"""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.simulation.clock_changes import ClockChange, clock_changes
from pulse.simulation.hourly import HOUR, HourlyTicks, course_of
from pulse.simulation.peak import Peak, find_peak

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.core.task import TaskDefinition

UPCOMING = 5
BUSIEST = 5
_GAPS = 50


class TaskForecast(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one task.

    Attributes:
        task: the task's name.
        schedule: the settings that declare its schedule.
        count: the number of fire times.
        first: the first fire time, or None if there is none.
        last: the last fire time, or None if there is none.
        upcoming: the first few fire times.
        took_us: the expected duration of a run.
        overlaps: whether a run is expected to be unfinished when the next tick is due, according
            to the first fifty fire times.

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
    """The number of ticks in the hour that begins at *start*."""

    start: Instant
    ticks: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of all tasks from *since* to before *until*.

    Attributes:
        ticks: the number of fire times of all tasks.
        busiest: the hours with the most ticks, in descending order.
        changes: the clock changes in the time zones of the tasks.

    """

    since: Instant
    until: Instant
    ticks: int
    tasks: tuple[TaskForecast, ...]
    busiest: tuple[BusyHour, ...]
    peak: Peak
    changes: tuple[ClockChange, ...]


def simulate(
    tasks: Iterable[TaskDefinition], *, since: Instant, until: Instant, took: Mapping[str, Span]
) -> Forecast:
    """Return the forecast of *tasks*, first seen by the store at *since*, to before *until*.

    Args:
        tasks: the definitions.
        since: the beginning of the window.
        until: the end of the window, later than *since*.
        took: the expected duration of a run, by task name.

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


def _totals(courses: Iterable[HourlyTicks]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for course in courses:
        for hour, slot in course.slots.items():
            totals[hour] = totals.get(hour, 0) + slot[1]
    return totals


def _busiest(totals: Mapping[int, int]) -> tuple[BusyHour, ...]:
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return tuple(BusyHour(hour * HOUR, ticks) for hour, ticks in ranked[:BUSIEST])


def _forecast(course: HourlyTicks) -> TaskForecast:
    head = list(islice(course.ticks(), _GAPS))
    gaps = [later - earlier for earlier, later in pairwise(head)]
    return TaskForecast(
        task=course.task.name,
        schedule=course.task.schedule.to_text(),
        count=course.count,
        first=course.first,
        last=course.last,
        upcoming=tuple(head[:UPCOMING]),
        took_us=course.took_us,
        overlaps=min(gaps, default=course.took_us) < course.took_us,
    )


def _changes(
    courses: Iterable[HourlyTicks], since: Instant, until: Instant
) -> tuple[ClockChange, ...]:
    zones = {course.task.schedule.to_text().get("timezone", "UTC") for course in courses}
    changes = [change for zone in sorted(zones) for change in clock_changes(zone, since, until)]
    return tuple(sorted(changes, key=lambda change: change.at))
