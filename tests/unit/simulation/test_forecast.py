"""Compares the forecast with an iteration over every tick."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of, moment_of
from pulse.core.task import Task, build_definition
from pulse.schedule.cron import Cron
from pulse.simulation.forecast import simulate
from pulse.simulation.hourly import HOUR, course_of
from pulse.simulation.peak import find_peak
from pulse.testing.clock import NOON

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.task import TaskDefinition
    from pulse.simulation.hourly import HourlyTicks

SINCE = instant_of(NOON)
DAY = 24 * HOUR
EXPRESSIONS = [
    "*/20 * * * *",
    "0 0-23 * * *",
    "0 */2 * * *",
    "30 1,2,3 * * *",
    "15 2 * * sun",
    "0 0,12 * * *",
    "* 2 * * *",
    "0 0 1 * *",
]

intervals = st.builds(
    lambda every, start, overlap: Task(
        action="a",
        interval=every,
        start=None if start is None else moment_of(SINCE + start * SECOND),
        overlap=overlap[0],
        max_running=overlap[1],
    ),
    st.one_of(st.sampled_from([300, 900, 3_600, 86_400]), st.integers(100, 200_000)),
    st.one_of(st.none(), st.integers(-100_000, 300_000)),
    st.sampled_from([("skip", 1), ("wait", 1), ("allow", 1), ("allow", 2), ("allow", 3)]),
)
schedules = st.lists(st.tuples(intervals, st.integers(0, 30_000)), min_size=1, max_size=4)


def definitions(tasks: list[Task]) -> list[TaskDefinition]:
    """Return the definitions of tasks with numbered names."""
    return [build_definition(f"task {n}", task) for n, task in enumerate(tasks)]


def fire_times(task: TaskDefinition, until: Instant, since: Instant = SINCE) -> list[Instant]:
    """Return all fire times of a task that is first seen at *since*."""
    ticks = []
    fire_time = task.schedule.first(since)
    while fire_time is not None and fire_time < until:
        ticks.append(fire_time)
        fire_time = task.schedule.next_after(fire_time, anchor=since)
    return ticks


def running(course: HourlyTicks, ticks: list[Instant], at: Instant) -> int:
    """Return the number of runs of a task at an instant."""
    number = bisect_right(ticks, at) - bisect_right(ticks, at - course.took_us)
    return min(course.task.max_concurrent, number)


@given(schedules=schedules, hours=st.integers(1, 80))
def test_counts_and_hours_equal_those_of_all_ticks(
    schedules: list[tuple[Task, int]], hours: int
) -> None:
    """Every tick is counted once and in its hour, for any intervals."""
    tasks, until = definitions([task for task, _ in schedules]), SINCE + hours * HOUR
    ticks = [fire_times(task, until) for task in tasks]
    by_hour = Counter(tick // HOUR for each in ticks for tick in each)

    forecast = simulate(tasks, since=SINCE, until=until, took={task.name: SECOND for task in tasks})

    actual = [(task.count, task.first, task.last, list(task.upcoming)) for task in forecast.tasks]
    assert actual == [
        (len(each), each[0] if each else None, each[-1] if each else None, each[:5])
        for each in ticks
    ]
    assert forecast.ticks == by_hour.total()
    assert [hour.ticks for hour in forecast.busiest] == sorted(by_hour.values(), reverse=True)[:5]


@given(
    expression=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]),
    since=st.sampled_from(["2026-03-27T07:30:00Z", "2026-04-03T00:00:01Z", "2026-10-02T23:00:00Z"]),
    hours=st.integers(1, 24 * 30),
)
def test_cron_ticks_are_counted_across_clock_changes(
    expression: str, zone: str, since: str, hours: int
) -> None:
    """A day with a clock change is not counted like an ordinary day."""
    plain = build_definition("cron", Task(action="a", interval=1))
    task = msgspec.structs.replace(plain, schedule=Cron(expression, timezone=zone))
    start = instant_of(datetime.fromisoformat(since))
    ticks = fire_times(task, start + hours * HOUR, start)

    course = course_of(task, start, start + hours * HOUR, took_us=SECOND)

    assert {hour: slot[1] for hour, slot in course.slots.items()} == Counter(
        tick // HOUR for tick in ticks
    )


@given(schedules=schedules, max_ticks=st.sampled_from([0, 20, 100_000]))
def test_peak_equals_that_of_all_ticks(schedules: list[tuple[Task, int]], max_ticks: int) -> None:
    """The peak lies between both limits; the limits are equal after a complete search."""
    tasks, until = definitions([task for task, _ in schedules]), SINCE + 2 * DAY
    courses = [
        course_of(task, SINCE, until, took_us=took * SECOND)
        for task, (_, took) in zip(tasks, schedules, strict=True)
    ]
    ticks = [fire_times(task, until) for task in tasks]
    peak = max(
        (
            sum(running(course, each, at) for course, each in zip(courses, ticks, strict=True))
            for at in {tick for each in ticks for tick in each}
        ),
        default=0,
    )

    forecast = find_peak(courses, max_ticks=max_ticks)

    assert forecast.at_least <= peak <= forecast.at_most
    assert max_ticks < 100_000 or forecast.at_least == forecast.at_most


def test_peak_contains_its_tasks_and_its_instant() -> None:
    """The user can see which tasks to move."""
    tasks = [
        build_definition("five", Task(action="a", interval="5m")),
        build_definition("seven", Task(action="a", interval="7m")),
        build_definition("day", Task(action="a", interval="1d")),
    ]
    took = {"five": SECOND, "seven": SECOND, "day": SECOND}
    peak = simulate(tasks, since=SINCE, until=SINCE + 3 * HOUR, took=took).peak
    assert (peak.at_least, peak.at_most) == (2, 2)
    assert (peak.at, peak.tasks) == (SINCE + 35 * 60 * SECOND, ("five", "seven"))


@pytest.mark.parametrize(("took_s", "overlaps"), [(300, False), (301, True)])
def test_overlaps_is_true_for_runs_longer_than_the_interval(took_s: int, overlaps: bool) -> None:  # noqa: FBT001 - a column of the table
    """A task overlaps if the expected duration exceeds the time to the next tick."""
    task = build_definition("five", Task(action="a", interval="5m"))
    forecast = simulate([task], since=SINCE, until=SINCE + DAY, took={"five": took_s * SECOND})
    assert forecast.tasks[0].overlaps is overlaps


def test_a_year_of_seconds_is_counted() -> None:
    """The forecast does not iterate over the ticks of a year, which would take minutes."""
    task = build_definition("second", Task(action="a", interval=1))
    forecast = simulate([task], since=SINCE, until=SINCE + 365 * DAY, took={"second": SECOND})
    assert (forecast.ticks, forecast.peak.at_least) == (365 * 86_400 - 1, 1)


def test_window_without_ticks_has_no_peak() -> None:
    """A window before the first fire time is empty."""
    task = build_definition("day", Task(action="a", interval="1d"))
    forecast = simulate([task], since=SINCE, until=SINCE + HOUR, took={"day": SECOND})
    assert (forecast.ticks, forecast.busiest, forecast.peak.at_most, forecast.peak.at) == (
        0,
        (),
        0,
        None,
    )


def test_forecast_in_utc_has_no_clock_changes() -> None:
    """Intervals are in UTC."""
    task = build_definition("day", Task(action="a", interval="1d"))
    forecast = simulate([task], since=SINCE, until=SINCE + 365 * DAY, took={"day": SECOND})
    assert forecast.changes == ()
