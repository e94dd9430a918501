from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.timezone import zone_named

ALL = sorted(available_timezones())
moments = st.datetimes(datetime(1850, 1, 1), datetime(2150, 1, 1))  # noqa: DTZ001 - made aware below


def wall(moment: datetime) -> int:
    """Return the wall time of a naive datetime."""
    return instant_of(moment.replace(tzinfo=UTC))


@given(name=st.sampled_from(ALL), moment=moments)
def test_wall_time_equals_that_of_zoneinfo(name: str, moment: datetime) -> None:
    """The offsets of three centuries equal those of the database."""
    aware = moment.replace(tzinfo=UTC)

    shown = zone_named(name).wall_at(instant_of(aware))

    assert shown == wall(aware.astimezone(ZoneInfo(name)).replace(tzinfo=None))


@given(name=st.sampled_from(ALL), moment=moments)
def test_reach_equals_the_instant_of_zoneinfo(name: str, moment: datetime) -> None:
    """`reach` returns the first occurrence of a wall time, or the end of a gap."""
    aware = moment.replace(tzinfo=ZoneInfo(name), fold=0)
    exists = aware.astimezone(UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None) == moment

    reached = zone_named(name).reach(wall(moment))

    if exists:
        assert reached == instant_of(aware)
    else:
        assert (
            zone_named(name).wall_at(reached - 1) < wall(moment) < zone_named(name).wall_at(reached)
        )


def test_reach_in_a_gap_returns_its_end() -> None:
    """02:30 in the gap from 02:00 to 03:00 is reached at 03:00."""
    reached = zone_named("Europe/Berlin").reach(wall(datetime(2026, 3, 29, 2, 30)))  # noqa: DTZ001 - a wall time

    assert reached == instant_of(datetime(2026, 3, 29, 1, tzinfo=UTC))


def test_cache_of_a_zone_is_bounded() -> None:
    """Queries over centuries do not exhaust the memory."""
    zone = zone_named("Europe/Paris")
    start = instant_of(datetime(1600, 1, 1, tzinfo=UTC))

    for days in range(0, 146_000, 100):
        zone.at(start + days * 86_400 * SECOND)

    assert len(zone) <= 256


def test_a_zone_is_loaded_once() -> None:
    """All schedules of a zone share one cache."""
    assert zone_named("Asia/Tokyo") is zone_named("Asia/Tokyo")


NO_PLACE = "; a time zone has the name of a place, not an abbreviation or an offset"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Berln", "; did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "; did you mean 'Europe/Berlin'?"),
        ("utc", "; did you mean 'UTC'?"),
        ("New York", "; did you mean 'America/New_York'?"),
        ("CEST", "; did you mean 'Europe/Berlin'?"),
        ("PDT", "; did you mean 'America/Los_Angeles'?"),
        ("MESZ", NO_PLACE),
        ("+02:00", NO_PLACE),
        ("GMT+2", NO_PLACE),
        ("Singapur", "; did you mean 'Singapore'?"),
        ("Europe", "; did you mean 'Europe/Rome'?"),
        ("/etc/passwd", ""),
        ("../etc/passwd", ""),
        ("", ""),
        ("a\0b", ""),
    ],
)
def test_unknown_zone_is_rejected_with_a_suggestion(name: str, hint: str) -> None:
    """A zone has its name of the database, and a path is no zone."""
    with pytest.raises(BadValueError) as raised:
        zone_named(name)

    assert (
        str(raised.value)
        == f"expected a time zone such as Europe/Berlin or UTC, got {name!r}{hint}"
    )
