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


def test_wall_returns_the_time_of_the_machine() -> None:
    """An instant is the number of microseconds since the epoch."""
    before = instant_of(datetime.now(UTC))
    assert before <= SystemClock().wall() <= instant_of(datetime.now(UTC)) + 1


def test_boot_is_monotonic() -> None:
    """The boot clock measures leases and durations."""
    clock = SystemClock()
    assert clock.boot() <= clock.boot()


@given(instants)
def test_conversion_to_datetime_and_back_is_exact(instant: int) -> None:
    """No microsecond is lost."""
    assert instant_of(moment_of(instant)) == instant


@given(
    st.datetimes(
        datetime(1950, 1, 1),  # noqa: DTZ001 - the zone is drawn separately
        datetime(2100, 1, 1),  # noqa: DTZ001 - the zone is drawn separately
        timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Chatham")]),
    )
)
def test_rfc3339_text_is_parsed_to_the_same_instant(moment: datetime) -> None:
    """The text is in UTC, whatever the zone of the datetime is."""
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
def test_rfc3339_omits_microseconds_of_zero(instant: int, text: str) -> None:
    """A whole second has no fraction."""
    assert rfc3339(instant) == text


def test_instant_of_rejects_a_naive_datetime() -> None:
    """A datetime must have a time zone."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone, got datetime"):
        instant_of(datetime(2026, 1, 1))  # noqa: DTZ001 - the test needs a naive datetime


def test_span_of_returns_microseconds() -> None:
    """A span may be negative."""
    assert span_of(timedelta(days=-1, microseconds=1)) == -86_399_999_999


def test_fake_clock_does_not_advance() -> None:
    """The time changes only when the test changes it."""
    clock = FakeClock()
    assert (clock.wall(), clock.boot()) == (instant_of(NOON), clock.boot())


def test_forward_advances_wall_and_boot() -> None:
    """Both clocks advance by the same span."""
    clock = FakeClock()
    boot = clock.boot()
    clock.forward("1m")
    assert (clock.wall() - instant_of(NOON), clock.boot() - boot) == (60_000_000, 60_000_000)


def test_set_wall_does_not_change_boot() -> None:
    """Setting the wall clock does not change durations."""
    clock = FakeClock()
    boot = clock.boot()
    clock.set_wall(datetime(2020, 1, 1, tzinfo=UTC))
    assert moment_of(clock.wall()) == datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.boot() == boot


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00Z", 5, None], ids=repr)
def test_instant_of_rejects_other_values(moment: object) -> None:
    """The error names the expectation and the given value."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone, got"):
        instant_of(moment)
