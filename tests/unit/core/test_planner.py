"""The planner, by properties: whatever happens, each fire time is named once or still to come."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pulse.clock import SECOND
from pulse.core.cursor import (
    BEFORE_TIME,
    Cursor,
    due_at,
    first_cursor,
    kept_cursor,
    moved_cursor,
    rewind,
)
from pulse.core.gaps import MAX_GAPS
from pulse.core.planner import (
    MAX_RUNNING_REACHED,
    RUN_UNFINISHED,
    RUN_WAITING,
    TOO_LATE,
    NewRun,
    NotRun,
    Plan,
    plan,
)
from pulse.core.policies import Misfire, Overlap
from pulse.core.run import Trigger
from pulse.core.task import Task, TaskDefinition, build_definition
from pulse.schedule.interval import Interval

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.schedule.base import DueTimes

YEAR = 366 * 86_400 * SECOND
BORN = 1_000 * SECOND


class Wake(NamedTuple):
    """A wake-up: how far the clock has moved since the last one, and how many runs end first."""

    moved: int
    ended: int


class History(NamedTuple):
    """The decisions about a task over a sequence of wake-ups."""

    cursor: Cursor
    named: list[int]
    floors: list[int]
    now: Instant


def task(**words: object) -> TaskDefinition:
    """Return the definition of a task with an interval of ten seconds."""
    return build_definition("t", Task(action="t", **{"interval": 10, **words}))


def live(definition: TaskDefinition, wakes: list[Wake]) -> History:
    """Return the decisions of the planner at *wakes*, applied to the cursor as by a store."""
    cursor = first_cursor(definition, BORN)
    now, unfinished = BORN, 0
    named: list[int] = []
    floors = [cursor.last_decided]
    for wake in wakes:
        now += wake.moved
        unfinished = max(0, unfinished - wake.ended)
        while (decided := plan(definition, cursor, unfinished, now)) is not None:
            named += names_of(decided, definition, cursor.anchor)
            unfinished += decided.opened is not None
            cursor = decided.cursor
            floors.append(cursor.last_decided)
    return History(cursor, named, floors, now)


def names_of(decided: Plan, definition: TaskDefinition, anchor: Instant) -> list[int]:
    """Return the fire times that a plan names, one by one."""
    found = [decided.opened.scheduled_for] if decided.opened else []
    for passed in (decided.missed, decided.skipped):
        if passed:
            fire_time = passed.oldest
            for _ in range(passed.count):
                found.append(fire_time)
                fire_time = definition.schedule.next_after(fire_time, anchor=anchor)
    return found


@st.composite
def definitions(draw: st.DrawFn) -> TaskDefinition:
    """Draw a task of any policy."""
    overlap = draw(st.sampled_from(Overlap))
    return task(
        interval=draw(st.sampled_from([1, 7, 10, 60])),
        start=draw(st.sampled_from([None, "1970-01-01T00:00:03Z", "1970-01-01T00:20:00Z"])),
        misfire=draw(st.sampled_from(Misfire)),
        grace=draw(st.sampled_from([None, 0, 5, 30, 3_600])),
        jitter=draw(st.sampled_from([0, 0, 3, 10, 90])),
        overlap=overlap,
        max_running=draw(st.integers(1, 3)) if overlap is Overlap.ALLOW else 10,
    )


def wake_ups(*, backwards: bool) -> st.SearchStrategy[list[Wake]]:
    """Draw wake-ups; with *backwards* the clock may be set back in between."""
    low = -300 * SECOND if backwards else 0
    wake = st.builds(Wake, st.integers(low, 400 * SECOND), st.integers(0, 3))
    return st.lists(wake, max_size=12)


@settings(max_examples=300)
@given(definition=definitions(), wakes=wake_ups(backwards=False))
def test_each_fire_time_is_decided_once_or_pending(
    definition: TaskDefinition, wakes: list[Wake]
) -> None:
    """No fire time is lost, and none is opened, missed or skipped twice."""
    history = live(definition, wakes)
    expected = []
    fire_time = definition.schedule.first(BORN)
    while fire_time != history.cursor.next_fire:
        expected.append(fire_time)
        fire_time = definition.schedule.next_after(fire_time, anchor=BORN)
    assert sorted(history.named) == expected


@settings(max_examples=200)
@given(definition=definitions(), wakes=wake_ups(backwards=True))
def test_clock_set_back_repeats_no_decision(definition: TaskDefinition, wakes: list[Wake]) -> None:
    """A decided fire time stays decided, whatever the clock is set to."""
    named = live(definition, wakes).named
    assert len(named) == len(set(named))


@given(definition=definitions(), wakes=wake_ups(backwards=True))
def test_last_decided_fire_time_never_decreases(
    definition: TaskDefinition, wakes: list[Wake]
) -> None:
    """The newest decided fire time only increases."""
    floors = live(definition, wakes).floors
    assert floors == sorted(floors)


@given(definition=definitions(), wakes=wake_ups(backwards=False))
def test_due_fire_time_waits_only_at_the_limit_of_unfinished_runs(
    definition: TaskDefinition, wakes: list[Wake]
) -> None:
    """Without further decisions no fire time is due, unless `misfire = all` waits."""
    history = live(definition, [*wakes, Wake(0, 3)])
    waits = definition.misfire is Misfire.ALL
    assert waits or due_at(history.cursor) > history.now


@given(definition=definitions(), wakes=wake_ups(backwards=False))
def test_run_waits_exactly_at_the_limit_of_concurrent_runs(
    definition: TaskDefinition, wakes: list[Wake]
) -> None:
    """At most one run waits with `overlap = wait`."""
    cursor, now, unfinished = first_cursor(definition, BORN), BORN, 0
    for wake in wakes:
        now += wake.moved
        unfinished = max(0, unfinished - wake.ended)
        while (decided := plan(definition, cursor, unfinished, now)) is not None:
            if decided.opened is not None:
                assert decided.opened.waits == (unfinished >= definition.max_concurrent)
                unfinished += 1
            cursor = decided.cursor
            assert unfinished <= definition.max_unfinished


@given(definition=definitions(), wakes=wake_ups(backwards=False), last_decided=st.integers(0, 600))
def test_row_from_a_backup_repeats_no_tick(
    definition: TaskDefinition, wakes: list[Wake], last_decided: int
) -> None:
    """A cursor that is not later than the last decided fire time first moves past it."""
    born = first_cursor(definition, BORN)
    restored = Cursor(born.anchor, born.next_fire, BORN + last_decided * SECOND)
    cursor, now = restored, BORN + sum(wake.moved for wake in wakes)
    named = []
    while (decided := plan(definition, cursor, 0, now)) is not None:
        named += names_of(decided, definition, cursor.anchor)
        cursor = decided.cursor
    assert all(fire_time > restored.last_decided for fire_time in named)


class CountedInterval:
    """A schedule that counts its calls."""

    def __init__(self) -> None:
        self.asked = 0
        self._grid = Interval(1)

    def next_after(self, after: int, *, anchor: int) -> int:
        """Count, and answer as the grid does."""
        self.asked += 1
        return self._grid.next_after(after, anchor=anchor)

    def due(self, first: int, until: int, *, anchor: int) -> DueTimes:
        """Count, and answer as the grid does."""
        self.asked += 1
        return self._grid.due(first, until, anchor=anchor)


@pytest.mark.parametrize(
    ("misfire", "grace"),
    [("latest", None), ("skip", None), ("all", 60)],
    ids=["latest", "skip", "all with grace"],
)
def test_catch_up_of_ten_years_of_seconds_costs_three_calls(
    misfire: str, grace: int | None
) -> None:
    """The cost of a catch-up does not grow with the number of missed fire times."""
    schedule = CountedInterval()
    plain = task(interval=1, misfire=misfire, grace=grace)
    definition = TaskDefinition(
        **{name: getattr(plain, name) for name in plain.__struct_fields__} | {"schedule": schedule}
    )
    decided = plan(definition, Cursor(0, SECOND), 0, 10 * YEAR)
    assert decided.missed.count > 300_000_000
    assert schedule.asked <= 3


def instants(*seconds: int) -> list[int]:
    """Return instants from seconds."""
    return [second * SECOND for second in seconds]


TEN, TWENTY, THIRTY, FORTY, NINETY = instants(10, 20, 30, 40, 90)

TABLE = {
    "not due yet": ({}, 9, 0, None),
    "latest, in time": ({}, 12, 0, Plan(Cursor(0, TWENTY, TEN), NewRun(TEN, Trigger.SCHEDULE))),
    "latest, three due": (
        {},
        35,
        0,
        Plan(Cursor(0, FORTY, THIRTY), NewRun(THIRTY, Trigger.CATCH_UP), NotRun(TEN, 2)),
    ),
    "latest, three due and no room": (
        {},
        35,
        1,
        Plan(Cursor(0, FORTY, THIRTY), None, NotRun(TEN, 2), NotRun(THIRTY, 1, RUN_UNFINISHED)),
    ),
    "latest, no room": (
        {},
        12,
        1,
        Plan(Cursor(0, TWENTY, TEN), None, None, NotRun(TEN, 1, RUN_UNFINISHED)),
    ),
    "latest, later than grace": (
        {"grace": 1},
        12,
        0,
        Plan(Cursor(0, TWENTY, TEN), None, NotRun(TEN, 1, TOO_LATE)),
    ),
    "latest, exactly at grace": (
        {"grace": 2},
        12,
        0,
        Plan(Cursor(0, TWENTY, TEN), NewRun(TEN, Trigger.SCHEDULE)),
    ),
    "skip, in time": (
        {"misfire": "skip", "grace": 3},
        32,
        0,
        Plan(Cursor(0, FORTY, THIRTY), NewRun(THIRTY, Trigger.CATCH_UP), NotRun(TEN, 2)),
    ),
    "skip, too late": (
        {"misfire": "skip", "grace": 3},
        35,
        0,
        Plan(Cursor(0, FORTY, THIRTY), None, NotRun(TEN, 3, TOO_LATE)),
    ),
    "skip, a minute's grace by itself": (
        {"misfire": "skip", "interval": 100, "start": "1970-01-01T00:00:10Z"},
        71,
        0,
        Plan(Cursor(0, 110 * SECOND, TEN), None, NotRun(TEN, 1, TOO_LATE)),
    ),
    "all, oldest first": (
        {"misfire": "all"},
        35,
        0,
        Plan(Cursor(0, TWENTY, TEN), NewRun(TEN, Trigger.SCHEDULE)),
    ),
    "all, no room": ({"misfire": "all"}, 35, 1, None),
    "all, some too late": (
        {"misfire": "all", "grace": 6},
        35,
        0,
        Plan(Cursor(0, FORTY, THIRTY), NewRun(THIRTY, Trigger.CATCH_UP), NotRun(TEN, 2, TOO_LATE)),
    ),
    "all, some too late and no room": (
        {"misfire": "all", "grace": 6},
        35,
        1,
        Plan(Cursor(0, THIRTY, TWENTY), None, NotRun(TEN, 2, TOO_LATE)),
    ),
    "all, every one too late": (
        {"misfire": "all", "grace": 1},
        35,
        0,
        Plan(Cursor(0, FORTY, THIRTY), None, NotRun(TEN, 3, TOO_LATE)),
    ),
    "allow, room for another": (
        {"overlap": "allow", "max_running": 2},
        12,
        1,
        Plan(Cursor(0, TWENTY, TEN), NewRun(TEN, Trigger.SCHEDULE)),
    ),
    "allow, full": (
        {"overlap": "allow", "max_running": 2},
        12,
        2,
        Plan(Cursor(0, TWENTY, TEN), None, None, NotRun(TEN, 1, MAX_RUNNING_REACHED)),
    ),
    "wait, one going": (
        {"overlap": "wait"},
        12,
        1,
        Plan(Cursor(0, TWENTY, TEN), NewRun(TEN, Trigger.SCHEDULE, waits=True)),
    ),
    "wait, one going and three due": (
        {"overlap": "wait"},
        35,
        1,
        Plan(
            Cursor(0, FORTY, THIRTY), NewRun(THIRTY, Trigger.CATCH_UP, waits=True), NotRun(TEN, 2)
        ),
    ),
    "wait, one going and one waiting": (
        {"overlap": "wait"},
        12,
        2,
        Plan(Cursor(0, TWENTY, TEN), None, None, NotRun(TEN, 1, RUN_WAITING)),
    ),
    "wait, nothing going": (
        {"overlap": "wait"},
        12,
        0,
        Plan(Cursor(0, TWENTY, TEN), NewRun(TEN, Trigger.SCHEDULE)),
    ),
    "wait and all, one going": ({"overlap": "wait", "misfire": "all"}, 12, 1, None),
    "late by a minute and nothing passed over": (
        {"interval": 90, "start": "1970-01-01T00:00:10Z"},
        71,
        0,
        Plan(Cursor(0, 100 * SECOND, TEN), NewRun(TEN, Trigger.CATCH_UP)),
    ),
    "late by exactly a minute": (
        {"interval": 90, "start": "1970-01-01T00:00:10Z"},
        70,
        0,
        Plan(Cursor(0, 100 * SECOND, TEN), NewRun(TEN, Trigger.SCHEDULE)),
    ),
}


@pytest.mark.parametrize(
    ("words", "now", "unfinished", "expected"), TABLE.values(), ids=TABLE.keys()
)
def test_plan_follows_misfire_grace_and_overlap(
    words: dict[str, object], now: int, unfinished: int, expected: Plan | None
) -> None:
    """Each case follows the table in the documentation."""
    decided = plan(task(**words), Cursor(0, TEN), unfinished, now * SECOND)
    if decided is not None:
        decided = replace(decided, cursor=replace(decided.cursor, gaps=()))
    assert decided == expected


@pytest.mark.parametrize(
    ("words", "now", "gaps"),
    [
        pytest.param({}, 12, (), id="in time"),
        pytest.param({}, 35, ((TEN, 30 * SECOND),), id="all but the newest"),
        pytest.param({"misfire": "skip", "grace": 3}, 35, ((TEN, 30 * SECOND + 1),), id="all"),
        pytest.param({"misfire": "all"}, 35, (), id="none yet"),
        pytest.param({"misfire": "all", "grace": 12}, 35, ((TEN, 20 * SECOND + 1),), id="late"),
    ],
)
def test_missed_fire_times_are_a_gap(
    words: dict[str, object], now: int, gaps: tuple[tuple[int, int], ...]
) -> None:
    """After the clock was set back, they may run."""
    decided = plan(task(**words), Cursor(0, TEN), 0, now * SECOND)
    assert decided is not None
    assert decided.cursor.gaps == gaps


JUMPS = st.lists(st.tuples(st.integers(-400, 400), st.integers(1, 30)), min_size=1, max_size=30)
WORDS = st.fixed_dictionaries(
    {"interval": st.sampled_from([5, 10, 35])},
    optional={
        "overlap": st.sampled_from(["skip", "allow"]),
        "misfire": st.sampled_from(["latest", "skip", "all"]),
        "grace": st.sampled_from([0, 7, 100]),
        "jitter": st.sampled_from([3, 50]),
        "start": st.just("1970-01-01T00:05:00Z"),
    },
)


@given(words=WORDS, jumps=JUMPS)
def test_no_tick_is_opened_twice_whatever_the_clock_does(
    words: dict[str, object], jumps: list[tuple[int, int]]
) -> None:
    """The clock jumps back and forth and runs on between."""
    definition, now = task(**words), 1_000 * SECOND
    cursor = first_cursor(definition, now)
    opened: list[int] = []
    for jump, length in jumps:
        now += jump * SECOND
        cursor = rewind(definition, cursor, now).cursor
        for _ in range(length):
            now += 3 * SECOND
            decided = plan(definition, cursor, 0, now)
            if decided is not None:
                cursor = decided.cursor
                opened += [] if decided.opened is None else [decided.opened.scheduled_for]
    assert max(Counter(opened).values(), default=1) == 1


@given(
    ahead=st.integers(30, 400_000_000),
    ticks=st.integers(1, 5),
    length=st.integers(40, 80),
    seen_ahead=st.booleans(),
)
def test_each_fire_time_runs_once_after_the_clock_was_ahead(
    ahead: int,
    ticks: int,
    length: int,
    seen_ahead: bool,  # noqa: FBT001 - drawn
) -> None:
    """None is lost and none is repeated from the correction on.

    Where the task was first seen by the wrong clock, its grid changes with the correction: fire
    times between ticks that ran are refused.
    """
    definition, right = task(), 1_000 * SECOND
    wrong = right + ahead * SECOND
    cursor = first_cursor(definition, wrong if seen_ahead else right)
    opened: list[int] = []
    for _ in range(ticks):
        wrong += TEN
        decided = plan(definition, cursor, 0, wrong)
        assert decided is not None
        assert decided.opened is not None
        opened.append(decided.opened.scheduled_for)
        cursor = decided.cursor
    wrong_ticks = [*opened]
    cursor = rewind(definition, cursor, right).cursor
    for second in range(1, length):
        decided = plan(definition, cursor, 0, right + second * SECOND)
        if decided is not None:
            opened += [] if decided.opened is None else [decided.opened.scheduled_for]
            cursor = decided.cursor
    times = {right + 10 * SECOND * number for number in range(1, (length - 1) // 10 + 1)}
    expected = {time for time in times if time < wrong_ticks[0]} if seen_ahead else times
    assert expected <= set(opened)
    assert len(set(opened)) == len(opened)


def test_number_of_gaps_is_limited() -> None:
    """The gaps that were used least recently are forgotten."""
    definition, cursor, now = task(), Cursor(0, TEN), 0
    for _ in range(3 * MAX_GAPS):
        now += 40 * SECOND
        decided = plan(definition, cursor, 0, now)
        assert decided is not None
        cursor = decided.cursor
    assert len(cursor.gaps) == MAX_GAPS
    assert cursor.gaps[-1] == (now - 30 * SECOND, now)


def test_ended_schedule_has_no_plan() -> None:
    """Without a next fire time there is no decision."""
    assert plan(task(), Cursor(0, None), 0, YEAR) is None


def test_new_task_fires_one_interval_after_the_store_saw_it() -> None:
    """This instant is the anchor of the task's grid."""
    expected = Cursor(BORN, BORN + TEN, gaps=((BEFORE_TIME, BORN + TEN),))
    assert first_cursor(task(), BORN) == expected


