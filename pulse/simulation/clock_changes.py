"""Clock changes of a time zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.schedule.timezone import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterator


class ClockChange(msgspec.Struct, frozen=True):
    """A change of the clocks of *zone* at the instant *at*; offsets are positive east of UTC."""

    zone: str
    at: Instant
    before_us: Span
    after_us: Span


def clock_changes(zone: str, since: Instant, until: Instant) -> Iterator[ClockChange]:
    """Yield the clock changes of a zone later than *since* and up to *until*, in time order."""
    timezone = zone_named(zone)
    stretch = timezone.at(since)
    while stretch.end <= until:
        following = timezone.at(stretch.end)
        if following.offset != stretch.offset:
            yield ClockChange(zone, following.start, stretch.offset, following.offset)
        stretch = following
