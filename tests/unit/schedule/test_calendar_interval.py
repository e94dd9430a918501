from __future__ import annotations

import calendar
import pickle
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.base import DueTimes
from pulse.schedule.calendar_interval import CalendarInterval

ALL = sorted(available_timezones())
FEW = settings(max_examples=60)
DAY = 86_400 * SECOND
zones = st.sampled_from(ALL)
counts = st.integers(1, 20)
units = st.sampled_from(["day", "week", "month", "year"])
periods = st.builds("{} {}".format, counts, units)
starts = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1))  # noqa: DTZ001 - the zone is drawn separately


def wall_times(base: datetime, count: int, unit: str, limit: int) -> list[datetime]:
    """Return the wall times in ascending order, each counted from the base."""
    return [moved(base, count * number, unit) for number in range(1, limit + 1)]


def moved(base: datetime, count: int, unit: str) -> datetime:
    """Return a wall time some units later, on the last day of a shorter month."""
    if unit in {"day", "week"}:
        return base + timedelta(days=count * (7 if unit == "week" else 1))
    months = base.year * 12 + base.month - 1 + count * (12 if unit == "year" else 1)
    year, month = months // 12, months % 12 + 1
    return base.replace(
        year=year, month=month, day=min(base.day, calendar.monthrange(year, month)[1])
    )


def first_instant(wall: datetime, zone: ZoneInfo) -> int:
    """Return the first instant at which a clock shows *wall* or later, by minutes."""
    aware = wall.replace(tzinfo=zone, fold=0)
    if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return instant_of(aware)
    moment = (aware - timedelta(hours=25)).astimezone(UTC).replace(second=0, microsecond=0)
    while moment.astimezone(zone).replace(tzinfo=None) < wall:
        moment += timedelta(minutes=1)
    return instant_of(moment)


def fire_times_of(schedule: CalendarInterval, anchor: int, count: int) -> list[int]:
    """Return the first fire times of a task that is first seen at *anchor*."""
    fire_times = [schedule.first(anchor) or 0]
    while len(fire_times) < count:
        fire_times.append(schedule.next_after(fire_times[-1], anchor=anchor) or 0)
    return fire_times


@FEW
@given(zone=zones, base=starts, count=counts, unit=units)
def test_fire_times_keep_the_wall_time_of_the_anchor(
    zone: str, base: datetime, count: int, unit: str
) -> None:
    """Fire times equal those of a plain count of days or months in wall time."""
    info = ZoneInfo(zone)
    anchor = instant_of(base.replace(tzinfo=info))
    wall = base.replace(tzinfo=info).astimezone(UTC).astimezone(info).replace(tzinfo=None, fold=0)
    expected = [first_instant(moment, info) for moment in wall_times(wall, count, unit, 12)]
    assume(all(before < after for before, after in pairwise(expected)))  # a day may be skipped

    actual = fire_times_of(CalendarInterval(f"{count} {unit}", timezone=zone), anchor, 12)

    assert actual == expected


@FEW
@given(zone=zones, start=starts, count=counts, unit=units, seen=starts)
def test_first_fire_time_is_start_or_a_later_fire_time(
    zone: str, start: datetime, count: int, unit: str, seen: datetime
) -> None:
    """A task that is seen after the start fires at a later fire time of the same grid."""
    schedule = CalendarInterval(f"{count} {unit}", start=start, timezone=zone)
    begin = schedule.start_us or 0
    seen_us = instant_of(seen.replace(tzinfo=UTC))

    first = schedule.first(seen_us) or 0

    assert first == begin if seen_us <= begin else first >= seen_us
    assert schedule.due(begin, max(first, begin), anchor=0).newest == first


@FEW
@given(zone=zones, base=starts, every=periods, start=st.none() | starts, steps=counts)
def test_due_returns_the_count_of_repeated_next_calls(
    zone: str, base: datetime, every: str, start: datetime | None, steps: int
) -> None:
    """`due` equals the fire times of repeated `next_after` calls, from any first fire time."""
    anchor = instant_of(base.replace(tzinfo=ZoneInfo(zone)))
    schedule = CalendarInterval(every, start=start, timezone=zone)
    fire_times = fire_times_of(schedule, anchor, steps + 2)
    middle = steps // 2

    actual = [
        schedule.due(fire_times[0], fire_times[-1] - 1, anchor=anchor),
        schedule.due(fire_times[middle], fire_times[-1], anchor=anchor),
    ]

    assert actual == [
        DueTimes(fire_times[-2], steps + 1),
        DueTimes(fire_times[-1], steps + 2 - middle),
    ]