def test_changed_schedule_makes_no_tick_due() -> None:
    """The cursor moves to the next fire time of the new grid; the anchor stays."""
    moved = moved_cursor(task(interval=60), Cursor(0, TEN, TEN), 95 * SECOND)
    assert moved == Cursor(0, 120 * SECOND, TEN, gaps=((TEN + 1, 120 * SECOND),))


def test_changed_schedule_stays_later_than_the_last_decided_fire_time() -> None:
    """The rule also holds after the clock was set back."""
    moved = moved_cursor(task(interval=60), Cursor(0, None, 200 * SECOND), TEN)
    assert (moved.next_fire, moved.last_decided) == (240 * SECOND, 200 * SECOND)


def test_single_date_changed_to_a_past_date_is_due() -> None:
    """A deploy after the new date loses no run."""
    definition = task(interval=None, at="1970-01-01T00:01:00Z")
    moved = moved_cursor(definition, Cursor(0, 500 * SECOND), 100 * SECOND)
    assert (moved.next_fire, moved.last_decided) == (60 * SECOND, BEFORE_TIME)


def test_decided_single_date_is_not_due_again() -> None:
    """A changed definition does not repeat the run."""
    definition = task(interval=None, at="1970-01-01T00:01:00Z")
    ended = Cursor(0, None, 60 * SECOND)
    assert moved_cursor(definition, ended, 100 * SECOND) == ended


