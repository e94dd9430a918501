from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SystemClock, instant_of, moment_of, rfc3339, span_of
from pulse.errors import BadValueError
from pulse.testing.clock import NOON, FakeClock

instants = st.integers(-(10**15), 10**16)


def test_the_wall_is_the_machine_s_time() -> None:
    """An instant is microseconds since the epoch."""
    before = instant_of(datetime.now(UTC))
    assert before <= SystemClock().wall() <= instant_of(datetime.now(UTC)) + 1


def test_the_boot_clock_never_falls() -> None:
    """It measures leases and durations."""
    clock = SystemClock()
    assert clock.boot() <= clock.boot()


@given(instants)
def test_a_moment_is_its_instant(instant: int) -> None:
    """Nothing is lost on the way to a datetime and back."""
    assert instant_of(moment_of(instant)) == instant


@given(
    st.datetimes(
        datetime(1950, 1, 1),  # noqa: DTZ001 - the zone is drawn apart
        datetime(2100, 1, 1),  # noqa: DTZ001 - likewise
        timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Chatham")]),
    )
)
def test_rfc_3339_text_reads_back_as_the_same_instant(moment: datetime) -> None:
    """Whatever zone the datetime had, the text is in UTC."""
    text = rfc3339(instant_of(moment))
    assert text.endswith("Z")
    assert instant_of(datetime.fromisoformat(text)) == instant_of(moment)


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_795_417_200_000_000, "2026-11-23T07:00:00Z"),
    ],
)
def test_microseconds_are_written_where_there_are_any(instant: int, text: str) -> None:
    """Whole seconds stay short."""
    assert rfc3339(instant) == text


def test_a_naive_datetime_has_no_instant() -> None:
    """Its zone would be a guess."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone, got datetime"):
        instant_of(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_a_timedelta_is_its_microseconds() -> None:
    """Spans are whole microseconds, below zero too."""
    assert span_of(timedelta(days=-1, microseconds=1)) == -86_399_999_999


def test_a_fake_clock_stands_still() -> None:
    """Time passes only when a test says so."""
    clock = FakeClock()
    assert (clock.wall(), clock.boot()) == (instant_of(NOON), clock.boot())


def test_a_fake_clock_moves_wall_and_boot_together() -> None:
    """A passed minute has passed on both."""
    clock = FakeClock()
    boot = clock.boot()
    clock.forward("1m")
    assert (clock.wall() - instant_of(NOON), clock.boot() - boot) == (60_000_000, 60_000_000)


def test_a_fake_clock_s_wall_can_be_set_alone() -> None:
    """Somebody who sets the clock does not change how long things take."""
    clock = FakeClock()
    boot = clock.boot()
    clock.set_wall(datetime(2020, 1, 1, tzinfo=UTC))
    assert moment_of(clock.wall()) == datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.boot() == boot


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00Z", 5, None], ids=repr)
def test_what_is_no_datetime_has_no_instant(moment: object) -> None:
    """The error says what was expected, not which attribute it lacks."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone, got"):
        instant_of(moment)
