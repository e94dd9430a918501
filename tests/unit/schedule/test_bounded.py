from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.schedule.base import Due
from pulse.schedule.bounded import Window
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval

HOUR = 3_600 * SECOND
HOURLY = Cron("@hourly")
hours = st.integers(0, 100)


def hour(number: int) -> datetime:
    """Return an hour of 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=number)


@given(start=st.none() | hours, end=st.none() | hours, after=hours)
def test_no_fire_time_lies_outside(start: int | None, end: int | None, after: int) -> None:
    """The next fire time is that of the schedule, from the start on, and none after the end."""
    window = Window(
        HOURLY, None if start is None else start * HOUR, None if end is None else end * HOUR
    )
    expected = max(after + 1, start or 0)

    found = window.next_after(after * HOUR, anchor=0)

    assert found == (None if end is not None and expected > end else expected * HOUR)


@given(start=st.none() | hours, seen=hours)
def test_the_first_fire_time_is_the_start_at_the_earliest(start: int | None, seen: int) -> None:
    """A start in the past changes nothing."""
    window = Window(HOURLY, None if start is None else start * HOUR)

    assert window.first(seen * HOUR) == max(seen, start or 0) * HOUR


def test_a_task_whose_end_has_passed_has_no_fire_time() -> None:
    """It is declared, and never fires."""
    assert Window(HOURLY, end=5 * HOUR).first(6 * HOUR) is None


@given(end=hours, until=hours)
def test_due_counts_up_to_the_end(end: int, until: int) -> None:
    """What lies after the end is not missed: it never was to be."""
    last = min(end, until)

    assert Window(HOURLY, end=end * HOUR).due(0, until * HOUR, anchor=0) == Due(
        last * HOUR, last + 1
    )


def test_due_goes_on_where_there_is_no_end() -> None:
    """A start alone bounds nothing that is due."""
    assert Window(HOURLY, 2 * HOUR).due(2 * HOUR, 4 * HOUR, anchor=0) == Due(4 * HOUR, 3)


@pytest.mark.parametrize(
    ("after", "expected"), [(0, 5), (4, 5), (5, 6), (9, 10), (10, None), (20, None)]
)
def test_next_is_bounded_too(after: int, expected: int | None) -> None:
    """Datetimes have the same bounds, both of them included."""
    window = Window(HOURLY, 5 * HOUR, 10 * HOUR)

    assert window.next(hour(after)) == (None if expected is None else hour(expected))


def test_an_interval_keeps_its_anchor() -> None:
    """The anchor passes through to the schedule inside."""
    window = Window(Interval(3_600), end=10 * HOUR)

    assert (window.first(30), window.next_after(HOUR, anchor=30)) == (HOUR + 30, HOUR + 30)


def test_bounds_are_spelt_beside_the_schedule() -> None:
    """The settings that it gives declare it."""
    window = Window(HOURLY, instant_of(hour(0)), instant_of(hour(1)))

    assert window.spell() == {
        "cron": "@hourly",
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T01:00:00Z",
    }


def test_an_end_alone_is_spelt_beside_an_interval() -> None:
    """The interval's own start stays where it is."""
    window = Window(Interval(60, start=hour(0)), end=HOUR)

    assert window.spell() == {
        "interval": "1m",
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T01:00:00Z",
    }


def test_it_is_a_value() -> None:
    """Its repr and its pickle make it again."""
    window = Window(HOURLY, 5 * HOUR, 10 * HOUR)

    assert eval(repr(window)) == window  # noqa: S307 - its own repr
    assert pickle.loads(pickle.dumps(window)) == window  # noqa: S301 - its own
    assert hash(window) == hash(Window(HOURLY, 5 * HOUR, 10 * HOUR))
