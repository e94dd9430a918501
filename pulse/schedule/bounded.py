"""A schedule with bounds: no fire time before a start or after an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import instant_of, moment_of, rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.schedule.base import DueTimes, Schedule


class BoundedSchedule(msgspec.Struct, frozen=True):
    """The fire times of another schedule from *start* to *end*, inclusive.

    `Interval` and `CalendarInterval` have a start of their own and need only *end* here.
    """

    schedule: Schedule
    start: Instant | None = None
    end: Instant | None = None

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time within the bounds for a task that is first seen at *seen*."""
        if self.start is not None:
            seen = max(seen, self.start)
        return self._bounded(self.schedule.first(seen))

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:
        """Return the first fire time within the bounds strictly later than *after*."""
        if self.start is not None:
            after = max(after, self.start - 1)
        return self._bounded(self.schedule.next_after(after, anchor=anchor))

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:
        """Return the newest fire time in [first, until] and the number of fire times."""
        if self.end is not None:
            until = min(until, self.end)
        return self.schedule.due(first, until, anchor=anchor)

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time within the bounds later than the aware datetime *after*."""
        if self.start is not None and instant_of(after) < self.start:
            after = moment_of(self.start - 1).astimezone(after.tzinfo)
        fire_time = self.schedule.next(after)
        if fire_time is None or self._bounded(instant_of(fire_time)) is None:
            return None
        return fire_time

    def to_text(self) -> dict[str, str]:
        """Return the settings of the schedule with `start` and `end`."""
        settings = self.schedule.to_text()
        for name, bound in (("start", self.start), ("end", self.end)):
            if bound is not None:
                settings[name] = rfc3339(bound)
        return settings

    def _bounded(self, fire_time: Instant | None) -> Instant | None:
        if fire_time is None or (self.end is not None and fire_time > self.end):
            return None
        return fire_time
