"""A schedule within bounds: no fire time before a start or after an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import instant_of, moment_of, rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.schedule.base import Due, Schedule


class Window(msgspec.Struct, frozen=True):
    """The fire times of another schedule from *start* to *end*, both of them included.

    A schedule that hangs on a start of its own, as `Interval` and `CalendarInterval` do, needs
    none here.
    """

    schedule: Schedule
    start: Instant | None = None
    end: Instant | None = None

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time within the bounds of a task that is first seen at *seen*."""
        if self.start is not None:
            seen = max(seen, self.start)
        return self._bounded(self.schedule.first(seen))

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:
        """Return the first fire time within the bounds strictly later than *after*."""
        if self.start is not None:
            after = max(after, self.start - 1)
        return self._bounded(self.schedule.next_after(after, anchor=anchor))

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> Due:
        """Return the newest fire time in [first, until] and how many there are."""
        if self.end is not None:
            until = min(until, self.end)
        return self.schedule.due(first, until, anchor=anchor)

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time within the bounds later than the aware datetime *after*."""
        if self.start is not None and instant_of(after) < self.start:
            after = moment_of(self.start - 1).astimezone(after.tzinfo)
        found = self.schedule.next(after)
        return None if found is None or self._bounded(instant_of(found)) is None else found

    def spell(self) -> dict[str, str]:
        """Return the settings of the schedule with `start` and `end`."""
        spelt = self.schedule.spell()
        for name, bound in (("start", self.start), ("end", self.end)):
            if bound is not None:
                spelt[name] = rfc3339(bound)
        return spelt

    def _bounded(self, fire_time: Instant | None) -> Instant | None:
        if fire_time is None or (self.end is not None and fire_time > self.end):
            return None
        return fire_time
