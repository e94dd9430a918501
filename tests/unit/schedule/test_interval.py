from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.base import Due
from pulse.schedule.interval import Interval

YEAR = 366 * 86_400 * SECOND
instants = st.integers(-100 * YEAR, 200 * YEAR)
spans = st.integers(1, YEAR)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"]


def grid(every: int, start: int | None = None) -> Interval:
    """Return an interval of exact values."""
    return Interval.of(every, start)


@given(every=spans, anchor=instants, after=instants, start=st.none() | instants)
def test_the_next_fire_time_is_strictly_later(
    every: int, anchor: int, after: int, start: int | None
) -> None:
    """A fire time is never the instant that was asked about, nor before it."""
    assert grid(every, start).next_after(after, anchor=anchor) > after


@given(every=spans, anchor=instants, after=instants)
def test_fire_times_lie_on_the_anchor_s_grid(every: int, anchor: int, after: int) -> None:
    """Without a start every fire time is a whole number of intervals from the anchor."""
    assert (grid(every).next_after(after, anchor=anchor) - anchor) % every == 0


@given(every=spans, anchor=instants, after=instants, start=instants)
def test_fire_times_lie_on_the_start_s_grid(
    every: int, anchor: int, after: int, start: int
) -> None:
    """With a start the anchor does not matter, and nothing fires before it."""
    fire_time = grid(every, start).next_after(after, anchor=anchor)
    assert (fire_time - start) % every == 0
    assert fire_time >= start


@given(every=spans, anchor=instants, after=instants)
def test_no_fire_time_lies_between(every: int, anchor: int, after: int) -> None:
    """The next fire time is at most one interval away, so none is passed over."""
    assert grid(every).next_after(after, anchor=anchor) - after <= every


@given(every=spans, anchor=instants, count=st.integers(1, 50), rest=st.floats(0, 0.999))
def test_due_counts_what_a_walk_counts(every: int, anchor: int, count: int, rest: float) -> None:
    """The sum in one step equals the walk from fire time to fire time."""
    schedule = grid(every)
    first = schedule.next_after(anchor, anchor=anchor)
    until = first + (count - 1) * every + int(every * rest)
    walked = [first]
    while (following := schedule.next_after(walked[-1], anchor=anchor)) <= until:
        walked.append(following)
    assert schedule.due(first, until, anchor=anchor) == Due(walked[-1], len(walked))


def test_ten_years_of_microseconds_are_counted_at_once() -> None:
    """The cost of counting does not grow with the count."""
    assert grid(1).due(0, 10 * YEAR, anchor=0) == Due(10 * YEAR, 10 * YEAR + 1)


@given(seen=instants, every=spans)
def test_the_first_fire_time_is_one_interval_after_the_task_was_seen(seen: int, every: int) -> None:
    """A task without a start does not fire at once."""
    assert grid(every).first(seen) == seen + every


@given(seen=instants, every=spans, start=instants)
def test_the_first_fire_time_is_the_start_or_what_follows_it(
    seen: int, every: int, start: int
) -> None:
    """A start to come is the first fire time, also when the task is seen at that very instant."""
    first = grid(every, start).first(seen)
    assert first == start if start >= seen else seen <= first < seen + every


@given(
    after=st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - the zone is drawn apart
    zone=st.sampled_from(ZONES),
    fold=st.sampled_from([0, 1]),
    minutes=st.integers(1, 3_000),
)
def test_aware_datetimes_come_back_in_their_zone(
    after: datetime, zone: str, fold: int, minutes: int
) -> None:
    """Whatever the zone's clock does, the answer is the same instant as in UTC."""
    local = after.replace(tzinfo=ZoneInfo(zone), fold=fold)
    found = Interval(timedelta(minutes=minutes)).next(local)
    assert found.tzinfo is local.tzinfo
    assert instant_of(found) == grid(minutes * 60 * SECOND).next_after(instant_of(local), anchor=0)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2026-03-29T01:50:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("2026-10-25T02:50:00+02:00", "2026-10-25T02:00:00+01:00"),
        ("2026-10-25T02:50:00+01:00", "2026-10-25T03:00:00+01:00"),
    ],
    ids=["gap", "first of the repeated hour", "second of the repeated hour"],
)
def test_a_clock_change_neither_stretches_nor_shortens_an_interval(
    after: str, expected: str
) -> None:
    """Half an hour is half an hour on the night on which the clocks change."""
    berlin = ZoneInfo("Europe/Berlin")
    found = Interval("30m").next(datetime.fromisoformat(after).astimezone(berlin))
    assert found.isoformat() == expected


def test_the_grid_without_a_store_is_the_epoch_s() -> None:
    """`Interval(300).next` answers whole five minutes."""
    after = datetime(2026, 11, 23, 7, 3, 20, tzinfo=UTC)
    assert Interval(300).next(after) == datetime(2026, 11, 23, 7, 5, tzinfo=UTC)


def test_a_naive_datetime_is_refused() -> None:
    """An instant without a zone would be a guess."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        Interval(300).next(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@given(every=spans, start=st.none() | st.integers(0, 200 * YEAR))
def test_an_interval_spelt_is_the_same_interval(every: int, start: int | None) -> None:
    """The canonical spelling loses nothing."""
    words = grid(every, start).spell()
    assert Interval(words["interval"], start=words.get("start")) == grid(every, start)


@given(a=spans, b=spans)
def test_equal_intervals_have_equal_hashes(a: int, b: int) -> None:
    """Intervals are values."""
    assert (grid(a) == grid(b)) is (a == b)
    assert hash(grid(a)) == hash(grid(a))


def test_an_interval_equals_nothing_else() -> None:
    """An interval is not its length."""
    assert Interval(300) != 300


def test_an_interval_is_frozen() -> None:
    """A schedule that many share cannot be changed under them."""
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
def test_the_repr_is_the_call_that_makes_it(interval: Interval, expected: str) -> None:
    """A schedule in a log can be pasted into code."""
    assert repr(interval) == expected
    assert eval(repr(interval)) == interval  # noqa: S307 - its own repr
