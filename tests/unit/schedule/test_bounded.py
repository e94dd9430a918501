from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.schedule.base import DueTimes
from pulse.schedule.bounded import BoundedSchedule
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval

HOUR = 3_600 * SECOND
HOURLY = Cron("@hourly")
hours = st.integers(0, 100)


def hour(number: int) -> datetime:
    """Return an hour after the Unix epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=number)


@given(start=st.none() | hours, end=st.none() | hours, after=hours)
def test_fire_times_lie_within_the_bounds(start: int | None, end: int | None, after: int) -> None:
    """The next fire time is that of the inner schedule from the start to the end."""
    window = BoundedSchedule(
        HOURLY, None if start is None else start * HOUR, None if end is None else end * HOUR
    )
    expected = max(after + 1, start or 0)

    fire_time = window.next_after(after * HOUR, anchor=0)

    assert fire_time == (None if end is not None and expected > end else expected * HOUR)


@given(start=st.none() | hours, seen=hours)
def test_first_fire_time_is_not_earlier_than_the_start(start: int | None, seen: int) -> None:
    """A start in the past has no effect."""
    window = BoundedSchedule(HOURLY, None if start is None else start * HOUR)

    assert window.first(seen * HOUR) == max(seen, start or 0) * HOUR


def test_end_in_the_past_has_no_fire_time() -> None:
    """A task whose end has passed can be declared and never fires."""
    assert BoundedSchedule(HOURLY, end=5 * HOUR).first(6 * HOUR) is None


@given(end=hours, until=hours)
def test_due_counts_up_to_the_end(end: int, until: int) -> None:
    """Fire times after the end are not counted."""
    last = min(end, until)

    assert BoundedSchedule(HOURLY, end=end * HOUR).due(0, until * HOUR, anchor=0) == DueTimes(
        last * HOUR, last + 1
    )


def test_due_without_an_end_is_not_bounded() -> None:
    """A start has no effect on the count."""
    assert BoundedSchedule(HOURLY, 2 * HOUR).due(2 * HOUR, 4 * HOUR, anchor=0) == DueTimes(
        4 * HOUR, 3
    )


@pytest.mark.parametrize(
    ("after", "expected"), [(0, 5), (4, 5), (5, 6), (9, 10), (10, None), (20, None)]
)
def test_next_applies_the_bounds(after: int, expected: int | None) -> None:
    """The bounds are inclusive for datetimes, too."""
    window = BoundedSchedule(HOURLY, 5 * HOUR, 10 * HOUR)

    assert window.next(hour(after)) == (None if expected is None else hour(expected))


def test_anchor_is_passed_to_the_inner_schedule() -> None:
    """An interval with an end is counted from its anchor."""
    window = BoundedSchedule(Interval(3_600), end=10 * HOUR)

    assert (window.first(30), window.next_after(HOUR, anchor=30)) == (HOUR + 30, HOUR + 30)


def test_settings_contain_the_bounds() -> None:
    """The settings declare the inner schedule and the bounds."""
    window = BoundedSchedule(HOURLY, instant_of(hour(0)), instant_of(hour(1)))

    assert window.to_text() == {
        "cron": "@hourly",
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T01:00:00Z",
    }


def test_settings_of_an_interval_with_an_end() -> None:
    """The start in the settings is the start of the interval."""
    window = BoundedSchedule(Interval(60, start=hour(0)), end=HOUR)

    assert window.to_text() == {
        "interval": "1m",
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T01:00:00Z",
    }


def test_repr_and_pickle_restore_an_equal_schedule() -> None:
    """A bounded schedule is a value."""
    window = BoundedSchedule(HOURLY, 5 * HOUR, 10 * HOUR)

    assert eval(repr(window)) == window  # noqa: S307 - evaluates a repr of the test
    assert pickle.loads(pickle.dumps(window)) == window  # noqa: S301 - a pickle of the test
    assert hash(window) == hash(BoundedSchedule(HOURLY, 5 * HOUR, 10 * HOUR))
