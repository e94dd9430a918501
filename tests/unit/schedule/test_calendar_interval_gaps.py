"""`every` with a `start` at a wall time that the clocks skip."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulse import PulseMiddleware, Task
from pulse.clock import instant_of
from pulse.schedule.base import DueTimes
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.testing import travel

if TYPE_CHECKING:
    from collections.abc import Callable


class Case(NamedTuple):
    """A start in a gap, and the wall times of the first four fire times."""

    every: str
    start: str
    zone: str
    walls: str


CASES = [
    Case(
        "1 day",
        "2026-03-29T02:30",
        "Europe/Berlin",
        "2026-03-29T03:00 2026-03-30T02:30 2026-03-31T02:30 2026-04-01T02:30",
    ),
    Case(
        "1 day",
        "2026-04-24T00:00",
        "Africa/Cairo",
        "2026-04-24T01:00 2026-04-25T00:00 2026-04-26T00:00 2026-04-27T00:00",
    ),
    Case(
        "1 day",
        "2018-11-04T00:15",
        "America/Sao_Paulo",
        "2018-11-04T01:00 2018-11-05T00:15 2018-11-06T00:15 2018-11-07T00:15",
    ),
    Case(
        "1 day",
        "2026-10-04T02:10",
        "Australia/Lord_Howe",
        "2026-10-04T02:30 2026-10-05T02:10 2026-10-06T02:10 2026-10-07T02:10",
    ),
    Case(
        "2 weeks",
        "2026-03-08T02:30",
        "America/New_York",
        "2026-03-08T03:00 2026-03-22T02:30 2026-04-05T02:30 2026-04-19T02:30",
    ),
    Case(
        "1 month",
        "2026-03-29T02:30",
        "Europe/Berlin",
        "2026-03-29T03:00 2026-04-29T02:30 2026-05-29T02:30 2026-06-29T02:30",
    ),
    Case(
        "1 year",
        "2026-03-29T02:30",
        "Europe/Berlin",
        "2026-03-29T03:00 2027-03-29T02:30 2028-03-29T02:30 2029-03-29T02:30",
    ),
    Case(
        "1 month",
        "2011-12-30T12:00",
        "Pacific/Apia",
        "2011-12-31T00:00 2012-01-30T12:00 2012-02-29T12:00 2012-03-30T12:00",
    ),
]
"""The clocks of Apia skipped the whole day of 30 December 2011."""

all_cases = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.every} from {case.start} {case.zone}"
)


def respond(_environ: dict, start_response: Callable) -> list[bytes]:
    """Return a successful response."""
    start_response("200 OK", [])
    return [b"done"]


def naive(text: str) -> datetime:
    """Return the wall time of a text without offset."""
    return datetime.fromisoformat(text)


def fire_times(schedule: CalendarInterval, case: Case) -> list[str]:
    """Return the wall times of the first four fire times of *schedule*."""
    moment = naive(case.start).replace(tzinfo=UTC) - timedelta(days=2)
    wall_times = []
    for _ in range(4):
        moment = schedule.next(moment) or moment
        wall_times.append(f"{moment:%Y-%m-%dT%H:%M}")
    return wall_times


@all_cases
def test_start_of_each_case_is_a_skipped_wall_time(case: Case) -> None:
    """A conversion to UTC and back returns another wall time."""
    info = ZoneInfo(case.zone)
    start = naive(case.start)

    assert start.replace(tzinfo=info).astimezone(UTC).astimezone(info).replace(tzinfo=None) != start


@all_cases
def test_start_in_a_gap_fires_at_the_end_of_the_gap(case: Case) -> None:
    """The first fire time is the first instant at which the clocks show the start or later."""
    schedule = CalendarInterval(case.every, start=case.start, timezone=case.zone)

    assert fire_times(schedule, case)[0] == case.walls.split()[0]


@all_cases
def test_start_in_a_gap_does_not_move_later_fire_times(case: Case) -> None:
    """Each later fire time has the wall time of the start."""
    schedule = CalendarInterval(case.every, start=case.start, timezone=case.zone)

    assert fire_times(schedule, case) == case.walls.split()


@all_cases
def test_start_in_a_gap_keeps_its_wall_time_in_settings(case: Case) -> None:
    """The settings of the schedule declare the same fire times."""
    settings = CalendarInterval(case.every, start=case.start, timezone=case.zone).to_text()

    assert fire_times(CalendarInterval(**settings), case) == case.walls.split()


@all_cases
def test_task_with_start_in_a_gap_runs_at_the_wall_time(case: Case) -> None:
    """A task keeps the wall time of its start from its settings to its runs."""
    task = Task(action="/work", every=case.every, start=case.start, timezone=case.zone)
    app = PulseMiddleware(respond, tasks={"work": task})
    walls = [naive(text).replace(tzinfo=ZoneInfo(case.zone)) for text in case.walls.split()]

    with travel(app, start=walls[0] - timedelta(days=2)) as clock:
        clock.travel_to(walls[-1] + timedelta(hours=6))
        runs = clock.runs("work")

    assert [run.fire_time for run in runs if run.outcome == "succeeded"] == walls


@all_cases
def test_schedule_with_a_skipped_start_survives_pickle_and_repr(case: Case) -> None:
    """Neither loses the wall time of the start."""
    schedule = CalendarInterval(case.every, start=case.start, timezone=case.zone)

    copies = [pickle.loads(pickle.dumps(schedule)), eval(repr(schedule))]  # noqa: S301, S307 - made by the test

    assert copies == [schedule, schedule]
    assert [hash(copy) for copy in copies] == [hash(schedule)] * 2


def test_skipped_start_differs_from_a_start_at_the_end_of_the_gap() -> None:
    """The first fire time is equal, the later ones are not."""
    skipped, end = (
        CalendarInterval("1 day", start=start, timezone="Europe/Berlin")
        for start in ("2026-03-29T02:30", "2026-03-29T03:00")
    )

    assert skipped != end


@given(
    st.sampled_from([*(case[1:3] for case in CASES), ("2011-12-30T00:00", "Pacific/Apia")]),
    st.sampled_from(["1 day", "2 days", "1 week", "1 month"]),
    st.integers(0, 40),
)
@example(("2011-12-30T00:00", "Pacific/Apia"), "1 day", 3)
def test_due_counts_the_fire_times_after_a_skipped_start(
    place: tuple[str, str], every: str, number: int
) -> None:
    """`due` returns the count and the newest one of repeated calls of `next_after`."""
    start, zone = place
    schedule = CalendarInterval(every, start=start, timezone=zone)
    ticks = [schedule.first(0)]
    for _ in range(number):
        ticks.append(schedule.next_after(ticks[-1], anchor=0))

    assert all(one < other for one, other in pairwise(ticks))
    assert schedule.due(ticks[0], ticks[-1], anchor=0) == DueTimes(ticks[-1], number + 1)
    assert ticks[0] >= instant_of(naive(start).replace(tzinfo=ZoneInfo(zone), fold=1))
