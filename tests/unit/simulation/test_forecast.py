"""The forecast agrees with a walk over every tick."""

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
from pulse.core.task import Task, define
from pulse.schedule.cron import Cron
from pulse.simulation.forecast import simulate
from pulse.simulation.hourly import HOUR, course_of
from pulse.simulation.peak import find_peak
from pulse.testing.clock import NOON

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.task import Definition
    from pulse.simulation.hourly import Course

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


def defined(tasks: list[Task]) -> list[Definition]:
    """Return the definitions of tasks, named by their places."""
    return [define(f"task {n}", task) for n, task in enumerate(tasks)]


def walked(task: Definition, until: Instant, since: Instant = SINCE) -> list[Instant]:
    """Return every fire time of a task that is first seen at the start, one by one."""
    found = []
    fire_time = task.schedule.first(since)
    while fire_time is not None and fire_time < until:
        found.append(fire_time)
        fire_time = task.schedule.next_after(fire_time, anchor=since)
    return found


def running(course: Course, ticks: list[Instant], at: Instant) -> int:
    """Return how many runs of a task go on at an instant: those that began in the length of one."""
    going = bisect_right(ticks, at) - bisect_right(ticks, at - course.took_us)
    return min(course.task.at_once, going)


@given(schedules=schedules, hours=st.integers(1, 80))
def test_counts_and_hours_are_those_of_a_walk(
    schedules: list[tuple[Task, int]], hours: int
) -> None:
    """Every tick is counted once, in its hour, whatever the intervals."""
    tasks, until = defined([task for task, _ in schedules]), SINCE + hours * HOUR
    ticks = [walked(task, until) for task in tasks]
    by_hour = Counter(tick // HOUR for each in ticks for tick in each)

    found = simulate(tasks, since=SINCE, until=until, took={task.name: SECOND for task in tasks})

    told = [(task.count, task.first, task.last, list(task.upcoming)) for task in found.tasks]
    assert told == [
        (len(each), each[0] if each else None, each[-1] if each else None, each[:5])
        for each in ticks
    ]
    assert found.ticks == by_hour.total()
    assert [hour.ticks for hour in found.busiest] == sorted(by_hour.values(), reverse=True)[:5]


@given(
    expression=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]),
    since=st.sampled_from(["2026-03-27T07:30:00Z", "2026-04-03T00:00:01Z", "2026-10-02T23:00:00Z"]),
    hours=st.integers(1, 24 * 30),
)
def test_cron_is_counted_across_clock_changes(
    expression: str, zone: str, since: str, hours: int
) -> None:
    """A day that is unlike the others is not taken for one of them."""
    plain = define("cron", Task(action="a", interval=1))
    task = msgspec.structs.replace(plain, schedule=Cron(expression, timezone=zone))
    start = instant_of(datetime.fromisoformat(since))
    ticks = walked(task, start + hours * HOUR, start)

    course = course_of(task, start, start + hours * HOUR, took_us=SECOND)

    assert {hour: slot[1] for hour, slot in course.slots.items()} == Counter(
        tick // HOUR for tick in ticks
    )


@given(schedules=schedules, most=st.sampled_from([0, 20, 100_000]))
def test_the_peak_is_that_of_a_walk(schedules: list[tuple[Task, int]], most: int) -> None:
    """It lies between what is told; both are the same where enough could be looked at."""
    tasks, until = defined([task for task, _ in schedules]), SINCE + 2 * DAY
    courses = [
        course_of(task, SINCE, until, took_us=took * SECOND)
        for task, (_, took) in zip(tasks, schedules, strict=True)
    ]
    ticks = [walked(task, until) for task in tasks]
    peak = max(
        (
            sum(running(course, each, at) for course, each in zip(courses, ticks, strict=True))
            for at in {tick for each in ticks for tick in each}
        ),
        default=0,
    )

    found = find_peak(courses, most_ticks=most)

    assert found.at_least <= peak <= found.at_most
    assert most < 100_000 or found.at_least == found.at_most


def test_the_peak_names_its_tasks_and_its_instant() -> None:
    """Whoever wants to spread them knows which to move."""
    tasks = [
        define("five", Task(action="a", interval="5m")),
        define("seven", Task(action="a", interval="7m")),
        define("day", Task(action="a", interval="1d")),
    ]
    took = {"five": SECOND, "seven": SECOND, "day": SECOND}
    peak = simulate(tasks, since=SINCE, until=SINCE + 3 * HOUR, took=took).peak
    assert (peak.at_least, peak.at_most) == (2, 2)
    assert (peak.at, peak.tasks) == (SINCE + 35 * 60 * SECOND, ("five", "seven"))


@pytest.mark.parametrize(("took_s", "overlaps"), [(300, False), (301, True)])
def test_a_task_that_would_meet_itself_is_told(took_s: int, overlaps: bool) -> None:  # noqa: FBT001 - a table's column
    """Its runs are expected to last longer than the time to its next tick."""
    task = define("five", Task(action="a", interval="5m"))
    found = simulate([task], since=SINCE, until=SINCE + DAY, took={"five": took_s * SECOND})
    assert found.tasks[0].overlaps is overlaps


def test_a_year_of_seconds_is_counted() -> None:
    """It is not walked: that would take minutes."""
    task = define("second", Task(action="a", interval=1))
    found = simulate([task], since=SINCE, until=SINCE + 365 * DAY, took={"second": SECOND})
    assert (found.ticks, found.peak.at_least) == (365 * 86_400 - 1, 1)


def test_nothing_due_is_no_peak() -> None:
    """A window before the first fire time is empty."""
    task = define("day", Task(action="a", interval="1d"))
    found = simulate([task], since=SINCE, until=SINCE + HOUR, took={"day": SECOND})
    assert (found.ticks, found.busiest, found.peak.at_most, found.peak.at) == (0, (), 0, None)


def test_a_zone_without_changes_has_none() -> None:
    """Intervals are of UTC."""
    task = define("day", Task(action="a", interval="1d"))
    found = simulate([task], since=SINCE, until=SINCE + 365 * DAY, took={"day": SECOND})
    assert found.changes == ()
