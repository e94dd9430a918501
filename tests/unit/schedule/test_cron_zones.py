"""Compares Cron in many time zones with a wall clock that is read every minute.

`make test-zones` sets PULSE_ZONES=all to test every zone and every clock change from 2000 to 2037.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse.schedule.base import DueTimes
from pulse.schedule.cron import Cron
from tests.support.wall_clock import (
    AT_ZERO,
    DAY,
    EVERY_DAY,
    EVERY_MONTH,
    EVERY_WEEKDAY,
    HOUR,
    SECOND_US,
    Field,
    Fields,
    changes,
    every_minute_fields,
    every_second_fields,
    fired,
    readings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = sorted(available_timezones())
HARD = [
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
]
EXHAUSTIVE = os.environ.get("PULSE_ZONES") == "all"
ZONES = ALL if EXHAUSTIVE else HARD
YEARS = range(2000, 2038) if EXHAUSTIVE else range(2006, 2026, 5)
FEW = settings(max_examples=40)


def numbers(text: str, *values: int) -> Field:
    """Return a field with a text and its values."""
    return Field(text, frozenset(values))


def daily(minute: Field, hour: Field) -> Fields:
    """Return the fields of an expression that fires on every day."""
    return Fields(AT_ZERO, minute, hour, EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY)


TYPICAL = [
    daily(numbers("*", *range(60)), numbers("*", *range(24))),
    daily(numbers("*/20", 0, 20, 40), numbers("0-3", 0, 1, 2, 3)),
    daily(numbers("30", 30), numbers("*", *range(24))),
    daily(numbers("0,15,30,45", 0, 15, 30, 45), numbers("0-23", *range(24))),
    daily(numbers("30", 30), numbers("0,2,23", 0, 2, 23)),
    daily(numbers("59", 59), numbers("23", 23)),
]


def fire_times_between(cron: Cron, start: int, end: int) -> list[int]:
    """Return the fire times from the second *start* to before the second *end*."""
    actual = []
    fire_time = cron.first(start * SECOND_US)
    while fire_time is not None and fire_time < end * SECOND_US:
        actual.append(fire_time)
        fire_time = cron.next_after(fire_time, anchor=0)
    return actual


def due_until_each(cron: Cron, fire_times: Sequence[int]) -> list[DueTimes]:
    """Return the due fire times from the first fire time until each fire time."""
    return [cron.due(fire_times[0], until, anchor=0) for until in fire_times]


def expected_due(fire_times: Sequence[int]) -> list[DueTimes]:
    """Return the expected due fire times from the first until each fire time."""
    return [DueTimes(until, count) for count, until in enumerate(fire_times, start=1)]


@pytest.mark.parametrize("zone", ZONES)
def test_fire_times_around_each_clock_change_match_a_wall_clock(zone: str) -> None:
    """Around each clock change, Cron fires when a clock that is read every minute matches."""
    crons = [Cron(fields.text, timezone=zone) for fields in TYPICAL]
    spans = [
        (change - 4 * HOUR, change + 4 * HOUR) for year in YEARS for change in changes(zone, year)
    ]

    actual = [[fire_times_between(cron, *span) for cron in crons] for span in spans]

    shown = (readings(ZoneInfo(zone), *span) for span in spans)
    assert actual == [[fired(fields, clock) for fields in TYPICAL] for clock in shown]


@st.composite
def spans(draw: st.DrawFn, length: int) -> tuple[str, int]:
    """Draw a zone and the start of a span of *length* that contains a clock change, if any."""
    zone = draw(st.sampled_from(ALL))
    year = draw(st.integers(2000, 2037))
    instants = changes(zone, year) or changes("Europe/Berlin", year)
    start = draw(st.sampled_from(instants)) - draw(st.integers(0, length))
    return zone, start - start % 60


@FEW
@given(fields=every_minute_fields, span=spans(DAY))
def test_fire_times_match_a_clock_that_is_read_every_minute(
    fields: Fields, span: tuple[str, int]
) -> None:
    """Cron skips no fire time and adds none, for any expression, zone and clock change."""
    zone, start = span
    cron = Cron(fields.text, timezone=zone)

    assert fire_times_between(cron, start, start + DAY) == fired(
        fields, readings(ZoneInfo(zone), start, start + DAY)
    )


@FEW
@given(fields=every_second_fields, span=spans(HOUR))
def test_fire_times_match_a_clock_that_is_read_every_second(
    fields: Fields, span: tuple[str, int]
) -> None:
    """Expressions with seconds follow the same rule as expressions without seconds."""
    zone, start = span
    cron = Cron(fields.text, timezone=zone)

    assert fire_times_between(cron, start, start + HOUR) == fired(
        fields, readings(ZoneInfo(zone), start, start + HOUR, step=1)
    )


@FEW
@given(fields=every_minute_fields, span=spans(DAY))
def test_due_returns_the_count_of_repeated_next_calls(
    fields: Fields, span: tuple[str, int]
) -> None:
    """The count over a clock change equals the number of fire times."""
    zone, start = span
    cron = Cron(fields.text, timezone=zone)
    fire_times = fire_times_between(cron, start, start + DAY) or [
        cron.first(start * SECOND_US) or 0
    ]

    assert due_until_each(cron, fire_times[:200]) == expected_due(fire_times[:200])


@FEW
@given(
    fields=every_minute_fields | every_second_fields,
    zone=st.sampled_from(ALL),
    second=st.integers(946_684_800, 2_145_916_800),
    micros=st.integers(0, SECOND_US - 1),
)
def test_fire_times_are_strictly_ascending(
    fields: Fields, zone: str, second: int, micros: int
) -> None:
    """Each fire time is later than the instant passed to `next_after`."""
    cron = Cron(fields.text, timezone=zone)
    fire_times = [second * SECOND_US + micros]
    for _ in range(50):
        fire_times.append(cron.next_after(fire_times[-1], anchor=0) or 0)

    assert all(before < after for before, after in pairwise(fire_times))


@FEW
@given(
    fields=every_minute_fields,
    zone=st.sampled_from(ALL),
    second=st.integers(946_684_800, 2_145_916_800),
    days=st.integers(1, 2_000),
)
def test_due_equals_the_sum_of_two_parts(fields: Fields, zone: str, second: int, days: int) -> None:
    """The count of a span equals the sum of the counts of two parts of the span."""
    cron = Cron(fields.text, timezone=zone)
    first = cron.first(second * SECOND_US) or 0
    middle, until = first + days * DAY * SECOND_US, first + 2_000 * DAY * SECOND_US
    part = cron.due(first, middle, anchor=0)
    following = cron.next_after(part.newest, anchor=0) or 0
    rest = cron.due(following, until, anchor=0) if following <= until else DueTimes(part.newest, 0)

    assert cron.due(first, until, anchor=0) == DueTimes(rest.newest, part.count + rest.count)