def test_changed_jitter_keeps_the_fire_time() -> None:
    """Only the delay changes."""
    kept = kept_cursor(task(jitter=5), Cursor(0, TEN, 5 * SECOND))
    assert (kept.anchor, kept.next_fire, kept.last_decided) == (0, TEN, 5 * SECOND)
    assert kept == kept_cursor(task(jitter=5), kept)


@given(jitter=st.integers(0, 60), number=st.integers(0, 10_000))
def test_delay_is_less_than_the_jitter_and_the_time_to_the_next_tick(
    jitter: int, number: int
) -> None:
    """So ticks keep their order, and each is due before the next fire time."""
    cursor = Cursor(0, number * TEN, number * TEN - 1)
    delay = kept_cursor(task(jitter=jitter), cursor).delay_us
    assert 0 <= delay < max(1, min(jitter, 10) * SECOND)


def test_jitter_spreads_the_ticks_of_many_tasks() -> None:
    """A hundred tasks with the same fire time are due at different times of the ten seconds."""
    cursor = Cursor(0, TEN)
    definitions = [
        build_definition(f"t{number}", Task(action="t", interval=10, jitter=10))
        for number in range(100)
    ]
    delays = sorted(kept_cursor(one, cursor).delay_us for one in definitions)
    assert len(set(delays)) > 90
    assert delays[10] < 3 * SECOND < 7 * SECOND < delays[-10]


