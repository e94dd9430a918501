"""Cron in the zones of the world, held against a clock that is looked at each minute.

`make test-zones` sets PULSE_ZONES=all and takes every zone and every change from 2000 to 2037.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse.schedule.base import Due
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


def numbers(text: str, *found: int) -> Field:
    """Return a field that is written in one way."""
    return Field(text, frozenset(found))


def daily(minute: Field, hour: Field) -> Fields:
    """Return the fields of something that fires each day."""
    return Fields(AT_ZERO, minute, hour, EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY)


TYPICAL = [
    daily(numbers("*", *range(60)), numbers("*", *range(24))),
    daily(numbers("*/20", 0, 20, 40), numbers("0-3", 0, 1, 2, 3)),
    daily(numbers("30", 30), numbers("*", *range(24))),
    daily(numbers("0,15,30,45", 0, 15, 30, 45), numbers("0-23", *range(24))),
    daily(numbers("30", 30), numbers("0,2,23", 0, 2, 23)),
    daily(numbers("59", 59), numbers("23", 23)),
]


def walked(cron: Cron, start: int, end: int) -> list[int]:
    """Return the fire times from the second *start* to before the second *end*."""
    found = []
    fire_time = cron.first(start * SECOND_US)
    while fire_time is not None and fire_time < end * SECOND_US:
        found.append(fire_time)
        fire_time = cron.next_after(fire_time, anchor=0)
    return found


def counted(cron: Cron, fire_times: Sequence[int]) -> list[Due]:
    """Return what is due from the first fire time until each of them."""
    return [cron.due(fire_times[0], until, anchor=0) for until in fire_times]


def sums(fire_times: Sequence[int]) -> list[Due]:
    """Return what a walk finds due from the first until each of them."""
    return [Due(until, count) for count, until in enumerate(fire_times, start=1)]


@pytest.mark.parametrize("zone", ZONES)
def test_every_change_of_the_clocks_is_met_exactly(zone: str) -> None:
    """Around each change a cron fires when a clock that is looked at each minute says so."""
    crons = [Cron(fields.text, timezone=zone) for fields in TYPICAL]
    spans = [
        (change - 4 * HOUR, change + 4 * HOUR) for year in YEARS for change in changes(zone, year)
    ]

    found = [[walked(cron, *span) for cron in crons] for span in spans]

    shown = (readings(ZoneInfo(zone), *span) for span in spans)
    assert found == [[fired(fields, clock) for fields in TYPICAL] for clock in shown]


@st.composite
def spans(draw: st.DrawFn, length: int) -> tuple[str, int]:
    """Draw a zone and a second from which a span of *length* holds a change, where there is one."""
    zone = draw(st.sampled_from(ALL))
    year = draw(st.integers(2000, 2037))
    found = changes(zone, year) or changes("Europe/Berlin", year)
    start = draw(st.sampled_from(found)) - draw(st.integers(0, length))
    return zone, start - start % 60


@FEW
@given(fields=every_minute_fields, span=spans(DAY))
def test_the_fire_times_are_those_of_a_clock_looked_at_each_minute(
    fields: Fields, span: tuple[str, int]
) -> None:
    """Whatever expression, zone and change: nothing is passed over and nothing is added."""
    zone, start = span
    cron = Cron(fields.text, timezone=zone)

    assert walked(cron, start, start + DAY) == fired(
        fields, readings(ZoneInfo(zone), start, start + DAY)
    )


@FEW
@given(fields=every_second_fields, span=spans(HOUR))
def test_the_fire_times_are_those_of_a_clock_looked_at_each_second(
    fields: Fields, span: tuple[str, int]
) -> None:
    """Six fields follow the same rule as five."""
    zone, start = span
    cron = Cron(fields.text, timezone=zone)

    assert walked(cron, start, start + HOUR) == fired(
        fields, readings(ZoneInfo(zone), start, start + HOUR, step=1)
    )


@FEW
@given(fields=every_minute_fields, span=spans(DAY))
def test_due_counts_what_a_walk_counts(fields: Fields, span: tuple[str, int]) -> None:
    """The count over a change of the clocks equals the walk over it."""
    zone, start = span
    cron = Cron(fields.text, timezone=zone)
    fire_times = walked(cron, start, start + DAY) or [cron.first(start * SECOND_US) or 0]

    assert counted(cron, fire_times[:200]) == sums(fire_times[:200])


@FEW
@given(
    fields=every_minute_fields | every_second_fields,
    zone=st.sampled_from(ALL),
    second=st.integers(946_684_800, 2_145_916_800),
    micros=st.integers(0, SECOND_US - 1),
)
def test_fire_times_rise_strictly_and_are_never_past(
    fields: Fields, zone: str, second: int, micros: int
) -> None:
    """The answer is later than the question, wherever the walk begins."""
    cron = Cron(fields.text, timezone=zone)
    answers = [second * SECOND_US + micros]
    for _ in range(50):
        answers.append(cron.next_after(answers[-1], anchor=0) or 0)

    assert all(before < after for before, after in pairwise(answers))


@FEW
@given(
    fields=every_minute_fields,
    zone=st.sampled_from(ALL),
    second=st.integers(946_684_800, 2_145_916_800),
    days=st.integers(1, 2_000),
)
def test_what_is_due_may_be_counted_in_two_parts(
    fields: Fields, zone: str, second: int, days: int
) -> None:
    """Years that are counted at once hold as much as their two parts."""
    cron = Cron(fields.text, timezone=zone)
    first = cron.first(second * SECOND_US) or 0
    middle, until = first + days * DAY * SECOND_US, first + 2_000 * DAY * SECOND_US
    part = cron.due(first, middle, anchor=0)
    following = cron.next_after(part.newest, anchor=0) or 0
    rest = cron.due(following, until, anchor=0) if following <= until else Due(part.newest, 0)

    assert cron.due(first, until, anchor=0) == Due(rest.newest, part.count + rest.count)
