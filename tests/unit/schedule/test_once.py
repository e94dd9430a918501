from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.base import DueTimes
from pulse.schedule.once import Once

instants = st.integers(-50, 150).map(lambda years: years * 365 * 86_400 * SECOND + 1)
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


@given(at=instants, seen=instants)
def test_first_fire_time_may_be_in_the_past(at: int, seen: int) -> None:
    """The misfire policy handles a fire time that is earlier than the first sight of the task."""
    assert Once.of(at).first(seen) == at


@given(at=instants, after=instants)
def test_next_after_returns_the_single_fire_time_or_none(at: int, after: int) -> None:
    """No fire time follows the single fire time."""
    fire_time = Once.of(at).next_after(after, anchor=0)

    assert fire_time == (at if after < at else None)


def test_due_returns_the_single_fire_time() -> None:
    """A single fire time is due, however late the query is."""
    assert Once.of(5).due(5, 2**60, anchor=0) == DueTimes(5, 1)


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        ("2027-01-01T00:00:00Z", "UTC", "2027-01-01T00:00:00Z"),
        ("2027-01-01T00:00:00+01:00", "America/New_York", "2026-12-31T23:00:00Z"),
        ("2027-01-01T00:00", "UTC", "2027-01-01T00:00:00Z"),
        ("2027-01-01 00:00", "Europe/Berlin", "2026-12-31T23:00:00Z"),
        ("2027-01-01", "Europe/Berlin", "2026-12-31T23:00:00Z"),
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("2027-01-01T00:00:00.25", "UTC", "2027-01-01T00:00:00.250000Z"),
        ("9999-12-31T23:59:59", "America/New_York", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01", "Asia/Tokyo", "0001-01-01T00:00:00Z"),
        (NEW_YEAR, "Europe/Berlin", "2027-01-01T00:00:00Z"),
        (NEW_YEAR.replace(tzinfo=None), "Europe/Berlin", "2026-12-31T23:00:00Z"),
        (
            datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            "UTC",
            "2026-10-25T01:30:00Z",
        ),
    ],
    ids=str,
)
def test_text_and_datetime_are_converted_to_an_instant(
    at: datetime | str, zone: str, expected: str
) -> None:
    """A repeated wall time is the first occurrence, a skipped wall time the end of the gap."""
    assert Once(at, timezone=zone).to_text() == {"at": expected}


@pytest.mark.parametrize(
    "at",
    ["tomorrow", "", 5, None, datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))],
    ids=repr,
)
def test_invalid_date_and_time_is_rejected(at: object) -> None:
    """The error shows the expected form."""
    with pytest.raises(BadValueError, match="a date and time such as 2027-01-01T00:00:00"):
        Once(at)  # type: ignore[arg-type]


def test_unknown_zone_is_rejected() -> None:
    """The zone is checked even if *at* has an offset."""
    with pytest.raises(BadValueError, match="did you mean 'Europe/Berlin'"):
        Once("2027-01-01T00:00:00Z", timezone="Europe/Belrin")


def test_next_returns_the_zone_of_its_argument() -> None:
    """The fire time is an instant; the zone of the result is the zone of the argument."""
    berlin = ZoneInfo("Europe/Berlin")

    fire_time = Once(NEW_YEAR).next(datetime(2026, 1, 1, tzinfo=berlin))

    assert fire_time == NEW_YEAR
    assert fire_time.tzinfo is berlin


def test_next_at_the_fire_time_is_none() -> None:
    """`next` returns only fire times that are strictly later."""
    assert Once(NEW_YEAR).next(NEW_YEAR) is None


def test_equality_hash_pickle_and_repr_compare_the_instant() -> None:
    """A Once is a value."""
    once = Once("2027-01-01T01:00:00+01:00")

    assert (once, hash(once)) == (Once(NEW_YEAR), hash(Once(NEW_YEAR)))
    assert once != instant_of(NEW_YEAR)
    assert pickle.loads(pickle.dumps(once)) == once  # noqa: S301 - a pickle of the test
    assert eval(repr(once)) == once  # noqa: S307 - evaluates a repr of the test


def test_setting_an_attribute_raises() -> None:
    """A Once is immutable."""
    with pytest.raises(AttributeError, match="at_us cannot be set"):
        Once(NEW_YEAR).at_us = 1
