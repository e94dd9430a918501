"""What another definition makes of a row's place in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.planner import BEFORE_TIME, Cursor, Passed
from pulse.core.task import Definition, Task, define
from pulse.store.reschedule import CHANGED, change_cursor, schedule_text


def every(seconds: int) -> Definition:
    """Return a task with that interval."""
    return define("work", Task(action="/work", interval=seconds))


def text(seconds: int) -> str:
    """Return what a row keeps of such a task's schedule."""
    return schedule_text(every(seconds).schedule)


def test_the_same_schedule_stays_where_it_is() -> None:
    """What is due of it is still to be run."""
    cursor = Cursor(0, 10 * SECOND)
    changed = change_cursor(every(10), cursor, before=text(10), paused=False, now=99 * SECOND)
    assert changed == (cursor, None)


@given(first=st.integers(1, 50), passed=st.integers(0, 500), interval=st.integers(1, 50))
def test_each_fire_time_of_the_old_schedule_is_missed_or_yet_to_come(
    first: int, passed: int, interval: int
) -> None:
    """None is lost, none is at or below the floor and to be run, and the new ones lie ahead."""
    now = (first + passed) * SECOND
    cursor = Cursor(0, first * SECOND)
    changed = change_cursor(every(interval), cursor, before=text(1), paused=False, now=now)
    if interval == 1:
        assert changed == (cursor, None)
        return
    assert changed.missed == Passed(first * SECOND, passed + 1, CHANGED)
    assert changed.cursor.floor == now
    assert changed.cursor.next_fire is not None
    assert now < changed.cursor.next_fire <= now + interval * SECOND


def test_a_fire_time_below_the_floor_is_not_missed_again() -> None:
    """It was decided before, as where a row came back from a backup."""
    cursor = Cursor(0, 10 * SECOND, floor=20 * SECOND)
    changed = change_cursor(every(7), cursor, before=text(10), paused=False, now=30 * SECOND)
    assert changed.missed is None


@pytest.mark.parametrize(
    "before", ['[["moon","full"]]', '[["interval","soon"]]'], ids=["setting", "value"]
)
def test_the_words_of_another_release_count_as_one_fire_time(before: str) -> None:
    """That something was due is known, how much of it is not."""
    cursor = Cursor(0, 10 * SECOND)
    changed = change_cursor(every(7), cursor, before=before, paused=False, now=30 * SECOND)
    assert changed.missed == Passed(10 * SECOND, 1, CHANGED)


def test_a_date_before_what_was_missed_still_runs() -> None:
    """It is what the task is to run, and the floor would refuse it."""
    dated = define("work", Task(action="/work", at="1970-01-01T00:00:05Z"))
    cursor = Cursor(0, 10 * SECOND)
    changed = change_cursor(dated, cursor, before=text(10), paused=False, now=30 * SECOND)
    assert changed.missed == Passed(10 * SECOND, 3, CHANGED)
    assert (changed.cursor.next_fire, changed.cursor.floor) == (5 * SECOND, BEFORE_TIME)


@pytest.mark.parametrize(
    ("at", "missed"),
    [
        pytest.param(5, Passed(10 * SECOND, 3, CHANGED), id="before them"),
        pytest.param(10, Passed(20 * SECOND, 2, CHANGED), id="the first of them"),
        pytest.param(20, Passed(10 * SECOND, 2, CHANGED), id="another of them"),
        pytest.param(25, Passed(10 * SECOND, 3, CHANGED), id="between them"),
    ],
)
def test_a_date_that_still_runs_is_not_missed(at: int, missed: Passed) -> None:
    """Each fire time is missed or run, and none is both or neither."""
    dated = define("work", Task(action="/work", at=f"1970-01-01T00:00:{at:02}Z"))
    changed = change_cursor(
        dated, Cursor(0, 10 * SECOND), before=text(10), paused=False, now=30 * SECOND
    )
    assert (changed.cursor.next_fire, changed.missed) == (at * SECOND, missed)


def test_one_date_that_still_runs_leaves_nothing_missed() -> None:
    """It was the only one that was due."""
    dated = define("work", Task(action="/work", at="1970-01-01T00:00:10Z"))
    changed = change_cursor(
        dated, Cursor(0, 10 * SECOND), before=text(10), paused=False, now=15 * SECOND
    )
    assert changed.missed is None


SCHEDULES = [
    Task(action="/work", interval=90),
    Task(action="/work", interval="1h", start="2026-01-01T00:00:00Z"),
    Task(action="/work", cron="0 7 * * mon-fri", timezone="Europe/Vienna"),
    Task(action="/work", cron="*/5 * * * *", end="2027-01-01T00:00:00Z"),
    Task(action="/work", every="1 month", start="2026-01-31T09:00:00", timezone="Asia/Tokyo"),
    Task(action="/work", at="2026-06-01T12:00:00Z"),
]


@pytest.mark.parametrize("task", SCHEDULES, ids=lambda task: str(task)[:60])
def test_every_kind_of_schedule_is_understood_again(task: Task) -> None:
    """What a row keeps of it is enough to count what was due."""
    schedule = define("work", task).schedule
    anchor = 1_780_000_000 * SECOND
    first = schedule.first(anchor)
    assert first is not None
    now = first + 40 * 86_400 * SECOND
    due = schedule.due(first, now, anchor=anchor)
    changed = change_cursor(
        every(7), Cursor(anchor, first), before=schedule_text(schedule), paused=False, now=now
    )
    assert changed.missed == Passed(first, due.count, CHANGED)
