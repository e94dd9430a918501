"""The cursor of a row after its definition changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.cursor import BEFORE_TIME, Cursor
from pulse.core.planner import NotRun
from pulse.core.schedule_text import schedule_text
from pulse.core.task import Task, TaskDefinition, build_definition
from pulse.store.reschedule import CHANGED, change_cursor
from tests.support.setups import require


def every(seconds: int) -> TaskDefinition:
    """Return a task with that interval."""
    return build_definition("work", Task(action="/work", interval=seconds))


def text(seconds: int) -> str:
    """Return the stored form of such a task's schedule."""
    return schedule_text(every(seconds).schedule)


def test_equal_schedule_keeps_the_cursor() -> None:
    """Due fire times still run."""
    cursor = Cursor(0, 10 * SECOND)
    changed = change_cursor(every(10), cursor, before=text(10), paused=False, now=99 * SECOND)
    assert changed == (cursor, None)


@given(first=st.integers(1, 50), passed=st.integers(0, 500), interval=st.integers(1, 50))
def test_each_fire_time_of_the_old_schedule_is_missed_or_in_the_future(
    first: int, passed: int, interval: int
) -> None:
    """None is lost, no decided one runs, and the new ones are in the future."""
    now = (first + passed) * SECOND
    cursor = Cursor(0, first * SECOND)
    changed = change_cursor(every(interval), cursor, before=text(1), paused=False, now=now)
    if interval == 1:
        assert changed == (cursor, None)
        return
    assert changed.missed == NotRun(first * SECOND, passed + 1, CHANGED)
    assert changed.cursor.last_decided == now
    assert changed.cursor.next_fire is not None
    assert now < changed.cursor.next_fire <= now + interval * SECOND


def test_decided_fire_time_is_not_missed_again() -> None:
    """An example is a row that was restored from a backup."""
    cursor = Cursor(0, 10 * SECOND, last_decided=20 * SECOND)
    changed = change_cursor(every(7), cursor, before=text(10), paused=False, now=30 * SECOND)
    assert changed.missed is None


@pytest.mark.parametrize(
    "before", ['[["moon","full"]]', '[["interval","soon"]]'], ids=["setting", "value"]
)
def test_schedule_of_another_release_counts_as_one_fire_time(before: str) -> None:
    """Only the first due fire time is known."""
    cursor = Cursor(0, 10 * SECOND)
    changed = change_cursor(every(7), cursor, before=before, paused=False, now=30 * SECOND)
    assert changed.missed == NotRun(10 * SECOND, 1, CHANGED)


def test_due_date_before_missed_fire_times_still_runs() -> None:
    """The last decided fire time stays before the date."""
    dated = build_definition("work", Task(action="/work", at="1970-01-01T00:00:05Z"))
    cursor = Cursor(0, 10 * SECOND)
    changed = change_cursor(dated, cursor, before=text(10), paused=False, now=30 * SECOND)
    assert changed.missed == NotRun(10 * SECOND, 3, CHANGED)
    assert (changed.cursor.next_fire, changed.cursor.last_decided) == (5 * SECOND, BEFORE_TIME)


@pytest.mark.parametrize(
    ("at", "missed"),
    [
        pytest.param(5, NotRun(10 * SECOND, 3, CHANGED), id="before them"),
        pytest.param(10, NotRun(20 * SECOND, 2, CHANGED), id="the first of them"),
        pytest.param(20, NotRun(10 * SECOND, 2, CHANGED), id="another of them"),
        pytest.param(25, NotRun(10 * SECOND, 3, CHANGED), id="between them"),
    ],
)
def test_due_date_that_still_runs_is_not_missed(at: int, missed: NotRun) -> None:
    """Each fire time is either missed or run."""
    dated = build_definition("work", Task(action="/work", at=f"1970-01-01T00:00:{at:02}Z"))
    changed = change_cursor(
        dated, Cursor(0, 10 * SECOND), before=text(10), paused=False, now=30 * SECOND
    )
    assert (changed.cursor.next_fire, changed.missed) == (at * SECOND, missed)


def test_only_due_date_that_still_runs_leaves_nothing_missed() -> None:
    """No other fire time was due."""
    dated = build_definition("work", Task(action="/work", at="1970-01-01T00:00:10Z"))
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
def test_stored_form_of_each_schedule_is_parsed(task: Task) -> None:
    """It is enough to count the due fire times."""
    schedule = build_definition("work", task).schedule
    anchor = 1_780_000_000 * SECOND
    first = schedule.first(anchor)
    assert first is not None
    now = first + 40 * 86_400 * SECOND
    due = schedule.due(first, now, anchor=anchor)
    changed = change_cursor(
        every(7), Cursor(anchor, first), before=schedule_text(schedule), paused=False, now=now
    )
    assert changed.missed == NotRun(first, due.count, CHANGED)


DUE = Cursor(0, 10 * SECOND)


def cursor_after(before: Task, after: Task) -> Cursor:
    """Return the cursor of a task with a due tick whose schedule is respelled."""
    old, new = (build_definition("work", task) for task in (before, after))
    require(old.schedule == new.schedule, "two spellings of one schedule")
    changed = change_cursor(
        new, DUE, before=schedule_text(old.schedule), paused=False, now=99 * SECOND
    )
    return changed.cursor


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("@daily", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("0 0 * * *", "0 0 0 * * *"),
        ("*/15 * * * *", "0,15,30,45 * * * *"),
        ("0 7 * * 1-5", "0 7 * * mon-fri"),
        ("0 7 * * mon-fri", "0 7 * * MON-FRI"),
        ("0 0 * * 0", "0 0 * * 7"),
        ("0 7 1 1,2 *", "0 7 1 jan-feb *"),
        ("00 07 * * *", "0 7 * * *"),
    ],
)
@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param({}, id="unbounded"),
        pytest.param({"start": "1970-01-01T00:00:00Z"}, id="start"),
        pytest.param({"end": "2030-01-01T00:00:00Z"}, id="end"),
        pytest.param({"timezone": "Europe/Vienna"}, id="time zone"),
    ],
)
def test_respelled_cron_expression_keeps_the_cursor(
    before: str, after: str, bounds: dict[str, str]
) -> None:
    """Equal expressions are one schedule, so a due tick is not missed."""
    tasks = (Task(action="/work", cron=cron, **bounds) for cron in (before, after))
    assert cursor_after(*tasks) == DUE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"interval": 300}, {"interval": "5m"}, id="interval"),
        pytest.param(
            {"interval": "1h", "start": "2026-01-01T00:00:00Z"},
            {"interval": "1h", "start": "2026-01-01T01:00:00+01:00"},
            id="start",
        ),
        pytest.param({"every": "1 day"}, {"every": "1 day", "timezone": "UTC"}, id="every"),
        pytest.param({"at": "2026-06-01T12:00:00Z"}, {"at": "2026-06-01T14:00:00+02:00"}, id="at"),
        pytest.param({"cron": "0 7 * * *"}, {"cron": " 0  7 * * * "}, id="blanks"),
        pytest.param({"every": "7 days"}, {"every": "1 week"}, id="week"),
        pytest.param({"every": "12 months"}, {"every": "1 year"}, id="year"),
    ],
)
def test_respelled_schedule_keeps_the_cursor(
    before: dict[str, object], after: dict[str, object]
) -> None:
    """The other kinds of schedule are compared by their values."""
    assert cursor_after(Task(action="/work", **before), Task(action="/work", **after)) == DUE
