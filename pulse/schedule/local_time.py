"""From wall times to instants: when a set of wall times falls due in a zone whose clocks change.

There are two ways to read a wall time, and each is one rule:

once
    A wall time falls due at the first instant at which the clocks show it or a later one. So one
    that is shown twice falls due the first time, one that is left out at the end of the gap, and
    all that are left out by the same gap together.
each
    A wall time falls due at every instant at which the clocks show it: twice, or never.

Both walk the stretches of the zone. Within one, walls and instants run side by side, and what
falls due are the walls from where the stretch begins, or from where the clocks had been before,
to where it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.schedule.base import Due
from pulse.schedule.timezone import DAY, FIRST, LAST

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.schedule.timezone import Zone
    from pulse.schedule.wall_times import Walls


def first_from(walls: Walls, zone: Zone, instant: Instant, *, once: bool) -> Instant | None:
    """Return the first instant, *instant* or later, at which one of *walls* falls due."""
    instant = max(instant, FIRST)
    while instant <= LAST:
        stretch = zone.at(instant)
        shown = instant + stretch.offset
        if once and (instant == stretch.start or shown < stretch.seen):
            shown = stretch.seen
        wall = walls.first_from(shown)
        if wall < stretch.end + stretch.offset:
            found = max(stretch.start, wall - stretch.offset)
            return found if found <= LAST else None
        # No zone is a day ahead of UTC or behind it.
        instant = max(stretch.end, walls.first_from(stretch.end - DAY) - DAY)
    return None


def due(walls: Walls, zone: Zone, first: Instant, until: Instant, *, once: bool) -> Due:
    """Return the newest instant in [first, until] at which one of *walls* falls due, and how many.

    *first* is one of them. The cost grows with the changes of the clocks, not with the count.
    """
    newest, count = first, 0
    instant, until = first, min(until, LAST)
    while instant <= until:
        stretch = zone.at(instant)
        low, high = instant + stretch.offset, min(until + 1, stretch.end) + stretch.offset
        if once:
            if instant == stretch.start and walls.first_from(stretch.seen) <= low:
                newest, count = instant, count + 1
                low += 1
            low = max(low, stretch.seen)
        if low < high and (found := walls.count(low, high)):
            newest, count = walls.last_before(high) - stretch.offset, count + found
        instant = stretch.end
    return Due(newest, count)
