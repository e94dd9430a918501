"""When the clocks of a time zone are set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.schedule.timezone import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterator


class ClockChange(msgspec.Struct, frozen=True):
    """The clocks of *zone* are set at *at*, from one offset to another, each east of UTC."""

    zone: str
    at: Instant
    before_us: Span
    after_us: Span


def clock_changes(zone: str, since: Instant, until: Instant) -> Iterator[ClockChange]:
    """Give the changes of a zone later than *since* and up to *until*, by time."""
    known = zone_named(zone)
    stretch = known.at(since)
    while stretch.end <= until:
        following = known.at(stretch.end)
        if following.offset != stretch.offset:
            yield ClockChange(zone, following.start, stretch.offset, following.offset)
        stretch = following
