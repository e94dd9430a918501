"""Clock changes of time zones according to the database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pulse.clock import SECOND, instant_of, rfc3339
from pulse.simulation.clock_changes import clock_changes

START, END = (
    instant_of(datetime(2026, 1, 1, tzinfo=UTC)),
    instant_of(datetime(2027, 1, 1, tzinfo=UTC)),
)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", []),
        ("Asia/Kolkata", []),
        ("Europe/Berlin", [("2026-03-29T01:00:00Z", 60, 120), ("2026-10-25T01:00:00Z", 120, 60)]),
        (
            "Australia/Lord_Howe",
            [("2026-04-04T15:00:00Z", 660, 630), ("2026-10-03T15:30:00Z", 630, 660)],
        ),
        (
            "America/New_York",
            [("2026-03-08T07:00:00Z", -300, -240), ("2026-11-01T06:00:00Z", -240, -300)],
        ),
    ],
)
def test_clock_changes_of_a_year(zone: str, expected: list[tuple[str, int, int]]) -> None:
    """Each change has its instant, and its offsets in minutes before and after the change."""
    actual = [
        (rfc3339(change.at), change.before_us // SECOND // 60, change.after_us // SECOND // 60)
        for change in clock_changes(zone, START, END)
    ]
    assert actual == expected


def test_change_at_the_end_of_a_window_is_returned_once() -> None:
    """Consecutive windows return each change once."""
    change = instant_of(datetime(2026, 3, 29, 1, tzinfo=UTC))
    before = list(clock_changes("Europe/Berlin", START, change))
    after = list(clock_changes("Europe/Berlin", change, END))
    assert ([item.at for item in before], len(after)) == ([change], 1)
