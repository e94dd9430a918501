"""The fire times that a task should have had, by the schedule versions on record."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from pulse.core.schedule_text import parsed_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pulse.clock import Instant
    from pulse.core.records import ScheduleVersion
    from pulse.schedule.base import Schedule


class ValidSchedule(NamedTuple):
    """A schedule of a task in one partition, and the fire times that it has to decide.

    Attributes:
        partition: the part of the fleet.
        version: the version on record.
        schedule: its schedule; None if this release cannot read it.
        until: the instant before which its fire times are, which includes that of the change; None
            for a version that is valid still.
        decided: the newest fire time that was decided when the task went out of use; None if the
            version ended otherwise, or is valid still.
        follows: whether the change to the next version was made at a known instant.

    """

    partition: str
    version: ScheduleVersion
    schedule: Schedule | None
    until: Instant | None
    decided: Instant | None
    follows: bool

    def first_from(self, since: Instant) -> Instant | None:
        """Return the first fire time that is not earlier than *since*."""
        first, anchor = self.version.first, self.version.anchor
        if first is None or self.schedule is None:
            return None
        if first < since:
            return self._within(self.schedule.next_after(since - 1, anchor=anchor))
        return self._within(first)

    def fire_times(self, since: Instant, until: Instant) -> Iterator[Instant]:
        """Yield the fire times from *since* on that are earlier than *until*, in order."""
        fire_time, anchor = self.first_from(since), self.version.anchor
        while fire_time is not None and fire_time < until and self.schedule is not None:
            yield fire_time
            fire_time = self._within(self.schedule.next_after(fire_time, anchor=anchor))

    def number(self, since: Instant, until: Instant) -> int:
        """Return how many fire times there are from *since* on that are earlier than *until*."""
        first = self.first_from(since)
        last = until - 1
        if self.until is not None:
            last = min(last, self.until - 1)
        if self.decided is not None:
            last = min(last, self.decided)
        if first is None or first > last or self.schedule is None:
            return 0
        return self.schedule.due(first, last, anchor=self.version.anchor).count

    def _within(self, fire_time: Instant | None) -> Instant | None:
        if fire_time is None or (self.until is not None and fire_time >= self.until):
            return None
        return None if self.decided is not None and fire_time > self.decided else fire_time


def valid_schedules(versions: Sequence[ScheduleVersion]) -> list[ValidSchedule]:
    """Return the schedules of a task by partition, oldest first; *versions* are oldest first."""
    found: list[ValidSchedule] = []
    by_partition = sorted(versions, key=lambda one: one.partition)
    for partition, group in groupby(by_partition, key=lambda one: one.partition):
        ordered = [*group]
        for number, version in enumerate(ordered):
            if not version.schedule:
                continue
            following = ordered[number + 1] if number + 1 < len(ordered) else None
            ends = following is not None and not following.schedule
            found.append(
                ValidSchedule(
                    partition,
                    version,
                    parsed_schedule(version.schedule),
                    None if following is None else following.at + 1,
                    following.decided if following is not None and ends else None,
                    following is None or following.is_exact,
                )
            )
    return found
