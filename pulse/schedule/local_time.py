"""Maps wall times to instants in a time zone with clock changes.

There are two rules for the instants at which a wall time is due:

once
    A wall time is due at the first instant at which the clocks show this wall time or a later
    wall time. A repeated wall time is due at its first occurrence. A skipped wall time is due at
    the end of the gap, together with all other wall times that this gap skips.
each
    A wall time is due at every instant at which the clocks show it: twice if it is repeated,
    never if it is skipped.

Both rules iterate over the periods of constant offset of the zone. Within a period, wall time and
instant differ by a constant. The wall times that are due in a period are those from its start (with
the rule *once*: from the latest wall time that the clocks had shown before) to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import DAY
from pulse.schedule.base import DueTimes
from pulse.schedule.timezone import FIRST, LAST

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.schedule.timezone import Zone
    from pulse.schedule.wall_times import WallTimes


def first_from(
    wall_times: WallTimes, zone: Zone, instant: Instant, *, once: bool
) -> Instant | None:
    """Return the first instant at or after *instant* at which one of *wall_times* is due."""
    instant = max(instant, FIRST)
    while instant <= LAST:
        stretch = zone.at(instant)
        shown = instant + stretch.offset
        if once and (instant == stretch.start or shown < stretch.seen):
            shown = stretch.seen
        wall = wall_times.first_from(shown)
        if wall < stretch.end + stretch.offset:
            fire_time = max(stretch.start, wall - stretch.offset)
            return fire_time if fire_time <= LAST else None
        # The offset of every zone is less than a day, so no due instant is skipped.
        instant = max(stretch.end, wall_times.first_from(stretch.end - DAY) - DAY)
    return None


def due(
    wall_times: WallTimes, zone: Zone, first: Instant, until: Instant, *, once: bool
) -> DueTimes:
    """Return the newest instant in [first, until] at which *wall_times* are due, and their number.

    *first* is such an instant. The cost grows with the number of clock changes, not with the count.
    """
    newest, count = first, 0
    instant, until = first, min(until, LAST)
    while instant <= until:
        stretch = zone.at(instant)
        low, high = instant + stretch.offset, min(until + 1, stretch.end) + stretch.offset
        if once:
            if instant == stretch.start and wall_times.first_from(stretch.seen) <= low:
                newest, count = instant, count + 1
                low += 1
            low = max(low, stretch.seen)
        if low < high and (number := wall_times.count(low, high)):
            newest, count = wall_times.last_before(high) - stretch.offset, count + number
        instant = stretch.end
    return DueTimes(newest, count)
