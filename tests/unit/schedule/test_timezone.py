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
    """Return a naive datetime as a wall time."""
    return instant_of(moment.replace(tzinfo=UTC))


@given(name=st.sampled_from(ALL), moment=moments)
def test_a_zone_shows_what_zoneinfo_says(name: str, moment: datetime) -> None:
    """Every offset in three centuries is that of the database."""
    aware = moment.replace(tzinfo=UTC)

    shown = zone_named(name).wall_at(instant_of(aware))

    assert shown == wall(aware.astimezone(ZoneInfo(name)).replace(tzinfo=None))


@given(name=st.sampled_from(ALL), moment=moments)
def test_a_zone_reaches_a_wall_time_where_zoneinfo_does(name: str, moment: datetime) -> None:
    """A wall time that exists is reached at its first occurrence; one in a gap when it ends."""
    aware = moment.replace(tzinfo=ZoneInfo(name), fold=0)
    exists = aware.astimezone(UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None) == moment

    reached = zone_named(name).reach(wall(moment))

    if exists:
        assert reached == instant_of(aware)
    else:
        assert (
            zone_named(name).wall_at(reached - 1) < wall(moment) < zone_named(name).wall_at(reached)
        )


def test_a_gap_is_left_at_its_end() -> None:
    """Half past two on the night of the change is reached at three."""
    reached = zone_named("Europe/Berlin").reach(wall(datetime(2026, 3, 29, 2, 30)))  # noqa: DTZ001 - a wall time

    assert reached == instant_of(datetime(2026, 3, 29, 1, tzinfo=UTC))


def test_a_zone_forgets_what_it_has_too_much_of() -> None:
    """A walk through the centuries does not fill the memory."""
    zone = zone_named("Europe/Paris")
    start = instant_of(datetime(1600, 1, 1, tzinfo=UTC))

    for days in range(0, 146_000, 100):
        zone.at(start + days * 86_400 * SECOND)

    assert len(zone) <= 256


def test_a_zone_is_loaded_once() -> None:
    """All schedules of a zone share what is known of it."""
    assert zone_named("Asia/Tokyo") is zone_named("Asia/Tokyo")


NO_PLACE = "; a zone is named by a place, not by an abbreviation or an offset"


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
def test_an_unknown_zone_is_refused_with_the_nearest(name: str, hint: str) -> None:
    """A zone is named as the database names it, and a path is no zone."""
    with pytest.raises(BadValueError) as refused:
        zone_named(name)

    assert (
        str(refused.value)
        == f"expected a time zone such as Europe/Berlin or UTC, got {name!r}{hint}"
    )
