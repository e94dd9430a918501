"""When the clocks of a time zone are set."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from pulse.clock import (  # msgspec reads the hints of its structs
    SECOND,
    Instant,
    Span,
    moment_of,
    span_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP: Span = 86_400 * SECOND
"""No zone sets its clocks twice in a day."""


class ClockChange(msgspec.Struct, frozen=True):
    """The clocks of *zone* are set at *at*, from one offset to another, each east of UTC."""

    zone: str
    at: Instant
    before_us: Span
    after_us: Span


def clock_changes(zone: str, since: Instant, until: Instant) -> Iterator[ClockChange]:
    """Give the changes of a zone later than *since* and up to *until*, by time."""
    info = ZoneInfo(zone)
    low, before = since, offset_at(info, since)
    while low < until:
        high = min(low + _STEP, until)
        after = offset_at(info, high)
        if after != before:
            yield ClockChange(zone, _halved(info, low, high), before, after)
        low, before = high, after


def offset_at(info: ZoneInfo, instant: Instant) -> Span:
    """Return how far the clocks of a zone are ahead of UTC."""
    return span_of(moment_of(instant).astimezone(info).utcoffset() or timedelta(0))


def _halved(info: ZoneInfo, low: Instant, high: Instant) -> Instant:
    """Return the first instant after *low*, up to *high*, at which the offset is another."""
    before = offset_at(info, low)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(info, middle) == before:
            low = middle
        else:
            high = middle
    return high