@pytest.mark.parametrize("misfire", Misfire)
def test_delayed_tick_opens_after_its_delay_and_is_not_late(misfire: Misfire) -> None:
    """Grace and catch-up count from the delayed instant; the fire time does not change."""
    definition = task(interval=600, jitter=600, misfire=misfire, grace=0)
    cursor = first_cursor(definition, BORN)
    due = BORN + 600 * SECOND + cursor.delay_us
    assert cursor.delay_us > 60 * SECOND
    assert plan(definition, cursor, 0, due - 1) is None
    decided = plan(definition, cursor, 0, due)
    assert decided is not None
    assert decided.opened == NewRun(BORN + 600 * SECOND, Trigger.SCHEDULE)


def test_tick_before_the_end_of_its_delay_is_not_due() -> None:
    """The tick before it runs instead."""
    definition = task(interval=600, jitter=600)
    cursor = Cursor(0, 600 * SECOND)
    following = kept_cursor(definition, Cursor(0, 1_200 * SECOND))
    decided = plan(definition, cursor, 0, 1_200 * SECOND + following.delay_us - 1)
    assert decided is not None
    assert decided.opened == NewRun(600 * SECOND, Trigger.CATCH_UP)
    assert (decided.cursor.next_fire, decided.missed) == (1_200 * SECOND, None)
    assert decided.cursor.delay_us == following.delay_us


