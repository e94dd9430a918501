"""Clocks, instants and spans; only this module reads the time.

Inside pulse, an instant is a whole number of microseconds since the Unix epoch, UTC, and a span is
a whole number of microseconds. Aware datetimes appear only in the public API and in texts.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pulse.errors import BadValueError

Instant = int
"""Microseconds since 1970-01-01T00:00:00Z."""

Span = int
"""A length of time in microseconds."""

SECOND: Span = 1_000_000
DAY: Span = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC) - EPOCH
_LATEST = datetime.max.replace(tzinfo=UTC) - EPOCH
_wall_ns, _now_ns = time.time_ns, time.clock_gettime_ns
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Reads the time: the wall clock for fire times, the boot clock for leases and durations."""

    def wall(self) -> Instant:
        """Return the current instant, which may jump in either direction when the clock is set."""

    def boot(self) -> Span:
        """Return the time since a fixed point; it never jumps and continues during a suspend."""

    def sleep(self, span: Span) -> None:
        """Return after *span*; other threads and greenlets continue."""


class SystemClock:
    """The clocks of the machine."""

    __slots__ = ()

    def wall(self) -> Instant:
        """Return `CLOCK_REALTIME` in microseconds."""
        return _wall_ns() // 1000

    def boot(self) -> Span:
        """Return `CLOCK_BOOTTIME` in microseconds, or `CLOCK_MONOTONIC` if it does not exist."""
        return _now_ns(_LEASE_CLOCK) // 1000

    def sleep(self, span: Span) -> None:
        """Sleep; in a process that gevent has patched, the other greenlets continue."""
        time.sleep(span / SECOND)


def instant_of(moment: datetime) -> Instant:
    """Return the instant of an aware datetime, whose year in UTC is between 1 and 9999.

    Raises:
        BadValueError: it is naive, or its year in UTC is another one.

    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise BadValueError("a datetime with a time zone", moment)
    span = moment - EPOCH
    if not _EARLIEST <= span <= _LATEST:
        raise BadValueError("a datetime of the years 1 to 9999 in UTC", moment)
    return span // _MICROSECOND


def moment_of(instant: Instant) -> datetime:
    """Return the aware UTC datetime of an instant."""
    return EPOCH + timedelta(microseconds=instant)


def span_of(length: timedelta) -> Span:
    """Return a timedelta as whole microseconds."""
    return length // _MICROSECOND


def rfc3339(instant: Instant) -> str:
    """Return text such as `2026-11-23T07:00:00Z`, with microseconds only if they are not zero.

    The text follows RFC 3339, section 5.6, and is always in UTC.
    """
    seconds, micros = divmod(instant, SECOND)
    text = _second_text(seconds)
    return f"{text}.{micros:06d}Z" if micros else f"{text}Z"


def _second_text(seconds: int) -> str:
    parts = time.gmtime(seconds)
    return (
        f"{parts.tm_year:04d}-{parts.tm_mon:02d}-{parts.tm_mday:02d}"
        f"T{parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d}"
    )
