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
from pulse.schedule.base import Due
from pulse.schedule.calendar_interval import CalendarInterval

ALL = sorted(available_timezones())
FEW = settings(max_examples=60)
DAY = 86_400 * SECOND
zones = st.sampled_from(ALL)
counts = st.integers(1, 20)
units = st.sampled_from(["day", "week", "month", "year"])
periods = st.builds("{} {}".format, counts, units)
starts = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1))  # noqa: DTZ001 - of a zone drawn apart


def plain_walls(base: datetime, count: int, unit: str, how_many: int) -> list[datetime]:
    """Return the wall times one after another, each counted from the base."""
    return [moved(base, count * number, unit) for number in range(1, how_many + 1)]


def moved(base: datetime, count: int, unit: str) -> datetime:
    """Return a wall time so many units later, on the month's last day where it is too short."""
    if unit in {"day", "week"}:
        return base + timedelta(days=count * (7 if unit == "week" else 1))
    months = base.year * 12 + base.month - 1 + count * (12 if unit == "year" else 1)
    year, month = months // 12, months % 12 + 1
    return base.replace(
        year=year, month=month, day=min(base.day, calendar.monthrange(year, month)[1])
    )


def reached(wall: datetime, zone: ZoneInfo) -> int:
    """Return the instant at which a clock first shows *wall* or later, looking each minute."""
    aware = wall.replace(tzinfo=zone, fold=0)
    if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return instant_of(aware)
    moment = (aware - timedelta(hours=25)).astimezone(UTC).replace(second=0, microsecond=0)
    while moment.astimezone(zone).replace(tzinfo=None) < wall:
        moment += timedelta(minutes=1)
    return instant_of(moment)


def walk(schedule: CalendarInterval, anchor: int, how_many: int) -> list[int]:
    """Return the first fire times of a task that is first seen at *anchor*."""
    found = [schedule.first(anchor) or 0]
    while len(found) < how_many:
        found.append(schedule.next_after(found[-1], anchor=anchor) or 0)
    return found


@FEW
@given(zone=zones, base=starts, count=counts, unit=units)
def test_the_wall_clock_is_kept_wherever_it_is_changed(
    zone: str, base: datetime, count: int, unit: str
) -> None:
    """Fire times are the anchor's wall time, so many days or months on, by a plain count."""
    info = ZoneInfo(zone)
    anchor = instant_of(base.replace(tzinfo=info))
    wall = base.replace(tzinfo=info).astimezone(UTC).astimezone(info).replace(tzinfo=None, fold=0)
    expected = [reached(moment, info) for moment in plain_walls(wall, count, unit, 12)]
    assume(all(before < after for before, after in pairwise(expected)))  # a day may be left out

    found = walk(CalendarInterval(f"{count} {unit}", timezone=zone), anchor, 12)

    assert found == expected


@FEW
@given(zone=zones, start=starts, count=counts, unit=units, seen=starts)
def test_the_grid_hangs_on_the_start(
    zone: str, start: datetime, count: int, unit: str, seen: datetime
) -> None:
    """The first fire time is the start, or what follows it when the task is seen later."""
    schedule = CalendarInterval(f"{count} {unit}", start=start, timezone=zone)
    begin = schedule.start_us or 0
    seen_us = instant_of(seen.replace(tzinfo=UTC))

    first = schedule.first(seen_us) or 0

    assert first == begin if seen_us <= begin else first >= seen_us
    assert schedule.due(begin, max(first, begin), anchor=0).newest == first


