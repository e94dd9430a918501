"""Fire times at known clock changes, as a local wall clock shows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pulse.clock import instant_of, moment_of
from pulse.schedule.cron import Cron

# zone, expression, the instant passed to next(), and the fire times that follow
CASES = {
    "Berlin, gap, fixed, in the gap: at its end": (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28T12:00",
        "2026-03-29T03:00+02:00 2026-03-30T02:30+02:00",
    ),
    "Berlin, gap, fixed, in the gap and at its end: one": (
        "Europe/Berlin",
        "0,30 2,3 * * *",
        "2026-03-29T00:00",
        "2026-03-29T03:00+02:00 2026-03-29T03:30+02:00 2026-03-30T02:00+02:00",
    ),
    "Berlin, gap, wildcard: skipped": (
        "Europe/Berlin",
        "*/20 * * * *",
        "2026-03-29T01:30",
        "2026-03-29T01:40+01:00 2026-03-29T03:00+02:00",
    ),
    "Berlin, gap, wildcard, only in that hour: next day": (
        "Europe/Berlin",
        "*/30 2 * * *",
        "2026-03-29T00:00",
        "2026-03-30T02:00+02:00 2026-03-30T02:30+02:00",
    ),
    "Berlin, repeated hour, fixed: the first time": (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-24T12:00",
        "2026-10-25T02:30+02:00 2026-10-26T02:30+01:00",
    ),
    "Berlin, repeated hour, wildcard: both times": (
        "Europe/Berlin",
        "30 * * * *",
        "2026-10-25T01:00",
        (
            "2026-10-25T01:30+02:00 2026-10-25T02:30+02:00"
            " 2026-10-25T02:30+01:00 2026-10-25T03:30+01:00"
        ),
    ),
    "Berlin, repeated hour, six fields, fixed: the first time": (
        "Europe/Berlin",
        "15 59 2 * * *",
        "2026-10-25T00:00",
        "2026-10-25T02:59:15+02:00 2026-10-26T02:59:15+01:00",
    ),
    "New York, gap, fixed: at its end": (
        "America/New_York",
        "15 2 * * *",
        "2026-03-07T12:00",
        "2026-03-08T03:00-04:00 2026-03-09T02:15-04:00",
    ),
    "New York, repeated hour, a list of hours is fixed: once": (
        "America/New_York",
        "0 0,1,2 * * *",
        "2026-10-31T23:00",
        "2026-11-01T00:00-04:00 2026-11-01T01:00-04:00 2026-11-01T02:00-05:00",
    ),
    "Lord Howe, half an hour skipped, fixed: at its end": (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T12:00",
        "2026-10-04T02:30+11:00 2026-10-05T02:15+11:00",
    ),
    "Lord Howe, half an hour repeated, wildcard: both times": (
        "Australia/Lord_Howe",
        "*/15 * * * *",
        "2026-04-05T01:20",
        (
            "2026-04-05T01:30+11:00 2026-04-05T01:45+11:00 2026-04-05T01:30+10:30"
            " 2026-04-05T01:45+10:30 2026-04-05T02:00+10:30"
        ),
    ),
    "Lord Howe, half an hour repeated, fixed: the first time": (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T12:00",
        "2026-04-05T01:45+11:00 2026-04-06T01:45+10:30",
    ),
    "Chatham, 02:45 to 03:45 skipped, wildcard in the gap: next day": (
        "Pacific/Chatham",
        "*/20 3 * * *",
        "2026-09-26T12:00",
        "2026-09-28T03:00+13:45 2026-09-28T03:20+13:45",
    ),
    "Chatham, repeated hour from 02:45 to 03:45, fixed": (
        "Pacific/Chatham",
        "0 3 * * *",
        "2026-04-04T12:00",
        "2026-04-05T03:00+13:45 2026-04-06T03:00+12:45",
    ),
    "Apia, the skipped day, fixed: with the next day's": (
        "Pacific/Apia",
        "0 0,12 * * *",
        "2011-12-29T06:00",
        "2011-12-29T12:00-10:00 2011-12-31T00:00+14:00 2011-12-31T12:00+14:00",
    ),
    "Apia, the skipped day, a date on it: at the end of the gap": (
        "Pacific/Apia",
        "0 12 30 12 *",
        "2011-12-01T00:00",
        "2011-12-31T00:00+14:00 2012-12-30T12:00+14:00",
    ),
    "Apia, the skipped day, wildcard: not on it": (
        "Pacific/Apia",
        "0 */12 * * *",
        "2011-12-29T06:00",
        "2011-12-29T12:00-10:00 2011-12-31T00:00+14:00 2011-12-31T12:00+14:00",
    ),
    "Cairo, gap at midnight on the last Friday of April": (
        "Africa/Cairo",
        "30 0 * * *",
        "2024-04-25T12:00",
        "2024-04-26T01:00+03:00 2024-04-27T00:30+03:00",
    ),
    "Cairo, repeated hour before midnight, fixed: the first time": (
        "Africa/Cairo",
        "30 23 * * *",
        "2024-10-31T12:00",
        "2024-10-31T23:30+03:00 2024-11-01T23:30+02:00",
    ),
    "Casablanca, clocks set back for Ramadan, wildcard: both times": (
        "Africa/Casablanca",
        "30 * * * *",
        "2024-03-10T02:00",
        "2024-03-10T02:30+01:00 2024-03-10T02:30+00:00 2024-03-10T03:30+00:00",
    ),
    "Casablanca, clocks set forward after Ramadan, fixed: at the end": (
        "Africa/Casablanca",
        "30 2 * * *",
        "2024-04-13T12:00",
        "2024-04-14T03:00+01:00 2024-04-15T02:30+01:00",
    ),
    "Sao Paulo, a day that began at one, fixed": (
        "America/Sao_Paulo",
        "@daily",
        "2018-11-03T12:00",
        "2018-11-04T01:00-02:00 2018-11-05T00:00-02:00",
    ),
    "Sao Paulo, repeated hour before midnight, daily at midnight": (
        "America/Sao_Paulo",
        "0 0 * * *",
        "2018-02-17T12:00",
        "2018-02-18T00:00-03:00 2018-02-19T00:00-03:00",
    ),
    "Beirut, a day that begins at one, wildcard minutes of midnight: next day": (
        "Asia/Beirut",
        "*/30 0 * * *",
        "2022-03-26T12:00",
        "2022-03-28T00:00+03:00 2022-03-28T00:30+03:00",
    ),
}


def following_fire_times(zone: str, expression: str, after: str, count: int) -> str:
    """Return the next fire times, with their offsets."""
    cron = Cron(expression, timezone=zone)
    moment = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    fire_times = []
    for _ in range(count):
        following = cron.next(moment)
        assert following is not None
        fire_times.append(following.isoformat().replace(":00+", "+").replace(":00-", "-"))
        moment = following
    return " ".join(fire_times)


@pytest.mark.parametrize(("zone", "expression", "after", "expected"), CASES.values(), ids=CASES)
def test_fire_times_at_a_clock_change(
    zone: str, expression: str, after: str, expected: str
) -> None:
    """The fire times around a clock change equal those that a wall clock shows."""
    assert following_fire_times(zone, expression, after, len(expected.split())) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_due_counts_the_fire_times_of_a_clock_change(case: tuple[str, str, str, str]) -> None:
    """The count over a clock change equals the number of its fire times."""
    zone, expression, _, expected = case
    instants = [instant_of(datetime.fromisoformat(text)) for text in expected.split()]
    cron = Cron(expression, timezone=zone)

    due = cron.due(instants[0], instants[-1], anchor=0)

    assert (due.newest, due.count) == (instants[-1], len(instants))


def test_next_in_the_second_pass_has_fold_one() -> None:
    """`next` accepts and returns datetimes of both passes through a repeated hour."""
    cron = Cron("30 * * * *", timezone="Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    second = cron.next(first)

    assert second is not None
    assert (second.hour, second.fold) == (2, 1)
    assert cron.next(second) == moment_of(instant_of(second)) + timedelta(hours=1)
