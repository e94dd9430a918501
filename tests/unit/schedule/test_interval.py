from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.base import DueTimes
from pulse.schedule.interval import Interval

YEAR = 366 * 86_400 * SECOND
instants = st.integers(-100 * YEAR, 200 * YEAR)
spans = st.integers(1, YEAR)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"]


def interval(every: int, start: int | None = None) -> Interval:
    """Return an interval with exact values."""
    return Interval.of(every, start)


@given(every=spans, anchor=instants, after=instants, start=st.none() | instants)
def test_next_fire_time_is_strictly_later(
    every: int, anchor: int, after: int, start: int | None
) -> None:
    """A fire time is never earlier than or equal to the given instant."""
    assert interval(every, start).next_after(after, anchor=anchor) > after


@given(every=spans, anchor=instants, after=instants)
def test_fire_times_without_start_are_counted_from_the_anchor(
    every: int, anchor: int, after: int
) -> None:
    """Every fire time is a whole number of intervals after the anchor."""
    assert (interval(every).next_after(after, anchor=anchor) - anchor) % every == 0


@given(every=spans, anchor=instants, after=instants, start=instants)
def test_fire_times_with_start_are_counted_from_the_start(
    every: int, anchor: int, after: int, start: int
) -> None:
    """The anchor has no effect, and no fire time is earlier than the start."""
    fire_time = interval(every, start).next_after(after, anchor=anchor)
    assert (fire_time - start) % every == 0
    assert fire_time >= start


@given(every=spans, anchor=instants, after=instants)
def test_next_fire_time_is_at_most_one_interval_away(every: int, anchor: int, after: int) -> None:
    """`next_after` skips no fire time."""
    assert interval(every).next_after(after, anchor=anchor) - after <= every


@given(every=spans, anchor=instants, count=st.integers(1, 50), rest=st.floats(0, 0.999))
def test_due_returns_the_count_of_repeated_next_calls(
    every: int, anchor: int, count: int, rest: float
) -> None:
    """`due` equals the fire times of repeated `next_after` calls."""
    schedule = interval(every)
    first = schedule.next_after(anchor, anchor=anchor)
    until = first + (count - 1) * every + int(every * rest)
    walked = [first]
    while (following := schedule.next_after(walked[-1], anchor=anchor)) <= until:
        walked.append(following)
    assert schedule.due(first, until, anchor=anchor) == DueTimes(walked[-1], len(walked))


def test_due_counts_ten_years_of_microseconds() -> None:
    """The cost of `due` does not grow with the count."""
    assert interval(1).due(0, 10 * YEAR, anchor=0) == DueTimes(10 * YEAR, 10 * YEAR + 1)


@given(seen=instants, every=spans)
def test_first_fire_time_without_start_is_one_interval_after_seen(seen: int, every: int) -> None:
    """A task without a start does not fire when the task is first seen."""
    assert interval(every).first(seen) == seen + every


@given(seen=instants, every=spans, start=instants)
def test_first_fire_time_is_start_or_a_later_fire_time(seen: int, every: int, start: int) -> None:
    """A future start is the first fire time, also if the task is seen at the start."""
    first = interval(every, start).first(seen)
    assert first == start if start >= seen else seen <= first < seen + every


@given(
    after=st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - the zone is drawn separately
    zone=st.sampled_from(ZONES),
    fold=st.sampled_from([0, 1]),
    minutes=st.integers(1, 3_000),
)
def test_next_returns_the_zone_of_its_argument(
    after: datetime, zone: str, fold: int, minutes: int
) -> None:
    """The returned instant is the same as in UTC, for any clock change of the zone."""
    local = after.replace(tzinfo=ZoneInfo(zone), fold=fold)
    actual = Interval(timedelta(minutes=minutes)).next(local)
    assert actual.tzinfo is local.tzinfo
    assert instant_of(actual) == interval(minutes * 60 * SECOND).next_after(
        instant_of(local), anchor=0
    )


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2026-03-29T01:50:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("2026-10-25T02:50:00+02:00", "2026-10-25T02:00:00+01:00"),
        ("2026-10-25T02:50:00+01:00", "2026-10-25T03:00:00+01:00"),
    ],
    ids=["gap", "first of the repeated hour", "second of the repeated hour"],
)
def test_clock_change_does_not_change_the_length_of_an_interval(after: str, expected: str) -> None:
    """Half an hour has the same length at a clock change."""
    berlin = ZoneInfo("Europe/Berlin")
    actual = Interval("30m").next(datetime.fromisoformat(after).astimezone(berlin))
    assert actual.isoformat() == expected


def test_next_without_anchor_counts_from_the_epoch() -> None:
    """`Interval(300).next` returns multiples of five minutes."""
    after = datetime(2026, 11, 23, 7, 3, 20, tzinfo=UTC)
    assert Interval(300).next(after) == datetime(2026, 11, 23, 7, 5, tzinfo=UTC)


def test_next_rejects_a_naive_datetime() -> None:
    """`next` requires a datetime with a time zone."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        Interval(300).next(datetime(2026, 1, 1))  # noqa: DTZ001 - the test needs a naive datetime


@given(every=spans, start=st.none() | st.integers(0, 200 * YEAR))
def test_settings_of_an_interval_declare_an_equal_interval(every: int, start: int | None) -> None:
    """The canonical settings lose no precision."""
    values = interval(every, start).to_text()
    assert Interval(values["interval"], start=values.get("start")) == interval(every, start)


@given(a=spans, b=spans)
def test_equal_intervals_have_equal_hashes(a: int, b: int) -> None:
    """Intervals are values."""
    assert (interval(a) == interval(b)) is (a == b)
    assert hash(interval(a)) == hash(interval(a))


def test_interval_does_not_equal_a_number() -> None:
    """An interval is not equal to its length in seconds."""
    assert Interval(300) != 300


def test_setting_an_attribute_raises() -> None:
    """An Interval is immutable."""
    with pytest.raises(AttributeError, match="every_us cannot be set"):
        Interval(300).every_us = 1


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(300), "Interval(300)"),
        (Interval("30d"), "Interval(2592000)"),
        (Interval(0.25), "Interval(0.25)"),
        (
            Interval(60, start="2027-01-01T00:00:00+01:00"),
            "Interval(60, start='2026-12-31T23:00:00Z')",
        ),
    ],
    ids=["seconds", "days", "fraction", "start"],
)
def test_repr_evaluates_to_an_equal_interval(interval: Interval, expected: str) -> None:
    """The repr of a schedule in a log can be pasted into code."""
    assert repr(interval) == expected
    assert eval(repr(interval)) == interval  # noqa: S307 - evaluates a repr of the test
