from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.base import Due
from pulse.schedule.once import Once

instants = st.integers(-50, 150).map(lambda years: years * 365 * 86_400 * SECOND + 1)
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


@given(at=instants, seen=instants)
def test_the_first_fire_time_is_at_even_in_the_past(at: int, seen: int) -> None:
    """What is past when the task is first seen is for its misfire policy to judge."""
    assert Once.of(at).first(seen) == at


@given(at=instants, after=instants)
def test_there_is_one_fire_time(at: int, after: int) -> None:
    """Before it, it is the next; from then on nothing is."""
    found = Once.of(at).next_after(after, anchor=0)

    assert found == (at if after < at else None)


def test_one_is_due() -> None:
    """However late it is."""
    assert Once.of(5).due(5, 2**60, anchor=0) == Due(5, 1)


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
def test_text_and_datetimes_name_an_instant(at: datetime | str, zone: str, expected: str) -> None:
    """What has no offset is of the zone: in a repeated hour the first time, in a gap its end."""
    assert Once(at, timezone=zone).spell() == {"at": expected}


@pytest.mark.parametrize(
    "at",
    ["tomorrow", "", 5, None, datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))],
    ids=repr,
)
def test_what_is_no_date_and_time_is_refused(at: object) -> None:
    """The error shows the form."""
    with pytest.raises(BadValueError, match="a date and time such as 2027-01-01T00:00:00"):
        Once(at)  # type: ignore[arg-type]


def test_an_unknown_zone_is_refused() -> None:
    """Also where *at* has an offset and needs none."""
    with pytest.raises(BadValueError, match="did you mean 'Europe/Berlin'"):
        Once("2027-01-01T00:00:00Z", timezone="Europe/Belrin")


def test_next_answers_in_the_zone_of_the_question() -> None:
    """The fire time is an instant; the datetime that asks says how to show it."""
    berlin = ZoneInfo("Europe/Berlin")

    found = Once(NEW_YEAR).next(datetime(2026, 1, 1, tzinfo=berlin))

    assert found == NEW_YEAR
    assert found.tzinfo is berlin


def test_nothing_is_next_after_it() -> None:
    """Strictly later: not at the fire time itself either."""
    assert Once(NEW_YEAR).next(NEW_YEAR) is None


def test_it_is_a_value() -> None:
    """Equal where the instant is, hashable, picklable, and its repr makes it again."""
    once = Once("2027-01-01T01:00:00+01:00")

    assert (once, hash(once)) == (Once(NEW_YEAR), hash(Once(NEW_YEAR)))
    assert once != instant_of(NEW_YEAR)
    assert pickle.loads(pickle.dumps(once)) == once  # noqa: S301 - its own
    assert eval(repr(once)) == once  # noqa: S307 - its own repr


def test_it_is_frozen() -> None:
    """A schedule that many share cannot be changed under them."""
    with pytest.raises(AttributeError, match="at_us cannot be set"):
        Once(NEW_YEAR).at_us = 1