@FEW
@given(zone=zones, base=starts, every=periods, start=st.none() | starts, steps=counts)
def test_due_counts_what_a_walk_counts(
    zone: str, base: datetime, every: str, start: datetime | None, steps: int
) -> None:
    """The sum equals the walk, whatever the first of it is."""
    anchor = instant_of(base.replace(tzinfo=ZoneInfo(zone)))
    schedule = CalendarInterval(every, start=start, timezone=zone)
    fire_times = walk(schedule, anchor, steps + 2)
    middle = steps // 2

    found = [
        schedule.due(fire_times[0], fire_times[-1] - 1, anchor=anchor),
        schedule.due(fire_times[middle], fire_times[-1], anchor=anchor),
    ]

    assert found == [Due(fire_times[-2], steps + 1), Due(fire_times[-1], steps + 2 - middle)]


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
def test_a_month_that_is_too_short_takes_its_last_day(
    every: str, start: str, expected: str
) -> None:
    """Months are counted from the start, so that the day never drifts."""
    schedule = CalendarInterval(every, start=start)

    found = [datetime.fromtimestamp(us // SECOND, UTC) for us in walk(schedule, 0, 6)]

    assert " ".join(f"{moment:%m-%d}" for moment in found) == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-03-28T02:30", "03-28T02:30+0100 03-29T03:00+0200 03-30T02:30+0200"),
        ("2026-10-24T02:30", "10-24T02:30+0200 10-25T02:30+0200 10-26T02:30+0100"),
        ("2026-10-25T02:30+01:00", "10-25T02:30+0100 10-26T02:30+0100 10-27T02:30+0100"),
    ],
    ids=["gap", "repeated hour", "start in the second pass"],
)
def test_a_clock_change_moves_no_other_day(start: str, expected: str) -> None:
    """Half past two stays half past two, but for the night that has none."""
    schedule = CalendarInterval("1 day", start=start, timezone="Europe/Berlin")
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    found = [moment := schedule.next(moment) or moment for _ in range(3)]

    assert " ".join(f"{moment:%m-%dT%H:%M%z}" for moment in found) == expected


def test_a_task_without_a_start_fires_one_period_after_it_was_seen() -> None:
    """To the microsecond, as an interval does."""
    seen = instant_of(datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC))

    first = CalendarInterval("1 month").first(seen)

    assert first == instant_of(datetime(2026, 2, 28, 12, 0, 0, 250_000, tzinfo=UTC))


def test_without_a_store_the_grid_is_that_of_1970() -> None:
    """Months begin on their first day, at midnight in the zone."""
    found = CalendarInterval("1 month", timezone="America/New_York").next(
        datetime(2026, 11, 23, tzinfo=UTC)
    )

    assert found == datetime(2026, 12, 1, tzinfo=ZoneInfo("America/New_York"))


@pytest.mark.parametrize("every", ["1 day", "1 month", "100 years"])
def test_nothing_is_left_after_the_year_9999(every: str) -> None:
    """The calendar of datetimes ends, and the grid with it."""
    last = instant_of(datetime(9999, 12, 31, 23, tzinfo=UTC))

    assert CalendarInterval(every).next_after(last, anchor=0) is None


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ("5m", "say `interval` for hours, minutes and seconds"),
        ("2 hours", "say `interval` for hours, minutes and seconds"),
        ("30 seconds", "say `interval` for hours, minutes and seconds"),
        ("1 mnth", "did you mean 'month'?"),
        ("0 days", "from 1 to 36600 days"),
        ("101 years", "from 1 to 100 years"),
        ("month", "a count and a unit such as 1 month"),
        ("1 month 2 days", "a count and a unit such as 1 month"),
        ("s", "a count and a unit such as 1 month"),
        ("1 s", "say `interval`"),
        (5, "a count and a unit such as 1 month"),
    ],
    ids=str,
)
def test_another_period_is_refused(every: object, message: str) -> None:
    """One count and one unit of the calendar; what is shorter is an interval."""
    with pytest.raises(BadValueError) as refused:
        CalendarInterval(every)  # type: ignore[arg-type]

    assert message in str(refused.value)


MADE = [
    CalendarInterval("1 month"),
    CalendarInterval("2 weeks", start="2026-10-25T02:30+01:00", timezone="Europe/Berlin"),
    CalendarInterval("1 day", timezone="Asia/Tokyo"),
]


@pytest.mark.parametrize("made", MADE, ids=repr)
def test_it_is_a_value(made: CalendarInterval) -> None:
    """Its repr, its spelling and its pickle make it again."""
    assert eval(repr(made)) == made  # noqa: S307 - its own repr
    assert CalendarInterval(**made.spell()) == made
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - its own
    assert len({made, CalendarInterval(**made.spell())}) == 1


def test_another_is_not_equal() -> None:
    """Period, start and zone all count."""
    assert len({*MADE, CalendarInterval("1 months")}) == 3
    assert MADE[0] != "1 month"


def test_it_is_frozen() -> None:
    """A schedule that many share cannot be changed under them."""
    with pytest.raises(AttributeError, match="every cannot be set"):
        CalendarInterval("1 day").every = "2 days"


def test_a_naive_datetime_is_refused() -> None:
    """An instant without a zone would be a guess."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        CalendarInterval("1 day").next(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