LAST_TICKS = {
    "interval": ({"interval": 60, "end": "1970-01-01T01:00:20"}, 60),
    "interval that ends at a tick": ({"interval": 60, "end": "1970-01-01T01:00:40"}, 60),
    "interval with a start": (
        {"interval": 60, "start": "1970-01-01T00:30", "end": "1970-01-01T01:00"},
        60,
    ),
    "cron": ({"interval": None, "cron": "*/7 * * * *", "end": "1970-01-01T00:58"}, 420),
    "every": ({"interval": None, "every": "1 day", "end": "1970-01-11"}, 86_400),
}
"""Settings with an end, and the seconds from one fire time to the next."""

each_last_tick = pytest.mark.parametrize(("words", "period"), LAST_TICKS.values(), ids=LAST_TICKS)


def last_cursor(definition: TaskDefinition) -> Cursor:
    """Return the cursor before the last fire time of a task."""
    cursor = first_cursor(definition, BORN)
    fire_time = cursor.next_fire
    while fire_time is not None:
        cursor = kept_cursor(definition, Cursor(cursor.anchor, fire_time, cursor.last_decided))
        fire_time = definition.schedule.next_after(fire_time, anchor=cursor.anchor)
    return cursor


@each_last_tick
def test_the_last_tick_before_an_end_is_due_within_the_end(
    words: dict[str, object], period: int
) -> None:
    """Without jitter it is due at its fire time, and no period fits between it and the end."""
    definition = task(**words)
    due, end = due_at(last_cursor(definition)), definition.schedule.end
    assert due <= end < due + period * SECOND


@each_last_tick
def test_jitter_of_the_last_tick_before_an_end_is_less_than_the_period(
    words: dict[str, object], period: int
) -> None:
    """As that of each tick before it, which is due before the next fire time."""
    cursor = last_cursor(task(jitter=1_000 * period, **words))
    assert cursor.delay_us < period * SECOND


@each_last_tick
def test_jitter_of_the_last_tick_before_an_end_keeps_the_end(
    words: dict[str, object], period: int
) -> None:
    """A task that ends at an instant begins no run after it."""
    definition = task(jitter=1_000 * period, **words)
    assert due_at(last_cursor(definition)) <= definition.schedule.end