@pytest.mark.parametrize(
    ("every", "start", "expected"),
    [
        ("1 month", "2026-10-31", "10-31 11-30 12-31 01-31 02-28 03-31"),
        ("1 month", "2027-12-30", "12-30 01-30 02-29 03-30 04-30 05-30"),
        ("3 months", "2026-11-30", "11-30 02-28 05-30 08-30 11-30 02-29"),
        ("1 year", "2024-02-29", "02-29 02-28 02-28 02-28 02-29 02-28"),
        ("2 weeks", "2026-12-21", "12-21 01-04 01-18 02-01 02-15 03-01"),
        ("1 day", "2026-12-30", "12-30 12-31 01-01 01-02 01-03 01-04"),
    ],
)
def test_short_month_fires_on_its_last_day(every: str, start: str, expected: str) -> None:
    """Months are counted from the start, so later fire times keep the day of the start."""
    schedule = CalendarInterval(every, start=start)

    actual = [datetime.fromtimestamp(us // SECOND, UTC) for us in fire_times_of(schedule, 0, 6)]

    assert " ".join(f"{moment:%m-%d}" for moment in actual) == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-03-28T02:30", "03-28T02:30+0100 03-29T03:00+0200 03-30T02:30+0200"),
        ("2026-10-24T02:30", "10-24T02:30+0200 10-25T02:30+0200 10-26T02:30+0100"),
        ("2026-10-25T02:30+01:00", "10-25T02:30+0100 10-26T02:30+0100 10-27T02:30+0100"),
    ],
    ids=["gap", "repeated hour", "start in the second pass"],
)
def test_clock_change_moves_only_the_fire_time_in_the_gap(start: str, expected: str) -> None:
    """A daily fire time keeps its wall time except on the day on which clocks skip it."""
    schedule = CalendarInterval("1 day", start=start, timezone="Europe/Berlin")
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    actual = [moment := schedule.next(moment) or moment for _ in range(3)]

    assert " ".join(f"{moment:%m-%dT%H:%M%z}" for moment in actual) == expected


def test_first_fire_time_without_start_is_one_period_after_seen() -> None:
    """The first fire time is exact to the microsecond."""
    seen = instant_of(datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC))

    first = CalendarInterval("1 month").first(seen)

    assert first == instant_of(datetime(2026, 2, 28, 12, 0, 0, 250_000, tzinfo=UTC))


def test_next_without_anchor_counts_from_1970() -> None:
    """Periods of months begin on the first day of a month at midnight in the zone."""
    actual = CalendarInterval("1 month", timezone="America/New_York").next(
        datetime(2026, 11, 23, tzinfo=UTC)
    )

    assert actual == datetime(2026, 12, 1, tzinfo=ZoneInfo("America/New_York"))


@pytest.mark.parametrize("every", ["1 day", "1 month", "100 years"])
def test_next_after_the_year_9999_is_none(every: str) -> None:
    """No fire time is later than the maximum of `datetime`."""
    last = instant_of(datetime(9999, 12, 31, 23, tzinfo=UTC))

    assert CalendarInterval(every).next_after(last, anchor=0) is None


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ("5m", "use `interval` for hours, minutes and seconds"),
        ("2 hours", "use `interval` for hours, minutes and seconds"),
        ("30 seconds", "use `interval` for hours, minutes and seconds"),
        ("1 mnth", "did you mean 'month'?"),
        ("0 days", "from 1 to 36600 days"),
        ("101 years", "from 1 to 100 years"),
        ("month", "a count and a unit such as 1 month"),
        ("1 month 2 days", "a count and a unit such as 1 month"),
        ("s", "a count and a unit such as 1 month"),
        ("1 s", "use `interval`"),
        (5, "a count and a unit such as 1 month"),
    ],
    ids=str,
)
def test_invalid_period_is_rejected(every: object, message: str) -> None:
    """A period has one count and one calendar unit of at least a day."""
    with pytest.raises(BadValueError) as raised:
        CalendarInterval(every)  # type: ignore[arg-type]

    assert message in str(raised.value)


SCHEDULES = [
    CalendarInterval("1 month"),
    CalendarInterval("2 weeks", start="2026-10-25T02:30+01:00", timezone="Europe/Berlin"),
    CalendarInterval("1 day", timezone="Asia/Tokyo"),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_repr_settings_and_pickle_restore_an_equal_schedule(schedule: CalendarInterval) -> None:
    """A CalendarInterval is a value."""
    assert eval(repr(schedule)) == schedule  # noqa: S307 - evaluates a repr of the test
    assert CalendarInterval(**schedule.to_text()) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301 - a pickle of the test
    assert len({schedule, CalendarInterval(**schedule.to_text())}) == 1


def test_schedules_with_other_period_start_or_zone_are_not_equal() -> None:
    """Equality compares period, start and time zone."""
    assert len({*SCHEDULES, CalendarInterval("1 months")}) == 3
    assert SCHEDULES[0] != "1 month"


def test_setting_an_attribute_raises() -> None:
    """A CalendarInterval is immutable."""
    with pytest.raises(AttributeError, match="every cannot be set"):
        CalendarInterval("1 day").every = "2 days"


def test_next_rejects_a_naive_datetime() -> None:
    """`next` requires a datetime with a time zone."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        CalendarInterval("1 day").next(datetime(2026, 1, 1))  # noqa: DTZ001 - the test needs a naive datetime
